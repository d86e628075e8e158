"""Means over seeds against textbook values."""

import math
import statistics

import pytest

from muybridge.studies.intervals import Estimate, difference, estimate_mean, mean_by_seed


def test_three_seeds_have_the_interval_of_the_textbook() -> None:
    found = estimate_mean([1.0, 2.0, 3.0])
    assert found is not None and found.low is not None and found.high is not None
    assert found.mean == 2.0
    assert found.high - 2.0 == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)  # t(2) at 97.5 %, deviation 1
    assert 2.0 - found.low == pytest.approx(found.high - 2.0)


def test_many_seeds_come_near_the_normal_interval() -> None:
    values = [float(number % 7) for number in range(200)]
    found = estimate_mean(values)
    assert found is not None and found.high is not None
    half = statistics.stdev(values) / math.sqrt(200)
    assert 1.96 * half < found.high - found.mean < 2.1 * half


def test_one_seed_has_no_interval_and_decides_nothing() -> None:
    found = estimate_mean([3.0])
    assert found == Estimate(3.0, None, None, 1)
    assert found is not None and found.is_positive is None
    assert found.format() == "3.0"
    assert estimate_mean([]) is None


def test_a_side_of_zero_is_a_decision() -> None:
    assert Estimate(1.0, 0.5, 1.5, 3).is_positive is True
    assert Estimate(-1.0, -1.5, -0.5, 3).is_positive is False
    assert Estimate(1.0, -0.5, 2.5, 3).is_positive is None


def test_differences_are_taken_seed_by_seed() -> None:
    """Seeds that differ much between themselves, and by one within each: the interval is that of the differences."""
    first, second = {0: 10.0, 1: 50.0, 2: 90.0, 3: 1.0}, {0: 9.0, 1: 49.0, 2: 89.0}
    found = difference(first, second)
    assert found == Estimate(1.0, 1.0, 1.0, 3)
    assert difference(first, {}) is None


def test_a_mean_needs_all_members() -> None:
    assert mean_by_seed([{0: 1.0, 1: 2.0}, {0: 3.0, 2: 9.0}]) == {0: 2.0}
    assert mean_by_seed([]) == {}


def test_an_interval_of_a_share_ends_at_its_bounds() -> None:
    wide = estimate_mean([40.0, 60.0])
    assert wide is not None and wide.low is not None and wide.low < 0
    assert wide.clip(0.0, 100.0) == Estimate(50.0, 0.0, 100.0, 2)
    single = estimate_mean([40.0])
    assert single is not None and single.clip(50.0, 100.0) == single
