"""Errors of numbers, against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from muybridge.evaluation.regression import compute_regression
from muybridge.evaluation.resampling import estimate


def test_metrics_by_hand() -> None:
    predictions, targets = np.array([1.0, 2.0, 6.0, 9.0]), np.array([1.0, 4.0, 5.0, np.nan])
    metrics = compute_regression(predictions, targets, name="ef", unit="%", target_mean=3.0)
    assert metrics.num_videos == 3
    assert metrics.mae.value == pytest.approx(1)  # 0, 2, 1
    assert metrics.rmse.value == pytest.approx(math.sqrt(5 / 3))
    assert metrics.r2.value == pytest.approx(1 - 5 / (26 / 3))  # around 10 / 3
    assert metrics.bias == pytest.approx(-1 / 3)
    deviation = np.std([0, -2, 1], ddof=1)
    assert metrics.limits_of_agreement == pytest.approx(
        (-1 / 3 - 1.96 * deviation, -1 / 3 + 1.96 * deviation), abs=1e-3
    )
    assert metrics.baseline_mae == pytest.approx(5 / 3)


def test_r2_keeps_its_digits_far_from_zero() -> None:
    rng = np.random.default_rng(0)
    targets = 1e6 + rng.normal(size=50)
    predictions = targets + 0.3 * rng.normal(size=50)
    metrics = compute_regression(predictions, targets, name="t", unit="", target_mean=1e6)
    expected = 1 - ((predictions - targets) ** 2).sum() / ((targets - targets.mean()) ** 2).sum()
    assert metrics.r2.value == pytest.approx(expected, rel=1e-6)
    assert math.isnan(compute_regression(predictions, np.ones(50), name="t", unit="", target_mean=0.0).r2.value)


def test_intervals_are_those_of_scipy() -> None:
    values = np.random.default_rng(0).normal(size=200)
    ours = estimate(lambda counts: counts @ values / counts.sum(axis=1), len(values))
    theirs = stats.bootstrap((values,), np.mean, method="percentile", random_state=0).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert ours.low < ours.value < ours.high
