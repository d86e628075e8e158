"""A `FrameSource` without files whose frames say which video and frame they are; it can fail, and die, on request."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from muybridge.datasets.manifest import Manifest
from muybridge.records import FrameTimes, Preprocessing, VideoError, YuvClip

NUM_FRAMES = 12
TICKS_A_FRAME = 10
FRAMES_PER_SECOND = 25
SMALL = Preprocessing(clip_length=3, frame_stride=2, scale_height=20, scale_width=24, crop=16)


@dataclass(frozen=True)
class Counting:
    """Videos `0`, `1`, ... of NUM_FRAMES frames at 25 a second. Luma of frame f of video v is 16 v + f everywhere.

    `broken` maps a video to its first frame that cannot be read; 0 means that the file does not open. A video in `deadly`
    kills the process that reads it; with a file `only_once`, the first time alone. The failure of a video in `telling` tells
    of the process that met it. `raising` is what no source should raise.
    """

    broken: Mapping[str, int] = field(default_factory=dict)
    deadly: frozenset[str] = frozenset()
    telling: frozenset[str] = frozenset()
    only_once: Path | None = None
    raising: type[Exception] | None = None

    def read_frame_times(self, video: str) -> FrameTimes:
        if self.raising is not None:
            raise self.raising("a bug")
        if video in self.deadly and not (self.only_once and self.only_once.exists()):
            if self.only_once:
                self.only_once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if video in self.telling:
            name = multiprocessing.current_process().name
            raise VideoError(
                "unreadable", f"{os.getppid()} {name} {signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())}"
            )
        if self.broken.get(video) == 0:
            raise VideoError("unreadable", "broken on purpose")
        ticks = np.arange(NUM_FRAMES) * TICKS_A_FRAME
        return FrameTimes(ticks, Fraction(1, FRAMES_PER_SECOND * TICKS_A_FRAME), NUM_FRAMES * TICKS_A_FRAME)

    def read(self, video: str, ticks: NDArray[np.int64]) -> YuvClip:
        numbers = ticks // TICKS_A_FRAME
        if numbers.max() >= self.broken.get(video, NUM_FRAMES):
            raise VideoError("truncated", "broken on purpose further on")
        luma_thw = np.empty((len(ticks), 20, 24), np.uint8)
        luma_thw[...] = (16 * int(video) + numbers)[:, None, None]
        return YuvClip(luma_thw, np.full((2, len(ticks), 10, 12), 128, np.uint8), "bt601", full_range=True)


def counted_manifest(num_videos: int, *, num_classes: int = 3, segments: bool = False) -> Manifest:
    """Videos `0`, `1`, ... of classes in turn; `segments`: of each the frames 4 to 9 only."""
    bounds = {"start_seconds": 4 / FRAMES_PER_SECOND, "end_seconds": 10 / FRAMES_PER_SECOND} if segments else {}
    rows = [{"video": str(n), "labels": [n % num_classes], "split": "train", **bounds} for n in range(num_videos)]
    return Manifest.from_rows(rows, classes=[f"class {number}" for number in range(num_classes)], root=".")
