"""Windows along a stream of frames: a generator or a camera, of any length, scored while it is read.

Input: frames one by one, at a constant rate. Output: a `Window` once its last frame has come. Memory holds the frames of one
window. A stream shorter than a clip is looped, as a short video is.

    step 4, span 16:   frames 0-15, 4-19, 8-23, ...
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from muybridge.models.heads import Head
from muybridge.prediction.clip_outputs import ClipRunner
from muybridge.prediction.head_outputs import compute_probabilities
from muybridge.prediction.timeline import Window
from muybridge.prediction.video_inputs import VideoInput
from muybridge.records import Preprocessing
from muybridge.video.media import PictureFrames
from muybridge.video.picture_sequence import ASSUMED_RATE, Picture, open_frames
from muybridge.video.sampling import sample_uniform_clips


def score_stream(
    frames: Iterator[Picture],
    runner: ClipRunner,
    *,
    step_frames: int | None = None,
    source_fps: float | None = None,
    head: Head | None = None,
) -> Iterator[Window]:
    """A window every `step_frames` frames (default: a quarter of a clip's span) of frames (H, W, 3) at `source_fps` (25)."""
    preprocessing = runner.preprocessing
    step = step_frames or max(1, preprocessing.clip_span // 4)
    source_rate = Fraction(source_fps or ASSUMED_RATE).limit_denominator(1_000_000)
    rate = Fraction(preprocessing.frames_per_second or source_rate).limit_denominator(1_000_000)
    for start, window_frames in _collect_windows(frames, preprocessing.clip_span, step, source_rate / rate):
        logits = _score_frames(window_frames, runner)
        start_seconds, end_seconds = float(start / rate), float((start + len(window_frames)) / rate)
        yield Window(
            start_seconds, end_seconds, tuple(compute_probabilities(logits.astype(np.float64), head)[0].tolist())
        )


def _collect_windows(
    frames: Iterator[Picture], span: int, step: int, source_frames_per_frame: Fraction
) -> Iterator[tuple[int, list[Picture]]]:
    """(start, frames) of each window, counted at the clip's rate: frame j there is the frame shown at that time."""
    buffer: list[Picture] = []
    start = next_index = 0
    for source_index, frame in enumerate(frames):
        while next_index * source_frames_per_frame // 1 == source_index:
            if next_index >= start:
                buffer.append(frame)
            next_index += 1
            if len(buffer) == span:
                yield start, buffer
                buffer, start = buffer[step:], start + step
    if start == 0 and buffer:
        yield 0, buffer


def _score_frames(frames: list[Picture], runner: ClipRunner) -> NDArray[np.float32]:
    preprocessing: Preprocessing = replace(runner.preprocessing, frames_per_second=None)
    size = {"scale_height": preprocessing.scale_height, "scale_width": preprocessing.scale_width}
    source = PictureFrames(open_frames(np.stack(frames)), **size)
    clips = sample_uniform_clips(source.read_frame_times(""), preprocessing, 1)
    return runner.run_clips(VideoInput("<stream>", "", source), clips).rows
