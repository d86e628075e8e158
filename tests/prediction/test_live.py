from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from live_streams import serving
from muybridge.prediction.clip_outputs import ClipRunner
from muybridge.prediction.live import (
    LiveCounts,
    LiveScorer,
    iterate_file,
    iterate_stream,
)
from muybridge.prediction.live_stretch import Timestep
from muybridge.prediction.recognizer import load
from muybridge.prediction.timeline import TimelineOptions
from muybridge.prediction.video_inputs import VideoInput, resolve_input
from muybridge.records import Preprocessing
from muybridge.video.live_source import LiveFrame
from muybridge.video.media import MediaFiles
from videos import read_index, write_video

PREPROCESSING = Preprocessing(clip_length=4, frame_stride=2, scale_height=20, scale_width=24, crop=16)  # a span of 7


def score_means(clips: Tensor) -> Tensor:
    """Logits that say which frames a clip has: their mean brightness."""
    return torch.stack([clips.mean(dim=(1, 2, 3, 4)), torch.zeros(len(clips))], dim=1)


def make_timesteps(frames: Callable[..., Any], count: int, stretches: tuple[int, ...] = (0,)) -> Iterator[Timestep]:
    source = frames(count)
    for index in range(count):
        planes = source.read("", np.array([10 * index]))
        yield Timestep(planes, index / 25, (index + 1) / 25, time.monotonic(), begins_stretch=index in stretches)


def score(
    timesteps: Iterator[Timestep], step: int, *, drop: bool = False, network: Any = score_means
) -> tuple[list[float], LiveCounts]:
    counts = LiveCounts()
    scorer = LiveScorer(ClipRunner(network, PREPROCESSING, torch.device("cpu")), step, counts)
    return [window.window.start_seconds * 25 for window in scorer.score(timesteps, drop=drop)], counts


def test_windows_are_those_of_a_timeline(frames: Callable[..., Any]) -> None:
    """25 frames, a span of 7, step 4: 0, 4, 8, 12, 16, and the one that ends with the stream, 18."""
    starts, counts = score(make_timesteps(frames, 25), 4)
    assert starts == pytest.approx([0, 4, 8, 12, 16, 18])
    assert (counts.num_windows, counts.num_skipped_windows, counts.num_dropped_frames) == (6, 0, 0)


def test_a_step_longer_than_a_window_leaves_frames_out(frames: Callable[..., Any]) -> None:
    assert score(make_timesteps(frames, 30), 10)[0] == pytest.approx([0, 10, 20, 23])


def test_no_window_lies_across_a_break(frames: Callable[..., Any]) -> None:
    starts, _ = score(make_timesteps(frames, 20, stretches=(0, 9)), 4)
    assert starts == pytest.approx([0, 2, 9, 13])


def test_a_stream_shorter_than_a_clip_is_looped(frames: Callable[..., Any]) -> None:
    assert score(make_timesteps(frames, 3), 4)[0] == pytest.approx([0])


def test_late_windows_are_skipped_and_counted(frames: Callable[..., Any]) -> None:
    """Frames at 100 a second, and a network that takes as long as 20 of them: most windows are skipped, none is late."""

    def pace() -> Iterator[Timestep]:
        for timestep in make_timesteps(frames, 150):
            time.sleep(0.01)
            yield replace(timestep, arrival=time.monotonic())

    def slow(clips: Tensor) -> Tensor:
        time.sleep(0.2)
        return score_means(clips)

    counts = LiveCounts()
    scorer = LiveScorer(ClipRunner(slow, PREPROCESSING, torch.device("cpu")), 2, counts)
    windows = list(scorer.score(pace(), drop=True))
    assert counts.num_windows == len(windows) >= 3
    assert counts.num_skipped_windows > counts.num_windows
    assert counts.num_dropped_frames > 20
    starts = [round(window.window.start_seconds * 25) for window in windows]
    assert all(start % 2 == 0 for start in starts)
    assert starts == sorted(set(starts))
    # One step, 20 ms, and one inference, 200 ms; the rest is for a busy machine. Without skipping it would be seven.
    assert np.median([window.delay_seconds for window in windows]) < 3


