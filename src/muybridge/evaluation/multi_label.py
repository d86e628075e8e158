"""Metrics of videos that have several classes or none: average precision, and decisions at a threshold for each class.

Input: probabilities float64 (V, C) and targets (V, C) of 0 and 1. Average precision is the sum over thresholds of the precision
times the rise of recall, without interpolation, as in scikit-learn; mAP is its mean over the classes that any video has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muybridge.evaluation.resampling import NUM_BOOTSTRAPS, MetricEstimate, estimate
from muybridge.models.heads import DEFAULT_THRESHOLD

_MAX_BOOTSTRAPPED = 5_000_000  # videos times classes; the intervals of more would take minutes


@dataclass(frozen=True)
class LabelMetrics:
    """Metrics of one class over V videos. Precision is NaN where no video is above the threshold."""

    name: str
    num_positive: int
    num_videos: int
    average_precision: MetricEstimate
    threshold: float
    precision: float
    recall: float
    f1: float

    @property
    def share(self) -> float:
        """The share of videos with the class: the average precision of a network that guesses."""
        return self.num_positive / self.num_videos if self.num_videos else math.nan


@dataclass(frozen=True)
class MultiLabelMetrics:
    """Metrics over all classes. F1 is at the thresholds; micro counts all decisions, macro is the mean over classes."""

    mean_average_precision: MetricEstimate
    chance: float
    """mAP of a network that guesses: the mean share of the classes."""
    micro_f1: float
    macro_f1: float
    exact_match: float
    """The share of videos with every class right."""
    per_class: tuple[LabelMetrics, ...]


def compute_multi_label(
    probabilities: NDArray[np.float64],
    targets: NDArray[np.float64],
    names: tuple[str, ...],
    thresholds: tuple[float, ...],
    *,
    num_bootstraps: int = NUM_BOOTSTRAPS,
) -> MultiLabelMetrics:
    """Metrics of V readable videos; see the module."""
    num_videos = len(targets)
    num_bootstraps = num_bootstraps if targets.size <= _MAX_BOOTSTRAPPED else 0
    is_positive, is_predicted = targets > 0.5, probabilities >= np.array(thresholds)

    per_class = tuple(
        _compute_label(
            probabilities[:, index],
            is_positive[:, index],
            is_predicted[:, index],
            (name, thresholds[index]),
            num_bootstraps,
        )
        for index, name in enumerate(names)
    )
    defined = [row for row in per_class if row.num_positive]
    return MultiLabelMetrics(
        mean_average_precision=estimate(
            lambda counts: compute_mean_average_precisions(probabilities, is_positive, counts),
            num_videos,
            num_bootstraps,
        ),
        chance=float(np.mean([row.share for row in defined])) if defined else math.nan,
        micro_f1=_compute_f1(is_positive, is_predicted),
        macro_f1=float(np.mean([row.f1 for row in defined])) if defined else math.nan,
        exact_match=float((is_positive == is_predicted).all(axis=1).mean()) if num_videos else math.nan,
        per_class=per_class,
    )


def _compute_label(
    scores: NDArray[np.float64],
    is_positive: NDArray[np.bool_],
    is_predicted: NDArray[np.bool_],
    name_and_threshold: tuple[str, float],
    num_bootstraps: int,
) -> LabelMetrics:
    num_right, num_predicted = int((is_positive & is_predicted).sum()), int(is_predicted.sum())
    num_positive = int(is_positive.sum())
    return LabelMetrics(
        name=name_and_threshold[0],
        num_positive=num_positive,
        num_videos=len(scores),
        average_precision=estimate(
            lambda counts: compute_average_precisions(scores, is_positive, counts), len(scores), num_bootstraps
        ),
        threshold=name_and_threshold[1],
        precision=num_right / num_predicted if num_predicted else math.nan,
        recall=num_right / num_positive if num_positive else math.nan,
        f1=_compute_f1(is_positive, is_predicted),
    )


def compute_average_precisions(
    scores: NDArray[np.float64], is_positive: NDArray[np.bool_], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Average precision (R,) of scores (V,), with each video counted `counts` (R, V) times; NaN without a positive.

    Videos of one score are one threshold: their order does not matter.
    """
    order = np.argsort(-scores, kind="stable")
    is_last = np.append(np.diff(scores[order]) != 0, True)  # of the videos with its score
    ordered = counts[:, order]
    num_positive = np.cumsum(ordered * is_positive[order], axis=1)[:, is_last]
    num_all = np.cumsum(ordered, axis=1)[:, is_last]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(num_all > 0, num_positive / num_all, 0.0)
        rises = np.diff(num_positive, axis=1, prepend=0.0) / num_positive[:, -1:]
    return np.asarray((precision * rises).sum(axis=1))


def compute_mean_average_precisions(
    probabilities: NDArray[np.float64], is_positive: NDArray[np.bool_], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """mAP (R,) of probabilities (V, C): the mean of `compute_average_precisions` over the classes that any video has."""
    columns = [
        compute_average_precisions(probabilities[:, index], is_positive[:, index], counts)
        for index in range(probabilities.shape[1])
    ]
    return _mean_of_defined(np.stack(columns))


def choose_thresholds(probabilities: NDArray[np.float64], targets: NDArray[np.float64]) -> tuple[float, ...]:
    """The threshold of each class with the highest F1; 0.5 for a class that no video or every video has.

    A threshold is midway between the lowest probability above it and the highest below it; of equal F1 the highest is taken.
    """
    return tuple(
        _choose_threshold(probabilities[:, index], targets[:, index] > 0.5) for index in range(targets.shape[1])
    )


def _choose_threshold(scores: NDArray[np.float64], is_positive: NDArray[np.bool_]) -> float:
    total = int(is_positive.sum())
    if total in (0, len(scores)):
        return DEFAULT_THRESHOLD
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    is_last = np.append(np.diff(ordered) != 0, True)
    num_right = np.cumsum(is_positive[order])[is_last]
    num_predicted = np.flatnonzero(is_last) + 1
    best = int(np.argmax(2 * num_right / (num_predicted + total)))
    levels = ordered[is_last]
    return float((levels[best] + levels[best + 1]) / 2) if best + 1 < len(levels) else float(levels[best] / 2)


def _compute_f1(is_positive: NDArray[np.bool_], is_predicted: NDArray[np.bool_]) -> float:
    """2 TP / (2 TP + FP + FN), 0 where there is nothing to predict and nothing predicted."""
    total = int(is_positive.sum()) + int(is_predicted.sum())
    return 2 * int((is_positive & is_predicted).sum()) / total if total else 0.0


def _mean_of_defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over the first axis without NaN; NaN where all are."""
    is_defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(is_defined, values, 0.0).sum(axis=0) / is_defined.sum(axis=0))
