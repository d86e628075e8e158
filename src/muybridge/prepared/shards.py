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

from muybridge.datasets.manifest import ShardMember
from muybridge.files.cache import get_cache_folder
from muybridge.prepared.mp4 import StoredIndex, parse_header, parse_header_length
from muybridge.prepared.object_store import read_bytes
from muybridge.records import ColorMatrix, FrameTimes, VideoError, YuvClip
from muybridge.video.planes import detect_color_format

_HEADER_READ_BYTES = 8192  # holds the head of a video of about half a minute; a longer head is read once more
_MAX_CACHED_INDEXES = 16
_MAX_OPEN_FILES = 32


def format_shard_path(shard_index: int) -> str:
    """The path of a shard below its prepared folder."""
    return f"shards/{shard_index:06d}.tar"


def is_remote(address: str) -> bool:
    """Whether an address is one for fsspec, such as s3://bucket/kinetics, and not a path."""
    return "://" in address


class ShardReader:
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
        copy = self._get_cached_path(name)
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
        copy = self._get_cached_path(name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.pwrite(descriptor, content, start)
        finally:
            os.close(descriptor)
        return content

    def _pread(self, path: str, start: int, length: int, name: str) -> bytes:
        if path not in self._open:
            if len(self._open) >= _MAX_OPEN_FILES:
                self._open.pop(next(iter(self._open)))
            try:
                self._open[path] = _OpenFile(path)
            except FileNotFoundError as error:
                raise VideoError("missing", f"the shard {name} does not exist") from error
        return os.pread(self._open[path].descriptor, length, start)

    def _get_cached_path(self, name: str) -> Path:
        return get_cache_folder() / hashlib.sha256(self.root.encode()).hexdigest()[:16] / name

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": {}, "_files": None}


class _OpenFile:
    """A file open for `os.pread` for as long as this lives."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):  # not where opening failed
            os.close(self.descriptor)


class ShardFrameSource:
    """Frames of the videos in shards: a `FrameSource`. `video` is a `ShardMember` as text.

    It may be sent to worker processes; its size does not depend on how many videos there are.
    """

    def __init__(self, root: str, *, scale_height: int, scale_width: int) -> None:
        self.scale_height = scale_height
        self.scale_width = scale_width
        self._files = ShardReader(root)
        self._indexes: dict[str, StoredIndex] = {}
        self._decoders: dict[bytes, av.VideoCodecContext] = {}
        self._owner_pid = os.getpid()

    def read_frame_times(self, video: str) -> FrameTimes:
        """The time stamps of every frame, from 0. Raises VideoError: missing, truncated or unreadable."""
        return self._get_index(video).times

    def read(self, video: str, ticks: NDArray[np.int64]) -> YuvClip:
        """The frames at `ticks` (L,) of `frame_times(video)`, in that order, repeats included.

        Raises VideoError: missing, truncated or unreadable, also where the bytes are not those that were stored.
        """
        index = self._get_index(video)
        frame_indices = np.searchsorted(index.times.ticks, ticks)
        if frame_indices.max() == len(index.times) or (index.times.ticks[frame_indices] != ticks).any():
            raise VideoError("unreadable", "the video has no frame at a time stamp asked for")
        # Plain integers from here on: numpy's calls cost more than what they would do to sixteen of them.
        requested = frame_indices.tolist()
        slots = {number: slot for slot, number in enumerate(sorted(set(requested)))}
        frames = _ClipBuffer(len(slots), self.scale_height, self.scale_width)
        member = ShardMember.parse(video)
        for run in index.plan_decoding(list(slots)):
            self._decode(member, index, run, (slots, frames))
        return frames.make_clip([slots[number] for number in requested])

    def _get_index(self, video: str) -> StoredIndex:
        if video not in self._indexes:
            if len(self._indexes) >= _MAX_CACHED_INDEXES:
                self._indexes.pop(next(iter(self._indexes)))
            self._indexes[video] = self._read_index(ShardMember.parse(video))
        return self._indexes[video]

    def _read_index(self, member: ShardMember) -> StoredIndex:
        name = format_shard_path(member.shard)
        for read in (self._files.read, self._files.fetch):
            head = read(name, member.offset, min(_HEADER_READ_BYTES, member.num_bytes))
            length = parse_header_length(head)
            if length is not None and length > len(head):
                head = read(name, member.offset, min(length, member.num_bytes))
            if length is not None and hashlib.sha256(head[:length]).hexdigest() == member.sha256:
                return parse_header(head[:length])
        raise _make_damage_error(name, member.offset, len(head) >= min(length or _HEADER_READ_BYTES, member.num_bytes))

    def _read_gops(self, member: ShardMember, index: StoredIndex, gops: range) -> tuple[bytes, int]:
        """The bytes of some consecutive groups, verified, and where in the stored file they begin."""
        name = format_shard_path(member.shard)
        bounds = [index.byte_offsets[index.get_gop_start(group)] for group in (*gops, gops.stop)]
        start, length = bounds[0], bounds[-1] - bounds[0]
        for read in (self._files.read, self._files.fetch):
            content = read(name, member.offset + start, length)
            pieces = (content[begin - start : end - start] for begin, end in pairwise(bounds))
            if all(index.is_gop_intact(gop, piece) for gop, piece in zip(gops, pieces, strict=True)):
                return content, start
        raise _make_damage_error(name, member.offset + start, len(content) == length)

    def _decode(
        self,
        member: ShardMember,
        index: StoredIndex,
        run: tuple[range, int],
        destination: tuple[dict[int, int], _ClipBuffer],
    ) -> None:
        """Decode consecutive groups up to frame `last` and put the frames that have a place."""
        (gops, last), (slots, frames) = run, destination
        content, start = self._read_gops(member, index, gops)
        decoder = self._get_decoder(index.extradata)
        first = index.get_gop_start(gops.start)
        for frame_index in range(first, last + 1):
            packet = av.Packet(
                content[index.byte_offsets[frame_index] - start : index.byte_offsets[frame_index + 1] - start]
            )
            packet.pts = frame_index
            try:
                decoded = decoder.decode(packet)
            except av.error.FFmpegError as error:
                raise VideoError("unreadable", f"frame {frame_index} cannot be decoded ({error.strerror})") from error
            if len(decoded) != 1 or decoded[0].pts != frame_index:
                raise VideoError("unreadable", f"frame {frame_index} does not come out of the decoder")
            if frame_index in slots:
                frames.copy_frame(slots[frame_index], decoded[0])

    def _get_decoder(self, extradata: bytes) -> av.VideoCodecContext:
        if self._owner_pid != os.getpid():  # this process was forked: what is open belongs to its parent
            self._decoders, self._owner_pid = {}, os.getpid()
        decoder = self._decoders.get(extradata)
        if decoder is None:
            created = av.CodecContext.create("h264", "r")
            assert isinstance(created, av.VideoCodecContext)
            created.extradata, created.thread_count = extradata, 1  # many workers decode side by side
            decoder = self._decoders[extradata] = created
        else:
            decoder.flush_buffers()
        return decoder

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_indexes": {}, "_decoders": {}}


class _ClipBuffer:
    """The planes of one clip while it is decoded, without the lines that only made the sizes even."""

    def __init__(self, num_frames: int, height: int, width: int) -> None:
        self._luma_thw = np.empty((num_frames, height, width), np.uint8)
        self._chroma_cthw = np.empty((2, num_frames, (height + 1) // 2, (width + 1) // 2), np.uint8)
        self._color_info: tuple[ColorMatrix, bool] | None = None

    def copy_frame(self, slot: int, frame: av.VideoFrame) -> None:
        if self._color_info is None:
            height, width = self._luma_thw.shape[1:]
            if (frame.height, frame.width) != (height + height % 2, width + width % 2):
                found, expected = f"{frame.height}x{frame.width}", f"{height}x{width}"
                raise VideoError("unreadable", f"frames of {found} were stored where {expected} were expected")
            self._color_info = detect_color_format(frame)
        luma, blue, red = frame.planes
        _copy_plane(luma, self._luma_thw[slot])
        _copy_plane(blue, self._chroma_cthw[0, slot])
        _copy_plane(red, self._chroma_cthw[1, slot])

    def make_clip(self, slots: list[int]) -> YuvClip:
        assert self._color_info is not None, "frames were put before the clip is taken"
        luma, chroma = self._luma_thw, self._chroma_cthw
        if slots != list(range(len(luma))):
            luma, chroma = luma[slots], chroma[:, slots]
        return YuvClip(luma, chroma, *self._color_info)


def _copy_plane(plane: VideoPlane, target: NDArray[np.uint8]) -> None:
    target[...] = np.ndarray(target.shape, np.uint8, plane, strides=(plane.line_size, 1))  # type: ignore[arg-type]  # a buffer


def _make_damage_error(name: str, offset: int, is_complete: bool) -> VideoError:
    remedy = "`muybridge prepare --check` names every video that is"
    if not is_complete:
        return VideoError("truncated", f"the shard {name} ends before byte {offset} is complete; {remedy} lost")
    return VideoError(
        "unreadable", f"the shard {name} is damaged near byte {offset} (wrong checksum); {remedy} damaged"
    )
