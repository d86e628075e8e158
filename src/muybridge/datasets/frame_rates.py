"""Segments given in frames, as seconds.

Frames count from 0; `end_frame` is the first frame after the segment. Bounds lie half a frame before the frame they name, so
that the rounding of time stamps never moves a frame across them.
"""

from __future__ import annotations

from functools import lru_cache

from muybridge.records import VideoError
from muybridge.video.containers import open_video_stream
from muybridge.video.picture_sequence import ASSUMED_RATE
from muybridge.video.pictures import is_stored_frames, open_pictures

_RATE_OF_UNREADABLE_FILES = 25.0  # their segments need names, but have no frames


def convert_frame_to_seconds(frame: int, frames_per_second: float) -> float:
    """The time half a frame before `frame`, 0 for the first."""
    return max(0.0, (frame - 0.5) / frames_per_second)


@lru_cache(maxsize=4096)
def read_frame_rate(path: str, source_fps: float | None) -> float:
    """The average rate that the head of a file states, in frames per second.

    That of frames which are stored without one is `source_fps`, or ASSUMED_RATE.
    """
    try:
        if is_stored_frames(path):
            times = open_pictures(path).times
            return (source_fps or ASSUMED_RATE) if times.has_assumed_rate else len(times) / times.duration_seconds
        with open_video_stream(path) as (_, stream):
            rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    except VideoError:
        return _RATE_OF_UNREADABLE_FILES
    return float(rate) if rate else _RATE_OF_UNREADABLE_FILES
