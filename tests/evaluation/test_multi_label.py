"""Average precision and thresholds of several labels, against cases by hand and a loop over thresholds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from muybridge.evaluation.multi_label import choose_thresholds, compute_average_precisions, compute_multi_label


def average_precision(scores: np.ndarray, positives: np.ndarray) -> float:
    """The definition: the sum over thresholds of precision times the rise of recall."""
    result, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = scores >= threshold
        new_recall = float((chosen & positives).sum() / positives.sum())
        result += (new_recall - recall) * float((chosen & positives).sum() / chosen.sum())
        recall = new_recall
    return result


def test_average_precision_is_its_definition() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores = rng.integers(0, 6, size=20) / 6  # with ties
        positives = rng.random(20) < 0.4
        positives[0] = True
        ours = compute_average_precisions(scores, positives, np.ones((1, 20)))[0]
        assert ours == pytest.approx(average_precision(scores, positives))


def test_average_precision_by_hand() -> None:
    # In order of score: right, wrong, right: 1/1 * 1/2 + 2/3 * 1/2.
    ours = compute_average_precisions(np.array([0.9, 0.5, 0.7]), np.array([True, True, False]), np.ones((1, 3)))
    assert ours[0] == pytest.approx(0.5 + 1 / 3)
    assert math.isnan(compute_average_precisions(np.array([0.9]), np.array([False]), np.ones((1, 1)))[0])


def test_counts_are_repeated_videos() -> None:
    scores, positives = np.array([0.9, 0.7, 0.5, 0.2]), np.array([True, False, True, False])
    counts = np.array([[2.0, 0.0, 1.0, 3.0]])
    repeated = np.repeat(np.arange(4), counts[0].astype(int))
    assert compute_average_precisions(scores, positives, counts)[0] == pytest.approx(
        average_precision(scores[repeated], positives[repeated])
    )


def test_metrics_at_the_thresholds() -> None:
    probabilities = np.array([[0.9, 0.2], [0.8, 0.6], [0.3, 0.7], [0.1, 0.1]])
    targets = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.float64)
    metrics = compute_multi_label(probabilities, targets, ("a", "b"), (0.5, 0.65))
    a, b = metrics.per_class
    assert (a.num_positive, a.precision, a.recall, a.f1) == (2, 0.5, 0.5, 0.5)
    assert (b.precision, b.recall, b.f1) == (1.0, 0.5, pytest.approx(2 / 3))
    assert b.average_precision.value == 1
    assert metrics.mean_average_precision.value == pytest.approx((1 + a.average_precision.value) / 2)
    assert metrics.chance == 0.5
    assert metrics.exact_match == 0.5
    assert metrics.micro_f1 == pytest.approx(4 / 7)  # 2 right of 3 predicted and 4 true
    assert metrics.mean_average_precision.low <= metrics.mean_average_precision.value


def test_a_class_that_no_video_has_is_left_out_of_the_mean() -> None:
    metrics = compute_multi_label(
        np.array([[0.9, 0.2], [0.1, 0.4]]), np.array([[1.0, 0.0], [0.0, 0.0]]), ("a", "b"), (0.5, 0.5), num_bootstraps=0
    )
    assert metrics.mean_average_precision.value == 1
    assert math.isnan(metrics.per_class[1].average_precision.value)
    assert math.isnan(metrics.per_class[1].precision)


def test_thresholds_have_the_highest_f1() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random((40, 3))
    targets = (rng.random((40, 3)) < scores).astype(np.float64)

    def f1(threshold: float, column: int) -> float:
        chosen, right = scores[:, column] >= threshold, targets[:, column] > 0
        return float(2 * (chosen & right).sum() / (chosen.sum() + right.sum()))

    for column, threshold in enumerate(choose_thresholds(scores, targets)):
        assert f1(threshold, column) == pytest.approx(max(f1(one, column) for one in scores[:, column]))
    assert choose_thresholds(np.array([[0.8], [0.4]]), np.array([[1.0], [0.0]])) == (pytest.approx(0.6),)
    assert choose_thresholds(np.array([[0.8], [0.4]]), np.zeros((2, 1))) == (0.5,)
