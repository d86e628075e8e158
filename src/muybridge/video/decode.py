"""Frames of video files at given time stamps, decoding no more than a clip needs (design decision 5).

Input: a video and the ticks of a clip's frames. Output: a `YuvClip`. Decoding starts at the last key frame before the first
requested frame and stops at the last one; only frames that are kept are scaled. If time stamps cannot be trusted, frames
are counted from the start instead. Files are opened for each call, so that no open file crosses into another process.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from muybridge.records import FrameTimes, VideoError, YuvClip
from muybridge.video.containers import FrameIndex, decode_frames, demux_indexed_packets, index_frames, open_video_stream
from muybridge.video.planes import YuvClipBuilder, read_orientation

_MAX_CACHED_INDEXES = 64
_MIN_SEEK_FRAMES = 8  # skipping fewer is not worth a seek, which also flushes the decoder

_PacketIterator: TypeAlias = (
    "Iterator[av.Packet[av.VideoStream]]"  # a string, since av.Packet is generic in its stub only
)


class _SeekTooLateError(Exception):
    """Decoding began after the first requested frame."""


class _NonMonotonicStampsError(Exception):
    """Stamps do not increase in presentation order."""


@dataclass(frozen=True)
class VideoMetadata:
    """Metadata of a video file; height and width are those of the upright picture, in pixels."""

    num_frames: int
    duration_seconds: float
    frames_per_second: float
    height: int
    width: int


class VideoFiles:
    """Frames of files in a folder: a `FrameSource`. `video` is a path relative to `root`, or an absolute one.

    It can be pickled. The index of the last _MAX_CACHED_INDEXES files is cached and is not pickled.
    """

    def __init__(self, root: str, *, scale_height: int, scale_width: int) -> None:
        self.root = str(Path(root).absolute())  # absolute, since FFmpeg would open "http:x" as an address
        self.scale_height = scale_height
        self.scale_width = scale_width
        self._indexes: dict[tuple[str, int, int], FrameIndex] = {}

    def read_frame_times(self, video: str) -> FrameTimes:
        """The time stamps of every frame, read without decoding if the container stores them.

        Raises VideoError: missing, unreadable, no_video or truncated.
        """
        return self._get_index(video).times

    def read(self, video: str, ticks: NDArray[np.int64]) -> YuvClip:
        """The frames at `ticks` (L,) of `read_frame_times(video)`, in that order, repeats included, scaled and upright.

        Raises VideoError as `read_frame_times`, and also unreadable if decoding fails, or truncated if the file has fewer
        frames than time stamps.
        """
        index = self._get_index(video)
        unique_ticks, frame_indices = np.unique(ticks, return_inverse=True)
        if not np.all(np.isin(unique_ticks, index.times.ticks)):
            raise VideoError(
                "unreadable", "the file has no frame at a requested time stamp: it changed while it was in use"
            )
        planes = YuvClipBuilder(len(unique_ticks), self.scale_height, self.scale_width)
        path = self._resolve_path(video)
        try:
            for index_in_clip, frame in enumerate(_decode_at_ticks(path, index, unique_ticks)):
                planes.write_frame(index_in_clip, frame)
        except _NonMonotonicStampsError:
            for index_in_clip, frame in enumerate(_decode_by_count(path, index, unique_ticks)):
                planes.write_frame(index_in_clip, frame)
        return planes.build_clip(frame_indices)

    def read_in_order(self, video: str, ticks: NDArray[np.int64], frames_per_clip: int) -> Iterator[YuvClip]:
        """The frames at `ticks` (L,), which increase, `frames_per_clip` at a time; the file is decoded in one pass.

        Raises VideoError as `read`, after the complete clips before the error.
        """
        index = self._get_index(video)
        path = self._resolve_path(video)
        frames = _decode_in_order(path, index, ticks)
        for first in range(0, len(ticks), frames_per_clip):
            count = min(frames_per_clip, len(ticks) - first)
            planes = YuvClipBuilder(count, self.scale_height, self.scale_width)
            for index_in_clip, frame in enumerate(islice(frames, count)):
                planes.write_frame(index_in_clip, frame)
            yield planes.build_clip(np.arange(count))

    def _resolve_path(self, video: str) -> str:
        return str(Path(self.root, video))

    def _get_index(self, video: str) -> FrameIndex:
        path = self._resolve_path(video)
        try:
            file_stat = Path(path).stat()
        except OSError:
            return index_frames(path)  # raises VideoError with the reason
        key = (video, file_stat.st_mtime_ns, file_stat.st_size)
        index = self._indexes.get(key)
        if index is None:
            index = index_frames(path)
            if len(self._indexes) >= _MAX_CACHED_INDEXES:
                self._indexes.pop(next(iter(self._indexes)), None)
            self._indexes[key] = index
        return index

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_indexes": {}}


def probe(path: str | Path) -> VideoMetadata:
    """Length, rate and size of a file; decodes one frame, since only frames have the rotation.

    Raises VideoError: missing, unreadable, no_video or truncated.
    """
    absolute = str(Path(path).absolute())
    index = index_frames(absolute)
    with open_video_stream(absolute) as (container, stream):
        packets = demux_indexed_packets(container, stream, index, from_start=True)
        frame = next(decode_frames(packets, stream), None)
        if frame is None:
            raise VideoError("unreadable", "the file is damaged: no frame can be decoded")
        height, width = (frame.width, frame.height) if read_orientation(frame)[0] else (frame.height, frame.width)
    seconds = index.times.duration_seconds
    return VideoMetadata(len(index.times), seconds, len(index.times) / seconds, height, width)


def _decode_at_ticks(path: str, index: FrameIndex, ticks: NDArray[np.int64]) -> Iterator[av.VideoFrame]:
    """The frames shown at `ticks` (increasing), found by stamps or by counting, whichever the index trusts."""
    return (_decode_by_count if index.uses_counting else _decode_by_stamp)(path, index, ticks)


def _decode_in_order(path: str, index: FrameIndex, ticks: NDArray[np.int64]) -> Iterator[av.VideoFrame]:
    """As `_decode_at_ticks`; if stamps turn out not to increase, the remaining frames are found by counting."""
    num_decoded = 0
    try:
        for frame in _decode_at_ticks(path, index, ticks):
            yield frame
            num_decoded += 1
    except _NonMonotonicStampsError:
        yield from _decode_by_count(path, index, ticks[num_decoded:])


def _decode_by_stamp(path: str, index: FrameIndex, ticks: NDArray[np.int64]) -> Iterator[av.VideoFrame]:
    """The frames at `ticks` (increasing), decoded from the nearest key frames, or from the start if seeking fails."""
    num_decoded = 0
    try:
        with open_video_stream(path) as (container, stream):
            for run in split_at_seeks(index, ticks):
                key_index = index.find_key_frame(int(ticks[run.start]))
                packets = _seek_and_demux(container, stream, index, key_index)
                for frame in _decode_shown_frames(packets, stream, index, ticks[run.start : run.stop]):
                    yield frame
                    num_decoded += 1
        return
    except _SeekTooLateError:
        remaining_ticks = ticks[num_decoded:]
    with open_video_stream(path) as (container, stream):
        packets = demux_indexed_packets(container, stream, index, from_start=True)
        try:
            yield from _decode_shown_frames(packets, stream, index, remaining_ticks)
        except _SeekTooLateError as error:
            seconds = index.times.to_seconds(int(remaining_ticks[0]))
            reason = f"the file is damaged: no frame up to {seconds:.2f} s can be decoded"
            raise VideoError("unreadable", reason) from error


def split_at_seeks(index: FrameIndex, ticks: NDArray[np.int64]) -> list[range]:
    """Runs of `ticks` (increasing) to decode without a seek inside: a new run starts if a seek skips enough frames."""
    starts = [0]
    for tick_index in range(1, len(ticks)):
        key_tick = index.key_frame_stamps[index.find_key_frame(int(ticks[tick_index])), 0]
        skipped = np.searchsorted(index.times.ticks, (ticks[tick_index - 1] + 1, key_tick))
        if skipped[1] - skipped[0] >= _MIN_SEEK_FRAMES:
            starts.append(tick_index)
    return [range(start, stop) for start, stop in pairwise([*starts, len(ticks)])]


def _seek_and_demux(
    container: InputContainer, stream: av.VideoStream, index: FrameIndex, key_index: int
) -> _PacketIterator:
    """Packets from key frame number `key_index` on, or from one before it; _SeekTooLateError if no seek leads there."""
    if key_index == 0:
        return demux_indexed_packets(container, stream, index, from_start=True)
    presented, decoded = (int(stamp) for stamp in index.key_frame_stamps[key_index])
    for target in (presented, decoded):  # containers seek by one or the other
        try:
            container.seek(target, stream=stream)
        except av.error.FFmpegError:
            continue  # the file is not seekable there
        packets = demux_indexed_packets(container, stream, index, from_start=False)
        for packet in packets:
            # The key-frame flag is not enough: placeholders of packed streams have it too.
            if packet.pts is not None and packet.pts in index.key_frame_stamps[:, 0]:
                if packet.pts <= presented:
                    return chain((packet,), packets)
                break
    raise _SeekTooLateError


def _decode_shown_frames(
    packets: _PacketIterator, stream: av.VideoStream, index: FrameIndex, ticks: NDArray[np.int64]
) -> Iterator[av.VideoFrame]:
    """The frame shown at each tick: the one with that stamp, or the one before it if the decoder returns none.

    Codecs repeat a picture in that way; at the end of the file it means missing frames.
    """
    key_packet = next(packets)
    tick_index, shown, shown_tick = 0, None, -math.inf
    for frame in decode_frames(chain((key_packet,), packets), stream):
        if frame.pts is None or key_packet.pts is None or frame.pts <= shown_tick:
            raise _NonMonotonicStampsError
        if frame.pts < key_packet.pts:
            continue  # leading pictures, which refer to frames before the key frame
        while tick_index < len(ticks) and ticks[tick_index] <= frame.pts:
            source = frame if ticks[tick_index] == frame.pts else shown
            if source is None:
                raise _SeekTooLateError
            yield source
            tick_index += 1
        if tick_index == len(ticks):
            return
        shown, shown_tick = frame, frame.pts
    raise _make_truncated_error(index, int(np.sum(index.times.ticks <= shown_tick)))


def _decode_by_count(path: str, index: FrameIndex, ticks: NDArray[np.int64]) -> Iterator[av.VideoFrame]:
    """The frames at `ticks` (increasing): the n-th decoded frame is shown at the n-th stamp."""
    frame_indices = np.searchsorted(index.times.ticks, ticks).tolist()
    num_yielded, frame_index = 0, -1
    with open_video_stream(path) as (container, stream):
        packets = demux_indexed_packets(container, stream, index, from_start=True)
        for frame_index, frame in enumerate(decode_frames(packets, stream)):
            if frame_index == frame_indices[num_yielded]:
                yield frame
                num_yielded += 1
                if num_yielded == len(frame_indices):
                    return
    raise _make_truncated_error(index, frame_index + 1)


def _make_truncated_error(index: FrameIndex, num_decoded: int) -> VideoError:
    return VideoError("truncated", f"the file ends after {num_decoded} of {len(index.times)} frames")
