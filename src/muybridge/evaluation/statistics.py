"""Intervals and significance tests, apart from any file or network.

Input: arrays of numbers, or for two networks which of the same videos each one classifies correctly. Output: 95 % intervals
and p-values. Two networks are compared video by video, because they are wrong about the same videos: whether their separate
intervals overlap says little about the difference (Dietterich 1998).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special  # scipy.stats takes a second more to import

from muybridge.randomness import make_generator

SIGNIFICANCE = 0.05
NUM_RESAMPLES = 10_000
_MAX_DRAWS_PER_BLOCK = 2_000_000  # 16 MB of indices in memory at once


@dataclass(frozen=True)
class PairedTest:
    """Accuracy of `second` minus that of `first` over the `num_videos` that both scored; fractions, not percent."""

    first: str
    second: str
    num_videos: int
    num_both: int
    """Videos that both classify correctly."""
    num_first_only: int
    num_second_only: int
    low: float
    high: float
    num_groups: int | None
    """Number of resampled groups; None: single videos were resampled."""
    p_value: float
    """McNemar's exact test, two-sided."""

    @property
    def difference(self) -> float:
        """video@1 of the second minus that of the first."""
        return (self.num_second_only - self.num_first_only) / self.num_videos

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values, with the difference."""
        return {**asdict(self), "difference": self.difference}


def run_paired_test(
    names: tuple[str, str],
    first_correct: NDArray[np.bool_],
    second_correct: NDArray[np.bool_],
    *,
    groups: Sequence[str] | None = None,
) -> PairedTest:
    """Compare two networks on the same videos.

    `first_correct` and `second_correct` are (V,). With `groups` (V,), the group of each video, the interval resamples whole
    groups. Raises ValueError if V is 0.
    """
    if not len(first_correct):
        raise ValueError(f"{names[0]} and {names[1]} have no labelled video in common; compare runs on the same videos")
    num_first_only = int(np.count_nonzero(first_correct & ~second_correct))
    num_second_only = int(np.count_nonzero(second_correct & ~first_correct))
    differences = second_correct.astype(np.int64) - first_correct.astype(np.int64)
    low, high = paired_bootstrap_interval(differences, groups)
    return PairedTest(
        first=names[0],
        second=names[1],
        num_videos=len(differences),
        num_both=int(np.count_nonzero(first_correct & second_correct)),
        num_first_only=num_first_only,
        num_second_only=num_second_only,
        low=low,
        high=high,
        num_groups=len(set(groups)) if groups else None,
        p_value=mcnemar_p_value(num_first_only, num_second_only),
    )


def t_quantile(degrees_of_freedom: int) -> float:
    """The 97.5 % quantile of Student's t, the half width of a 95 % interval in standard errors."""
    return float(special.stdtrit(degrees_of_freedom, 0.975))


def _percentile_interval(samples: NDArray[np.float64]) -> tuple[float, float]:
    """The 2.5 % and 97.5 % quantiles of bootstrap `samples` (N,)."""
    low, high = np.quantile(samples, [0.025, 0.975])
    return float(low), float(high)


def paired_bootstrap_interval(differences: NDArray[np.int64], groups: Sequence[str] | None) -> tuple[float, float]:
    """95 % percentile interval of the mean of `differences` (V,), each -1, 0 or 1, resampled by video or by group (V,).

    Draws come from a fixed seed, so the same videos give the same interval.
    """
    rng = make_generator(0, "bootstrap", 0)
    if groups is not None:
        return _percentile_interval(_resample_groups(differences, groups, rng))
    # The mean of a resample depends only on how often it contains -1, 0 and 1: one multinomial draw each, 200 times faster
    # than scipy.stats.bootstrap for 1,000 videos.
    counts = np.array([np.count_nonzero(differences == value) for value in (-1, 0, 1)])
    resampled = rng.multinomial(len(differences), counts / len(differences), size=NUM_RESAMPLES)
    return _percentile_interval((resampled[:, 2] - resampled[:, 0]) / len(differences))


def _resample_groups(
    differences: NDArray[np.int64], groups: Sequence[str], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Means (NUM_RESAMPLES,) of resamples of whole groups; large groups weigh more, as they do in the accuracy."""
    _, group_indices = np.unique(np.asarray(groups), return_inverse=True)
    sums, sizes = np.bincount(group_indices, weights=differences), np.bincount(group_indices)
    means = []
    block = max(1, _MAX_DRAWS_PER_BLOCK // len(sizes))
    for start in range(0, NUM_RESAMPLES, block):
        drawn = rng.integers(0, len(sizes), size=(min(block, NUM_RESAMPLES - start), len(sizes)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)


def mcnemar_p_value(num_first_only: int, num_second_only: int) -> float:
    """Two-sided p-value of McNemar's exact test (McNemar 1947) from the two numbers of disagreements."""
    fewer, total = min(num_first_only, num_second_only), num_first_only + num_second_only
    lower_tail = float(special.bdtr(fewer, total, 0.5))  # of the binomial distribution
    return min(1.0, 2 * lower_tail)


def holm_adjust(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple tests, in the order given (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * np.asarray(p_values, np.float64)[order]))
    return [float(value) for value in adjusted]
