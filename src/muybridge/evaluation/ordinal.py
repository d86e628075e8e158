"""Metrics of levels that have an order: exact, within one level, mean distance in levels, quadratic weighted kappa.

Input: predicted and true levels int64 (V,), counted from 0. Kappa is 1 for agreement and 0 for what chance gives with the same
frequencies; a disagreement weighs by the square of its distance (Cohen 1968).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muybridge.evaluation.resampling import NUM_BOOTSTRAPS, MetricEstimate, estimate


@dataclass(frozen=True)
class OrdinalMetrics:
    """Metrics over `num_videos` videos. `confusion` has the counts (levels, levels): rows are labels, columns predictions."""

    num_videos: int
    exact: MetricEstimate
    within_one: MetricEstimate
    mae: MetricEstimate
    kappa: MetricEstimate
    majority: float
    """Exact of always predicting the most frequent level of these videos."""
    baseline_mae: float
    """MAE of always predicting their median level."""
    confusion: tuple[tuple[int, ...], ...]


def compute_ordinal(
    predicted: NDArray[np.int64],
    labels: NDArray[np.int64],
    num_levels: int,
    *,
    num_bootstraps: int = NUM_BOOTSTRAPS,
) -> OrdinalMetrics:
    """Metrics of V videos whose level is known."""
    num_videos, cells = len(labels), labels * num_levels + predicted
    distances = np.abs(predicted - labels).astype(np.float64)

    def mean(values: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(counts @ values / counts.sum(axis=1))

    def compute_kappas(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        one_hot = np.zeros((num_videos, num_levels**2))
        one_hot[np.arange(num_videos), cells] = 1
        return compute_quadratic_kappas((counts @ one_hot).reshape(-1, num_levels, num_levels))

    matrix = np.bincount(cells, minlength=num_levels**2).reshape(num_levels, num_levels)
    per_level = matrix.sum(axis=1)
    median = float(np.median(labels)) if num_videos else math.nan
    return OrdinalMetrics(
        num_videos=num_videos,
        exact=estimate(lambda counts: mean((distances == 0).astype(np.float64), counts), num_videos, num_bootstraps),
        within_one=estimate(
            lambda counts: mean((distances <= 1).astype(np.float64), counts), num_videos, num_bootstraps
        ),
        mae=estimate(lambda counts: mean(distances, counts), num_videos, num_bootstraps),
        kappa=estimate(compute_kappas, num_videos, num_bootstraps),
        majority=float(per_level.max() / num_videos) if num_videos else math.nan,
        baseline_mae=float(np.abs(labels - math.floor(median)).mean()) if num_videos else math.nan,
        confusion=tuple(tuple(map(int, row)) for row in matrix),
    )


def compute_quadratic_kappas(confusions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quadratic weighted kappa (R,) of confusion matrices (R, K, K); NaN where only one level occurs at all."""
    levels = np.arange(confusions.shape[1])
    weights = (levels[:, None] - levels[None, :]) ** 2
    totals = confusions.sum(axis=(1, 2))
    expected = confusions.sum(axis=2)[:, :, None] * confusions.sum(axis=1)[:, None, :] / totals[:, None, None]
    observed_cost, expected_cost = ((weights * matrix).sum(axis=(1, 2)) for matrix in (confusions, expected))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected_cost > 0, 1 - observed_cost / expected_cost, np.nan)
