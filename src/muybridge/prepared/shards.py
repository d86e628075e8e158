"""Frames of prepared videos at random: a `FrameSource` over shards in a folder or at any fsspec address (design decision 6).

What enters is where a stored video lies and the ticks of a clip, what leaves is a `YuvClip`. Only the groups of pictures
that a clip touches are read, checked against their checksums and decoded; nothing is scaled or converted. The decoders stay
open from clip to clip, since opening one costs as much as decoding several frames, but never cross into another process.
"""

from __future__ import annotations

import hashlib
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import fsspec
import numpy as np
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from muybridge.datasets.manifest import Member
from muybridge.files.cache import cache_folder
from muybridge.prepared.mp4 import StoredIndex, head_length, read_head
from muybridge.prepared.object_store import read_bytes
from muybridge.records import ColourMatrix, FrameTimes, VideoError, YuvClip
from muybridge.video.planes import frame_colours

_FIRST_BYTES = 8192  # holds the head of a video of about half a minute; a longer head is read once more
_KEPT_INDEXES = 16
_KEPT_OPEN = 32


def shard_name(number: int) -> str:
    """The path of a shard below its prepared folder."""
    return f"shards/{number:06d}.tar"


def is_remote(address: str) -> bool:
    """Whether an address is one for fsspec, such as s3://bucket/kinetics, and not a path."""
    return "://" in address


