from __future__ import annotations

import math

import pytest

from muybridge.text import (
    escape_csv_cell,
    format_count,
    format_duration,
    format_number,
    format_p_value,
    format_percent,
    sanitize_text,
    shorten,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("hand shake", "hand shake"),
        ("日本語 ü 👍", "日本語 ü 👍"),
        ("two\nlines\tand\r\u2028more", r"two\nlines\tand\r\u2028more"),
        ("bell\x07 null\0 escape\x1b", r"bell\x07 null\x00 escape\x1b"),
        ("lone \udcff byte", r"lone \udcff byte"),
        ("evil\u202e4pm.exe", r"evil\u202e4pm.exe"),
        ("\x9b31m red", r"\x9b31m red"),
        ("zero\u200bwidth and \U000e0041 tag", r"zero\u200bwidth and \U000e0041 tag"),
        ("👨\u200d👩 family", "👨\u200d👩 family"),
    ],
)
def test_nothing_in_a_name_acts(text: str, shown: str) -> None:
    assert sanitize_text(text) == shown
    sanitize_text(text).encode()


def test_shortened_names_keep_both_ends() -> None:
    assert shorten("abcdefghij", 10) == "abcdefghij"
    assert shorten("abcdefghijk", 10) == "abcde…hijk"
    assert shorten("abcdefghijk", 3) == "a…k"


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (1234567, None, "1,234,567"),
        (41.456, 1, "41.5"),
        (0.00312345, None, "0.003123"),
        (12345.6, None, "12,346"),
        (math.nan, 1, "-"),
        (-0.04, 1, "0.0"),
    ],
)
def test_numbers(value: float, decimals: int | None, text: str) -> None:
    assert format_number(value, decimals) == text


def test_words() -> None:
    assert (format_count(1, "class"), format_count(400, "class"), format_count(1200, "video")) == (
        "1 class",
        "400 classes",
        "1,200 videos",
    )
    assert (format_percent(0.528), format_percent(math.nan)) == ("52.8 %", "-")
    assert (format_p_value(0.000004), format_p_value(0.01234), format_p_value(1.0)) == ("< 0.0001", "0.012", "1")


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-hidden", "'-hidden"),
        ("\t=1", r"'\t=1"),
        ("-1.5", "-1.5"),
        ("+3", "+3"),
        ("-", "-"),
        ("wave = hello", "wave = hello"),
    ],
)
def test_no_cell_is_a_formula_and_numbers_stay(cell: str, written: str) -> None:
    assert escape_csv_cell(cell) == written


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 second"),
        (1, "1 second"),
        (40.4, "40 seconds"),
        (89.6, "90 seconds"),
        (90, "2 minutes"),
        (3600, "60 minutes"),
        (5400, "1.5 hours"),
        (20 * 3600, "20.0 hours"),
        (47.9 * 3600, "47.9 hours"),
        (48 * 3600, "2.0 days"),
        (74.4 * 3600, "3.1 days"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words
