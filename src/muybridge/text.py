"""Formatting of names and numbers for display.

Names of classes and videos come from outside. `sanitize_text` escapes what acts on a terminal or in a page: control characters,
line breaks, characters that cannot be encoded, and marks that change the direction of text. Escaping for HTML is the template's
task. Everything that is printed or written for people goes through it.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

# Marks that reorder the text around them, with which a file name can look like another one, and characters without a shape.
_INVISIBLE = frozenset(
    "\u00ad\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufeff"
)
_ESCAPED_CATEGORIES = (
    "Cc",
    "Cs",
    "Zl",
    "Zp",
)  # control characters, lone surrogates, separators of lines and paragraphs
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def sanitize_text(text: str) -> str:
    """Put a text on one line, with `\\x1b` and the like for each character that cannot or must not be displayed."""
    return text if text.isascii() and text.isprintable() else "".join(map(_sanitize_character, text))


def _sanitize_character(character: str) -> str:
    if character in _INVISIBLE or unicodedata.category(character) in _ESCAPED_CATEGORIES or _is_tag(character):
        return character.encode("unicode_escape").decode("ascii")
    return character


def _is_tag(character: str) -> bool:
    """Whether this is one of the invisible copies of ASCII."""
    return "\U000e0000" <= character <= "\U000e007f"


def escape_csv_cell(cell: str) -> str:
    """A cell of CSV for people: sanitized, and with a leading apostrophe where a spreadsheet would run it as a formula.

    Numbers are left alone.
    """
    return (
        f"'{sanitize_text(cell)}" if cell.startswith(_FORMULA_STARTS) and not _is_number(cell) else sanitize_text(cell)
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell == "-"  # no value
    return True


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
        return f"{value:z.{decimals}f}"  # z: never "-0.0"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def format_percent(share: float) -> str:
    """`52.8 %`, or `-` if the share is NaN because nothing was counted."""
    return f"{100 * share:.1f} %" if math.isfinite(share) else "-"


_PLURAL_VERBS = {"is": "are", "has": "have", "was": "were", "does": "do"}


def format_count(count: int, noun: str, verb: str = "") -> str:
    """`1 video`, `2 videos`, `3 classes`; with the verb `is`, `1 video is` and `2 videos are`."""
    if count != 1:
        noun = f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"
        verb = _PLURAL_VERBS.get(verb, verb)
    return f"{count:,} {noun}{' ' if verb else ''}{verb}"


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


def format_duration(seconds: float) -> str:
    """A duration in its natural unit: `40 seconds`, `3 minutes`, `2.5 hours`, `3.1 days`."""
    if seconds < 90:
        return format_count(max(1, round(seconds)), "second")
    if seconds < 90 * 60:
        return format_count(round(seconds / 60), "minute")
    hours = seconds / 3600
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"
