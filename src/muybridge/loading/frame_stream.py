"""The timesteps of a video in order, each frame decoded once, however many windows it belongs to.

Input: the ticks of timesteps (`video.sampling.compute_timestep_ticks`). Output: the frames of TIMESTEPS_PER_CHUNK timesteps at
a time, in order. Memory does not grow with the length of the video.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from muybridge.records import FrameSource, YuvClip
from muybridge.video.decode import VideoFiles
from muybridge.video.media import MediaFiles

TIMESTEPS_PER_CHUNK = 32  # 1 MB of frames of 128x171; activations of a network's first layers are far larger


def stream_frames(
    source: FrameSource, video: str, ticks_mg: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], YuvClip]]:
    """The frames at `ticks_mg` (M, G), whose rows increase: (ticks, frames) of TIMESTEPS_PER_CHUNK rows at a time.

    Raises VideoError where a frame cannot be read, after the chunks before it.
    """
    frames = _FrameBuffer(source, video, np.unique(ticks_mg))
    for first in range(0, len(ticks_mg), TIMESTEPS_PER_CHUNK):
        ticks = ticks_mg[first : first + TIMESTEPS_PER_CHUNK].ravel()
        yield ticks, frames.read(ticks)


def read_in_order(source: FrameSource, video: str, ticks: NDArray[np.int64], frames_per_clip: int) -> Iterator[YuvClip]:
    """The frames at `ticks` (L,), which increase, `frames_per_clip` at a time.

    Raises VideoError where a frame cannot be read, after the complete clips before it.
    """
    if isinstance(source, VideoFiles | MediaFiles):  # it decodes a file in one pass, without seeking for each clip
        yield from source.read_in_order(video, ticks, frames_per_clip)
        return
    for first in range(0, len(ticks), frames_per_clip):
        yield source.read(video, ticks[first : first + frames_per_clip])


class _FrameBuffer:
    """The frames of a few timesteps; it drops all frames before the first one of the last read."""

    def __init__(self, source: FrameSource, video: str, ticks: NDArray[np.int64]) -> None:
        self._ticks = ticks
        self._chunks = read_in_order(source, video, ticks, TIMESTEPS_PER_CHUNK)
        self._first_index = 0
        self._frames: YuvClip | None = None

    def read(self, ticks: NDArray[np.int64]) -> YuvClip:
        """The frames at `ticks`, repeats included."""
        frame_indices = np.searchsorted(self._ticks, ticks)
        lowest, highest = int(frame_indices.min()), int(frame_indices.max())
        if self._frames is not None:
            self._frames = self._frames.select(np.arange(lowest - self._first_index, len(self._frames)))
            self._first_index = lowest
        while self._frames is None or self._first_index + len(self._frames) <= highest:
            self._frames = _concatenate_clips(self._frames, next(self._chunks))
        return self._frames.select(frame_indices - self._first_index)


def _concatenate_clips(before: YuvClip | None, after: YuvClip) -> YuvClip:
    """Both clips as one. It has the colour format of `after`, since a clip has only one."""
    if before is None or len(before) == 0:
        return after
    luma = np.concatenate([before.luma_thw, after.luma_thw])
    chroma = np.concatenate([before.chroma_cthw, after.chroma_cthw], axis=1)
    return YuvClip(luma, chroma, after.matrix, after.full_range)
