"""What the outputs of another task than single_label say about a video, and about windows along it.

Input: outputs of clips (N, D) and the network's `Head`. Output: a `Prediction` with labels or values; probabilities of windows;
segments of each class by itself, which overlap where classes do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muybridge.evaluation.aggregate import average_by_video, softmax
from muybridge.evaluation.outputs import average_views
from muybridge.evaluation.protocol import AVERAGES
from muybridge.models.heads import Head, choose_levels, compute_level_probabilities, recover_boundaries
from muybridge.prediction.timeline import Segment, TimelineOptions, Window, merge_windows, smooth_windows
from muybridge.weights.card import Card


def describe_outputs(
    outputs: NDArray[np.float64], head: Head | None, classes: Sequence[str], top: int
) -> dict[str, Any]:
    """The fields of a `Prediction` for the outputs of the clips of one video, averaged as evaluation does.

    `classes` by probability; for multi_label also in `labels` those above their thresholds, for ordinal the median level. For
    regression `values` instead, each (name, number, unit). Without a head the task is single_label.
    """
    one_video = np.zeros(len(outputs), np.int64)
    if head is None:
        values = average_by_video(outputs, one_video, average="softmax")[1]
    else:
        values = average_views(outputs, one_video, head, average=AVERAGES[head.task])[1]
    return describe_values(values[0], head, classes, top)


def describe_values(values: NDArray[np.float64], head: Head | None, classes: Sequence[str], top: int) -> dict[str, Any]:
    """As `describe_outputs`, for the values (D,) of a video after the link."""
    if head is None:
        return {"classes": _rank_classes(values, classes, top)}
    if head.task == "regression":
        named = zip(head.outputs, values, range(len(head.outputs)), strict=True)
        return {"values": tuple((name, float(value), head.get_unit(index)) for name, value, index in named)}
    if head.task == "ordinal":
        probabilities = compute_level_probabilities(values[None])[0]
        labels: tuple[str, ...] = (classes[int(choose_levels(values[None])[0])],)
    else:
        probabilities = values
        labels = tuple(
            name
            for name, probability, threshold in zip(classes, probabilities, head.resolved_thresholds, strict=True)
            if probability >= threshold
        )
    return {"classes": _rank_classes(probabilities, classes, top), "labels": labels}


def recover_values(
    prediction_classes: Mapping[str, float], numbers: Sequence[float], card: Card
) -> NDArray[np.float64]:
    """The values (D,) that `describe_values` made of all classes with their probabilities, or of the numbers."""
    if card.task == "regression":
        return np.array(numbers, np.float64)
    probabilities = np.array([prediction_classes[name] for name in card.classes], np.float64)
    return recover_boundaries(probabilities[None])[0] if card.task == "ordinal" else probabilities


def _rank_classes(
    probabilities: NDArray[np.float64], classes: Sequence[str], top: int
) -> tuple[tuple[str, float], ...]:
    best = np.argsort(-probabilities, kind="stable")[:top]
    return tuple((classes[index], float(probabilities[index])) for index in best)


def compute_probabilities(outputs: NDArray[np.float64], head: Head | None) -> NDArray[np.float64]:
    """The probability of each class (N, classes) for outputs of clips (N, D). Raises ValueError for a regression."""
    if head is None:
        return softmax(outputs)
    check_has_classes(head)
    values = head.invert_link(outputs)
    return compute_level_probabilities(values) if head.task == "ordinal" else values


def check_has_classes(head: Head | None, what: str = "a timeline") -> None:
    """Raise ValueError for a regression, which has no classes and so no segments; `what` needs them."""
    if head and head.task == "regression":
        raise ValueError(
            f"{what} is of classes, but the network is of the task regression; use `predict` without a timeline, which says "
            "its numbers of whole videos"
        )


def merge_label_windows(
    windows: Sequence[Window], classes: Sequence[str], thresholds: Sequence[float], options: TimelineOptions
) -> tuple[Segment, ...]:
    """Segments of each class where its probability is above its threshold, in order of time; classes may overlap."""
    smoothed = smooth_windows(windows, options.smoothing_seconds)
    segments: list[Segment] = []
    for index, (label, threshold) in enumerate(zip(classes, thresholds, strict=True)):
        # Beside its mirror image at the threshold, a class is the more probable one where it is above the threshold.
        pairs = [
            replace(window, probabilities=(probability, 2 * threshold - probability))
            for window in smoothed
            for probability in (window.probabilities[index],)
        ]
        merged = merge_windows(
            pairs,
            (label, ""),
            minimum_probability=options.minimum_probability,
            minimum_seconds=options.minimum_seconds,
        )
        segments += [segment for segment in merged if segment.label]
    return tuple(sorted(segments, key=lambda segment: (segment.start_seconds, segment.end_seconds)))
