"""Words and numbers as they are shown to people. Names of classes, videos and reasons come from outside, so they are cleaned.

Escaping for HTML is the template's; here goes what no escaping covers: characters that no file can hold, that break a line,
or that turn the direction of the text around them.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import Any

# Marks that reorder the text after them: a file name could show itself as another one.
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def sanitize_text(text: str) -> str:
    """The text on one line, with a replacement sign for each character that cannot or must not be shown."""
    return "".join(_sanitize_character(sign) for sign in text)


def _sanitize_character(character: str) -> str:
    if character in "\t\n\r\u2028\u2029":
        return " "
    return _REPLACEMENT if character in _BIDI_CONTROLS or unicodedata.category(character) in ("Cc", "Cs") else character


def shorten(text: str, max_length: int) -> str:
    """At most `length` characters; the middle goes, since names differ at their beginnings and ends."""
    if len(text) <= max_length:
        return text
    left = (max_length - 1) // 2
    return f"{text[: max_length - 1 - left]}…{text[len(text) - left :]}"


def format_number(value: float, decimals: int | None = None) -> str:
    """A number as it is shown: whole numbers with thousands apart, others with `decimals`, else four significant digits."""
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "-"
    if decimals is not None:
        return f"{value:.{decimals}f}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def format_percent(share: float) -> str:
    """`52.8 %`, or a dash where there was nothing to count."""
    return f"{100 * share:.1f} %" if math.isfinite(share) else "-"


def format_count(count: int, noun: str) -> str:
    """`1 video`, `2 videos`, `3 classes`."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def format_p_value(p_value: float) -> str:
    """A p-value: two significant digits, and no more zeros than anybody reads."""
    if p_value < 1e-4:
        return "< 0.0001"
    return f"{min(p_value, 1.0):.2g}"


def join_names(names: Sequence[Any], separator: str = ", ", *, max_names: int = 5) -> str:
    """The first `most` names, and how many more there are: `a, b and 3 more`."""
    shown = separator.join(map(str, names[:max_names]))
    before_last = " " if separator == ", " else separator
    return f"{shown}{before_last}and {len(names) - max_names} more" if len(names) > max_names else shown
