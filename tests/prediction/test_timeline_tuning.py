from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from muybridge.evaluation.timeline_metrics import LabeledSpan
from muybridge.files.atomic import write_json
from muybridge.prediction.timeline import TimelineOptions, Window
from muybridge.prediction.timeline_tuning import (
    Background,
    LabeledWindows,
    apply_choice,
    choose_segmentation,
    read_choice,
    resolve_options,
    score_labeled_windows,
    write_choice,
)
from muybridge.prediction.timeline_windows import ScoredWindows

CLASSES = ("a", "b")
HASHES = {"model_sha256": "m" * 64, "manifest_sha256": "d" * 64}
TRUTH = (LabeledSpan(0, 0.0, 20.0), LabeledSpan(1, 20.0, 41.0))


def make_video(flips: float, seed: int = 0, step_seconds: float = 1.0, spread: float = 0.0) -> LabeledWindows:
    """Windows of two steps, one a step; a share of them names the wrong class."""
    rng = np.random.default_rng(seed)
    windows = []
    for start in range(40):
        top = (start >= 20) != (rng.random() < flips)
        low = 0.2 + spread * float(rng.random())
        pair = (low, 1 - low) if top else (1 - low, low)
        windows.append(Window(start * step_seconds, (start + 2) * step_seconds, pair))
    truth = tuple(
        replace(span, start_seconds=span.start_seconds * step_seconds, end_seconds=span.end_seconds * step_seconds)
        for span in TRUTH
    )
    return LabeledWindows("v.mp4", ScoredWindows((tuple(windows),)), truth)


def test_noisy_windows_are_smoothed_and_right_ones_are_left_alone() -> None:
    noisy = choose_segmentation([make_video(0.2)], CLASSES, Background(), **HASHES)
    assert noisy.f1 == 1
    assert noisy.smoothing_seconds + noisy.minimum_seconds > 0
    _, plain = score_labeled_windows([make_video(0.2)], CLASSES, Background(), TimelineOptions())
    assert plain.f1 is not None
    assert plain.f1["0.50"] < 0.5
    few = choose_segmentation([make_video(0.05, seed=1)], CLASSES, Background(), **HASHES)
    assert (few.smoothing_seconds, few.minimum_seconds) == (0, 2)  # the length of a window is one of those tried
    clean = choose_segmentation([make_video(0.0)], CLASSES, Background(), **HASHES)
    assert (clean.smoothing_seconds, clean.minimum_seconds, clean.f1) == (0, 0, 1)


@pytest.mark.parametrize("step_seconds", [4 / 24, 4 / 30, 4 * 1001 / 30000])
def test_the_choice_does_not_depend_on_the_frame_rate(step_seconds: float) -> None:
    for seed in range(20):
        expected = choose_segmentation([make_video(0.2, seed, spread=0.1)], CLASSES, Background(), **HASHES)
        choice = choose_segmentation([make_video(0.2, seed, step_seconds, spread=0.1)], CLASSES, Background(), **HASHES)
        assert choice.smoothing_seconds == pytest.approx(expected.smoothing_seconds * step_seconds, abs=1e-6)
        assert choice.minimum_seconds == pytest.approx(expected.minimum_seconds * step_seconds, abs=1e-6)
        assert choice.f1 == pytest.approx(expected.f1)


def make_overlapping(first: float, second: float) -> LabeledWindows:
    """A second each: `first` is the probability of a all along, `second` that of b from 5 s on; labelled so."""
    windows = tuple(Window(start, start + 1, (first, second if start >= 5 else 0.05)) for start in range(10))
    truth = (LabeledSpan(0, 0.0, 10.0), LabeledSpan(1, 5.0, 10.0))
    return LabeledWindows("v.mp4", ScoredWindows((windows,)), truth)


def test_overlapping_classes_choose_a_probability_by_average_precision() -> None:
    choice = choose_segmentation([make_overlapping(0.45, 0.35)], CLASSES, Background(), **HASHES)
    assert (choice.classes_overlap, choice.f1, choice.mean_average_precision) == (True, None, 1)
    assert 0.05 < choice.minimum_probability <= 0.35


