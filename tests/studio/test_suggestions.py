"""Suggestions are ordered by doubt, and what was decided on is not suggested again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from muybridge.models.heads import Head
from muybridge.studio.annotation_records import RejectedMark, SegmentMark, VideoMarks
from muybridge.studio.errors import StudioError
from muybridge.studio.suggestions import PredictedVideo, Strategy, suggest
from muybridge.studio.timelines import SegmentInfo, TimelineArrays

CLASSES = ("walk", "sit", "background")


def _video(marks: VideoMarks | None = None) -> PredictedVideo:
    """Ten seconds: a sure walk, a doubtful sit, background."""
    starts = np.arange(0, 10, 0.5)
    probabilities = np.zeros((3, len(starts)), np.float32)
    probabilities[:, starts < 4] = [[0.98], [0.01], [0.01]]
    probabilities[:, (starts >= 4) & (starts < 8)] = [[0.45], [0.5], [0.05]]
    probabilities[:, starts >= 8] = [[0.0], [0.0], [1.0]]
    segments = (
        SegmentInfo(label="walk", start_seconds=0, end_seconds=4, mean_probability=0.98),
        SegmentInfo(label="sit", start_seconds=4, end_seconds=8, mean_probability=0.5),
        SegmentInfo(label="background", start_seconds=8, end_seconds=10, mean_probability=1),
    )
    arrays = TimelineArrays(starts, starts + 0.5, probabilities)
    return PredictedVideo("x.mp4", "p", CLASSES, arrays, segments, marks or VideoMarks())


def _mark(label: str, start: float, end: float) -> SegmentMark:
    return SegmentMark(label=label, start_seconds=start, end_seconds=end, annotator="kim")


def test_the_doubtful_segment_comes_first() -> None:
    sit, walk = suggest([_video()], {"walk": 10, "sit": 2}, "doubt", 10)
    assert (sit.label, walk.label) == ("sit", "walk")
    assert sit.second_label == "walk"
    assert sit.margin == pytest.approx(0.95, abs=1e-3)
    assert walk.margin == pytest.approx(0.03, abs=1e-3)
    assert (sit.rarity, walk.rarity) == (0.8, 0.0)
    assert sit.window_disagreement == 0.0
    assert "something else is almost as probable" in sit.reasons
    assert walk.reasons == ()


@pytest.mark.parametrize(("strategy", "first"), [("margin", "sit"), ("rare", "walk"), ("doubt", "sit")])
def test_strategies(strategy: Strategy, first: str) -> None:
    assert suggest([_video()], {"walk": 1, "sit": 10}, strategy, 1)[0].label == first


def test_random_is_the_same_each_time() -> None:
    assert suggest([_video()], {}, "random", 10) == suggest([_video()], {}, "random", 10)


def test_what_was_decided_is_left_out() -> None:
    rejected = RejectedMark(label="sit", start_seconds=4.5, end_seconds=8, annotator="kim")
    marks = VideoMarks(segments=(_mark("walk", 0, 3.5),), rejected=(rejected,))
    assert suggest([_video(marks)], {}, "doubt", 10) == []
    elsewhere = VideoMarks(segments=(_mark("walk", 0, 1),))
    assert {one.label for one in suggest([_video(elsewhere)], {}, "doubt", 10)} == {"walk", "sit"}


def test_a_part_of_a_longer_mark_is_decided() -> None:
    """Windows split a long action into several segments, each far below half of the mark."""
    marks = VideoMarks(segments=(_mark("walk", 0, 60), _mark("sit", 4, 5.2), _mark("sit", 5.1, 6.1)))
    assert suggest([_video(marks)], {}, "doubt", 10) == []
    half = VideoMarks(segments=(_mark("walk", 0, 60), _mark("sit", 4, 5.2), _mark("sit", 5.1, 5.9)))
    assert [one.label for one in suggest([_video(half)], {}, "doubt", 10)] == ["sit"]


@pytest.mark.parametrize("strategy", ["doubt", "margin", "windows", "rare", "random"])
def test_marked_time_comes_last(strategy: Strategy) -> None:
    """Where a person marked everything, the network's errors are of no use before what nobody has looked at."""
    marks = VideoMarks(segments=(_mark("walk", 3, 8),))
    sit, walk = _video(marks), _video()
    other = PredictedVideo("y.mp4", "p", CLASSES, walk.arrays, walk.segments[:1], VideoMarks())
    assert [one.label for one in suggest([sit, other], {"walk": 5}, strategy, 10)][-1] == "sit"
    assert [one.label for one in suggest([sit, other], {"walk": 5}, "marks", 10)] == ["sit"]


def test_disagreement_with_marks() -> None:
    marks = VideoMarks(segments=(_mark("sit", 0, 3), _mark("walk", 1, 2)))
    (walk,) = suggest([_video(marks)], {}, "marks", 10)
    assert walk.mark_disagreement == pytest.approx(0.5)


def test_disagreement_of_windows() -> None:
    video = _video()
    probabilities = np.array(video.arrays.probabilities)
    probabilities[:, 0:4] = [[0.0], [1.0], [0.0]]  # of the eight windows of walk
    arrays = TimelineArrays(video.arrays.starts, video.arrays.ends, probabilities)
    changed = PredictedVideo("x.mp4", "p", CLASSES, arrays, video.segments, VideoMarks())
    assert suggest([changed], {}, "windows", 1)[0].window_disagreement == pytest.approx(0.5)


def test_a_window_of_levels_is_of_the_median_one() -> None:
    """The least and the most together are more probable than what lies between, which is what such a network says."""
    head = Head("ordinal", ("above none", "above mild"), "cumulative_sigmoid")
    starts = np.arange(0, 2, 0.5)
    arrays = TimelineArrays(starts, starts + 0.5, np.repeat([[0.4], [0.25], [0.35]], 4, axis=1).astype(np.float32))
    segment = SegmentInfo(label="mild", start_seconds=0, end_seconds=2, mean_probability=0.25)
    video = PredictedVideo("x.mp4", "p", ("none", "mild", "severe"), arrays, (segment,), VideoMarks(), head)
    (suggestion,) = suggest([video], {}, "doubt", 10)
    assert (suggestion.window_disagreement, suggestion.second_label) == (0.0, "none")
    assert suggestion.margin == 1.0, "what is less probable than another class is in full doubt"


def test_classes_that_do_not_exclude_each_other_are_in_doubt_at_their_threshold() -> None:
    head = Head("multi_label", ("walk", "talk"), "sigmoid", thresholds=(0.5, 0.3))
    starts = np.arange(0, 2, 0.5)
    arrays = TimelineArrays(starts, starts + 0.5, np.repeat([[0.99], [0.35]], 4, axis=1).astype(np.float32))
    segments = [
        SegmentInfo(label=label, start_seconds=0, end_seconds=2, mean_probability=0.5) for label in ("walk", "talk")
    ]
    video = PredictedVideo("x.mp4", "p", ("walk", "talk"), arrays, tuple(segments), VideoMarks(), head)
    talk, walk = suggest([video], {}, "doubt", 10)
    assert (talk.label, talk.margin, walk.margin) == ("talk", pytest.approx(0.9), pytest.approx(0.02))
    assert (talk.second_label, talk.window_disagreement, walk.window_disagreement) == (None, 0.0, 0.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nothing_is_suggested_by_numbers_that_are_not_finite(value: float) -> None:
    video = _video()
    video.arrays.probabilities[1, 2] = value
    with pytest.raises(StudioError, match=r"the prediction of x\.mp4 holds numbers that are not finite"):
        replace(video)
