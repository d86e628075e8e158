"""A `FrameSource` without files, for tests of what is made of frames."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from muybridge.records import FrameTimes, VideoError, YuvClip


class GrayFrames:
    """A video of `num_frames` frames at 25 a second, ticks 0, 10, 20, ...; frame n is grey of level n everywhere; `textured`
    adds hills that move to the right by a pixel a frame.

    It notes what is read; reading a frame of `broken` fails.
    """

    def __init__(self, num_frames: int, broken: Sequence[int] = (), *, textured: bool = False) -> None:
        self.times = FrameTimes(np.arange(num_frames) * 10, Fraction(1, 250), num_frames * 10)
        self.broken = set(broken)
        self.textured = textured
        self.reads: list[list[int]] = []

    def read_frame_times(self, video: str) -> FrameTimes:
        return self.times

    def read(self, video: str, ticks: NDArray[np.int64]) -> YuvClip:
        numbers = [int(tick) // 10 for tick in ticks]
        self.reads.append(numbers)
        if self.broken & set(numbers):
            raise VideoError("unreadable", f"frame {min(self.broken & set(numbers))} is damaged")
        luma = np.empty((len(numbers), 20, 24), np.uint8)
        luma[...] = np.array(numbers)[:, None, None]
        if self.textured:
            x = np.arange(24) - np.array(numbers)[:, None, None]
            y = np.arange(20)[:, None]
            luma = np.rint(128 + 60 * np.sin(x / 2) + 50 * np.sin(y / 3 + x / 5)).astype(np.uint8)
        return YuvClip(luma, np.full((2, len(numbers), 10, 12), 128, np.uint8), "bt601", full_range=True)