def test_windows_before_a_break_are_scored_or_counted(frames: Callable[..., Any]) -> None:
    """While a window is scored, 20, 20 and 2 frames arrive, with breaks between them: the newest window is of the second 20."""
    is_scoring, is_read = threading.Event(), threading.Event()

    def read() -> Iterator[Timestep]:
        for index, timestep in enumerate(make_timesteps(frames, 49, stretches=(0, 7, 27, 47))):
            if index == 7:
                assert is_scoring.wait(60)
            yield timestep
        is_read.set()

    def network(clips: Tensor) -> Tensor:
        is_scoring.set()
        assert is_read.wait(60)
        return score_means(clips)

    starts, counts = score(read(), 1, drop=True, network=network)
    assert starts == pytest.approx([0, 40])
    assert (counts.num_windows, counts.num_skipped_windows, counts.num_dropped_frames) == (2, 14 + 13, 20 + 13)


def test_errors_of_reading_arrive_after_what_was_read(frames: Callable[..., Any]) -> None:
    def broken() -> Iterator[Timestep]:
        yield from make_timesteps(frames, 8)
        raise OSError("the cable is out")

    starts = []
    scorer = LiveScorer(ClipRunner(score_means, PREPROCESSING, torch.device("cpu")), 4, LiveCounts())
    with pytest.raises(OSError, match="the cable is out"):
        starts += [window.window.start_seconds for window in scorer.score(broken(), drop=False)]


def test_a_silent_source_does_not_keep_those_who_stop(frames: Callable[..., Any]) -> None:
    silence = threading.Event()

    def read() -> Iterator[Timestep]:
        yield from make_timesteps(frames, 9)
        assert silence.wait(60)

    scorer = LiveScorer(ClipRunner(score_means, PREPROCESSING, torch.device("cpu")), 4, LiveCounts())
    stopped = threading.Event()
    starts = []
    for window in scorer.score(read(), drop=False, should_stop=stopped.is_set):
        starts.append(window.window.start_seconds * 25)
        stopped.set()
    assert starts[0] == 0
    silence.set()


def test_no_thread_is_left_inside_torch(frames: Callable[..., Any]) -> None:
    """A process aborts whose interpreter ends while a thread is there."""

    def read() -> Iterator[Timestep]:
        while True:
            for timestep in make_timesteps(frames, 20):
                torch.ones(500, 500) @ torch.ones(500, 500)
                yield timestep

    scorer = LiveScorer(ClipRunner(score_means, PREPROCESSING, torch.device("cpu")), 4, LiveCounts())
    with closing(scorer.score(read(), drop=True)) as windows:
        next(windows)
        assert any(thread.name == "live-reader" for thread in threading.enumerate())
    assert not any(thread.name == "live-reader" for thread in threading.enumerate())


@pytest.mark.parametrize("part", ["", "#0.5-1.5"])
@pytest.mark.parametrize("frames_per_second", [None, 15.0, 40.0])
def test_a_file_without_dropping_has_the_windows_of_predict(
    finished_run: Path, tmp_path: Path, frames_per_second: float | None, part: str
) -> None:
    name = str(write_video(tmp_path / "a.mp4", 50, frames_per_second=25)) + part
    recognizer = load(finished_run)
    preprocessing = replace(recognizer.card.preprocessing, frames_per_second=frames_per_second, frame_stride=2)
    recognizer = replace(recognizer, card=replace(recognizer.card, preprocessing=preprocessing))
    expected = recognizer.predict(name, timeline=TimelineOptions(step_frames=3)).windows
    timesteps = iterate_file(resolve_input(name, preprocessing, recognizer.source), preprocessing, pace=False)
    windows = [
        window.window for window in LiveScorer(recognizer.clip_runner, 3, LiveCounts()).score(timesteps, drop=False)
    ]
    assert len(windows) == len(expected) > 2
    for window, other in zip(windows, expected, strict=True):
        assert (window.start_seconds, window.end_seconds) == (other.start_seconds, other.end_seconds)
        assert window.probabilities == pytest.approx(other.probabilities, abs=1e-6)


