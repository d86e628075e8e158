"""How far two annotators agree: Cohen's kappa over time and segmental F1. Pure functions.

Input: the marks of videos, and their durations. Output: kappa of the sets of classes that each annotator marked at every point
in time (a point without a mark is a set of its own), exact by the borders of segments and not by sampled frames; kappa of each
class, marked or not; and the F1 of segments at overlaps (intersection over union) of 10, 25 and 50 %: the share of both
annotators' segments that are in a pair of one segment of each, of one class, that overlap by at least that much. As many pairs
are made as can be, with no segment in two of them. Marks of one class that touch are one segment. All of it is the same whoever
is first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from muybridge.evaluation.timeline_metrics import TOLERANCE_OVERLAP, LabeledSpan, compute_overlap, join_touching
from muybridge.studio.annotation_records import SegmentMark, StudioRecord, VideoMarks

_OVERLAPS = (0.1, 0.25, 0.5)


class ClassAgreement(StudioRecord):
    """Agreement about one class."""

    label: str
    kappa: float | None
    f1: float
    first_seconds: float
    second_seconds: float
    num_first: int
    num_second: int


class Agreement(StudioRecord):
    """Agreement of two annotators over the videos that both annotated. `kappa` is null where chance alone agrees fully."""

    annotators: tuple[str, ...]
    first: str | None = None
    second: str | None = None
    num_videos: int = 0
    seconds: float = 0.0
    kappa: float | None = None
    segment_f1: dict[str, float] = Field(default_factory=dict)
    classes: tuple[ClassAgreement, ...] = ()


def list_annotators(marks_by_path: Mapping[str, VideoMarks]) -> tuple[str, ...]:
    """Everybody who marked a segment or reviewed a part, in order of name."""
    return tuple(sorted(set[str]().union(*map(_find_annotators, marks_by_path.values()))))


def compute_agreement(
    marks_by_path: Mapping[str, VideoMarks], durations: Mapping[str, float], first: str, second: str
) -> Agreement:
    """The agreement of two annotators. Videos that only one of them marked or reviewed are left out."""
    shared = {path: marks for path, marks in marks_by_path.items() if {first, second} <= _find_annotators(marks)}
    pairs = {path: (_select(marks, first), _select(marks, second)) for path, marks in shared.items()}
    spans = [
        span
        for path, (left, right) in pairs.items()
        for span in _iterate_spans(left, right, _find_end(shared[path], durations.get(path, 0.0)))
    ]
    labels = sorted({segment.label for pair in pairs.values() for part in pair for segment in part})
    return Agreement(
        annotators=list_annotators(marks_by_path),
        first=first,
        second=second,
        num_videos=len(pairs),
        seconds=round(sum(seconds for seconds, _, _ in spans), 3),
        kappa=_compute_kappa(spans),
        segment_f1={f"{overlap:g}": _compute_f1(pairs, labels, overlap) for overlap in _OVERLAPS},
        classes=tuple(_compare_class(label, pairs, spans) for label in labels),
    )


def _find_annotators(marks: VideoMarks) -> set[str]:
    return {segment.annotator for segment in marks.segments} | {part.annotator for part in marks.reviewed}


def _select(marks: VideoMarks, annotator: str) -> tuple[SegmentMark, ...]:
    return tuple(segment for segment in marks.segments if segment.annotator == annotator)


def _find_end(marks: VideoMarks, duration: float) -> float:
    return max([duration, *(mark.end_seconds for mark in (*marks.segments, *marks.reviewed))])


_Labels = frozenset[str]
_Span = tuple[float, _Labels, _Labels]


def _iterate_spans(left: Sequence[SegmentMark], right: Sequence[SegmentMark], end: float) -> Iterable[_Span]:
    """Parts of a video between borders: seconds, and the classes that each annotator marked there."""
    borders = sorted({0.0, end, *(border for segment in (*left, *right) for border in segment.bounds)})
    for start, stop in pairwise(borders):
        yield stop - start, _find_labels(left, start, stop), _find_labels(right, start, stop)


def _find_labels(segments: Sequence[SegmentMark], start: float, stop: float) -> _Labels:
    return frozenset(one.label for one in segments if one.start_seconds <= start and one.end_seconds >= stop)


def _compute_kappa(spans: Sequence[tuple[float, Hashable, Hashable]]) -> float | None:
    total = sum(seconds for seconds, _, _ in spans)
    first: Counter[Hashable] = Counter()
    second: Counter[Hashable] = Counter()
    agreed = 0.0
    for seconds, left, right in spans:
        first[left] += seconds  # type: ignore[assignment]  # weights
        second[right] += seconds  # type: ignore[assignment]
        agreed += seconds * (left == right)
    if total == 0:
        return None
    chance = sum(first[value] * second[value] for value in first) / total**2
    return None if chance >= 1 - 1e-12 else round((agreed / total - chance) / (1 - chance), 4)


_Pairs = Mapping[str, tuple[tuple[SegmentMark, ...], tuple[SegmentMark, ...]]]


def _compare_class(label: str, pairs: _Pairs, spans: Sequence[_Span]) -> ClassAgreement:
    chosen = {
        path: (tuple(one for one in left if one.label == label), tuple(one for one in right if one.label == label))
        for path, (left, right) in pairs.items()
    }
    return ClassAgreement(
        label=label,
        kappa=_compute_kappa([(seconds, label in left, label in right) for seconds, left, right in spans]),
        f1=_compute_f1(chosen, [label], 0.5),
        first_seconds=round(sum(seconds for seconds, left, _ in spans if label in left), 3),
        second_seconds=round(sum(seconds for seconds, _, right in spans if label in right), 3),
        num_first=sum(len(left) for left, _ in chosen.values()),
        num_second=sum(len(right) for _, right in chosen.values()),
    )


def _compute_f1(pairs: _Pairs, labels: Sequence[str], overlap: float) -> float:
    """The share of segments that are in a pair, over all videos; 1 if there are none."""
    spans = [(_make_spans(left, labels), _make_spans(right, labels)) for left, right in pairs.values()]
    num_segments = sum(len(left) + len(right) for left, right in spans)
    num_pairs = sum(_count_pairs(left, right, overlap) for left, right in spans)
    return round(2 * num_pairs / num_segments, 4) if num_segments else 1.0


def _count_pairs(left: Sequence[LabeledSpan], right: Sequence[LabeledSpan], overlap: float) -> int:
    """The most pairs of segments of one class that overlap enough, where no segment is in two of them."""
    columns_by_label: defaultdict[int, list[int]] = defaultdict(list)
    for column, span in enumerate(right):
        columns_by_label[span.label].append(column)
    is_pair = np.zeros((len(left), len(right)), np.bool_)
    for row, span in enumerate(left):
        for column in columns_by_label[span.label]:
            is_pair[row, column] = compute_overlap(span, right[column]) >= overlap - TOLERANCE_OVERLAP
    return int(np.count_nonzero(maximum_bipartite_matching(csr_array(is_pair)) >= 0)) if is_pair.any() else 0


def _make_spans(segments: Sequence[SegmentMark], labels: Sequence[str]) -> tuple[LabeledSpan, ...]:
    return join_touching([LabeledSpan(labels.index(one.label), one.start_seconds, one.end_seconds) for one in segments])
