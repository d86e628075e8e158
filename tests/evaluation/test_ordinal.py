"""Levels with an order: agreement against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from muybridge.evaluation.ordinal import compute_ordinal, compute_quadratic_kappas


def kappa(predicted: np.ndarray, labels: np.ndarray) -> float:
    """1 - mean squared distance of the pairs over that of all pairings of the two."""
    observed = ((predicted - labels) ** 2).mean()
    expected = ((predicted[:, None] - labels[None, :]) ** 2).mean()
    return float(1 - observed / expected)


def test_kappa_is_its_definition() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, size=60)
    predicted = np.clip(labels + rng.integers(-1, 2, size=60), 0, 3)
    metrics = compute_ordinal(predicted, labels, 4)
    assert metrics.kappa.value == pytest.approx(kappa(predicted, labels))
    assert metrics.exact.value == pytest.approx((predicted == labels).mean())
    assert metrics.within_one.value == 1
    assert metrics.mae.value == pytest.approx(np.abs(predicted - labels).mean())
    assert metrics.majority == np.bincount(labels).max() / 60
    assert sum(map(sum, metrics.confusion)) == 60
    assert metrics.confusion[1][2] == ((labels == 1) & (predicted == 2)).sum()


def test_one_level_has_no_kappa() -> None:
    assert math.isnan(compute_quadratic_kappas(np.array([[[3.0, 0.0], [0.0, 0.0]]]))[0])
    # Independent of each other: chance.
    assert compute_quadratic_kappas(np.array([[[1.0, 1.0], [1.0, 1.0]]]))[0] == pytest.approx(0)
