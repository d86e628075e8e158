"""What to look at next: predicted segments ordered by doubt. Pure functions.

Input: the windows and segments of a prediction, the person's marks, and how often each class is marked. Output: suggestions
with their reasons, each from 0 (no doubt) to 1:

- margin: how near the second class is to the segment's, or of classes that do not exclude each other its absence;
- window disagreement: the share of the windows over the segment that are not of its class, by the rule of the network's task;
- mark disagreement: the share of the segment that a person marked as other classes only;
- rarity: how much rarer than the most frequent class the segment's class is among the marks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from muybridge.models.heads import Head
from muybridge.prediction.timeline import choose_classes
from muybridge.randomness import hash_to_fraction
from muybridge.studio.annotation_records import RejectedMark, SegmentMark, StudioRecord, TimeRange, VideoMarks
from muybridge.studio.errors import StudioError
from muybridge.studio.timelines import SegmentInfo, TimelineArrays

Strategy = Literal["doubt", "margin", "windows", "marks", "rare", "random"]
BACKGROUND = "background"
_DECIDED_SHARE = 0.5  # of a segment, from which marks of its class have decided on it
_REASONS = {
    "margin": "something else is almost as probable",
    "window_disagreement": "overlapping windows disagree",
    "mark_disagreement": "you marked something else here",
    "rarity": "few segments of this class are marked",
}
_MIN_REASON = 0.5


class Suggestion(StudioRecord):
    """A predicted segment to accept, change or reject."""

    path: str
    prediction: str
    label: str
    start_seconds: float
    end_seconds: float
    probability: float
    second_label: str | None
    second_probability: float
    score: float
    reasons: tuple[str, ...]
    margin: float
    window_disagreement: float
    mark_disagreement: float
    rarity: float


@dataclass(frozen=True)
class PredictedVideo:
    """A prediction along a video, and what a person marked there."""

    path: str
    prediction: str
    classes: tuple[str, ...]
    arrays: TimelineArrays
    segments: tuple[SegmentInfo, ...]
    marks: VideoMarks
    head: Head | None = None
    """Of the network; None where its classes exclude each other."""

    def __post_init__(self) -> None:
        if not np.isfinite(self.arrays.probabilities).all():
            raise StudioError(409, f"the prediction of {self.path} holds numbers that are not finite; predict again")

    def list_marks(self, segment: SegmentInfo) -> tuple[list[SegmentMark], list[RejectedMark]]:
        """The marks and the rejected suggestions that overlap a segment; at once, also among thousands."""
        marked, rejected = (
            np.flatnonzero((bounds[0] < segment.end_seconds) & (bounds[1] > segment.start_seconds))
            for bounds in self._bounds
        )
        return [self.marks.segments[place] for place in marked], [self.marks.rejected[place] for place in rejected]

    @cached_property
    def _bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Starts and ends of the marks and of what was rejected, float64 (2, N)."""
        marked, rejected = (
            np.array([one.bounds for one in marks], np.float64).reshape(-1, 2).T
            for marks in (self.marks.segments, self.marks.rejected)
        )
        return marked, rejected

    def find_windows(self, segment: SegmentInfo) -> tuple[slice, slice]:
        """The windows that overlap a segment, and those centred in it."""
        start, end = segment.start_seconds, segment.end_seconds
        over = slice(int(np.searchsorted(self.arrays.ends, start, "right")), int(self.arrays.starts.searchsorted(end)))
        centers = self._centers
        return over, slice(int(centers.searchsorted(start)), int(centers.searchsorted(end, "right")))

    @cached_property
    def _centers(self) -> NDArray[np.float64]:
        return self.arrays.centers

    def find_agreeing(self, windows: slice, index: int) -> NDArray[np.bool_]:
        """Which of some windows are of a class, by the rule of the network's task, bool (W,)."""
        probabilities_cw = np.asarray(self.arrays.probabilities[:, windows], np.float64)
        if self.head and self.head.task == "multi_label":
            return np.asarray(probabilities_cw[index] >= self.head.resolved_thresholds[index])
        has_levels = self.head is not None and self.head.task == "ordinal"
        return np.asarray(choose_classes(probabilities_cw.T, has_levels=has_levels) == index)

    def find_second(self, means: NDArray[np.float32], index: int) -> tuple[str | None, float]:
        """What is the most probable beside a class of the mean probabilities (C,): another class, or none.

        Of classes that do not exclude each other, the absence of this one, as probable as it is at its threshold.
        """
        if self.head and self.head.task == "multi_label":
            return None, min(1.0, max(0.0, 2 * self.head.resolved_thresholds[index] - float(means[index])))
        if len(means) == 1:
            return None, 0.0
        second = int(np.argmax(np.where(np.arange(len(means)) == index, -1.0, means)))
        return self.classes[second], float(means[second])


