from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from muybridge.evaluation.statistics import (
    holm_adjust,
    mcnemar_p_value,
    paired_bootstrap_interval,
    run_paired_test,
    t_quantile,
)


@pytest.mark.parametrize("first", range(8))
@pytest.mark.parametrize("second", range(8))
def test_the_exact_test_adifferencest_every_outcome_of_coins(first: int, second: int) -> None:
    num = first + second
    unlikely = abs(first - second)
    outcomes = [heads for heads in range(num + 1) if abs(2 * heads - num) >= unlikely]
    expected = sum(math.comb(num, heads) for heads in outcomes) / 2**num
    assert mcnemar_p_value(first, second) == pytest.approx(expected, rel=1e-12)


def test_mcnemar_example_by_hand() -> None:
    """Five heads or fewer of 21 coins: 27,896 of 2,097,152 outcomes; as many on the other side."""
    assert mcnemar_p_value(5, 16) == pytest.approx(2 * 27_896 / 2_097_152)


def test_many_videos_do_not_overflow() -> None:
    assert 0 < mcnemar_p_value(4_900, 5_100) < 0.05
    assert mcnemar_p_value(0, 100_000) == 0.0


def test_counts_and_difference() -> None:
    first = np.array([1, 1, 1, 0, 0, 0, 0, 0], np.bool_)
    second = np.array([1, 1, 0, 1, 1, 1, 0, 0], np.bool_)
    test = run_paired_test(("a", "b"), first, second)
    assert (test.num_videos, test.num_both, test.num_first_only, test.num_second_only) == (8, 2, 1, 3)
    assert test.difference == 0.25
    assert test.p_value == mcnemar_p_value(1, 3)
    assert test.num_groups is None
    assert test.low < 0.25 < test.high
    assert test.to_json()["difference"] == 0.25


def test_the_interval_is_that_of_a_mean_of_many_videos() -> None:
    """With a thousand videos it is close to the normal one: mean +- 1.96 s / sqrt(n)."""
    differences = np.random.default_rng(0).choice([-1, 0, 1], 1000, p=[0.1, 0.6, 0.3])
    low, high = paired_bootstrap_interval(differences, None)
    half = 1.96 * differences.std() / math.sqrt(1000)
    assert low == pytest.approx(differences.mean() - half, abs=0.003)
    assert high == pytest.approx(differences.mean() + half, abs=0.003)
    assert paired_bootstrap_interval(differences, None) == (low, high)


def test_groups_widen_the_interval_when_their_videos_agree() -> None:
    """Twenty-five copies of each of 40 videos are 40 videos, not 1000."""
    differences = np.random.default_rng(1).choice([-1, 0, 1], 40)
    copies, groups = np.repeat(differences, 25), [str(number) for number in np.repeat(np.arange(40), 25)]
    assert paired_bootstrap_interval(copies, groups) == pytest.approx(
        paired_bootstrap_interval(differences, None), abs=0.03
    )
    singles = [str(number) for number in range(1000)]
    assert paired_bootstrap_interval(copies, singles) == pytest.approx(
        paired_bootstrap_interval(copies, None), abs=0.01
    )
    assert run_paired_test(("a", "b"), copies < 0, copies > 0, groups=groups).num_groups == 40


def test_holm_by_hand() -> None:
    assert holm_adjust([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_adjust([0.6, 0.9]) == [1.0, 1.0]
    assert holm_adjust([]) == []


def test_nothing_in_common_is_refused() -> None:
    none = np.zeros(0, np.bool_)
    with pytest.raises(ValueError, match="a and b have no labelled video in common"):
        run_paired_test(("a", "b"), none, none)


@pytest.mark.parametrize("degrees", [1, 2, 4, 30, 1000])
def test_quantiles_are_those_of_scipys_distribution(degrees: int) -> None:
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-12)


def test_a_quantile_by_hand() -> None:
    assert t_quantile(2) == pytest.approx(4.303, abs=5e-4)  # as in printed tables
