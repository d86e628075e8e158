from __future__ import annotations

import math

import numpy as np
import pytest

from muybridge.report.comparison import bootstrap_interval, holm, mcnemar, paired_test


@pytest.mark.parametrize("first", range(8))
@pytest.mark.parametrize("second", range(8))
def test_the_exact_test_against_every_outcome_of_coins(first: int, second: int) -> None:
    num = first + second
    unlikely = abs(first - second)
    outcomes = [heads for heads in range(num + 1) if abs(2 * heads - num) >= unlikely]
    expected = sum(math.comb(num, heads) for heads in outcomes) / 2**num
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-12)


def test_an_example_by_hand() -> None:
    """Five heads or fewer of 21 coins: 27,896 of 2,097,152 outcomes; as many on the other side."""
    assert mcnemar(5, 16) == pytest.approx(2 * 27_896 / 2_097_152)


def test_many_videos_do_not_overflow() -> None:
    assert 0 < mcnemar(4_900, 5_100) < 0.05
    assert mcnemar(0, 100_000) == 0.0


def test_counts_and_difference() -> None:
    first = np.array([1, 1, 1, 0, 0, 0, 0, 0], np.bool_)
    second = np.array([1, 1, 0, 1, 1, 1, 0, 0], np.bool_)
    found = paired_test(("a", "b"), first, second)
    assert (found.num_videos, found.num_both, found.num_first_only, found.num_second_only) == (8, 2, 1, 3)
    assert found.difference == 0.25
    assert found.p_value == mcnemar(1, 3)
    assert found.num_groups is None
    assert found.low < 0.25 < found.high
    assert found.to_json()["difference"] == 0.25


def test_the_interval_is_that_of_a_mean_of_many_videos() -> None:
    """With a thousand videos it is close to the normal one: mean +- 1.96 s / sqrt(n)."""
    gains = np.random.default_rng(0).choice([-1, 0, 1], 1000, p=[0.1, 0.6, 0.3])
    low, high = bootstrap_interval(gains, None)
    half = 1.96 * gains.std() / math.sqrt(1000)
    assert low == pytest.approx(gains.mean() - half, abs=0.003)
    assert high == pytest.approx(gains.mean() + half, abs=0.003)
    assert bootstrap_interval(gains, None) == (low, high)


def test_groups_widen_the_interval_when_their_videos_agree() -> None:
    """Twenty-five copies of each of 40 videos are 40 videos, not 1000."""
    gains = np.random.default_rng(1).choice([-1, 0, 1], 40)
    copies, groups = np.repeat(gains, 25), [str(number) for number in np.repeat(np.arange(40), 25)]
    assert bootstrap_interval(copies, groups) == pytest.approx(bootstrap_interval(gains, None), abs=0.03)
    singles = [str(number) for number in range(1000)]
    assert bootstrap_interval(copies, singles) == pytest.approx(bootstrap_interval(copies, None), abs=0.01)
    assert paired_test(("a", "b"), copies < 0, copies > 0, groups=groups).num_groups == 40


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_nothing_in_common_is_refused() -> None:
    none = np.zeros(0, np.bool_)
    with pytest.raises(ValueError, match="a and b have no labelled video in common"):
        paired_test(("a", "b"), none, none)
