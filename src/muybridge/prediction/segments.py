"""Segments of video files, addressed as in a manifest: `clips/long.mkv#1.5-4`, in seconds.

Input: the name of a segment. Output: the name of its file and a frame source that shows only the segment. Prediction reads
segments in the same way as training and evaluation do, except that times count from where those of the file do: its first
frame, or the clock of a player (`records.TimeOrigin`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from muybridge.datasets.video_files import path_exists
from muybridge.records import FrameSource, FrameTimes, YuvClip
from muybridge.video.sampling import trim_frame_times

_SECONDS = r"\d+\.?\d*(?:e[+-]\d+)?"
_SEGMENT_NAME = re.compile(rf"(.+)#({_SECONDS})?-({_SECONDS})?", re.DOTALL)


@dataclass(frozen=True)
class SegmentSource:
    """The frames of `source` between two times; None leaves that side open."""

    source: FrameSource
    start_seconds: float | None
    end_seconds: float | None

    def read_frame_times(self, video: str) -> FrameTimes:
        """See `FrameSource`. Raises VideoError("too_short") if there is no frame between the times."""
        return trim_frame_times(self.source.read_frame_times(video), self.start_seconds, self.end_seconds)

    def read(self, video: str, ticks: NDArray[np.int64]) -> YuvClip:
        """See `FrameSource`."""
        return self.source.read(video, ticks)

    def compute_offset(self, video: str) -> float:
        """Seconds from where those of the file count to the first frame of the segment."""
        times = self.source.read_frame_times(video)
        return times.lead_seconds + times.to_seconds(int(self.read_frame_times(video).ticks[0]))


def get_file_source(source: FrameSource) -> FrameSource:
    """The source of whole files, where `source` shows a segment of one: frames at given ticks are the same in both."""
    return source.source if isinstance(source, SegmentSource) else source


def get_file_name(video: str) -> str:
    """The name of the file of a segment, or of any other video."""
    match = _SEGMENT_NAME.fullmatch(video)
    return video if match is None or path_exists(Path(video)) else match[1]


def parse_segment_name(video: str) -> tuple[str, float | None, float | None] | None:
    """The file, the start and the end in `clips/long.mkv#1.5-4`; None for another name. A bound that is left out is None."""
    match = _SEGMENT_NAME.fullmatch(video)
    if match is None:
        return None
    start, end = (None if bound is None else float(bound) for bound in (match[2], match[3]))
    return match[1], start, end


def find_segment(video: str, source: FrameSource) -> tuple[SegmentSource, str] | None:
    """The source of a segment and the name of its file; None if `video` is a file or not the name of a segment."""
    segment = parse_segment_name(video)
    if segment is None or path_exists(Path(video)):
        return None
    return SegmentSource(source, segment[1], segment[2]), segment[0]
