"""Bounds: what lies within, what is said of the rest, and that the shared ones make sense."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import numpy as np
import pytest
from annotated_types import Interval

from muybridge import bounds
from muybridge.bounds import check_arguments, check_fields, describe, find_problems, show_value

SHARED: dict[str, Any] = {
    name: hint for name, hint in vars(bounds).items() if get_args(hint)[1:] and isinstance(get_args(hint)[1], Interval)
}


def accepts(hint: Any, value: object) -> bool:
    return not find_problems("x", value, hint)


@pytest.mark.parametrize("name", SHARED)
def test_shared_bounds_hold_at_both_ends(name: str) -> None:
    hint = SHARED[name]
    kind, interval = get_args(hint)
    low, high = (interval.ge, interval.gt), (interval.le, interval.lt)
    assert sum(bound is not None for bound in low) == sum(bound is not None for bound in high) == 1
    if kind is int:
        assert accepts(hint, interval.ge) and accepts(hint, interval.le)
        assert not accepts(hint, interval.ge - 1) and not accepts(hint, interval.le + 1)
        assert not accepts(hint, float(interval.ge))
        # What is asked for begins at one; workers, seeds and videos that were scored or failed may be zero, and one
        # fold is no cross-validation.
        assert interval.ge == {"NumWorkers": 0, "Seed": 0, "NumVideos": 0, "NumFolds": 2}.get(name, 1)
    for value in (math.nan, math.inf, -math.inf, True, "1", None, 10**400):
        assert not accepts(hint, value)
    assert "None" not in describe(hint)


def test_a_seed_is_whatever_a_signed_integer_of_64_bits_holds() -> None:
    assert accepts(bounds.Seed, int(np.iinfo(np.int64).max))
    assert not accepts(bounds.Seed, int(np.iinfo(np.int64).max) + 1)


@pytest.mark.parametrize(
    ("interval", "inside", "outside", "words"),
    [
        (Interval(ge=1, le=3), (1, 2.5, 3), (0.999, 3.001), "a finite number from 1 to 3"),
        (Interval(gt=1, lt=3), (1.001, 2.999), (1, 3), "a finite number above 1 and below 3"),
        (Interval(gt=0, le=10_000), (1e-9, 10_000), (0, 10_001), "a finite number above 0 and at most 10,000"),
        (Interval(ge=0.5, lt=1), (0.5,), (0.4, 1), "a finite number from 0.5 and below 1"),
    ],
)
def test_ends_belong_to_the_interval_or_not(
    interval: Interval, inside: Sequence[float], outside: Sequence[float], words: str
) -> None:
    hint = Annotated[float, interval]
    assert all(accepts(hint, value) for value in inside)
    for value in outside:
        assert find_problems("rate", value, hint) == [f"rate is {value!r}, expected {words}"]


@dataclass(frozen=True)
class Record:
    sizes: tuple[bounds.FrameSize, bounds.FrameSize] = (1, 1)
    rates: tuple[bounds.Share, ...] = ()
    limit: bounds.Minutes | None = None
    mode: Literal["a", "b"] = "a"
    is_open: bool = False


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (
            {"sizes": (0, 9000)},
            r"sizes\[0\] is 0, .*; group\.sizes\[1\] is 9000, expected a whole number from 1 to 8,192",
        ),
        ({"sizes": (1,)}, "sizes is .*, expected a list of 2 values"),
        ({"rates": (0.5, 1.5)}, r"rates\[1\] is 1.5"),
        ({"rates": 3}, "rates is 3, expected a list$"),
        ({"limit": 0}, "limit is 0, expected a finite number above 0"),
        ({"mode": "c"}, "mode is 'c', expected a or b"),
        ({"is_open": 1}, "is_open is 1, expected true or false"),
    ],
)
def test_all_fields_are_checked_and_named(values: dict[str, Any], problem: str) -> None:
    check_fields(Record(sizes=(8192, 1), rates=(0.0, 1.0), limit=1))
    with pytest.raises(ValueError, match=rf"^group\.{problem}"):
        check_fields(Record(**values), "group.")


def test_arguments_are_checked_by_their_annotations() -> None:
    @check_arguments
    def mix(first: bounds.Share, *, second: bounds.Share | None = None, other: int = -5) -> float:
        return first + (second or 0) + other

    assert mix(1, second=0.5) == -3.5
    with pytest.raises(ValueError, match=r"first is 2, .*; second is -1, expected a finite number from 0 to 1"):
        mix(2, second=-1)


def test_long_values_are_shown_short() -> None:
    assert show_value(10**400) == "a number of 401 digits"
    assert show_value("x" * 58) == repr("x" * 58)
    assert len(show_value("x" * 59)) == 60
