"""The rich console of training, downloads and progress bars; it prints text as it is and lets no character act."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console

from muybridge.text import sanitize_text


class PlainConsole(Console):
    """A console on standard error without markup: `[red]` in a name of a class is text, and so is an escape sequence."""

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__(file=sys.stderr, soft_wrap=True, markup=False, highlight=False, quiet=quiet)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, with strings sanitized."""
        super().print(*(sanitize_text(item) if isinstance(item, str) else item for item in objects), **options)
