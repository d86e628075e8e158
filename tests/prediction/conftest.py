from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.videos import write_video

from muybridge.records import FrameTimes, VideoError, YuvClip


class Frames:
    """A video of `num_frames` frames at 25 a second, ticks 0, 10, 20, ...; frame n is grey of level n everywhere.

    It notes what is read; reading a frame of `broken` fails.
    """

    def __init__(self, num_frames: int, broken: Sequence[int] = ()) -> None:
        self.times = FrameTimes(np.arange(num_frames) * 10, Fraction(1, 250), num_frames * 10)
        self.broken = set(broken)
        self.reads: list[list[int]] = []

    def frame_times(self, video: str) -> FrameTimes:
        return self.times

    def read(self, video: str, ticks: NDArray[np.int64]) -> YuvClip:
        numbers = [int(tick) // 10 for tick in ticks]
        self.reads.append(numbers)
        if self.broken & set(numbers):
            raise VideoError("unreadable", f"frame {min(self.broken & set(numbers))} is damaged")
        luma = np.empty((len(numbers), 20, 24), np.uint8)
        luma[...] = np.array(numbers)[:, None, None]
        return YuvClip(luma, np.full((2, len(numbers), 10, 12), 128, np.uint8), "bt601", full_range=True)


@pytest.fixture
def frames() -> Callable[..., Frames]:
    return Frames


@pytest.fixture
def new_video() -> Callable[..., Path]:
    return write_video