def test_a_paced_file_takes_its_time(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", 20, frames_per_second=25)
    start = time.monotonic()
    source = MediaFiles("", scale_height=48, scale_width=64)
    timesteps = list(iterate_file(VideoInput(str(video), str(video), source), Preprocessing(), pace=True))
    assert len(timesteps) == 20
    assert time.monotonic() - start >= 19 / 25 - 0.02


def live(preprocessing: Preprocessing, times: list[float]) -> list[tuple[float, float, bool]]:
    from muybridge.prediction.live import _TimestepGrid

    grid = _TimestepGrid(preprocessing.frames_per_second, 0.0)
    planes = object()
    return [
        (round(timestep.start_seconds, 3), round(timestep.end_seconds, 3), timestep.begins_stretch)
        for seconds in times
        for timestep in grid.add(LiveFrame(planes, seconds, 100 + seconds, 4 / 3))  # type: ignore[arg-type]
    ]


def test_frames_become_timesteps_once_the_next_one_is_here() -> None:
    assert live(PREPROCESSING, [7.0, 7.04, 7.08]) == [(0.0, 0.04, True), (0.04, 0.08, False)]
    at_ten = replace(PREPROCESSING, frames_per_second=10.0)
    assert live(at_ten, [7.0, 7.25, 7.5]) == [
        (0.0, 0.1, True),
        (0.1, 0.2, False),
        (0.2, 0.3, False),
        (0.3, 0.4, False),
        (0.4, 0.5, False),
    ]


def test_a_pause_and_a_jump_of_the_clock_begin_a_stretch() -> None:
    paused = live(PREPROCESSING, [0.0, 0.04, 0.08, 5.0, 5.04])
    assert paused == [(0.0, 0.04, True), (0.04, 0.08, False), (5.0, 5.04, True)]
    back = live(PREPROCESSING, [100.0, 100.04, 3.0, 3.04])
    assert [row[2] for row in back] == [True, True]
    assert back[1][0] >= back[0][1] - 0.001


def test_a_stream_is_connected_to_again_and_its_clock_goes_on(tmp_path: Path) -> None:
    """A server sends 30 frames to whoever connects, and hangs up."""
    content = write_video(tmp_path / "a.ts", 30, container="mpegts", options={"tune": "zerolatency"}).read_bytes()
    counts = LiveCounts()
    breaks: list[str] = []
    timesteps: list[Timestep] = []
    deadline = time.monotonic() + 20
    preprocessing = Preprocessing(clip_length=4, scale_height=48, scale_width=64, crop=32)
    with serving(content) as address:
        for timestep in iterate_stream(
            address,
            preprocessing,
            counts,
            on_event=breaks.append,
            should_stop=lambda: len(timesteps) >= 40 or time.monotonic() > deadline,
        ):
            timesteps.append(timestep)  # noqa: PERF402 - `should_stop` looks at it
    assert len(timesteps) >= 40
    assert counts.num_reconnects == 1
    assert breaks == ["the stream ended; connecting again in 0.5 s"]
    starts = [timestep.start_seconds for timestep in timesteps]
    assert starts == sorted(starts)
    assert sum(timestep.begins_stretch for timestep in timesteps) == 2


def test_a_part_of_a_file_is_decoded_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading it frame by frame decodes from the key frame before each."""
    source = MediaFiles("", scale_height=48, scale_width=64)
    video = resolve_input(f"{write_video(tmp_path / 'a.mp4', 50)}#0.4-0.8", Preprocessing(), source)
    monkeypatch.setattr(MediaFiles, "read", None)
    timesteps = list(iterate_file(video, Preprocessing(), pace=False))
    assert [read_index(timestep.planes.luma_thw[0]) for timestep in timesteps] == list(range(10, 20))
