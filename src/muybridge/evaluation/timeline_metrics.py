"""Scores of timelines: how well predicted segments agree with the true ones. Pure functions, no I/O; not part of the paper.

Input: for each video its true and its predicted segments, in seconds, with labels as indices of classes. Output:

- `frame_accuracy`: the share of the scored time in which the predicted label is the true one.
- `edit_score` and `f1`: the segmental edit score and F1 at an overlap, without background, as in MS-TCN (Farha and Gall, CVPR
  2019, its eval.py): a prediction is right if it overlaps its best true segment of the same label by at least the threshold
  and no earlier prediction did; counts are pooled over videos, edit scores averaged.
- `mean_average_precision`: detections ranked by score over all videos, each true segment found once, AP interpolated as in
  ActivityNet's evaluation (Caba Heilbron et al., CVPR 2015), averaged over the classes that have a true segment.

    truth        |----walk----|--sit--|           overlap = intersection / union, in time
    prediction      |---walk---|---sit---|
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

F1_OVERLAPS = (0.10, 0.25, 0.50)  # MS-TCN
AP_OVERLAPS = (0.3, 0.4, 0.5, 0.6, 0.7)  # THUMOS 2014
_TOLERANCE_SECONDS = 1e-6  # segments whose gap or overlap is smaller than this touch
TOLERANCE_OVERLAP = 1e-9  # what rounding seconds does to an overlap: frames 0-10 of 0-20 are half of them at any rate


@dataclass(frozen=True)
class LabeledSpan:
    """One class from start to end of a video; `score` ranks predictions."""

    label: int
    start_seconds: float
    end_seconds: float
    score: float = 1.0

    def __post_init__(self) -> None:
        bounds = (self.start_seconds, self.end_seconds, self.score)
        if not all(map(math.isfinite, bounds)) or self.end_seconds <= self.start_seconds:
            raise ValueError(f"a segment must be finite and end after its start, not {bounds[0]} to {bounds[1]} s")

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end_seconds - self.start_seconds


@dataclass(frozen=True)
class VideoTimeline:
    """True and predicted segments of one video, each in order of time."""

    video: str
    truth: tuple[LabeledSpan, ...]
    predicted: tuple[LabeledSpan, ...]

    @property
    def has_single_labels(self) -> bool:
        """Whether no two true segments overlap, and no two predicted ones."""
        ordered = [sorted(spans, key=lambda span: span.start_seconds) for spans in (self.truth, self.predicted)]
        return all(
            after.start_seconds >= before.end_seconds - _TOLERANCE_SECONDS
            for spans in ordered
            for before, after in pairwise(spans)
        )


@dataclass(frozen=True)
class TimelineScores:
    """Agreement of timelines with the truth. Shares are from 0 to 1.

    With overlapping segments, true or predicted, there is no single label at a time, and only the mean average precision is
    defined.
    """

    num_videos: int
    num_true_segments: int
    num_predicted_segments: int
    scored_seconds: float
    frame_accuracy: float | None
    majority_accuracy: float | None
    """`frame_accuracy` of always saying the class that takes most of the scored time."""
    edit_score: float | None
    f1: dict[str, float] | None
    """By overlap, such as 0.50."""
    mean_average_precision: dict[str, float]
    """By overlap; NaN-free: classes without a true segment are left out."""
    average_mean_average_precision: float
    """The mean of `mean_average_precision` over the overlaps."""

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return asdict(self)


def score_timelines(
    timelines: Sequence[VideoTimeline], *, background: int | None = None, fill_gaps: bool = False
) -> TimelineScores:
    """Scores of predicted timelines. `background` is the index of the background class, which makes no segments.

    With `fill_gaps`, time without a segment is background in both, and predicted segments there are wrong. Without, such time
    is not scored: predictions are cut to the labelled time. Raises ValueError without a true segment.
    """
    if not any(timeline.truth for timeline in timelines):
        raise ValueError("there is no labelled segment, so there is nothing to compare timelines with")
    timelines = [replace(each, truth=join_touching(each.truth)) for each in timelines]
    if background is None or not fill_gaps:
        timelines = [replace(each, predicted=cut_to_labeled_time(each.predicted, each.truth)) for each in timelines]
    else:
        timelines = [_fill_gaps(each, background) for each in timelines]
    is_single = all(timeline.has_single_labels for timeline in timelines)
    foreground = [_drop_label(timeline, background) for timeline in timelines]
    precisions = {f"{overlap:.2f}": mean_average_precision(foreground, overlap) for overlap in AP_OVERLAPS}
    return TimelineScores(
        num_videos=len(timelines),
        num_true_segments=sum(len(timeline.truth) for timeline in foreground),
        num_predicted_segments=sum(len(timeline.predicted) for timeline in foreground),
        scored_seconds=sum(end - start for each in timelines for start, end in merge_spans(each.truth)),
        frame_accuracy=frame_accuracy(timelines) if is_single else None,
        majority_accuracy=_compute_majority(timelines) if is_single else None,
        edit_score=_mean(edit_score(each) for each in foreground) if is_single else None,
        f1={f"{overlap:.2f}": f1(foreground, overlap) for overlap in F1_OVERLAPS} if is_single else None,
        mean_average_precision=precisions,
        average_mean_average_precision=_mean(precisions.values()),
    )


def frame_accuracy(timelines: Sequence[VideoTimeline]) -> float:
    """The share of the truth's time in which the predicted label is the true one; time that no prediction covers is wrong."""
    right = sum(
        _intersect(true, predicted)
        for timeline in timelines
        for true in timeline.truth
        for predicted in timeline.predicted
        if true.label == predicted.label
    )
    return right / sum(true.seconds for timeline in timelines for true in timeline.truth)


