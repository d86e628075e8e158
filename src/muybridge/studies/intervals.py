"""Means over seeds and videos with 95 % intervals, and differences between networks.

Input: by seed, a value in percent for every video, or a single one where videos are not known. Output: an `Estimate`. Seeds
and videos are both samples: an accuracy would differ with other seeds and with other test videos. Differences are taken seed by
seed and video by video, since runs of one seed see the same draws and all runs the same videos. Pure arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muybridge.evaluation.statistics import t_quantile
from muybridge.text import join_names

Values = NDArray[np.float64]
BySeed = dict[int, Values]
"""Seed -> values (V,) in percent, one for each test video; V is 1 where only the mean is known."""


@dataclass(frozen=True)
class Estimate:
    """A mean over `num` seeds with its 95 % interval; a single seed has no interval.

    `margin` is what rounding alone does to it (`noise.NoiseFloor`); None: not measured. A difference is decided where its
    interval lies beyond the margin.
    """

    mean: float
    low: float | None
    high: float | None
    num: int
    margin: float | None = None

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
        """True beyond the margin above 0, False beyond it below 0, else None: undecided, as without interval or margin."""
        if self.low is None or self.high is None or self.margin is None:
            return None
        return True if self.low > self.margin else False if self.high < -self.margin else None


def estimate_mean(values: Sequence[ArrayLike]) -> Estimate | None:
    """The mean of the values (V,) of every seed; None without seeds."""
    if not values:
        return None
    rows = [np.atleast_1d(np.asarray(row, np.float64)) for row in values]
    _check_equal_videos(rows)
    values_sv = np.stack(rows)
    mean, num_seeds = float(values_sv.mean()), len(values_sv)
    if num_seeds == 1:
        return Estimate(mean, None, None, 1)
    half_width = t_quantile(num_seeds - 1) * math.sqrt(compute_clustered_variance(values_sv))
    return Estimate(mean, mean - half_width, mean + half_width, num_seeds)


def estimate_percent(values: Sequence[ArrayLike]) -> Estimate | None:
    """As `estimate_mean`, of shares in percent: the interval ends at 0 and 100."""
    mean = estimate_mean(values)
    return None if mean is None else mean.clip(0.0, 100.0)


def _check_equal_videos(rows: Sequence[Values]) -> None:
    """Raise ValueError where runs to compare were scored on different numbers of videos."""
    if len(nums := sorted({len(row) for row in rows})) > 1:
        if nums[0] == 1:
            raise ValueError(
                f"runs to compare have results of {join_names(nums[1:])} videos, and others only a mean: take away the rows "
                "without `videos`, and their runs are made again"
            )
        raise ValueError(
            f"runs to compare have results of {join_names(nums)} videos, expected the same test videos in all: "
            "the data set has changed since; take away the older rows, or begin in another folder"
        )


def compute_clustered_variance(values_sv: Values) -> float:
    """The variance of the mean of values (S, V) whose rows (seeds) and columns (videos) are both samples.

    The variance clustered by seed plus that clustered by video, minus that of single values, which both contain (Cameron,
    Gelbach and Miller 2011). It is at least the larger of the two. With one column, that of a mean over seeds.
    """
    num_seeds, num_videos = values_sv.shape
    residuals = values_sv - values_sv.mean()
    by_seed: float = float((residuals.mean(axis=1) ** 2).sum()) / (num_seeds * (num_seeds - 1))
    if num_videos == 1:
        return by_seed
    by_video = float((residuals.mean(axis=0) ** 2).sum()) / (num_videos * (num_videos - 1))
    single = float((residuals**2).sum()) / (residuals.size * (residuals.size - 1))
    return float(max(by_seed + by_video - single, by_seed, by_video))


def difference(first: BySeed, second: BySeed, floor: float | None) -> Estimate | None:
    """The mean of `first` minus `second` over the seeds that both have.

    `floor` is the standard deviation of reruns that differ by rounding alone: the difference of two means of n runs has
    sqrt(2 / n) of it.
    """
    seeds = sorted(first.keys() & second.keys())
    for seed in seeds:
        _check_equal_videos([first[seed], second[seed]])
    estimate = estimate_mean([first[seed] - second[seed] for seed in seeds])
    if estimate is None or floor is None:
        return estimate
    return replace(estimate, margin=floor * math.sqrt(2 / estimate.num))


def pool_recordings(values: Values, num_videos: Sequence[int]) -> Values:
    """Values (R,) of recordings, from those of their videos (V,), with the same mean; `num_videos` of each follow one another.

    Segments of one recording are alike, so recordings are what an interval is over: each has the mean of all videos plus the
    sum of its own videos' distances from it, scaled by R / V, by which the variance of a ratio is estimated.
    """
    if sum(num_videos) != len(values):
        raise ValueError(f"the recordings have {sum(num_videos)} videos, and there are results of {len(values)}")
    mean = values.mean()
    starts = np.cumsum([0, *num_videos[:-1]])
    pooled: Values = mean + np.add.reduceat(values - mean, starts) * (len(num_videos) / len(values))
    return pooled


def mean_by_seed(members: Sequence[BySeed]) -> BySeed:
    """The mean of members that were scored on the same videos, video by video, for the seeds that all of them have.

    Empty without members. Raises ValueError where their numbers of videos differ.
    """
    for seed in (seeds := _list_common_seeds(members)):
        _check_equal_videos([member[seed] for member in members])
    return {seed: np.asarray(np.mean([member[seed] for member in members], axis=0)) for seed in seeds}


def join_by_seed(members: Sequence[BySeed], weights: Sequence[float]) -> BySeed:
    """The weighted mean of members that were scored on different videos, such as folds: their values follow one another.

    Each value is the weighted mean plus its distance from that of its member, scaled so that all together are as one sample.
    """
    shares = np.asarray(weights, np.float64) / sum(weights) if weights else np.array([])
    return {seed: _join([member[seed] for member in members], shares) for seed in _list_common_seeds(members)}


def _list_common_seeds(members: Sequence[BySeed]) -> list[int]:
    return sorted(set(members[0]).intersection(*members[1:])) if members else []


def _join(members: Sequence[Values], shares: Values) -> Values:
    mean = sum(share * values.mean() for share, values in zip(shares, members, strict=True))
    total = sum(map(len, members))
    scaled = [
        mean + (values - mean) * (share * total / len(values)) for share, values in zip(shares, members, strict=True)
    ]
    return np.concatenate(scaled)


def pool_deviations(cells: Sequence[Mapping[int, float]]) -> float | None:
    """The standard deviation over seeds, pooled over networks; None where no network has two seeds."""
    variances = [(np.var(list(cell.values()), ddof=1), len(cell) - 1) for cell in cells if len(cell) > 1]
    if not variances:
        return None
    degrees = sum(degree for _, degree in variances)
    return math.sqrt(sum(variance * degree for variance, degree in variances) / degrees)


def count_seeds(deviation: float, points: float, max_seeds: int = 1000) -> int | None:
    """How many seeds resolve a difference of `points` between two networks whose runs have this deviation over seeds.

    The smallest n whose 95 % interval of a difference of means is at most `points` to either side; None above `max_seeds`.
    """
    for num in range(2, max_seeds + 1):
        if t_quantile(num - 1) * deviation * math.sqrt(2 / num) <= points:
            return num
    return None
