"""What a recognizer takes for a video: a path, bytes, an open file, or frames in memory.

Input: any of them. Output: a `VideoInput`, the name of a video and the frame source that reads it. Anything else is a TypeError
that says what is taken.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from muybridge.loading.clip_reader import ClipReader, create_clip_reader
from muybridge.prediction.prepared_videos import find_prepared_video
from muybridge.prediction.segments import SegmentSource, find_segment, get_file_source
from muybridge.prepared.shards import ShardFrameSource
from muybridge.records import FrameSource, Preprocessing, TimeOrigin, VideoError
from muybridge.video.media import MediaFiles, PictureFrames
from muybridge.video.picture_sequence import open_frames

AnyVideo: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | NDArray[np.uint8] | Tensor
AnyFrame: TypeAlias = NDArray[np.uint8] | Tensor

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_TAKEN = "a path, bytes, a file opened in binary mode, or frames as a uint8 array or tensor of shape (frames, height, width, 3)"


@dataclass(frozen=True)
class VideoInput:
    """A video for prediction. `label` is what results call it, `name` what `source` does; `error`: it cannot be opened."""

    label: str
    name: str
    source: FrameSource
    error: VideoError | None = None
    is_file: bool = True

    def compute_offset(self) -> float:
        """Seconds from where those of the file count (`records.TimeOrigin`) to the first frame of the video or segment."""
        if isinstance(self.source, SegmentSource):
            return self.source.compute_offset(self.name)
        return self.source.read_frame_times(self.name).lead_seconds

    @property
    def file_source(self) -> FrameSource:
        """The source of the whole file, also of a segment: frames at given ticks are the same in both."""
        return get_file_source(self.source)

    def create_reader(self, preprocessing: Preprocessing) -> ClipReader:
        """What reads clips of the video, by the ticks of `source`; flow that is stored with a file is that of its segments."""
        return create_clip_reader(self.file_source, preprocessing)

    def has_stored_flow(self) -> bool:
        """Whether a network of flow reads flow that is stored with the video, not what its frames give. Raises VideoError."""
        source = self.file_source
        if isinstance(source, MediaFiles):
            return source.open_flow(self.name) is not None
        return isinstance(source, ShardFrameSource) and source.holds_flow


def resolve_input(
    video: AnyVideo, preprocessing: Preprocessing, source: FrameSource, source_fps: float | None = None
) -> VideoInput:
    """The video that a user gave. Paths are read by `source`, or from the prepared data they lie in.

    `source_fps` is the rate of frames that are stored without one; the time origin is that of `source`. Raises TypeError for
    what is no video, ValueError for frames of another kind, and for prepared data of another size.
    """
    if source_fps is not None and not 0 < source_fps < float("inf"):
        raise ValueError(f"source_fps must be a positive number of frames a second, not {source_fps}")
    if isinstance(video, str | os.PathLike):
        return _resolve_path(os.fspath(video), preprocessing, source, source_fps)
    if isinstance(video, np.ndarray | Tensor):
        return _resolve_frames(video, preprocessing, source_fps)
    time_origin = _get_time_origin(source)
    if isinstance(video, bytes | bytearray | memoryview):
        return _resolve_content(BytesIO(video), "<bytes>", preprocessing, time_origin)
    if callable(getattr(video, "read", None)):
        name = getattr(video, "name", None)
        return _resolve_content(video, name if isinstance(name, str) else "<file>", preprocessing, time_origin)
    raise TypeError(f"a video is {_TAKEN}, or a list of these; {type(video).__name__} is none of them")


def _convert_to_array(frames: AnyFrame) -> NDArray[np.uint8]:
    """Frames of a tensor or an array as an array on the CPU."""
    return frames.detach().cpu().numpy() if isinstance(frames, Tensor) else frames


def _check_frame(frame: Any) -> NDArray[np.uint8]:
    """One frame of a stream, uint8 (H, W, 3) or (H, W). Raises TypeError for anything else."""
    if isinstance(frame, np.ndarray | Tensor):
        array = _convert_to_array(frame)
        if array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
            return array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2)
        described = f"{array.dtype} of shape {array.shape}"
    else:
        described = type(frame).__name__
    raise TypeError(
        f"a generator is read as a stream of frames, uint8 of shape (height, width, 3), but it yields {described}; give "
        "several videos as a list"
    )


def _resolve_path(path: str, preprocessing: Preprocessing, source: FrameSource, source_fps: float | None) -> VideoInput:
    if not isinstance(path, str):
        raise TypeError(f"a path is text, not {type(path).__name__}")
    if address := ADDRESS.match(path):
        raise ValueError(
            f"{path} is an address, and addresses ({address[0]}) are not read; save it as a file, or give its frames as a "
            "generator"
        )
    try:
        if prepared := find_prepared_video(path, preprocessing):
            return VideoInput(path, prepared[1], prepared[0])
    except VideoError as error:
        return VideoInput(path, path, source, error)
    if source_fps is not None and isinstance(source, MediaFiles):
        source = _create_media_files(preprocessing, source_fps, source.files.time_origin)
    if segment := find_segment(path, source):
        return VideoInput(path, segment[1], segment[0])
    return VideoInput(path, path, source)


def _get_time_origin(source: FrameSource) -> TimeOrigin:
    return source.files.time_origin if isinstance(source, MediaFiles) else "picture"


def _create_media_files(
    preprocessing: Preprocessing, source_fps: float | None = None, time_origin: TimeOrigin = "picture"
) -> MediaFiles:
    height, width = preprocessing.scale_height, preprocessing.scale_width
    return MediaFiles("", scale_height=height, scale_width=width, source_fps=source_fps, time_origin=time_origin)


def _resolve_frames(frames: AnyFrame, preprocessing: Preprocessing, source_fps: float | None) -> VideoInput:
    size: dict[str, Any] = {"scale_height": preprocessing.scale_height, "scale_width": preprocessing.scale_width}
    try:
        sequence = open_frames(_convert_to_array(frames), source_fps)
    except VideoError as error:
        return VideoInput("<frames>", "", _create_media_files(preprocessing), error, is_file=False)
    return VideoInput("<frames>", "", PictureFrames(sequence, **size), is_file=False)


class _TemporaryMedia(MediaFiles):
    """A video file that is removed when this source is."""

    def __init__(self, content: IO[bytes], preprocessing: Preprocessing, time_origin: TimeOrigin) -> None:
        size: dict[str, Any] = {"scale_height": preprocessing.scale_height, "scale_width": preprocessing.scale_width}
        super().__init__(tempfile.gettempdir(), **size, time_origin=time_origin)
        descriptor, self.path = tempfile.mkstemp(prefix="muybridge-video-")
        weakref.finalize(self, Path(self.path).unlink, missing_ok=True)  # also runs at exit
        with os.fdopen(descriptor, "wb") as file:
            shutil.copyfileobj(content, file)


def _resolve_content(
    content: IO[bytes], label: str, preprocessing: Preprocessing, time_origin: TimeOrigin
) -> VideoInput:
    try:
        source = _TemporaryMedia(content, preprocessing, time_origin)
    except TypeError as error:
        raise TypeError(f"{label} is opened in text mode; open it in binary mode, as open(path, 'rb')") from error
    return VideoInput(label, source.path, source, is_file=False)


def read_stream(frames: Iterator[AnyFrame]) -> Iterator[NDArray[np.uint8]]:
    """The frames of a generator or a camera, checked one by one. Raises ValueError where their shape changes."""
    shape: tuple[int, ...] | None = None
    for frame in map(_check_frame, frames):
        if shape not in (None, frame.shape):
            raise ValueError(f"the frames of a stream have the shapes {shape} and {frame.shape}, expected one for all")
        shape = frame.shape
        yield frame
