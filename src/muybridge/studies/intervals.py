"""Means over seeds with 95 % t-intervals.

Input: one number per seed. Output: an `Estimate`. Differences are taken seed by seed, since runs of one seed see the same
draws. A few seeds give wide intervals. Pure arithmetic.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

# Student's t, 97.5 % quantile for 1 to 20 degrees of freedom. The last serves for more: its interval is a little too wide.
T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """A mean over `num` seeds with its 95 % t-interval; a single seed has no interval."""

    mean: float
    low: float | None
    high: float | None
    num: int

    def format(self, digits: int = 1) -> str:
        """`52.8 [51.0, 54.6]`, or `52.8` for a single seed."""
        if self.low is None or self.high is None:
            return f"{self.mean:.{digits}f}"
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"

    def clip(self, minimum: float, maximum: float) -> Estimate:
        """The interval of a quantity bounded to [minimum, maximum], such as a share in percent."""
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(self.low, minimum), high=min(self.high, maximum))

    def shift(self, offset: float) -> Estimate:
        """The estimate of the same quantity plus a constant."""
        if self.low is None or self.high is None:
            return replace(self, mean=self.mean + offset)
        return replace(self, mean=self.mean + offset, low=self.low + offset, high=self.high + offset)

    @property
    def is_positive(self) -> bool | None:
        """True above 0, False below 0, None (undecided) for an interval that contains 0, or none."""
        if self.low is None or self.high is None:
            return None
        return True if self.low > 0 else False if self.high < 0 else None


def estimate_mean(values: Sequence[float]) -> Estimate | None:
    """The mean of one number per seed; None without numbers."""
    if not values:
        return None
    mean, num = statistics.fmean(values), len(values)
    if num == 1:
        return Estimate(mean, None, None, 1)
    half_width = T_975[min(num - 1, len(T_975)) - 1] * statistics.stdev(values) / math.sqrt(num)
    return Estimate(mean, mean - half_width, mean + half_width, num)


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> Estimate | None:
    """The mean of `first` minus `second`, both seed -> number, over the seeds that both have."""
    return estimate_mean([first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())])


def mean_by_seed(members: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The mean of several members, seed by seed, over the seeds that all of them have; empty without members."""
    if not members:
        return {}
    common = set(members[0]).intersection(*members[1:])
    return {seed: statistics.fmean(member[seed] for member in members) for seed in sorted(common)}
