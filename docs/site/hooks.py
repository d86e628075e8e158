"""Hooks of the documentation site.

Pages link to source files relative to the repository, so that they work where the repository is browsed. The site has no
source files: there such a link becomes plain text.
"""

from __future__ import annotations

import re
from typing import Any

WIDE_PAGES = ("reproduction.md",)
SOURCE_LINK = re.compile(r"\[([^\]]+)\]\(\.\./(?!docs/)[^)\s]+\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace links that leave docs/ by their text; a wide page has no list of contents beside its tables."""
    if page.file.src_uri in WIDE_PAGES:
        page.meta["hide"] = ["toc"]
    return SOURCE_LINK.sub(r"\1", markdown)
