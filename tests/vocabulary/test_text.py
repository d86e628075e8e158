from __future__ import annotations

import math

import pytest

from muybridge.text import counted, number, percent, printable, probability, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("hand shake", "hand shake"),
        ("日本語 ü 👍", "日本語 ü 👍"),
        ("two\nlines\tand\r\u2028more", "two lines and  more"),
        ("bell\x07 null\0 escape\x1b", "bell� null� escape�"),
        ("lone \udcff byte", "lone � byte"),
        ("evil\u202e4pm.exe", "evil�4pm.exe"),
    ],
)
def test_nothing_in_a_name_acts(text: str, shown: str) -> None:
    assert printable(text) == shown
    printable(text).encode()


def test_shortened_names_keep_both_ends() -> None:
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 10) == "abcde…hijk"
    assert shortened("abcdefghijk", 3) == "a…k"


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (1234567, None, "1,234,567"),
        (41.456, 1, "41.5"),
        (0.00312345, None, "0.003123"),
        (12345.6, None, "12,346"),
        (math.nan, 1, "-"),
    ],
)
def test_numbers(value: float, decimals: int | None, text: str) -> None:
    assert number(value, decimals) == text


def test_words() -> None:
    assert (counted(1, "class"), counted(400, "class"), counted(1200, "video")) == (
        "1 class",
        "400 classes",
        "1,200 videos",
    )
    assert (percent(0.528), percent(math.nan)) == ("52.8 %", "-")
    assert (probability(0.000004), probability(0.01234), probability(1.0)) == ("< 0.0001", "0.012", "1")