def edit_score(timeline: VideoTimeline) -> float:
    """1 - Levenshtein distance of the two sequences of labels / the longer one's length (MS-TCN); 1 if both are empty."""
    truth, predicted = ([span.label for span in spans] for spans in (timeline.truth, timeline.predicted))
    if not truth and not predicted:
        return 1.0
    distances = list(range(len(truth) + 1))
    for row, label in enumerate(predicted, start=1):
        diagonal, distances[0] = distances[0], row
        for column, true_label in enumerate(truth, start=1):
            replaced = diagonal + (label != true_label)
            diagonal = distances[column]
            distances[column] = min(replaced, distances[column] + 1, distances[column - 1] + 1)
    return 1 - distances[-1] / max(len(truth), len(predicted))


def f1(timelines: Sequence[VideoTimeline], overlap: float) -> float:
    """Segmental F1: 2 * right / (predicted + true segments), over all videos; 1 if there are none of both."""
    num_right = sum(_count_right(timeline, overlap) for timeline in timelines)
    num_segments = sum(len(timeline.truth) + len(timeline.predicted) for timeline in timelines)
    return 2 * num_right / num_segments if num_segments else 1.0


def mean_average_precision(timelines: Sequence[VideoTimeline], overlap: float) -> float:
    """The mean over classes with a true segment of their interpolated average precision at this overlap; 0 without any."""
    labels = sorted({true.label for timeline in timelines for true in timeline.truth})
    return _mean(average_precision(timelines, label, overlap) for label in labels)


def average_precision(timelines: Sequence[VideoTimeline], label: int, overlap: float) -> float:
    """Interpolated average precision of one class: detections in order of score, equal ones in order of video and time."""
    num_true = sum(true.label == label for timeline in timelines for true in timeline.truth)
    if not num_true:
        raise ValueError(f"no video has a true segment of class {label}")
    detections = [
        (-predicted.score, index, predicted.start_seconds, predicted)
        for index, timeline in enumerate(timelines)
        for predicted in timeline.predicted
        if predicted.label == label
    ]
    left = {index: [true for true in timeline.truth if true.label == label] for index, timeline in enumerate(timelines)}
    num_right, recalls, precisions = 0, [0.0], [0.0]
    for position, (_, index, _, predicted) in enumerate(sorted(detections, key=lambda row: row[:3]), start=1):
        best = _find_match(left[index], predicted, overlap)  # of those not found yet
        if best is not None:
            del left[index][best]
            num_right += 1
        recalls.append(num_right / num_true)
        precisions.append(num_right / position)
    for position in range(len(precisions) - 2, -1, -1):
        precisions[position] = max(precisions[position], precisions[position + 1])
    return sum(
        (recall - before) * precision
        for (before, recall), precision in zip(pairwise(recalls), precisions[1:], strict=True)
    )


def compute_overlap(left: LabeledSpan, right: LabeledSpan) -> float:
    """Intersection over union in time, from 0 to 1, whatever the labels."""
    intersection = _intersect(left, right)
    return intersection / (left.seconds + right.seconds - intersection)


