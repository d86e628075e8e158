"""Curves of class probabilities for the page, reduced so that no peak is lost. Pure functions.

Input: windows along a video and a range of it. Output: at most a given number of points: each window where they are few enough,
else the lowest and highest window of each bin, in order of occurrence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CurvePoints:
    """Points of several curves at common times. `values` float32 (C, P); NaN where windows could not be read."""

    seconds: NDArray[np.float64]
    values: NDArray[np.float32]
    is_exact: bool


def select_windows(centers: NDArray[np.float64], start_seconds: float, end_seconds: float) -> slice:
    """The windows (N,) whose centres lie in a range, and one more at each side, so that curves reach its ends."""
    first = int(np.searchsorted(centers, start_seconds, side="left"))
    last = int(np.searchsorted(centers, end_seconds, side="right"))
    return slice(max(0, first - 1), min(len(centers), last + 1))


def reduce_curves(
    centers: NDArray[np.float64], values: NDArray[np.float32], gaps: Sequence[int], max_points: int
) -> CurvePoints:
    """At most `max_points` points of curves `values` (C, N) at `centers` (N,), besides one for each gap.

    Each of `gaps` is the index of a window before which time could not be read.
    """
    num_windows = len(centers)
    is_exact = num_windows <= max_points
    seconds, reduced = (centers, values) if is_exact else _reduce_by_bins(centers, values, max(1, max_points // 2))
    gap_seconds = [(centers[index - 1] + centers[index]) / 2 for index in gaps if 0 < index < num_windows]
    if gap_seconds:
        positions = np.searchsorted(seconds, gap_seconds)
        seconds = np.insert(seconds, positions, gap_seconds)
        reduced = np.insert(reduced, positions, np.nan, axis=1)
    return CurvePoints(seconds, reduced, is_exact)


def _reduce_by_bins(
    centers: NDArray[np.float64], values: NDArray[np.float32], num_bins: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Two points for each bin of equally many windows: its minimum and maximum, whichever comes first."""
    size = -(-len(centers) // num_bins)
    num_bins = -(-len(centers) // size)
    missing = num_bins * size - len(centers)
    binned = np.pad(values, ((0, 0), (0, missing)), mode="edge").reshape(len(values), num_bins, size)
    lowest, highest = binned.argmin(axis=2), binned.argmax(axis=2)
    order = np.stack([np.minimum(lowest, highest), np.maximum(lowest, highest)], axis=2)
    reduced = np.take_along_axis(binned, order, axis=2).reshape(len(values), 2 * num_bins)
    starts = np.arange(num_bins) * size
    ends = np.minimum(starts + size, len(centers)) - 1
    bin_centers = np.stack(
        [0.75 * centers[starts] + 0.25 * centers[ends], 0.25 * centers[starts] + 0.75 * centers[ends]]
    )
    return bin_centers.T.reshape(-1), reduced.astype(np.float32)
