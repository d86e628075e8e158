"""Agreement of two annotators, against values computed by hand."""

from __future__ import annotations

import pytest

from muybridge.studio.agreement import compute_agreement, list_annotators
from muybridge.studio.annotation_records import ReviewedRange, SegmentMark, VideoMarks


def _mark(label: str, start: float, end: float, annotator: str) -> SegmentMark:
    return SegmentMark(label=label, start_seconds=start, end_seconds=end, annotator=annotator)


def test_by_hand() -> None:
    """Ten seconds. kim: walk 0-4; lee: walk 2-6. Both or none: 2 + 4 s of 10; chance 0.4 * 0.4 + 0.6 * 0.6 = 0.52."""
    marks = {"x.mp4": VideoMarks(segments=(_mark("walk", 0, 4, "kim"), _mark("walk", 2, 6, "lee")))}
    agreement = compute_agreement(marks, {"x.mp4": 10.0}, "kim", "lee")
    assert agreement.kappa == pytest.approx((0.6 - 0.52) / 0.48, abs=1e-4)
    assert agreement.segment_f1 == {"0.1": 1.0, "0.25": 1.0, "0.5": 0.0}  # they overlap by a third
    (walk,) = agreement.classes
    assert (walk.first_seconds, walk.second_seconds, walk.num_first, walk.num_second) == (4, 4, 1, 1)
    assert walk.kappa == agreement.kappa
    assert (agreement.num_videos, agreement.seconds) == (1, 10)


def test_overlapping_classes_are_sets() -> None:
    """kim marks walk and talk where lee marks walk alone: another set, though walk itself agrees fully."""
    segments = (_mark("walk", 0, 5, "kim"), _mark("talk", 0, 5, "kim"), _mark("walk", 0, 5, "lee"))
    agreement = compute_agreement({"x.mp4": VideoMarks(segments=segments)}, {"x.mp4": 10.0}, "kim", "lee")
    assert {one.label: one.kappa for one in agreement.classes} == {"talk": 0.0, "walk": 1.0}
    assert agreement.kappa == pytest.approx((0.5 - 0.25) / 0.75, abs=1e-4)


def test_equal_marks_agree_fully() -> None:
    segments = tuple(_mark(label, 2 * n, 2 * n + 1, who) for who in ("a", "b") for n, label in enumerate("xyx"))
    agreement = compute_agreement({"x.mp4": VideoMarks(segments=segments)}, {}, "a", "b")
    assert agreement.kappa == 1.0
    assert set(agreement.segment_f1.values()) == {1.0}


def test_marks_of_one_class_that_touch_are_one_segment() -> None:
    """Whether somebody marked 0-4 at once or in two parts, the segment is the same; the count is of marks."""
    segments = (_mark("walk", 2, 4, "kim"), _mark("walk", 0, 2, "kim"), _mark("walk", 0, 4, "lee"))
    agreement = compute_agreement({"x.mp4": VideoMarks(segments=segments)}, {"x.mp4": 10.0}, "kim", "lee")
    assert set(agreement.segment_f1.values()) == {1.0}
    (walk,) = agreement.classes
    assert (walk.f1, walk.num_first, walk.num_second) == (1.0, 2, 1)


def test_only_videos_of_both_count() -> None:
    reviewed = ReviewedRange(start_seconds=0, end_seconds=5, annotator="lee")
    marks = {
        "both.mp4": VideoMarks(segments=(_mark("walk", 0, 5, "kim"),), reviewed=(reviewed,)),
        "one.mp4": VideoMarks(segments=(_mark("walk", 0, 5, "kim"),)),
    }
    assert list_annotators(marks) == ("kim", "lee")
    agreement = compute_agreement(marks, {"both.mp4": 5.0}, "kim", "lee")
    assert agreement.num_videos == 1
    assert agreement.kappa == 0.0
    assert compute_agreement(marks, {}, "kim", "nobody").kappa is None
