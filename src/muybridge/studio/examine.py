"""What a video is, when its frames are shown, and single frames as JPEG. These functions run in children (`child_pool`).

Input: an absolute path. Output: plain records. The index of a video's frames is read once for each child and kept,
that of a large file once for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from muybridge.records import VideoError, YuvClip
from muybridge.studio.jpeg import encode_jpeg
from muybridge.studio.video_records import RenderedFrame, VideoProperties
from muybridge.text import format_count
from muybridge.video.containers import decode_frames, demux_packets, open_video_stream
from muybridge.video.index_cache import get_index_folder
from muybridge.video.media import MediaFiles, probe_media
from muybridge.video.pictures import is_stored_frames
from muybridge.video.planes import read_orientation

_BLOCK_FRAMES = 8  # decoded at once
_MAX_BLOCK_PIXELS = 1 << 20  # of a frame: 13 MB a block
_MP4_DEMUXER = "mov,mp4,m4a,3gp,3g2,mj2"
# What Chromium and Firefox play by themselves: codec -> pixel formats, by the kind of container.
_8_BIT = ("yuv420p",)
_PLAYABLE_IN_MP4 = {"h264": ("yuv420p", "yuvj420p"), "vp9": _8_BIT, "av1": _8_BIT, "libdav1d": _8_BIT}
_PLAYABLE_IN_WEBM = dict.fromkeys(("vp8", "vp9", "libvpx", "libvpx-vp9", "av1", "libdav1d"), _8_BIT)


def examine_video(path: str) -> VideoProperties:
    """The properties of a video. Raises VideoError where it cannot be used."""
    times = _open_files().read_frame_times(path)
    stream = _inspect_stream(path, _read_change_time(path))
    return VideoProperties(
        len(times),
        times.duration_seconds,
        len(times) / times.duration_seconds,
        stream.width,
        stream.height,
        stream.codec,
        stream.is_playable,
        times.lead_seconds,
    )


def read_frame_seconds(path: str) -> tuple[NDArray[np.float64], float]:
    """The time of each frame in seconds from the first one, float64 (N,), and the end of the last."""
    times = _open_files().read_frame_times(path)
    return (times.ticks - times.ticks[0]).astype(np.float64) * float(times.tick_seconds), times.duration_seconds


def render_frame(path: str, index: int | None, seconds: float | None, max_width: int) -> RenderedFrame:
    """Frame number `index`, or the one shown at `seconds`; at most `max_width` pixels wide.

    Raises ValueError for an index that the video does not have.
    """
    frame_seconds, _ = read_frame_seconds(path)
    if index is None:
        # Half a microsecond: times in requests are rounded to microseconds.
        index = max(0, int(np.searchsorted(frame_seconds, (seconds or 0.0) + 5e-7, side="right")) - 1)
    if not 0 <= index < len(frame_seconds):
        raise ValueError(
            f"there is no frame {index}; the video has {format_count(len(frame_seconds), 'frame')}, counted from 0"
        )
    clip, position = _read_frame(path, index, max_width)
    return RenderedFrame(encode_jpeg(clip, index=position), index, float(frame_seconds[index]))


def _read_frame(path: str, index: int, max_width: int) -> tuple[YuvClip, int]:
    """A clip that holds a frame, and which of its frames it is. Frames near by are decoded with it: steps are quick then."""
    size = _choose_size(path, max_width)
    if not is_stored_frames(Path(path)) and size[0] * size[1] <= _MAX_BLOCK_PIXELS:
        try:
            number, position = divmod(index, _BLOCK_FRAMES)
            return _read_block(path, _read_change_time(path), number * _BLOCK_FRAMES, size), position
        except VideoError:
            pass  # one near by is damaged: this one alone
    return _read_frames(path, slice(index, index + 1), size), 0


@lru_cache(maxsize=2)
def _read_block(path: str, change_time: int, first: int, size: tuple[int, int]) -> YuvClip:
    return _read_frames(path, slice(first, first + _BLOCK_FRAMES), size)


def _read_frames(path: str, indices: slice, size: tuple[int, int]) -> YuvClip:
    files = _open_files()
    files.files.scale_height, files.files.scale_width = size
    return files.read(path, files.read_frame_times(path).ticks[indices])


@cache
def _open_files() -> MediaFiles:
    return MediaFiles("/", scale_height=2, scale_width=2, time_origin="container", index_folder=get_index_folder())


@dataclass(frozen=True)
class _StreamProperties:
    """What the first frame and the container say; height and width are those of the upright picture."""

    height: int
    width: int
    codec: str
    is_playable: bool


def _read_change_time(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError as error:
        raise VideoError("missing", "the file does not exist") from error


def _choose_size(path: str, max_width: int) -> tuple[int, int]:
    stream = _inspect_stream(path, _read_change_time(path))
    scale = min(1.0, max_width / stream.width)
    return max(2, round(stream.height * scale)), max(2, round(stream.width * scale))


@lru_cache(maxsize=1000)
def _inspect_stream(path: str, change_time: int) -> _StreamProperties:
    """Decodes one frame. Raises VideoError where none can be decoded."""
    if is_stored_frames(Path(path)):
        metadata = probe_media(path)
        return _StreamProperties(metadata.height, metadata.width, "pictures", is_playable=False)
    with open_video_stream(path) as (container, stream):
        frame = next(decode_frames(demux_packets(container, stream), stream), None)
        if frame is None:
            raise VideoError("unreadable", "the file is damaged: no frame can be decoded")
        height, width = (frame.width, frame.height) if read_orientation(frame)[0] else (frame.height, frame.width)
        codec, pixel_format = stream.codec_context.name, stream.codec_context.pix_fmt
        playable: Mapping[str, tuple[str, ...]] = {}
        if container.format.name == _MP4_DEMUXER:
            playable = _PLAYABLE_IN_MP4
        elif "webm" in container.format.name and path.lower().endswith(".webm"):
            playable = _PLAYABLE_IN_WEBM
        return _StreamProperties(height, width, codec, pixel_format in playable.get(codec, ()))
