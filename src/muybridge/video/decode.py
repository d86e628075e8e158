"""Frames of video files at given time stamps, decoding no more than a clip needs (design decision 5).

Input: a video and the ticks of a clip's frames. Output: a `YuvClip`. Decoding starts at the last key frame before the first
requested frame and stops at the last one; only frames that are kept are scaled. If time stamps cannot be trusted, frames
are counted from the start instead. Files are opened for each call, so that no open file crosses into another process.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from muybridge.records import FrameTimes, TimeOrigin, VideoError, YuvClip
from muybridge.text import format_count, sanitize_text
from muybridge.video.containers import decode_frames, open_video_stream
from muybridge.video.frame_index import FrameIndex, demux_indexed_packets, index_frames
from muybridge.video.index_cache import LARGE_BYTES, read_stored_index, write_stored_index
from muybridge.video.planes import YuvClipBuilder, read_orientation

_logger = logging.getLogger(__name__)

_MAX_CACHED_INDEXES = 64
_MIN_SEEK_FRAMES = 8  # skipping fewer is not worth a seek, which also flushes the decoder

# Of the frames of a clip or of a block of a video. A clip fails by one damaged frame; a long video is used with a note.
_MAX_DAMAGED_SHARE = 1 / 64

_FileKey: TypeAlias = tuple[int, int]  # time of the last change in nanoseconds, and size
_PacketIterator: TypeAlias = (
    "Iterator[av.Packet[av.VideoStream]]"  # a string, since av.Packet is generic in its stub only
)


class _SeekTooLateError(Exception):
    """Decoding began after the first requested frame, or where it could not begin."""


class _NonMonotonicStampsError(Exception):
    """Stamps do not increase in presentation order."""


class _DecodedFrame(NamedTuple):
    frame: av.VideoFrame
    is_damaged: bool  # marked by the decoder as patched, or referring to such a frame


@dataclass(frozen=True)
class VideoMetadata:
    """Metadata of a video; height and width are those of the upright picture, in pixels. Without frames only flow is stored."""

    num_frames: int
    duration_seconds: float
    frames_per_second: float
    height: int
    width: int
    has_frames: bool = True


class VideoFiles:
    """Frames of files in a folder: a `FrameSource`. `video` is a path relative to `root`, or an absolute one.

    With `time_origin` container seconds count from where the sound begins if that is earlier, and there is no note about it. It
    can be pickled. The index of the last _MAX_CACHED_INDEXES files is cached and is not pickled; those of large files are also
    stored in `index_folder`, if there is one.
    """

    def __init__(
        self,
        root: str,
        *,
        scale_height: int,
        scale_width: int,
        time_origin: TimeOrigin = "picture",
        index_folder: Path | None = None,
    ) -> None:
        self.root = str(Path(root).absolute())  # absolute, since FFmpeg would open "http:x" as an address
        self.scale_height = scale_height
        self.scale_width = scale_width
        self.time_origin = time_origin
        self.index_folder = index_folder
        self._indexes: dict[str, tuple[_FileKey, FrameIndex]] = {}

    def read_frame_times(self, video: str) -> FrameTimes:
        """The time stamps of every frame, read without decoding if the container stores them.

        Raises VideoError: missing, unreadable, no_video or truncated.
        """
        index = self._get_index(video)
        if self.time_origin == "picture":
            return index.times
        return replace(index.times, lead_seconds=index.sound_lead_seconds)

    def read(self, video: str, ticks: NDArray[np.int64]) -> YuvClip:
        """The frames at `ticks` (L,) of `read_frame_times(video)`, in that order, repeats included, scaled and upright.

        Raises VideoError as `read_frame_times`, and also unreadable if decoding fails, if too many of the frames are damaged
        or if the file changes meanwhile, and truncated if the file has fewer frames than time stamps.
        """
        index = self._get_index(video)
        unique_ticks, frame_indices = np.unique(ticks, return_inverse=True)
        if not index.times.has_frames_at(unique_ticks):
            raise VideoError(
                "unreadable", "the file has no frame at a requested time stamp: it changed while it was in use"
            )
        path = self._resolve_path(video)
        try:
            planes = self._fill_planes(video, index, unique_ticks, _decode_at_ticks(path, index, unique_ticks))
        except _NonMonotonicStampsError:
            planes = self._fill_planes(video, index, unique_ticks, _decode_by_count(path, index, unique_ticks))
        self._check_unchanged(video)
        return planes.build_clip(frame_indices)

    def read_in_order(self, video: str, ticks: NDArray[np.int64], frames_per_clip: int) -> Iterator[YuvClip]:
        """The frames at `ticks` (L,), which increase, `frames_per_clip` at a time; the file is decoded in one pass.

        Raises VideoError as `read`, after the complete clips before the error.
        """
        index = self._get_index(video)
        frames = _decode_in_order(self._resolve_path(video), index, ticks)
        for first in range(0, len(ticks), frames_per_clip):
            clip_ticks = ticks[first : first + frames_per_clip]
            planes = self._fill_planes(video, index, clip_ticks, islice(frames, len(clip_ticks)))
            self._check_unchanged(video)
            yield planes.build_clip(np.arange(len(clip_ticks)))

    def _fill_planes(
        self, video: str, index: FrameIndex, ticks: NDArray[np.int64], frames: Iterator[_DecodedFrame]
    ) -> YuvClipBuilder:
        """Scale the frames at `ticks`. Raises VideoError if more than a few of them are damaged."""
        planes = YuvClipBuilder(len(ticks), self.scale_height, self.scale_width)
        damaged_ticks = []
        for (frame_index, tick), decoded in zip(enumerate(ticks.tolist()), frames, strict=True):
            planes.write_frame(frame_index, decoded.frame)
            if decoded.is_damaged:
                damaged_ticks.append(tick)
        if damaged_ticks:
            seconds = index.times.to_seconds(damaged_ticks[0])
            reason = (
                f"{len(damaged_ticks)} of {format_count(len(ticks), 'frame')} are damaged, the first at {seconds:.2f} s"
            )
            if len(damaged_ticks) > _MAX_DAMAGED_SHARE * len(ticks):
                raise VideoError("unreadable", f"the file is damaged: {reason}")
            _logger.warning("note: %s: %s", sanitize_text(video), reason)
        return planes

    def _resolve_path(self, video: str) -> str:
        return str(Path(self.root, video))

    def _get_index(self, video: str) -> FrameIndex:
        path = self._resolve_path(video)
        key = _read_file_key(path)
        if key is None:
            return index_frames(path)  # raises VideoError with the reason
        entry = self._indexes.get(video)
        if entry is not None and entry[0] == key:
            return entry[1]
        index = self._index_file(path, key)
        if _read_file_key(path) != key:
            raise _make_change_error()
        for note in _list_notes(index, self.time_origin):
            _log_once(path, f"note: {sanitize_text(video)}: {note}")
        self._indexes.pop(video, None)
        if len(self._indexes) >= _MAX_CACHED_INDEXES:
            self._indexes.pop(next(iter(self._indexes)), None)
        self._indexes[video] = (key, index)
        return index

    def _index_file(self, path: str, key: _FileKey) -> FrameIndex:
        if self.index_folder is None or key[1] < LARGE_BYTES:
            return index_frames(path)
        index = read_stored_index(self.index_folder, path, key)
        if index is None:
            index = index_frames(path)
            write_stored_index(self.index_folder, path, key, index)
        return index

    def _check_unchanged(self, video: str) -> None:
        entry = self._indexes.get(video)
        if entry is not None and _read_file_key(self._resolve_path(video)) != entry[0]:
            raise _make_change_error()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_indexes": {}}


def probe(path: str | Path) -> VideoMetadata:
    """Length, rate and size of a file; decodes one frame, since only frames have the rotation.

    Raises VideoError: missing, unreadable, no_video or truncated.
    """
    absolute = str(Path(path).absolute())
    index = index_frames(absolute)
    with open_video_stream(absolute, index.stream_index) as (container, stream):
        packets = demux_indexed_packets(container, stream, index, from_start=True)
        frame = next(decode_frames(packets, stream), None)
        if frame is None:
            raise VideoError("unreadable", "the file is damaged: no frame can be decoded")
        height, width = (frame.width, frame.height) if read_orientation(frame)[0] else (frame.height, frame.width)
    seconds = index.times.duration_seconds
    return VideoMetadata(len(index.times), seconds, len(index.times) / seconds, height, width)


def _read_file_key(path: str) -> _FileKey | None:
    """What changes when a file changes, or None if there is no file."""
    try:
        file_stat = Path(path).stat()
    except OSError:
        return None
    return (file_stat.st_mtime_ns, file_stat.st_size)


@lru_cache(maxsize=4096)
def _log_once(path: str, note: str) -> None:
    """Log a note on the file at `path` the first time that this process has it."""
    _logger.warning("%s", note)


def _list_notes(index: FrameIndex, time_origin: TimeOrigin) -> list[str]:
    if not index.sound_lead_seconds or time_origin == "container":
        return list(index.notes)
    lead = f"its sound begins {index.sound_lead_seconds:.2f} s before its first picture, from which seconds are counted"
    return [*index.notes, f"{lead}; for times of a player add --time-origin container"]


def _make_change_error() -> VideoError:
    return VideoError("unreadable", "the file changed while it was read")


def _decode_at_ticks(path: str, index: FrameIndex, ticks: NDArray[np.int64]) -> Iterator[_DecodedFrame]:
    """The frames shown at `ticks` (increasing), found by stamps or by counting, whichever the index trusts."""
    if index.uses_counting:
        return _decode_by_count(path, index, ticks)
    return _decode_by_stamp(path, index, index.stamps[np.searchsorted(index.times.ticks, ticks)])


def _decode_in_order(path: str, index: FrameIndex, ticks: NDArray[np.int64]) -> Iterator[_DecodedFrame]:
    """As `_decode_at_ticks`. Frames before stamps that do not increase were the wrong ones, and may be in use: a VideoError."""
    try:
        yield from _decode_at_ticks(path, index, ticks)
    except _NonMonotonicStampsError as error:
        raise VideoError("unreadable", "its time stamps are not those at which its frames are shown") from error


def _decode_by_stamp(path: str, index: FrameIndex, stamps: NDArray[np.int64]) -> Iterator[_DecodedFrame]:
    """The frames at `stamps` (increasing), decoded from the nearest key frames.

    They are decoded from the start if seeking fails, or if decoding after a seek does: then the key frame was none.
    """
    num_decoded = 0
    try:
        with open_video_stream(path, index.stream_index) as (container, stream):
            for run in split_at_seeks(index, stamps):
                key_index = index.find_key_frame(int(stamps[run.start]))
                packets = _seek_and_demux(container, stream, index, key_index)
                frames = _decode_shown_frames(packets, stream, index, stamps[run.start : run.stop])
                for frame in frames if key_index == 0 else _check_frames_after_seek(frames):
                    yield frame
                    num_decoded += 1
        return
    except _SeekTooLateError:
        remaining_stamps = stamps[num_decoded:]
    with open_video_stream(path, index.stream_index) as (container, stream):
        packets = demux_indexed_packets(container, stream, index, from_start=True)
        try:
            yield from _decode_shown_frames(packets, stream, index, remaining_stamps)
        except _SeekTooLateError as error:
            seconds = float((int(remaining_stamps[0]) - int(index.stamps[0])) * index.times.tick_seconds)
            reason = f"the file is damaged: no frame up to {seconds:.2f} s can be decoded"
            raise VideoError("unreadable", reason) from error


def _check_frames_after_seek(frames: Iterator[_DecodedFrame]) -> Iterator[_DecodedFrame]:
    """Raise _SeekTooLateError where frames decoded after a seek fail or are damaged: the seek may be the reason."""
    try:
        for frame in frames:
            if frame.is_damaged:
                raise _SeekTooLateError
            yield frame
    except VideoError as error:
        raise _SeekTooLateError from error


def split_at_seeks(index: FrameIndex, stamps: NDArray[np.int64]) -> list[range]:
    """Runs of `stamps` (increasing) to decode without a seek inside: a new run starts if a seek skips enough frames."""
    starts = [0]
    for number in range(1, len(stamps)):
        key_stamp = index.key_frame_stamps[index.find_key_frame(int(stamps[number])), 0]
        skipped = np.searchsorted(index.stamps, (stamps[number - 1] + 1, key_stamp))
        if skipped[1] - skipped[0] >= _MIN_SEEK_FRAMES:
            starts.append(number)
    return [range(start, stop) for start, stop in pairwise([*starts, len(stamps)])]


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
            # The key-frame flag is not enough: placeholders of packed streams and periodic refreshes have it too.
            if packet.pts is None:
                continue
            number = int(np.searchsorted(index.key_frame_stamps[:, 0], packet.pts))
            if number < len(index.key_frame_stamps) and index.key_frame_stamps[number, 0] == packet.pts:
                if number <= key_index:
                    return chain((_prepend_header(packet, index.key_frame_headers[number]),), packets)
                break
    raise _SeekTooLateError


def _prepend_header(packet: av.Packet[av.VideoStream], header: bytes) -> av.Packet[av.VideoStream]:
    """The packet behind the parameter sets that were in force before it in the file."""
    if not header:
        return packet
    complete: av.Packet[Any] = av.Packet(header + bytes(packet))
    complete.stream = packet.stream
    complete.pts, complete.dts, complete.time_base = packet.pts, packet.dts, packet.time_base
    complete.duration, complete.is_keyframe = packet.duration, packet.is_keyframe
    return complete


def _decode_shown_frames(
    packets: _PacketIterator, stream: av.VideoStream, index: FrameIndex, stamps: NDArray[np.int64]
) -> Iterator[_DecodedFrame]:
    """The frame shown at each stamp: the one with that stamp, or the one before it if the decoder returns none.

    Codecs repeat a picture in that way; at the end of the file it means missing frames.
    """
    key_packet = next(packets)
    number, shown, shown_stamp = 0, None, -math.inf
    for decoded in _mark_damage(decode_frames(chain((key_packet,), packets), stream)):
        stamp = decoded.frame.pts
        if stamp is None or key_packet.pts is None or stamp <= shown_stamp:
            raise _NonMonotonicStampsError
        if stamp < key_packet.pts:
            continue  # leading pictures, which refer to frames before the key frame
        while number < len(stamps) and stamps[number] <= stamp:
            source = decoded if stamps[number] == stamp else shown
            if source is None:
                raise _SeekTooLateError
            yield source
            number += 1
        if number == len(stamps):
            return
        shown, shown_stamp = decoded, stamp
    raise _make_truncated_error(index, int(np.sum(index.stamps <= shown_stamp)))


def _decode_by_count(path: str, index: FrameIndex, ticks: NDArray[np.int64]) -> Iterator[_DecodedFrame]:
    """The frames at `ticks` (increasing): the n-th decoded frame is shown at the n-th stamp."""
    frame_indices = np.searchsorted(index.times.ticks, ticks).tolist()
    num_yielded, frame_index = 0, -1
    with open_video_stream(path, index.stream_index) as (container, stream):
        packets = demux_indexed_packets(container, stream, index, from_start=True)
        for frame_index, decoded in enumerate(_mark_damage(decode_frames(packets, stream))):
            if frame_index == frame_indices[num_yielded]:
                yield decoded
                num_yielded += 1
                if num_yielded == len(frame_indices):
                    return
    raise _make_truncated_error(index, frame_index + 1)


def _mark_damage(frames: Iterator[av.VideoFrame]) -> Iterator[_DecodedFrame]:
    """Frames are damaged from one that the decoder marks until the next key frame, since they refer to it."""
    is_damaged = False
    for frame in frames:
        is_damaged = frame.is_corrupt or (is_damaged and not frame.key_frame)
        yield _DecodedFrame(frame, is_damaged)


def _make_truncated_error(index: FrameIndex, num_decoded: int) -> VideoError:
    return VideoError("truncated", f"the file ends after {num_decoded} of {format_count(len(index.times), 'frame')}")
