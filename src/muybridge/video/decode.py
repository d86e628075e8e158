"""Frames of video files at given time stamps: decode what a clip needs and nothing beyond its key frame (design decision 5).

What enters is a video and the ticks of a clip's frames, what leaves is a `YuvClip`. Decoding starts at the last key frame
before the first frame wanted and stops at the last one; only frames that are kept are scaled. Where time stamps cannot be
trusted frames are counted from the beginning instead. Files are opened for each call, by one thread: nothing that is open
crosses into another process.
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
from muybridge.video.containers import FrameIndex, decoded_frames, index_frames, indexed_packets, open_pictures
from muybridge.video.planes import ClipPlanes, orientation

_KEPT_INDEXES = 64
_WORTH_A_SEEK = 8  # frames; a seek also throws away what the decoder holds back

_Packets: TypeAlias = "Iterator[av.Packet[av.VideoStream]]"  # a string: only the stub is generic


class _LateError(Exception):
    """Decoding began behind the first frame wanted."""


class _DisorderedError(Exception):
    """Stamps do not increase in the order shown."""


@dataclass(frozen=True)
class VideoFacts:
    """What a file says of itself. height and width are those of the upright picture, in pixels."""

    num_frames: int
    duration_seconds: float
    frames_per_second: float
    height: int
    width: int


class VideoFiles:
    """Frames of files in a folder: a `FrameSource`. `video` is a path relative to `root`, or an absolute one.

    It may be sent to worker processes. It remembers the time stamps of the last files it saw, and forgets them on the way.
    """

    def __init__(self, root: str, *, scale_height: int, scale_width: int) -> None:
        self.root = str(Path(root).absolute())  # absolute: FFmpeg would take "http:x" for an address, not for a file
        self.scale_height = scale_height
        self.scale_width = scale_width
        self._indexes: dict[tuple[str, int, int], FrameIndex] = {}

    def frame_times(self, video: str) -> FrameTimes:
        """The time stamps of every frame; without decoding where the container stores them.

        Raises VideoError: missing, unreadable, no_video or truncated.
        """
        return self._index(video).times

    def read(self, video: str, ticks: NDArray[np.int64]) -> YuvClip:
        """The frames at `ticks` (L,) of `frame_times(video)`, in that order, repeats included, scaled and upright.

        Raises VideoError: as `frame_times`; unreadable too where decoding fails on the way, and truncated where the file
        has fewer frames than its time stamps promise.
        """
        index = self._index(video)
        wanted, places = np.unique(ticks, return_inverse=True)
        if not np.all(np.isin(wanted, index.times.ticks)):
            raise VideoError(
                "unreadable", "the file has no frame at a time stamp asked for: it changed while it was used"
            )
        planes = ClipPlanes(len(wanted), self.scale_height, self.scale_width)
        path = self._path(video)
        try:
            for place, frame in enumerate(_frames(path, index, wanted)):
                planes.put(place, frame)
        except _DisorderedError:
            for place, frame in enumerate(_frames_by_count(path, index, wanted)):
                planes.put(place, frame)
        return planes.clip(places)

    def read_in_order(self, video: str, ticks: NDArray[np.int64], num_frames: int) -> Iterator[YuvClip]:
        """The frames at `ticks` (L,), which increase, `num_frames` a clip: the file is decoded once and no more is held.

        Raises VideoError as `read`, after the clips that are whole before the fault.
        """
        index = self._index(video)
        path = self._path(video)
        frames = _frames_in_order(path, index, ticks)
        for first in range(0, len(ticks), num_frames):
            count = min(num_frames, len(ticks) - first)
            planes = ClipPlanes(count, self.scale_height, self.scale_width)
            for place, frame in enumerate(islice(frames, count)):
                planes.put(place, frame)
            yield planes.clip(np.arange(count))

    def _path(self, video: str) -> str:
        return str(Path(self.root, video))

    def _index(self, video: str) -> FrameIndex:
        path = self._path(video)
        try:
            facts = Path(path).stat()
        except OSError:
            return index_frames(path)  # which says what is wrong with it
        key = (video, facts.st_mtime_ns, facts.st_size)
        index = self._indexes.get(key)
        if index is None:
            index = index_frames(path)
            if len(self._indexes) >= _KEPT_INDEXES:
                self._indexes.pop(next(iter(self._indexes)), None)
            self._indexes[key] = index
        return index

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_indexes": {}}


def probe(path: str | Path) -> VideoFacts:
    """Length, rate and size of a file; decodes one frame, since only a frame tells its rotation.

    Raises VideoError: missing, unreadable, no_video or truncated.
    """
    absolute = str(Path(path).absolute())
    index = index_frames(absolute)
    with open_pictures(absolute) as (container, stream):
        packets = indexed_packets(container, stream, index, from_start=True)
        frame = next(decoded_frames(packets, stream), None)
        if frame is None:
            raise VideoError("unreadable", "the file is damaged: no frame can be decoded")
        height, width = (frame.width, frame.height) if orientation(frame)[0] else (frame.height, frame.width)
    seconds = index.times.duration_seconds
    return VideoFacts(len(index.times), seconds, len(index.times) / seconds, height, width)


def _frames(path: str, index: FrameIndex, wanted: NDArray[np.int64]) -> Iterator[av.VideoFrame]:
    """The frames shown at the stamps `wanted` (increasing), by the way that the file can be trusted in."""
    return (_frames_by_count if index.is_counted else _frames_by_stamp)(path, index, wanted)


def _frames_in_order(path: str, index: FrameIndex, wanted: NDArray[np.int64]) -> Iterator[av.VideoFrame]:
    """As `_frames`; where stamps turn out to be in disorder, the frames that are left are counted."""
    num_taken = 0
    try:
        for frame in _frames(path, index, wanted):
            yield frame
            num_taken += 1
    except _DisorderedError:
        yield from _frames_by_count(path, index, wanted[num_taken:])


def _frames_by_stamp(path: str, index: FrameIndex, wanted: NDArray[np.int64]) -> Iterator[av.VideoFrame]:
    """The frames at the stamps `wanted` (increasing), from the nearest key frames or else from the beginning."""
    num_taken = 0
    try:
        with open_pictures(path) as (container, stream):
            for run in runs(index, wanted):
                key = index.key_before(int(wanted[run.start]))
                packets = _packets_from(container, stream, index, key)
                for frame in _shown_frames(packets, stream, index, wanted[run.start : run.stop]):
                    yield frame
                    num_taken += 1
        return
    except _LateError:
        left = wanted[num_taken:]
    with open_pictures(path) as (container, stream):
        packets = indexed_packets(container, stream, index, from_start=True)
        try:
            yield from _shown_frames(packets, stream, index, left)
        except _LateError as error:
            seconds = index.times.seconds(int(left[0]))
            reason = f"the file is damaged: no frame up to {seconds:.2f} s can be decoded"
            raise VideoError("unreadable", reason) from error


def runs(index: FrameIndex, wanted: NDArray[np.int64]) -> list[range]:
    """Places in `wanted` (increasing) to decode in one go each: a new run starts where a seek skips enough frames."""
    starts = [0]
    for place in range(1, len(wanted)):
        key_tick = index.key_stamps[index.key_before(int(wanted[place])), 0]
        skipped = np.searchsorted(index.times.ticks, (wanted[place - 1] + 1, key_tick))
        if skipped[1] - skipped[0] >= _WORTH_A_SEEK:
            starts.append(place)
    return [range(start, stop) for start, stop in pairwise([*starts, len(wanted)])]


def _packets_from(container: InputContainer, stream: av.VideoStream, index: FrameIndex, key: int) -> _Packets:
    """Packets from key frame number `key` on, or from one before it; _LateError where the file's index leads nowhere useful."""
    if key == 0:
        return indexed_packets(container, stream, index, from_start=True)
    presented, decoded = (int(stamp) for stamp in index.key_stamps[key])
    for target in (presented, decoded):  # containers search by the one or by the other
        try:
            container.seek(target, stream=stream)
        except av.error.FFmpegError:
            continue  # the file cannot seek there
        packets = indexed_packets(container, stream, index, from_start=False)
        for packet in packets:
            # A mark as key frame is not enough: place-holders of packed streams carry it too.
            if packet.pts is not None and packet.pts in index.key_stamps[:, 0]:
                if packet.pts <= presented:
                    return chain((packet,), packets)
                break
    raise _LateError


