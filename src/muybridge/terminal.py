"""Printing on the terminal: whatever a line holds, it is one line, and no character of it acts. No torch, no rich.

Names of files and classes, and reasons by libraries, come from outside. Every module prints through these functions, which
escape control characters, line breaks and marks that reorder text;
ruff's rule T201 refuses `print` elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from muybridge.text import sanitize_text


def print_line(text: str = "", *, error: bool = False) -> None:
    """Print one line on standard output, or with `error` on standard error. A line break within is shown as `\\n`."""
    print(sanitize_text(text), file=sys.stderr if error else sys.stdout, flush=True)


def print_lines(lines: Iterable[str], *, error: bool = False) -> None:
    """Print several lines as `print_line` does."""
    for line in lines:
        print_line(line, error=error)


def print_document(text: str) -> None:
    """Print the text of a document, such as CSV: byte for byte into a file or pipe, escaped on a terminal."""
    if sys.stdout.isatty():
        print_lines(text.splitlines())
    else:
        sys.stdout.write(text)