def suggest(
    videos: Sequence[PredictedVideo], num_marks: Mapping[str, int], strategy: Strategy, limit: int
) -> list[Suggestion]:
    """At most `limit` suggestions, most doubtful first, and those in time that is marked as other classes last.

    Segments of the background, and those that were decided on, are left out: marked with the same class, or rejected. `marks`
    suggests only segments that disagree with marks.
    """
    suggestions = [
        (strategy != "marks" and _measure_covered(segment, marked) >= _DECIDED_SHARE, suggestion)
        for video in videos
        for segment in video.segments
        if segment.label.lower() != BACKGROUND
        for marked, rejected in (video.list_marks(segment),)
        if not _is_decided(segment, [*marked, *rejected])
        for suggestion in (_describe(video, segment, marked, num_marks),)
        if strategy != "marks" or suggestion.mark_disagreement > 0
    ]
    scored = [
        (is_marked, one.model_copy(update={"score": round(_score(one, strategy), 4)})) for is_marked, one in suggestions
    ]
    scored.sort(key=lambda pair: (pair[0], -pair[1].score, pair[1].path, pair[1].start_seconds))
    return [one for _, one in scored[:limit]]


def _is_decided(segment: SegmentInfo, marks: Sequence[SegmentMark | RejectedMark]) -> bool:
    """Whether at least half of a segment is marked as its class, or was rejected as that: also a part of a longer mark."""
    return _measure_covered(segment, [mark for mark in marks if mark.label == segment.label]) >= _DECIDED_SHARE


def _measure_covered(segment: SegmentInfo, ranges: Sequence[TimeRange]) -> float:
    """The share of a segment that lies in ranges."""
    covered, position = 0.0, segment.start_seconds
    for start, end in sorted(one.bounds for one in ranges):
        covered += max(0.0, min(end, segment.end_seconds) - max(start, position))
        position = max(position, end)
    return covered / (segment.end_seconds - segment.start_seconds)


def _describe(
    video: PredictedVideo, segment: SegmentInfo, marked: Sequence[SegmentMark], num_marks: Mapping[str, int]
) -> Suggestion:
    index = video.classes.index(segment.label)
    over, inside = video.find_windows(segment)
    means = np.asarray(video.arrays.probabilities[:, over if inside.start == inside.stop else inside]).mean(axis=1)
    second_label, second_probability = video.find_second(means, index)
    agreeing = video.find_agreeing(over, index)
    most = max(num_marks.values(), default=0)
    doubts = {
        "margin": min(1.0, 1.0 + second_probability - float(means[index])),  # a level need not be the most probable one
        "window_disagreement": float(np.mean(~agreeing)) if len(agreeing) else 0.0,
        "mark_disagreement": _measure_disagreement(segment, marked),
        "rarity": 1.0 - num_marks.get(segment.label, 0) / most if most else 0.0,
    }
    return Suggestion(
        path=video.path,
        prediction=video.prediction,
        label=segment.label,
        start_seconds=round(segment.start_seconds, 6),
        end_seconds=round(segment.end_seconds, 6),
        probability=round(float(means[index]), 5),
        second_label=second_label,
        second_probability=round(second_probability, 5),
        score=0.0,
        reasons=tuple(_REASONS[name] for name, value in doubts.items() if value >= _MIN_REASON),
        **{name: round(min(1.0, max(0.0, value)), 4) for name, value in doubts.items()},
    )


def _measure_disagreement(segment: SegmentInfo, marks: Sequence[SegmentMark]) -> float:
    """The share of a segment that is marked, but not with its class."""
    borders = {segment.start_seconds, segment.end_seconds}
    overlapping = [
        mark for mark in marks if mark.start_seconds < segment.end_seconds and mark.end_seconds > segment.start_seconds
    ]
    for mark in overlapping:
        borders |= {border for border in mark.bounds if segment.start_seconds < border < segment.end_seconds}
    ordered = sorted(borders)
    disagreeing = 0.0
    for start, end in pairwise(ordered):
        labels = {mark.label for mark in overlapping if mark.start_seconds <= start and mark.end_seconds >= end}
        if labels and segment.label not in labels:
            disagreeing += end - start
    return disagreeing / (segment.end_seconds - segment.start_seconds)


def _score(suggestion: Suggestion, strategy: Strategy) -> float:
    match strategy:
        case "margin":
            return suggestion.margin
        case "windows":
            return suggestion.window_disagreement
        case "marks":
            return suggestion.mark_disagreement
        case "rare":
            return suggestion.rarity
        case "random":
            return hash_to_fraction(0, "suggestion", f"{suggestion.path} {suggestion.start_seconds} {suggestion.label}")
    doubts = (suggestion.margin, suggestion.window_disagreement, suggestion.mark_disagreement, suggestion.rarity)
    return sum(doubts) / len(doubts)
