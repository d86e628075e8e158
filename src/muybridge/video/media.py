"""`MediaFiles`: the frames of any video under a folder, whether a video file, a folder of frames, an archive or an array.

Input: a path and the ticks of a clip's frames. Output: a `YuvClip`. Video files are read by `decode`, all else by `pictures`,
and optical flow that is stored as pictures by `flow_pictures`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from numpy.typing import NDArray

from muybridge.limits import raise_if_system_is_short
from muybridge.records import FrameTimes, TimeOrigin, VideoError, YuvClip
from muybridge.video.decode import VideoFiles, VideoMetadata, probe
from muybridge.video.flow_pictures import FlowPictures, open_flow_pictures
from muybridge.video.picture_sequence import PictureSequence
from muybridge.video.pictures import is_stored_frames, open_pictures
from muybridge.video.planes import YuvClipBuilder

Opened = TypeVar("Opened")
_MAX_CACHED_SEQUENCES = 4  # an array is kept whole, a folder or an archive as its names


class PictureFrames:
    """The frames of one `PictureSequence`: a `FrameSource` of one video, whatever it is called."""

    def __init__(self, sequence: PictureSequence, *, scale_height: int, scale_width: int) -> None:
        self.sequence = sequence
        self.scale_height = scale_height
        self.scale_width = scale_width

    def read_frame_times(self, video: str) -> FrameTimes:
        """See `FrameSource`."""
        return self.sequence.times

    def read(self, video: str, ticks: NDArray[np.int64]) -> YuvClip:
        """See `FrameSource`."""
        unique_ticks, frame_indices = np.unique(ticks, return_inverse=True)
        indices = np.searchsorted(self.sequence.times.ticks, unique_ticks)
        if indices.max() >= len(self.sequence.times):
            raise VideoError("unreadable", "a requested frame is gone: the file changed while it was in use")
        planes = YuvClipBuilder(len(unique_ticks), self.scale_height, self.scale_width)
        for index_in_clip, picture in enumerate(self.sequence.read_pictures(indices.tolist())):
            planes.write_frame(index_in_clip, av.VideoFrame.from_ndarray(picture, format="rgb24"))
        return planes.build_clip(frame_indices)


class MediaFiles:
    """Frames of files and folders in a folder: a `FrameSource`. `video` is a path relative to `root`, or an absolute one.

    `source_fps` is the rate of frames that are stored without one, `time_origin` and `index_folder` are those of `VideoFiles`.
    It can be pickled; what it caches is not.
    """

    def __init__(
        self,
        root: str,
        *,
        scale_height: int,
        scale_width: int,
        source_fps: float | None = None,
        time_origin: TimeOrigin = "picture",
        index_folder: Path | None = None,
    ) -> None:
        self.source_fps = source_fps
        self.files = VideoFiles(
            root,
            scale_height=scale_height,
            scale_width=scale_width,
            time_origin=time_origin,
            index_folder=index_folder,
        )
        self._sequences: dict[tuple[str, int], PictureSequence] = {}
        self._flows: dict[tuple[str, int], FlowPictures | None] = {}

    def read_frame_times(self, video: str) -> FrameTimes:
        """The time stamps of every frame. Raises VideoError: missing, unreadable, no_video or truncated."""
        return set_source_rate(self._select_source(video).read_frame_times(video), self.source_fps)

    def read(self, video: str, ticks: NDArray[np.int64]) -> YuvClip:
        """The frames at `ticks` (L,) of `read_frame_times(video)`, in that order, repeats included, scaled and upright."""
        source = self._select_source(video)
        return (
            source.read(video, ticks) if isinstance(source, VideoFiles) else self._read_pictures(source, video, ticks)
        )

    def read_in_order(self, video: str, ticks: NDArray[np.int64], frames_per_clip: int) -> Iterator[YuvClip]:
        """As `VideoFiles.read_in_order`."""
        source = self._select_source(video)
        if isinstance(source, VideoFiles):
            yield from source.read_in_order(video, ticks, frames_per_clip)
            return
        for first in range(0, len(ticks), frames_per_clip):
            yield self._read_pictures(source, video, ticks[first : first + frames_per_clip])

    def _read_pictures(self, source: PictureFrames, video: str, ticks: NDArray[np.int64]) -> YuvClip:
        """A clip of pictures. Raises VideoError where the file or folder changed meanwhile."""
        path = Path(self.files.root, video)
        before = _read_change_time(path)
        clip = source.read(video, ticks)
        if _read_change_time(path) != before:
            raise VideoError("unreadable", f"the {'folder' if path.is_dir() else 'file'} changed while it was read")
        return clip

    def open_flow(self, video: str) -> FlowPictures | None:
        """The optical flow that is stored as pictures with a video, None if there is none. Raises VideoError."""
        path = Path(self.files.root, video)
        if not is_stored_frames(path):
            return None
        return _open_cached(path, open_flow_pictures, self._flows)

    def _select_source(self, video: str) -> VideoFiles | PictureFrames:
        path = Path(self.files.root, video)
        if not is_stored_frames(path):
            return self.files
        if not path.exists():
            open_pictures(path)  # raises VideoError with the reason
        sequence = _open_cached(path, open_pictures, self._sequences)
        return PictureFrames(sequence, scale_height=self.files.scale_height, scale_width=self.files.scale_width)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_sequences": {}, "_flows": {}}


def _open_cached(path: Path, open_path: Callable[[Path], Opened], cache: dict[tuple[str, int], Opened]) -> Opened:
    """What `open_path` makes of a path, which is kept until it changes or others need the place."""
    key = (str(path), _read_change_time(path))
    if key not in cache:
        opened = open_path(path)
        if len(cache) >= _MAX_CACHED_SEQUENCES:
            cache.pop(next(iter(cache)), None)
        cache[key] = opened
    return cache[key]


def _read_change_time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise_if_system_is_short(error)
        raise VideoError("missing", "the file does not exist") from error


def set_source_rate(times: FrameTimes, frames_per_second: float | None) -> FrameTimes:
    """The times at this rate where their own is assumed (`FrameTimes.has_assumed_rate`), else unchanged."""
    if frames_per_second is None or not times.has_assumed_rate:
        return times
    rate = Fraction(frames_per_second).limit_denominator(1_000_000)
    return FrameTimes(times.ticks, 1 / rate, times.end_tick)


def probe_media(path: str | Path, frames_per_second: float | None = None) -> VideoMetadata:
    """Length, rate and size of any video; `frames_per_second` is used where nothing else gives the rate.

    Where only its flow is stored, the size is that of the flow. Raises VideoError as `MediaFiles`.
    """
    if not is_stored_frames(path):
        return probe(path)
    sequence = open_pictures(path)
    times = set_source_rate(sequence.times, frames_per_second)
    flow = None if sequence.has_frames else open_flow_pictures(Path(path))
    height, width = flow.read_size() if flow else next(sequence.read_pictures([0])).shape[:2]
    rate = len(times) / times.duration_seconds
    return VideoMetadata(len(times), times.duration_seconds, rate, height, width, sequence.has_frames)