def test_without_a_choice_overlapping_classes_are_segments_from_one_half() -> None:
    """A network that says b at 98 % all along does not find both classes."""
    videos = [make_overlapping(0.02, 0.98)]
    flat = choose_segmentation([make_video(0.0)], CLASSES, Background(), **HASHES)
    for choice in (None, flat):  # no validation videos, or none with overlapping labels
        options = resolve_options(videos, choice, TimelineOptions())
        assert (options.classes_overlap, options.minimum_probability) == (True, 0.5)
        timelines, scores = score_labeled_windows(videos, CLASSES, Background(), options)
        assert {span.label for span in timelines[0].predicted} == {1}
        assert scores.mean_average_precision["0.50"] == pytest.approx(0.5)
    assert resolve_options([make_video(0.0)], None, TimelineOptions()) == TimelineOptions()


def test_segments_are_made_as_the_choice_was_scored(tmp_path: Path) -> None:
    video = make_overlapping(0.45, 0.35)
    write_choice(tmp_path, choose_segmentation([video], CLASSES, Background(), **HASHES))
    options, _ = apply_choice(tmp_path, HASHES["model_sha256"], TimelineOptions())
    assert video.scored
    segments = video.scored.merge(CLASSES, options)
    assert [(one.label, one.start_seconds, one.end_seconds) for one in segments] == [("a", 0, 10), ("b", 5, 10)]
    assert len(video.scored.merge(CLASSES, replace(options, minimum_seconds=6))) == 1
    single = replace(video, truth=(LabeledSpan(0, 0.0, 10.0),))
    assert resolve_options([single], read_choice(tmp_path), TimelineOptions()) == options
    scores = score_labeled_windows([single], CLASSES, Background(), options)[1]
    assert (scores.f1, scores.frame_accuracy, scores.num_predicted_segments) == (None, None, 2)


def test_an_unreadable_video_counts_as_wrong() -> None:
    videos = [make_video(0.0), LabeledWindows("gone.mp4", None, TRUTH)]
    timelines, scores = score_labeled_windows(videos, CLASSES, Background(), TimelineOptions())
    assert timelines[1].predicted == ()
    assert scores.frame_accuracy == pytest.approx(0.5, abs=0.01)


def test_unreadable_videos_choose_nothing() -> None:
    gone = LabeledWindows("gone.mp4", None, TRUTH)
    choice = choose_segmentation([make_video(0.2), gone], CLASSES, Background(), **HASHES)
    assert choice == choose_segmentation([make_video(0.2)], CLASSES, Background(), **HASHES)
    assert choose_segmentation([gone], CLASSES, Background(), **HASHES) is None
    unlabelled = replace(make_video(0.2), truth=())
    assert choose_segmentation([gone, unlabelled], CLASSES, Background(), **HASHES) is None


def test_a_choice_is_read_as_it_was_written(tmp_path: Path) -> None:
    choice = choose_segmentation([make_video(0.2)], CLASSES, Background(), **HASHES)
    write_choice(tmp_path, choice)
    assert read_choice(tmp_path) == choice
    options, note = apply_choice(tmp_path, HASHES["model_sha256"], TimelineOptions(step_frames=3))
    assert note == ""
    assert (options.step_frames, options.smoothing_seconds) == (3, choice.smoothing_seconds)
    assert read_choice(tmp_path / "elsewhere") is None
    options, note = apply_choice(tmp_path, "of weights that were trained further", TimelineOptions())
    assert options == TimelineOptions()
    assert "is not used: it was chosen for other weights" in note


@pytest.mark.parametrize(
    ("key", "value"),
    [("format", 2), ("smoothing_seconds", -1.0), ("smoothing_seconds", "long"), ("num_videos", -1), ("f1", 2.0)],
)
def test_a_damaged_choice_is_refused(tmp_path: Path, key: str, value: object) -> None:
    choice = choose_segmentation([make_video(0.0)], CLASSES, Background(), **HASHES)
    write_json(tmp_path / "timeline.json", {**asdict(choice), key: value})
    with pytest.raises(ValueError, match=key):
        read_choice(tmp_path)
