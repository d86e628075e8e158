"""Formatting of names and numbers for display.

Names of classes and videos come from outside. `sanitize_text` replaces what escaping does not cover: characters that cannot be
encoded, control characters, line breaks, and marks that change the direction of text. Escaping for HTML is the template's task.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

# Marks that reorder the text around them, with which a file name can look like another one.
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def sanitize_text(text: str) -> str:
    """Put a text on one line, with U+FFFD for each character that cannot or must not be displayed."""
    return "".join(_sanitize_character(character) for character in text)


def _sanitize_character(character: str) -> str:
    if character in "\t\n\r\u2028\u2029":
        return " "
    return _REPLACEMENT if character in _BIDI_CONTROLS or unicodedata.category(character) in ("Cc", "Cs") else character


def shorten(text: str, max_length: int) -> str:
    """Shorten to at most `max_length` characters by omitting the middle, since names differ at both ends."""
    if len(text) <= max_length:
        return text
    left = (max_length - 1) // 2
    return f"{text[: max_length - 1 - left]}…{text[len(text) - left :]}"


def format_number(value: float, decimals: int | None = None) -> str:
    """Format an integer with thousands separators, a float with `decimals`, or with four significant digits if None."""
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "-"
    if decimals is not None:
        return f"{value:.{decimals}f}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def format_percent(share: float) -> str:
    """`52.8 %`, or `-` if the share is NaN because nothing was counted."""
    return f"{100 * share:.1f} %" if math.isfinite(share) else "-"


def format_count(count: int, noun: str) -> str:
    """`1 video`, `2 videos`, `3 classes`."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def format_p_value(p_value: float) -> str:
    """A p-value with two significant digits, `< 0.0001` below that."""
    if p_value < 1e-4:
        return "< 0.0001"
    return f"{min(p_value, 1.0):.2g}"


def join_names(names: Sequence[object], separator: str = ", ", *, max_names: int = 5) -> str:
    """Join the first `max_names` names and count the rest: `a, b and 3 more`."""
    shown = separator.join(map(str, names[:max_names]))
    before_last = " " if separator == ", " else separator
    return f"{shown}{before_last}and {len(names) - max_names} more" if len(names) > max_names else shown