def cut_to_labeled_time(predicted: Iterable[LabeledSpan], truth: Sequence[LabeledSpan]) -> tuple[LabeledSpan, ...]:
    """The parts of predicted segments that lie in the time that the true ones cover, one for each stretch of that time."""
    stretches = merge_spans(truth)
    return tuple(
        replace(span, start_seconds=max(span.start_seconds, start), end_seconds=min(span.end_seconds, end))
        for span in predicted
        for start, end in stretches
        if min(span.end_seconds, end) - max(span.start_seconds, start) > _TOLERANCE_SECONDS
    )


def join_touching(spans: Sequence[LabeledSpan]) -> tuple[LabeledSpan, ...]:
    """Segments in order of time, where those of one label that touch are one, as in labels by frame."""
    joined: list[LabeledSpan] = []
    for span in sorted(spans, key=lambda span: (span.label, span.start_seconds)):
        last = joined[-1] if joined else None
        if last and last.label == span.label and abs(span.start_seconds - last.end_seconds) <= _TOLERANCE_SECONDS:
            joined[-1] = replace(last, end_seconds=span.end_seconds)
        else:
            joined.append(span)
    return tuple(sorted(joined, key=lambda span: span.start_seconds))


def merge_spans(spans: Iterable[LabeledSpan]) -> list[tuple[float, float]]:
    """The time that spans cover, as stretches (start, end) in order that do not touch."""
    stretches: list[tuple[float, float]] = []
    for span in sorted(spans, key=lambda span: span.start_seconds):
        if stretches and span.start_seconds <= stretches[-1][1] + _TOLERANCE_SECONDS:
            stretches[-1] = (stretches[-1][0], max(stretches[-1][1], span.end_seconds))
        else:
            stretches.append((span.start_seconds, span.end_seconds))
    return stretches


def _fill_gaps(timeline: VideoTimeline, background: int) -> VideoTimeline:
    """Background wherever there is no segment, up to the last end of either kind."""
    end = max((span.end_seconds for span in (*timeline.truth, *timeline.predicted)), default=0.0)
    return replace(
        timeline,
        truth=_add_background(timeline.truth, background, end),
        predicted=_add_background(timeline.predicted, background, end),
    )


def _add_background(spans: Sequence[LabeledSpan], background: int, end_seconds: float) -> tuple[LabeledSpan, ...]:
    borders = [0.0, *(border for stretch in merge_spans(spans) for border in stretch), end_seconds]
    gaps = [
        LabeledSpan(background, start, end)
        for start, end in zip(borders[::2], borders[1::2], strict=True)
        if end - start > _TOLERANCE_SECONDS
    ]
    return tuple(sorted((*spans, *gaps), key=lambda span: span.start_seconds))


def _drop_label(timeline: VideoTimeline, label: int | None) -> VideoTimeline:
    return replace(
        timeline,
        truth=tuple(span for span in timeline.truth if span.label != label),
        predicted=tuple(span for span in timeline.predicted if span.label != label),
    )


def _count_right(timeline: VideoTimeline, overlap: float) -> int:
    """Predictions whose best true segment of the same label overlaps enough and was not found by an earlier prediction."""
    truth: dict[int, list[LabeledSpan]] = {}
    for true in timeline.truth:
        truth.setdefault(true.label, []).append(true)
    matches = {
        (predicted.label, _find_match(truth.get(predicted.label, []), predicted, overlap))
        for predicted in timeline.predicted
    }
    return sum(position is not None for _, position in matches)


def _find_match(spans: Sequence[LabeledSpan], predicted: LabeledSpan, overlap: float) -> int | None:
    """The position of the span that overlaps a prediction most, the first among equals; None where by less than `overlap`."""
    shares = [compute_overlap(span, predicted) for span in spans]
    most = max(shares, default=-1.0)
    if most < overlap - TOLERANCE_OVERLAP:
        return None
    return next(position for position, share in enumerate(shares) if share >= most - TOLERANCE_OVERLAP)


def _compute_majority(timelines: Sequence[VideoTimeline]) -> float:
    seconds: dict[int, float] = {}
    for true in (true for timeline in timelines for true in timeline.truth):
        seconds[true.label] = seconds.get(true.label, 0.0) + true.seconds
    return max(seconds.values()) / sum(seconds.values())


def _intersect(left: LabeledSpan, right: LabeledSpan) -> float:
    return max(0.0, min(left.end_seconds, right.end_seconds) - max(left.start_seconds, right.start_seconds))


def _mean(values: Iterable[float]) -> float:
    """The mean; 0 of no values."""
    values = list(values)
    return sum(values) / len(values) if values else 0.0
