"""Agreement of two annotators, against values computed by hand."""

from __future__ import annotations

from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_as_many_pairs_are_made_as_can_be() -> None:
    """kim's 0-10 overlaps lee's 3-10 most, and pairs with 0-6, which leaves 3-10 to kim's 6-10."""
    segments = [_mark("walk", *bounds, "kim") for bounds in ((0, 10), (6, 10))]
    segments += [_mark("walk", *bounds, "lee") for bounds in ((0, 6), (3, 10))]
    agreement = compute_agreement({"x.mp4": VideoMarks(segments=tuple(segments))}, {"x.mp4": 10.0}, "kim", "lee")
    assert agreement.segment_f1 == {"0.1": 1.0, "0.25": 1.0, "0.5": 1.0}


_BOUNDS = st.tuples(st.integers(0, 9), st.integers(1, 6))
_SEGMENTS = st.lists(st.tuples(st.sampled_from("xy"), _BOUNDS), min_size=1, max_size=5)


def _list_marks(segments: list[tuple[str, tuple[int, int]]], annotator: str) -> list[SegmentMark]:
    """Marks that may overlap, and never touch, since those of one class that do are one."""
    return [_mark(label, start, start + 0.9 * length, annotator) for label, (start, length) in segments]


def _count_most_pairs(left: list[SegmentMark], right: list[SegmentMark], overlap: float) -> int:
    def is_pair(first: SegmentMark, second: SegmentMark) -> bool:
        shared = min(first.end_seconds, second.end_seconds) - max(first.start_seconds, second.start_seconds)
        union = (first.end_seconds - first.start_seconds) + (second.end_seconds - second.start_seconds) - shared
        return first.label == second.label and shared / union >= overlap - 1e-9

    few, many = sorted((left, right), key=len)
    return max(sum(map(is_pair, few, chosen)) for chosen in permutations(many, len(few)))


@given(_SEGMENTS, _SEGMENTS)
def test_nothing_depends_on_who_is_first(
    left: list[tuple[str, tuple[int, int]]], right: list[tuple[str, tuple[int, int]]]
) -> None:
    kim, lee = _list_marks(left, "kim"), _list_marks(right, "lee")
    marks = {"x.mp4": VideoMarks(segments=(*kim, *lee))}
    one, other = (compute_agreement(marks, {}, *names) for names in (("kim", "lee"), ("lee", "kim")))
    assert (one.kappa, one.segment_f1) == (other.kappa, other.segment_f1)
    assert [(each.kappa, each.f1) for each in one.classes] == [(each.kappa, each.f1) for each in other.classes]
    for overlap, value in one.segment_f1.items():
        num_pairs = _count_most_pairs(kim, lee, float(overlap))
        assert value == pytest.approx(2 * num_pairs / (len(kim) + len(lee)), abs=1e-4)
    assert all(before >= after for before, after in combinations(one.segment_f1.values(), 2))


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
