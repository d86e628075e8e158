"""Random access to the frames of prepared videos: a `FrameSource` over shards in a folder or at an fsspec address.

Input: a `ShardMember` as text and the ticks of a clip. Output: a `YuvClip`. Only the groups of pictures (GOPs) with frames
of the clip are read, verified by their checksums and decoded. Frames are stored scaled, so nothing is scaled or converted
here. Decoders are reused between clips, since opening one takes as long as decoding several frames, but are not shared
between processes.
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

_HEADER_READ_BYTES = 8192  # enough for a video of about half a minute; a longer header takes a second read
_MAX_CACHED_INDEXES = 16
_MAX_OPEN_FILES = 32


def format_shard_path(shard_index: int) -> str:
    """The path of a shard relative to the prepared folder."""
    return f"shards/{shard_index:06d}.tar"


def is_remote(address: str) -> bool:
    """Whether an address is an fsspec URL such as s3://bucket/kinetics, not a path."""
    return "://" in address


class _ShardReader:
    """Byte ranges of the files below a folder or an fsspec address.

    Ranges read from an address are cached in sparse local files at the same offsets. The caller tells a cached range from a
    hole by its checksum, so processes share the cache without synchronization.
    """

    def __init__(self, root: str) -> None:
        self.root = root if is_remote(root) else str(Path(root).absolute())
        # By path. `os.pread` does not use the file position, so a forked process may share the descriptors.
        self._open: dict[str, _OpenFile] = {}
        self._filesystem: Any = None  # of fsspec; opened on first use, since it may own threads and sockets

    def read(self, name: str, start: int, length: int) -> bytes:
        """`length` bytes from `start`, fewer at the end of the file; of an address only the cache, which may have holes.

        Raises VideoError("missing").
        """
        if not is_remote(self.root):
            return self._pread(f"{self.root}/{name}", start, length, name)
        cached_path = self._get_cached_path(name)
        return self._pread(str(cached_path), start, length, name) if cached_path.exists() else b""

    def fetch(self, name: str, start: int, length: int) -> bytes:
        """The same bytes from the original file; the cache is updated.

        Raises VideoError("missing"), and ObjectStoreError if the address does not answer.
        """
        if not is_remote(self.root):
            return self.read(name, start, length)
        if self._filesystem is None:
            self._filesystem = fsspec.core.url_to_fs(self.root)[0]
        try:
            content = read_bytes(self._filesystem, f"{self.root.rstrip('/')}/{name}", start, start + length)
        except FileNotFoundError as error:
            raise VideoError("missing", f"the shard {name} does not exist at {self.root}") from error
        cached_path = self._get_cached_path(name)
        cached_path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(cached_path, os.O_WRONLY | os.O_CREAT, 0o666)
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
        return {**self.__dict__, "_open": {}, "_filesystem": None}


