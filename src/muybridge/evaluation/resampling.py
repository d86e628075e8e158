"""Bootstrap over videos for metrics that are no shares: the same function gives the value and its interval.

Input: a metric as a function of how often each video counts, float64 (R, V) -> (R,). Output: its value with every video
counted once, and the 95 % percentile interval over resamples of the videos. Draws come from a fixed seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muybridge.randomness import make_generator

NUM_BOOTSTRAPS = 1000
_MAX_VALUES_PER_BLOCK = 2_000_000  # 16 MB of counts in memory at once

WeightedMetric = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class MetricEstimate:
    """A value with a 95 % interval from `low` to `high`; NaN where it is not defined, or no interval was asked for."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def to_json(self) -> dict[str, float | None]:
        """The record as JSON values, null instead of NaN."""
        return {name: None if math.isnan(value) else value for name, value in vars(self).items()}


def estimate(metric: WeightedMetric, num_videos: int, num_bootstraps: int = NUM_BOOTSTRAPS) -> MetricEstimate:
    """The metric of `num_videos` videos with its interval; `num_bootstraps` 0 leaves the interval out."""
    if num_videos == 0:
        return MetricEstimate(math.nan)
    value = float(metric(np.ones((1, num_videos)))[0])
    if num_videos < 2 or num_bootstraps == 0:
        return MetricEstimate(value)
    rng = make_generator(0, "bootstrap of videos", 0)
    block = max(1, _MAX_VALUES_PER_BLOCK // num_videos)
    samples = []
    for start in range(0, num_bootstraps, block):
        size = min(block, num_bootstraps - start)
        counts = rng.multinomial(num_videos, np.full(num_videos, 1 / num_videos), size=size)
        samples.append(metric(counts.astype(np.float64)))
    resampled = np.concatenate(samples)
    resampled = resampled[~np.isnan(resampled)]
    if not len(resampled):
        return MetricEstimate(value)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return MetricEstimate(value, float(low), float(high))
