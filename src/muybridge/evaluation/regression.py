"""Metrics of numbers: mean absolute error, root mean squared error, R2, and the agreement of Bland and Altman.

Input: predictions and targets float64 (V,), NaN where unknown. R2 is 1 - SS_res / SS_tot around the mean of these targets, as
in scikit-learn. Limits of agreement are the mean difference +- 1.96 standard deviations (Bland and Altman, Lancet 1986).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muybridge.evaluation.metrics import Z_95
from muybridge.evaluation.resampling import NUM_BOOTSTRAPS, MetricEstimate, estimate


@dataclass(frozen=True)
class RegressionMetrics:
    """Metrics of one target over `num_videos` videos, in its unit. `bias` is prediction minus target."""

    name: str
    unit: str
    num_videos: int
    mae: MetricEstimate
    rmse: MetricEstimate
    r2: MetricEstimate
    bias: float
    limits_of_agreement: tuple[float, float]
    baseline_mae: float
    """MAE of always predicting the mean of the training videos, or of these where that is not known."""


def compute_regression(
    predictions: NDArray[np.float64],
    targets: NDArray[np.float64],
    *,
    name: str,
    unit: str,
    target_mean: float | None,
    num_bootstraps: int = NUM_BOOTSTRAPS,
) -> RegressionMetrics:
    """Metrics of the videos whose target is known; `target_mean` is that of the training videos, None if it is not known."""
    is_known = ~(np.isnan(targets) | np.isnan(predictions))
    differences, known = (predictions - targets)[is_known], targets[is_known]
    num_videos = len(known)

    def mean(values: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(counts @ values / counts.sum(axis=1))

    def compute_r2(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        centered = known - known.mean()  # targets far from 0 keep their digits
        variance = mean(centered**2, counts) - mean(centered, counts) ** 2
        is_constant = variance <= 1e-12 * (centered**2).max()  # of a resample too
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(is_constant, np.nan, 1 - mean(differences**2, counts) / variance)

    baseline = target_mean if target_mean is not None else float(known.mean()) if num_videos else math.nan
    bias = float(differences.mean()) if num_videos else math.nan
    deviation = float(differences.std(ddof=1)) if num_videos > 1 else math.nan
    return RegressionMetrics(
        name=name,
        unit=unit,
        num_videos=num_videos,
        mae=estimate(lambda counts: mean(np.abs(differences), counts), num_videos, num_bootstraps),
        rmse=estimate(lambda counts: np.sqrt(mean(differences**2, counts)), num_videos, num_bootstraps),
        r2=estimate(compute_r2, num_videos, num_bootstraps),
        bias=bias,
        limits_of_agreement=(bias - Z_95 * deviation, bias + Z_95 * deviation),
        baseline_mae=float(np.abs(known - baseline).mean()) if num_videos else math.nan,
    )
