"""The moments of a video in order, each read, cut and made into flow once, however many windows it belongs to.

Enter: the ticks of moments (`clips.moments`). Leave: views of a few dozen moments, in order. No more than these are held,
whatever the length of the video.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from muybridge.records import FrameSource, Preprocessing, YuvClip
from muybridge.video.decode import VideoFiles
from muybridge.video.flow import FlowCache, compute_modality
from muybridge.video.views import AnyView, make_evaluation_view

TIMESTEPS_PER_CHUNK = 32  # 1 MB of frames of 128x171; what a frame costs in the first layers of a network is far more


def read_timesteps(
    source: FrameSource, video: str, ticks_mg: NDArray[np.int64], preprocessing: Preprocessing
) -> Iterator[AnyView]:
    """The centre crop of the moments at `ticks_mg` (M, G), none before the one ahead of it; CHUNK_MOMENTS a view.

    Raises VideoError where a frame cannot be read, after the views before it.
    """
    frames = _FrameBuffer(source, video, np.unique(ticks_mg))
    flow_cache: FlowCache = {}
    for first in range(0, len(ticks_mg), TIMESTEPS_PER_CHUNK):
        ticks = ticks_mg[first : first + TIMESTEPS_PER_CHUNK].reshape(-1)
        for pair in [pair for pair in flow_cache if pair[0] < int(ticks[0])]:
            del flow_cache[pair]  # no later moment needs it
        view = make_evaluation_view(frames.read(ticks), preprocessing.crop)
        yield compute_modality(view, ticks, preprocessing, flow_cache)


def read_in_order(source: FrameSource, video: str, ticks: NDArray[np.int64], frames_per_clip: int) -> Iterator[YuvClip]:
    """The frames at `ticks` (L,), which increase, `num_frames` a clip. Raises VideoError after what is whole before it."""
    if isinstance(source, VideoFiles):
        yield from source.read_in_order(video, ticks, frames_per_clip)
        return
    for first in range(0, len(ticks), frames_per_clip):
        yield source.read(video, ticks[first : first + frames_per_clip])


class _FrameBuffer:
    """Frames taken a few at a time, never from before the first of the last few taken."""

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
            self._frames = _select_frames(
                self._frames, np.arange(lowest - self._first_index, len(self._frames.luma_thw))
            )
            self._first_index = lowest
        while self._frames is None or self._first_index + len(self._frames.luma_thw) <= highest:
            self._frames = _concatenate_clips(self._frames, next(self._chunks))
        return _select_frames(self._frames, frame_indices - self._first_index)


def _select_frames(frames: YuvClip, frame_indices: NDArray[np.int64]) -> YuvClip:
    return YuvClip(
        frames.luma_thw[frame_indices], frames.chroma_cthw[:, frame_indices], frames.matrix, frames.full_range
    )


def _concatenate_clips(before: YuvClip | None, after: YuvClip) -> YuvClip:
    """Both, with the colours of what comes after: a clip has one matrix."""
    if before is None or len(before.luma_thw) == 0:
        return after
    luma = np.concatenate([before.luma_thw, after.luma_thw])
    chroma = np.concatenate([before.chroma_cthw, after.chroma_cthw], axis=1)
    return YuvClip(luma, chroma, after.matrix, after.full_range)