class ShardFiles:
    """Ranges of bytes of the files below a folder or an fsspec address.

    What comes from an address is kept in files with holes, at the same places as over there. Whether a range is there is for
    the reader to see by its checksum: so processes share the copy without a word to each other.
    """

    def __init__(self, root: str) -> None:
        self.root = root if is_remote(root) else str(Path(root).absolute())
        self._open: dict[str, _OpenFile] = {}  # by path; read by place only, so sharing them with a fork does no harm
        self._files: Any = None  # fsspec's file system; opened where it is used, since it may own threads and sockets

    def read(self, name: str, start: int, length: int) -> bytes:
        """`length` bytes from `start`, fewer at the end of the file; from the local copy where there is one.

        Raises VideoError("missing").
        """
        if not is_remote(self.root):
            return self._pread(f"{self.root}/{name}", start, length, name)
        copy = self._copy(name)
        return self._pread(str(copy), start, length, name) if copy.exists() else b""

    def fetch(self, name: str, start: int, length: int) -> bytes:
        """The same past the local copy, which is put right. Raises UnreachableStore where the address does not answer."""
        if not is_remote(self.root):
            return self.read(name, start, length)
        if self._files is None:
            self._files = fsspec.core.url_to_fs(self.root)[0]
        try:
            content = read_bytes(self._files, f"{self.root.rstrip('/')}/{name}", start, start + length)
        except FileNotFoundError as error:
            raise VideoError("missing", f"the shard {name} does not exist at {self.root}") from error
        copy = self._copy(name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.pwrite(descriptor, content, start)
        finally:
            os.close(descriptor)
        return content

    def _pread(self, path: str, start: int, length: int, name: str) -> bytes:
        if path not in self._open:
            if len(self._open) >= _KEPT_OPEN:
                self._open.pop(next(iter(self._open)))
            try:
                self._open[path] = _OpenFile(path)
            except FileNotFoundError as error:
                raise VideoError("missing", f"the shard {name} does not exist") from error
        return os.pread(self._open[path].descriptor, length, start)

    def _copy(self, name: str) -> Path:
        return cache_folder() / hashlib.sha256(self.root.encode()).hexdigest()[:16] / name

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": {}, "_files": None}


class _OpenFile:
    """A file open for `os.pread` for as long as this lives."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):  # not where opening failed
            os.close(self.descriptor)


class ShardFrames:
    """Frames of the videos in shards: a `FrameSource`. `video` is a `Member` as text.

    It may be sent to worker processes; its size does not depend on how many videos there are.
    """

    def __init__(self, root: str, *, scale_height: int, scale_width: int) -> None:
        self.scale_height = scale_height
        self.scale_width = scale_width
        self._files = ShardFiles(root)
        self._indexes: dict[str, StoredIndex] = {}
        self._decoders: dict[bytes, av.VideoCodecContext] = {}
        self._process = os.getpid()

    def frame_times(self, video: str) -> FrameTimes:
        """The time stamps of every frame, from 0. Raises VideoError: missing, truncated or unreadable."""
        return self._index(video).times

    def read(self, video: str, ticks: NDArray[np.int64]) -> YuvClip:
        """The frames at `ticks` (L,) of `frame_times(video)`, in that order, repeats included.

        Raises VideoError: missing, truncated or unreadable, also where the bytes are not those that were stored.
        """
        index = self._index(video)
        numbers = np.searchsorted(index.times.ticks, ticks)
        if numbers.max() == len(index.times) or (index.times.ticks[numbers] != ticks).any():
            raise VideoError("unreadable", "the video has no frame at a time stamp asked for")
        # Plain integers from here on: numpy's calls cost more than what they would do to sixteen of them.
        wanted = numbers.tolist()
        places = {number: place for place, number in enumerate(sorted(set(wanted)))}
        frames = _Frames(len(places), self.scale_height, self.scale_width)
        member = Member.parse(video)
        for run in index.runs(list(places)):
            self._decode(member, index, run, (places, frames))
        return frames.clip([places[number] for number in wanted])

    def _index(self, video: str) -> StoredIndex:
        if video not in self._indexes:
            if len(self._indexes) >= _KEPT_INDEXES:
                self._indexes.pop(next(iter(self._indexes)))
            self._indexes[video] = self._read_index(Member.parse(video))
        return self._indexes[video]

    def _read_index(self, member: Member) -> StoredIndex:
        name = shard_name(member.shard)
        for read in (self._files.read, self._files.fetch):
            head = read(name, member.offset, min(_FIRST_BYTES, member.num_bytes))
            length = head_length(head)
            if length is not None and length > len(head):
                head = read(name, member.offset, min(length, member.num_bytes))
            if length is not None and hashlib.sha256(head[:length]).hexdigest() == member.sha256:
                return read_head(head[:length])
        raise _damaged(name, member.offset, len(head) >= min(length or _FIRST_BYTES, member.num_bytes))

    def _read_groups(self, member: Member, index: StoredIndex, groups: range) -> tuple[bytes, int]:
        """The bytes of some consecutive groups, verified, and where in the stored file they begin."""
        name = shard_name(member.shard)
        bounds = [index.places[index.group_start(group)] for group in (*groups, groups.stop)]
        start, length = bounds[0], bounds[-1] - bounds[0]
        for read in (self._files.read, self._files.fetch):
            content = read(name, member.offset + start, length)
            pieces = (content[begin - start : end - start] for begin, end in pairwise(bounds))
            if all(index.is_group(group, piece) for group, piece in zip(groups, pieces, strict=True)):
                return content, start
        raise _damaged(name, member.offset + start, len(content) == length)

    def _decode(
        self, member: Member, index: StoredIndex, run: tuple[range, int], wanted: tuple[dict[int, int], _Frames]
    ) -> None:
        """Decode consecutive groups up to frame `last` and put the frames that have a place."""
        (groups, last), (places, frames) = run, wanted
        content, start = self._read_groups(member, index, groups)
        decoder = self._decoder(index.settings)
        first = index.group_start(groups.start)
        for number in range(first, last + 1):
            packet = av.Packet(content[index.places[number] - start : index.places[number + 1] - start])
            packet.pts = number
            try:
                decoded = decoder.decode(packet)
            except av.error.FFmpegError as error:
                raise VideoError("unreadable", f"frame {number} cannot be decoded ({error.strerror})") from error
            if len(decoded) != 1 or decoded[0].pts != number:
                raise VideoError("unreadable", f"frame {number} does not come out of the decoder")
            if number in places:
                frames.put(places[number], decoded[0])

    def _decoder(self, settings: bytes) -> av.VideoCodecContext:
        if self._process != os.getpid():  # this process was forked: what is open belongs to its parent
            self._decoders, self._process = {}, os.getpid()
        decoder = self._decoders.get(settings)
        if decoder is None:
            created = av.CodecContext.create("h264", "r")
            assert isinstance(created, av.VideoCodecContext)
            created.extradata, created.thread_count = settings, 1  # many workers decode side by side
            decoder = self._decoders[settings] = created
        else:
            decoder.flush_buffers()
        return decoder

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_indexes": {}, "_decoders": {}}


class FlowShards(ShardFrames):
    """Stored flow of the videos in shards, as codes (`flow_store.py`): x above y, so twice as high as the frames."""


class _Frames:
    """The planes of one clip while it is decoded, without the lines that only made the sizes even."""

    def __init__(self, num_frames: int, height: int, width: int) -> None:
        self._luma_thw = np.empty((num_frames, height, width), np.uint8)
        self._chroma_cthw = np.empty((2, num_frames, (height + 1) // 2, (width + 1) // 2), np.uint8)
        self._colours: tuple[ColourMatrix, bool] | None = None

    def put(self, place: int, frame: av.VideoFrame) -> None:
        if self._colours is None:
            height, width = self._luma_thw.shape[1:]
            if (frame.height, frame.width) != (height + height % 2, width + width % 2):
                found, expected = f"{frame.height}x{frame.width}", f"{height}x{width}"
                raise VideoError("unreadable", f"frames of {found} were stored where {expected} were expected")
            self._colours = frame_colours(frame)
        luma, blue, red = frame.planes
        _copy(luma, self._luma_thw[place])
        _copy(blue, self._chroma_cthw[0, place])
        _copy(red, self._chroma_cthw[1, place])

    def clip(self, places: list[int]) -> YuvClip:
        assert self._colours is not None, "frames were put before the clip is taken"
        luma, chroma = self._luma_thw, self._chroma_cthw
        if places != list(range(len(luma))):
            luma, chroma = luma[places], chroma[:, places]
        return YuvClip(luma, chroma, *self._colours)


def _copy(plane: VideoPlane, target: NDArray[np.uint8]) -> None:
    target[...] = np.ndarray(target.shape, np.uint8, plane, strides=(plane.line_size, 1))  # type: ignore[arg-type]  # a buffer


def _damaged(name: str, offset: int, is_whole: bool) -> VideoError:
    remedy = "`muybridge prepare --check` names every video that is"
    if not is_whole:
        return VideoError("truncated", f"the shard {name} ends before byte {offset} is complete; {remedy} lost")
    return VideoError(
        "unreadable", f"the shard {name} is damaged near byte {offset} (wrong checksum); {remedy} damaged"
    )