def _shown_frames(
    packets: _Packets, stream: av.VideoStream, index: FrameIndex, wanted: NDArray[np.int64]
) -> Iterator[av.VideoFrame]:
    """The frame shown at each tick: the one with that stamp, or the one before it where none comes out of the decoder.

    The latter are pictures that the codec calls "the same again"; at the end of the file they are missing frames.
    """
    key_packet = next(packets)
    place, shown, shown_tick = 0, None, -math.inf
    for frame in decoded_frames(chain((key_packet,), packets), stream):
        if frame.pts is None or key_packet.pts is None or frame.pts <= shown_tick:
            raise _DisorderedError
        if frame.pts < key_packet.pts:
            continue  # leading pictures that refer to what lies before the key frame
        while place < len(wanted) and wanted[place] <= frame.pts:
            source = frame if wanted[place] == frame.pts else shown
            if source is None:
                raise _LateError
            yield source
            place += 1
        if place == len(wanted):
            return
        shown, shown_tick = frame, frame.pts
    raise _ends_early(index, int(np.sum(index.times.ticks <= shown_tick)))


def _frames_by_count(path: str, index: FrameIndex, wanted: NDArray[np.int64]) -> Iterator[av.VideoFrame]:
    """The frames at the stamps `wanted` (increasing): the n-th to come out of the decoder is shown at the n-th stamp."""
    numbers = [int(number) for number in np.searchsorted(index.times.ticks, wanted)]
    place, number = 0, -1
    with open_pictures(path) as (container, stream):
        packets = indexed_packets(container, stream, index, from_start=True)
        for number, frame in enumerate(decoded_frames(packets, stream)):
            if number == numbers[place]:
                yield frame
                place += 1
                if place == len(numbers):
                    return
    raise _ends_early(index, number + 1)


def _ends_early(index: FrameIndex, num_decoded: int) -> VideoError:
    return VideoError("truncated", f"the file ends after {num_decoded} of {len(index.times)} frames")
