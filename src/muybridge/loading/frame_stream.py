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
from muybridge.video.flow import PairFlows, seen
from muybridge.video.views import AnyView, evaluation_view

CHUNK_MOMENTS = 32  # 1 MB of frames of 128x171; what a frame costs in the first layers of a network is far more


def read_moments(
    source: FrameSource, video: str, ticks_mg: NDArray[np.int64], preprocessing: Preprocessing
) -> Iterator[AnyView]:
    """The centre crop of the moments at `ticks_mg` (M, G), none before the one ahead of it; CHUNK_MOMENTS a view.

    Raises VideoError where a frame cannot be read, after the views before it.
    """
    frames = _FramesInOrder(source, video, np.unique(ticks_mg))
    known: PairFlows = {}
    for first in range(0, len(ticks_mg), CHUNK_MOMENTS):
        ticks = ticks_mg[first : first + CHUNK_MOMENTS].reshape(-1)
        for pair in [pair for pair in known if pair[0] < int(ticks[0])]:
            del known[pair]  # no later moment needs it
        view = evaluation_view(frames.take(ticks), preprocessing.crop)
        yield seen(view, ticks, preprocessing, known)


def read_in_order(source: FrameSource, video: str, ticks: NDArray[np.int64], num_frames: int) -> Iterator[YuvClip]:
    """The frames at `ticks` (L,), which increase, `num_frames` a clip. Raises VideoError after what is whole before it."""
    if isinstance(source, VideoFiles):
        yield from source.read_in_order(video, ticks, num_frames)
        return
    for first in range(0, len(ticks), num_frames):
        yield source.read(video, ticks[first : first + num_frames])


class _FramesInOrder:
    """Frames taken a few at a time, never from before the first of the last few taken."""

    def __init__(self, source: FrameSource, video: str, ticks: NDArray[np.int64]) -> None:
        self._ticks = ticks
        self._waiting = read_in_order(source, video, ticks, CHUNK_MOMENTS)
        self._first = 0
        self._held: YuvClip | None = None

    def take(self, ticks: NDArray[np.int64]) -> YuvClip:
        """The frames at `ticks`, repeats included."""
        places = np.searchsorted(self._ticks, ticks)
        lowest, highest = int(places.min()), int(places.max())
        if self._held is not None:
            self._held = _part(self._held, np.arange(lowest - self._first, len(self._held.luma_thw)))
            self._first = lowest
        while self._held is None or self._first + len(self._held.luma_thw) <= highest:
            self._held = _joined(self._held, next(self._waiting))
        return _part(self._held, places - self._first)


def _part(frames: YuvClip, places: NDArray[np.int64]) -> YuvClip:
    return YuvClip(frames.luma_thw[places], frames.chroma_cthw[:, places], frames.matrix, frames.full_range)


def _joined(before: YuvClip | None, after: YuvClip) -> YuvClip:
    """Both, with the colours of what comes after: a clip has one matrix."""
    if before is None or len(before.luma_thw) == 0:
        return after
    luma = np.concatenate([before.luma_thw, after.luma_thw])
    chroma = np.concatenate([before.chroma_cthw, after.chroma_cthw], axis=1)
    return YuvClip(luma, chroma, after.matrix, after.full_range)