class _OpenFile:
    """A file descriptor for `os.pread`, closed with the object."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):  # false if os.open failed
            os.close(self.descriptor)


class ShardFrameSource:
    """A `FrameSource` of the videos in shards; its argument `video` is a `ShardMember` as text.

    It can be pickled for worker processes; its size does not depend on the number of videos. With `holds_flow` the videos are
    those of `Manifest.select_flow`, whose frames are codes of flow (`stored_flow`), x above y.
    """

    def __init__(self, root: str, *, scale_height: int, scale_width: int, holds_flow: bool = False) -> None:
        self.holds_flow = holds_flow
        self.scale_height = scale_height
        self.scale_width = scale_width
        self._reader = _ShardReader(root)
        self._indexes: dict[str, StoredIndex] = {}
        self._decoders: dict[bytes, av.VideoCodecContext] = {}
        self._owner_pid = os.getpid()

    def read_frame_times(self, video: str) -> FrameTimes:
        """The time stamps of all frames, from 0. Raises VideoError: missing, truncated or unreadable."""
        return self._get_index(video).times

    def read(self, video: str, ticks: NDArray[np.int64]) -> YuvClip:
        """The frames at `ticks` (L,) of `read_frame_times(video)`, in that order, repeats included.

        Raises VideoError: missing, truncated or unreadable, also if a checksum is wrong.
        """
        index = self._get_index(video)
        if not index.times.has_frames_at(ticks):
            raise VideoError("unreadable", "the video has no frame at a time stamp of the clip")
        # Python integers from here on: for sixteen of them they are faster than numpy.
        requested: list[int] = np.searchsorted(index.times.ticks, ticks).tolist()
        buffer = _ClipBuffer(sorted(set(requested)), self.scale_height, self.scale_width)
        member = ShardMember.parse(video)
        for gops, last_frame in index.plan_decoding(list(buffer.slots)):
            self._decode_gops(member, index, gops, last_frame, buffer)
        return buffer.make_clip(requested)

    def _get_index(self, video: str) -> StoredIndex:
        if video not in self._indexes:
            if len(self._indexes) >= _MAX_CACHED_INDEXES:
                self._indexes.pop(next(iter(self._indexes)))
            self._indexes[video] = self._read_index(ShardMember.parse(video))
        return self._indexes[video]

    def _read_index(self, member: ShardMember) -> StoredIndex:
        name = format_shard_path(member.shard)
        for read in (self._reader.read, self._reader.fetch):
            header = read(name, member.offset, min(_HEADER_READ_BYTES, member.num_bytes))
            length = parse_header_length(header)
            if length is not None and length > len(header):
                header = read(name, member.offset, min(length, member.num_bytes))
            if length is not None and hashlib.sha256(header[:length]).hexdigest() == member.sha256:
                return _parse_header(header[:length], name, member.offset)
        is_complete = len(header) >= min(length or _HEADER_READ_BYTES, member.num_bytes)
        raise _make_damage_error(name, member.offset, is_complete)

    def _read_gops(self, member: ShardMember, index: StoredIndex, gops: range) -> tuple[bytes, int]:
        """The verified bytes of consecutive GOPs, and their offset in the stored file."""
        name = format_shard_path(member.shard)
        bounds = [index.byte_offsets[index.get_gop_start(gop)] for gop in (*gops, gops.stop)]
        start, length = bounds[0], bounds[-1] - bounds[0]
        for read in (self._reader.read, self._reader.fetch):
            content = read(name, member.offset + start, length)
            pieces = (content[begin - start : end - start] for begin, end in pairwise(bounds))
            if all(index.is_gop_intact(gop, piece) for gop, piece in zip(gops, pieces, strict=True)):
                return content, start
        raise _make_damage_error(name, member.offset + start, len(content) == length)

    def _decode_gops(
        self, member: ShardMember, index: StoredIndex, gops: range, last_frame: int, buffer: _ClipBuffer
    ) -> None:
        """Decode consecutive GOPs up to `last_frame`, and copy the frames of the clip to the buffer."""
        content, content_start = self._read_gops(member, index, gops)
        decoder = self._get_decoder(index.extradata)
        for frame_index in range(index.get_gop_start(gops.start), last_frame + 1):
            start, stop = index.byte_offsets[frame_index : frame_index + 2]
            packet = av.Packet(content[start - content_start : stop - content_start])
            packet.pts = frame_index
            try:
                decoded = decoder.decode(packet)
            except av.error.FFmpegError as error:
                raise VideoError("unreadable", f"frame {frame_index} cannot be decoded ({error.strerror})") from error
            if len(decoded) != 1 or decoded[0].pts != frame_index:
                raise VideoError("unreadable", f"the decoder does not return frame {frame_index}")
            if frame_index in buffer.slots:
                buffer.copy_frame(frame_index, decoded[0])

    def _get_decoder(self, extradata: bytes) -> av.VideoCodecContext:
        if self._owner_pid != os.getpid():  # after a fork: the decoders belong to the parent
            self._decoders, self._owner_pid = {}, os.getpid()
        decoder = self._decoders.get(extradata)
        if decoder is None:
            created = av.CodecContext.create("h264", "r")
            assert isinstance(created, av.VideoCodecContext)
            created.extradata, created.thread_count = extradata, 1  # workers decode in parallel
            decoder = self._decoders[extradata] = created
        else:
            decoder.flush_buffers()
        return decoder

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_indexes": {}, "_decoders": {}}


class _ClipBuffer:
    """The planes of a clip's distinct frames, without the row or column that made odd sizes even."""

    def __init__(self, frame_indices: list[int], height: int, width: int) -> None:
        self.slots = {frame_index: slot for slot, frame_index in enumerate(frame_indices)}
        num_frames = len(frame_indices)
        self._luma_thw = np.empty((num_frames, height, width), np.uint8)
        self._chroma_cthw = np.empty((2, num_frames, (height + 1) // 2, (width + 1) // 2), np.uint8)
        self._color_info: tuple[ColorMatrix, bool] | None = None

    def copy_frame(self, frame_index: int, frame: av.VideoFrame) -> None:
        if self._color_info is None:
            height, width = self._luma_thw.shape[1:]
            if (frame.height, frame.width) != (height + height % 2, width + width % 2):
                actual = f"{frame.height}x{frame.width}"
                raise VideoError("unreadable", f"the stored frames are {actual}, expected {height}x{width}")
            self._color_info = detect_color_format(frame)
        slot = self.slots[frame_index]
        luma, blue, red = frame.planes
        _copy_plane(luma, self._luma_thw[slot])
        _copy_plane(blue, self._chroma_cthw[0, slot])
        _copy_plane(red, self._chroma_cthw[1, slot])

    def make_clip(self, frame_indices: list[int]) -> YuvClip:
        assert self._color_info is not None, "frames are copied before the clip is made"
        luma, chroma = self._luma_thw, self._chroma_cthw
        if frame_indices != list(self.slots):
            slots = [self.slots[frame_index] for frame_index in frame_indices]
            luma, chroma = luma[slots], chroma[:, slots]
        return YuvClip(luma, chroma, *self._color_info)


def _parse_header(header: bytes, name: str, offset: int) -> StoredIndex:
    try:
        return parse_header(header)
    except ValueError as error:
        raise VideoError(
            "unreadable", f"the video at byte {offset} of the shard {name} cannot be used: {error}"
        ) from error


def _copy_plane(plane: VideoPlane, target: NDArray[np.uint8]) -> None:
    target[...] = np.ndarray(target.shape, np.uint8, plane, strides=(plane.line_size, 1))  # type: ignore[arg-type]  # a buffer


def _make_damage_error(name: str, offset: int, is_complete: bool) -> VideoError:
    remedy = "`muybridge prepare --check` lists all damaged videos"
    if not is_complete:
        return VideoError("truncated", f"the shard {name} ends within the data that starts at byte {offset}; {remedy}")
    return VideoError("unreadable", f"the shard {name} is damaged near byte {offset} (wrong checksum); {remedy}")
