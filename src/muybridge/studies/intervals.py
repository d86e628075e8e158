"""Means over seeds and what may be concluded from them.

Enter: one number a seed. Leaves: an `Estimate`, the mean with a 95 % t-interval; differences are taken seed by seed, since runs
of one seed see the same draws. A handful of seeds gives wide intervals; that is what a handful of seeds knows. Pure arithmetic.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

# Student's t: the 97.5 % quantile for 1, 2, ... degrees of freedom (any table of it); beyond, the last is a little too wide.
T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """A mean over `num` seeds with its 95 % t-interval; without an interval where there is one seed only."""

    mean: float
    low: float | None
    high: float | None
    num: int

    def text(self, digits: int = 1) -> str:
        """`52.8 [51.0, 54.6]`, or `52.8` for a single seed."""
        if self.low is None or self.high is None:
            return f"{self.mean:.{digits}f}"
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"

    def within(self, least: float, most: float) -> Estimate:
        """The same, of a number that cannot lie outside of [least, most]: a share in percent."""
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(self.low, least), high=min(self.high, most))

    @property
    def is_positive(self) -> bool | None:
        """True or False where the interval lies on one side of 0, else None: undecided."""
        if self.low is None or self.high is None:
            return None
        return True if self.low > 0 else False if self.high < 0 else None


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean of one number a seed; None without numbers."""
    if not values:
        return None
    mean, num = statistics.fmean(values), len(values)
    if num == 1:
        return Estimate(mean, None, None, 1)
    half = T_975[min(num - 1, len(T_975)) - 1] * statistics.stdev(values) / math.sqrt(num)
    return Estimate(mean, mean - half, mean + half, num)


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> Estimate | None:
    """How much `first` lies above `second`, both seed -> number, over the seeds that both have."""
    return estimate([first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())])


def mean_by_seed(members: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The mean of several, seed by seed, over the seeds that all of them have; empty without members."""
    if not members:
        return {}
    common = set(members[0]).intersection(*members[1:])
    return {seed: statistics.fmean(member[seed] for member in members) for seed in sorted(common)}
