"""The frames of a video that is stored as pictures or numbers, and frames in memory as such a sequence.

Input: uint8 frames. Output: a `PictureSequence`: how many frames there are, when they are shown, and their pixels in RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from muybridge.records import FrameTimes, VideoError

ASSUMED_RATE = 25.0  # frames a second where neither the frames nor the user give a rate

Picture: TypeAlias = "NDArray[np.uint8]"  # (H, W, 3)


@dataclass(frozen=True)
class PictureSequence:
    """The frames of a video. `read_pictures` reads the frames of these indices, in their order, as uint8 (H, W, 3).

    It raises VideoError where a frame cannot be read. `has_assumed_rate` of the times is set where nothing gives their rate.
    Without frames only the flow from one to the next is stored.
    """

    times: FrameTimes
    read_pictures: Callable[[Sequence[int]], Iterator[Picture]]
    has_frames: bool = True


def make_uniform_times(num_frames: int, frames_per_second: float | None) -> FrameTimes:
    """The times of frames at a constant rate, one tick each; None: ASSUMED_RATE, which a user may replace."""
    rate = Fraction(frames_per_second or ASSUMED_RATE).limit_denominator(1_000_000)
    ticks = np.arange(num_frames, dtype=np.int64)
    return FrameTimes(ticks, 1 / rate, num_frames, has_assumed_rate=frames_per_second is None)


def open_frames(frames_thwc: Any, frames_per_second: float | None = None) -> PictureSequence:
    """Frames in memory: uint8 (T, H, W, 3), or (T, H, W, 1) and (T, H, W) in gray, at a constant rate."""
    checked = check_frames(frames_thwc)

    def read_pictures(indices: Sequence[int]) -> Iterator[Picture]:
        return (convert_to_rgb(np.asarray(checked[index])) for index in indices)

    return PictureSequence(make_uniform_times(len(checked), frames_per_second), read_pictures)


def check_frames(frames_thwc: Any) -> NDArray[np.uint8]:
    """Frames as (T, H, W, 1) or (T, H, W, 3). ValueError for another type or shape, VideoError where there are none."""
    shape, dtype = tuple(frames_thwc.shape), frames_thwc.dtype
    is_gray = len(shape) == 3
    if dtype != np.uint8 or not (is_gray or (len(shape) == 4 and shape[3] in (1, 3))):
        raise ValueError(
            f"frames are {dtype} of shape {shape}, expected uint8 of shape (frames, height, width, 3) in RGB, or "
            "(frames, height, width) in gray"
        )
    if 0 in shape:
        raise VideoError("no_video", f"the array has the shape {shape}: no frames")
    checked: NDArray[np.uint8] = frames_thwc[..., None] if is_gray else frames_thwc
    return checked


def convert_to_rgb(frame: NDArray[np.uint8]) -> Picture:
    """A frame (H, W, 1) or (H, W, 3) as (H, W, 3)."""
    return np.ascontiguousarray(frame if frame.shape[2] == 3 else np.repeat(frame, 3, axis=2))
