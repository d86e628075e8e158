"""Two networks on the same videos: is the one right more often than the other?

Enter: which of the common videos each is right about, and which videos belong together (a person, a recording). Leaves: the
difference of video@1 with a bootstrap interval over videos or groups, and McNemar's exact test (McNemar 1947; Dietterich
1998 on why pairs). Pure numpy. Only videos about which the two disagree say anything; whether two intervals overlap says
nothing of a pair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muybridge.randomness import make_generator

NUM_RESAMPLES = 10_000
_MAX_DRAWS_PER_BLOCK = 2_000_000  # draws in memory at once


@dataclass(frozen=True)
class PairedTest:
    """What `second` is right about beyond `first`, over `num_videos` that both scored; shares, not percent."""

    first: str
    second: str
    num_videos: int
    num_both: int
    num_first_only: int
    num_second_only: int
    low: float
    high: float
    num_groups: int | None
    """Groups that were resampled; None: single videos were."""
    p_value: float
    """McNemar's exact test, two-sided."""

    @property
    def difference(self) -> float:
        """video@1 of the second minus that of the first."""
        return (self.num_second_only - self.num_first_only) / self.num_videos

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values, with the difference."""
        return {**asdict(self), "difference": self.difference}


def paired_test(
    names: tuple[str, str],
    first_right: NDArray[np.bool_],
    second_right: NDArray[np.bool_],
    *,
    groups: Sequence[str] | None = None,
) -> PairedTest:
    """The test over videos, (V,) each. With `groups` (V,) the interval resamples whole groups."""
    if not len(first_right):
        raise ValueError(f"{names[0]} and {names[1]} have no labelled video in common; compare runs on the same videos")
    first_only = int(np.count_nonzero(first_right & ~second_right))
    second_only = int(np.count_nonzero(second_right & ~first_right))
    gains = second_right.astype(np.int64) - first_right.astype(np.int64)
    low, high = bootstrap_interval(gains, groups)
    return PairedTest(
        first=names[0],
        second=names[1],
        num_videos=len(gains),
        num_both=int(np.count_nonzero(first_right & second_right)),
        num_first_only=first_only,
        num_second_only=second_only,
        low=low,
        high=high,
        num_groups=len(set(groups)) if groups else None,
        p_value=mcnemar(first_only, second_only),
    )


def mcnemar(first_only: int, second_only: int) -> float:
    """The exact two-sided p-value: both kinds of disagreement are equally likely where neither network is better."""
    num, fewer = first_only + second_only, min(first_only, second_only)
    if num == 0:
        return 1.0
    logarithms = [math.lgamma(num + 1) - math.lgamma(k + 1) - math.lgamma(num - k + 1) for k in range(fewer + 1)]
    tail = math.fsum(math.exp(value - num * math.log(2)) for value in logarithms)
    return min(1.0, 2 * tail)


def bootstrap_interval(gains: NDArray[np.int64], groups: Sequence[str] | None) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of `gains` (V,), each -1, 0 or 1, resampled by video or by group."""
    rng = make_generator(0, "bootstrap", 0)
    if groups is None:
        # A resample of videos is known by how many of each gain it has: one multinomial draw.
        counts = np.array([np.count_nonzero(gains == gain) for gain in (-1, 0, 1)])
        drawn = rng.multinomial(len(gains), counts / len(gains), size=NUM_RESAMPLES)
        means = (drawn[:, 2] - drawn[:, 0]) / len(gains)
    else:
        means = _resample_groups(gains, groups, rng)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _resample_groups(gains: NDArray[np.int64], groups: Sequence[str], rng: np.random.Generator) -> NDArray[np.float64]:
    """Means of resamples of whole groups; large groups weigh more, as they do in the accuracy."""
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    sums, sizes = np.bincount(group, weights=gains), np.bincount(group)
    means = []
    rows = max(1, _MAX_DRAWS_PER_BLOCK // len(sizes))
    for start in range(0, NUM_RESAMPLES, rows):
        drawn = rng.integers(0, len(sizes), size=(min(rows, NUM_RESAMPLES - start), len(sizes)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, raised so that all of them hold together (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda number: p_values[number])
    adjusted, least = [0.0] * len(p_values), 0.0
    for position, index in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - position) * p_values[index]))
        adjusted[index] = least
    return adjusted
