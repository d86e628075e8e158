"""Aggregation, fusion and timelines for any scores: what order, chunks and weights may not change."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from muybridge.evaluation.aggregate import compute_video_scores
from muybridge.evaluation.fuse import fuse
from muybridge.evaluation.metrics import compute_accuracy
from muybridge.evaluation.scores import Scores, read_scores
from muybridge.prediction.timeline import Window, find_class_segments, merge_windows, smooth_windows
from scored import Video, write_score_file

CLASSES = ("a", "b", "c")
LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=3, max_size=3)


@st.composite
def score_lists(draw: st.DrawFn, min_labels: int = 1) -> list[Video]:
    """One to five videos of two views each; views may fail, and a video may have several labels."""
    labels = st.lists(st.integers(0, 2), min_size=min_labels, max_size=2, unique=True).map(tuple)
    views = st.lists(st.none() | LOGITS, min_size=2, max_size=2)
    rows = draw(st.lists(st.tuples(labels, views), min_size=1, max_size=5))
    return [(f"v{number}.mp4", own_labels, own_views) for number, (own_labels, own_views) in enumerate(rows)]


def as_scores(videos: list[Video], classes: tuple[str, ...] = CLASSES) -> Scores:
    with tempfile.TemporaryDirectory() as folder:
        return read_scores(write_score_file(Path(folder, "s.parquet"), videos, classes))


def softmax(row: list[float]) -> np.ndarray:
    powers = np.exp(np.array(row, np.float64) - max(row))
    return powers / powers.sum()


@settings(max_examples=25)  # each writes a file
@given(score_lists(min_labels=0))
def test_a_video_is_the_mean_of_its_readable_views(videos: list[Video]) -> None:
    found = compute_video_scores(as_scores(videos))
    assert found.videos == tuple(name for name, _, _ in videos)
    for number, (_, labels, views) in enumerate(videos):
        readable = [softmax(np.float32(view).tolist()) for view in views if view is not None]
        assert found.labels[number] == labels
        assert (found.num_views[number], found.num_failed_views[number]) == (2, 2 - len(readable))
        if readable:
            np.testing.assert_allclose(found.probabilities[number], np.mean(readable, axis=0), atol=1e-12)
        else:
            assert np.isnan(found.probabilities[number]).all()
        assert found.num_right_views[number] == sum(int(np.argmax(view)) in labels for view in readable)


@settings(max_examples=25)  # each writes a file
@given(score_lists(), st.randoms(use_true_random=False))
def test_the_order_of_rows_is_no_part_of_the_result(videos: list[Video], random: object) -> None:
    scores = as_scores(videos)
    order = list(range(scores.table.num_rows))
    random.shuffle(order)  # type: ignore[attr-defined]
    plain = compute_accuracy(compute_video_scores(scores))
    shuffled = compute_accuracy(compute_video_scores(Scores(scores.table.take(order), scores.header)))
    assert (shuffled.video_top1, shuffled.clip_top1) == (plain.video_top1, plain.clip_top1)
    for rates in (plain.video_top1, plain.clip_top1):
        assert 0 <= rates.of_readable.right == rates.of_all.right <= rates.of_readable.of <= rates.of_all.of


@settings(max_examples=25)  # each writes a file
@given(score_lists(), st.floats(0.01, 100), st.floats(0, 100), st.permutations(range(3)))
def test_fusion_of_a_file_with_itself_is_the_file(
    videos: list[Video], weight: float, other: float, order: list[int]
) -> None:
    """By name, so the second may have its classes in another order; and whatever the weights."""
    turned = [
        (
            name,
            tuple(order.index(label) for label in labels),
            [None if view is None else [view[place] for place in order] for view in views],
        )
        for name, labels, views in videos
    ]
    first, second = as_scores(videos), as_scores(turned, tuple(CLASSES[place] for place in order))
    fusion = fuse([first, second], [weight, other])
    plain = compute_video_scores(first)
    assert abs(sum(fusion.normalized_weights) - 1) < 1e-12
    np.testing.assert_allclose(fusion.scores.probabilities, plain.probabilities, atol=1e-6)
    assert fusion.scores.labels == plain.labels
    assert fusion.accuracy.num_failed_videos == fusion.members[0].num_failed_videos


@st.composite
def windows(draw: st.DrawFn) -> list[Window]:
    """Windows in order of time, of one length, with probabilities in steps of a tenth: ties are common."""
    gaps = draw(st.lists(st.integers(1, 8), min_size=1, max_size=25))
    length = draw(st.integers(1, 10)) / 2
    starts = np.cumsum(gaps) / 4
    tenths = st.tuples(st.integers(0, 10), st.integers(0, 10)).map(lambda pair: sorted(pair))
    rows = [draw(tenths) for _ in gaps]
    return [
        Window(float(start), float(start) + length, (low / 10, (high - low) / 10, (10 - high) / 10))
        for start, (low, high) in zip(starts, rows, strict=True)
    ]


@given(windows(), st.sampled_from([0.0, 0.4, 0.7]), st.sampled_from([0.0, 0.5, 2.0, 9.0]))
def test_segments_do_not_overlap_and_are_as_long_and_certain_as_asked(
    timeline: list[Window], probability: float, seconds: float
) -> None:
    segments = merge_windows(timeline, CLASSES, minimum_probability=probability, minimum_seconds=seconds)
    for before, after in itertools.pairwise(segments):
        assert before.end_seconds <= after.start_seconds
        assert before.label != after.label or before.end_seconds < after.start_seconds
    for segment in segments:
        assert timeline[0].start_seconds <= segment.start_seconds < segment.end_seconds <= timeline[-1].end_seconds
        assert segment.end_seconds - segment.start_seconds >= seconds or len(segments) == 1
        assert 0 <= segment.mean_probability <= 1 + 1e-12
    if probability == 0 and seconds == 0:
        assert (segments[0].start_seconds, segments[-1].end_seconds) == (
            timeline[0].start_seconds,
            timeline[-1].end_seconds,
        )
        assert all(a.end_seconds == b.start_seconds for a, b in itertools.pairwise(segments))


@given(windows(), st.sampled_from([0.0, 0.3, 2.0, 50.0]))
def test_smoothing_keeps_times_and_sums(timeline: list[Window], seconds: float) -> None:
    smoothed = smooth_windows(timeline, seconds)
    assert [(w.start_seconds, w.end_seconds) for w in smoothed] == [(w.start_seconds, w.end_seconds) for w in timeline]
    for window in smoothed:
        near = [w for w in timeline if abs(w.center_seconds - window.center_seconds) <= seconds / 2]
        expected = np.mean([w.probabilities for w in near], axis=0)
        np.testing.assert_allclose(window.probabilities, expected, atol=1e-9)


@given(windows(), st.sampled_from([0.3, 0.5, 0.9]))
def test_segments_of_a_class_cover_its_windows(timeline: list[Window], probability: float) -> None:
    segments = find_class_segments(timeline, CLASSES, probability)
    for number, name in enumerate(CLASSES):
        own = [segment for segment in segments if segment.label == name]
        for window in timeline:
            inside = any(s.start_seconds <= window.center_seconds <= s.end_seconds for s in own)
            if window.probabilities[number] >= probability:
                assert inside
        assert all(a.end_seconds < b.start_seconds for a, b in itertools.pairwise(own))
