"""Outputs of other tasks as predictions, and segments of classes that overlap."""

from __future__ import annotations

import numpy as np
import pytest

from muybridge.models.heads import Head, make_ordinal_outputs
from muybridge.prediction.head_outputs import compute_probabilities, describe_outputs, merge_label_windows
from muybridge.prediction.timeline import Segment, TimelineOptions, Window
from muybridge.prediction.timeline_windows import ScoredWindows


def test_classes_that_exclude_each_other_are_ranked_by_the_mean_of_the_clips() -> None:
    """Softmax of each clip, then the mean: 0.5 and 0.9 for the second class."""
    fields = describe_outputs(np.array([[0.0, 0.0], [0.0, np.log(9)]]), None, ("a", "b"), top=2)
    assert fields == {"classes": (("b", pytest.approx(0.7)), ("a", pytest.approx(0.3)))}


def test_labels_are_those_above_their_thresholds() -> None:
    head = Head("multi_label", ("a", "b", "c"), "sigmoid", thresholds=(0.9, 0.2, 0.5))
    fields = describe_outputs(np.array([[2.0, -1.0, -3.0], [2.0, -1.0, -3.0]]), head, head.outputs, top=2)
    assert fields["labels"] == ("b",)  # 0.88 is below 0.9, 0.27 above 0.2
    assert [name for name, _ in fields["classes"]] == ["a", "b"]


def test_a_level_is_the_median() -> None:
    head = Head("ordinal", ("above low", "above mid"), "cumulative_sigmoid")
    fields = describe_outputs(np.array([[3.0, -1.0]]), head, ("low", "mid", "high"), top=3)
    assert fields["labels"] == ("mid",)
    assert dict(fields["classes"])["high"] == pytest.approx(1 / (1 + np.e))
    assert compute_probabilities(np.array([[3.0, -1.0]]), head).sum() == pytest.approx(1)


def test_a_timeline_of_levels_has_the_level_of_the_prediction() -> None:
    """Of constant outputs: 40 % none, 30 % mild, 30 % severe has the median mild, though none is the most probable one."""
    levels = ("none", "mild", "severe")
    head = Head("ordinal", make_ordinal_outputs(levels), "cumulative_sigmoid")
    rng = np.random.default_rng(0)
    rows = [np.log([0.6 / 0.4, 0.3 / 0.7]), np.zeros(2), *rng.normal(0, 1.5, (200, 2))]
    for outputs in rows:
        (row,) = compute_probabilities(outputs[None], head).tolist()
        windows = tuple(Window(start, start + 2, tuple(row)) for start in range(5))
        for smoothing in (0.0, 3.0):
            options = TimelineOptions(smoothing_seconds=smoothing)
            segments = ScoredWindows((windows,)).merge(levels, options, head)
            assert (
                tuple(segment.label for segment in segments)
                == describe_outputs(outputs[None], head, levels, 1)["labels"]
            )
    scored = ScoredWindows(((Window(0, 2, (0.4, 0.3, 0.3)),),))
    assert scored.merge(levels, TimelineOptions(), head) == (Segment("mild", 0, 2, 0.3),)
    assert scored.merge(levels, TimelineOptions(minimum_probability=0.35), head) == ()


def test_numbers_are_averaged_over_clips() -> None:
    head = Head("regression", ("ef",), "identity", ("%",), (50.0,), (10.0,))
    assert describe_outputs(np.array([[0.0], [1.0]]), head, ("ef",), top=5) == {"values": (("ef", 55.0, "%"),)}
    with pytest.raises(ValueError, match="a timeline is of classes"):
        compute_probabilities(np.zeros((1, 1)), head)


def test_segments_of_classes_overlap() -> None:
    first, second = (0.9, 0.8, 0.1, 0.1), (0.1, 0.45, 0.5, 0.1)
    windows = [Window(i, i + 1, pair) for i, pair in enumerate(zip(first, second, strict=True))]
    segments = merge_label_windows(windows, ("a", "b"), (0.5, 0.4), TimelineOptions())
    assert [(one.label, one.start_seconds, one.end_seconds) for one in segments] == [("a", 0, 2), ("b", 1, 3)]
    assert segments[1].mean_probability == pytest.approx(0.475)
    assert merge_label_windows(windows, ("a", "b"), (0.95, 0.95), TimelineOptions()) == ()
