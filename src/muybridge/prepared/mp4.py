"""Writing and parsing of stored videos: MP4 with one H.264 track and a checksum for each group of pictures (GOP).

Any player reads these files (ISO/IEC 14496-12 and -15). They are written here rather than by FFmpeg so that equal frames give
equal bytes with every version of it, without a creation time, and so that reading a clip needs no demuxer:

    ftyp | moov: time, offset and size of each frame, and 16 bytes of SHA-256 for each GOP | mdat: frames

The header is everything before the frames. The manifest has its SHA-256, the header has the digests of the GOPs. A clip is
therefore verified by reading the header and its own GOPs, however long the video is.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from muybridge.records import FrameTimes

_FTYP = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"isom", 512, b"isom", b"avc1")
_DIGESTS_UUID = b"muybridge digest"  # 16 bytes, as a box of type uuid wants
_DIGEST_BYTES = 16
_IDENTITY_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_SLICE_NAL_TYPES = (1, 5)  # coded pictures; parameter sets are in the header, other units are not needed
_MAX_UINT32 = 2**32 - 1


@dataclass(frozen=True)
class EncodedVideo:
    """The output of an H.264 encoder: a packet of NAL units with start codes for each frame, in display order."""

    packets: Sequence[bytes]
    keyframe_indices: Sequence[int]
    times: FrameTimes
    height: int
    width: int


@dataclass(frozen=True)
class StoredIndex:
    """The header of a stored file.

    Frame n is at bytes byte_offsets[n] to byte_offsets[n + 1] of the file; GOP g starts with frame keyframe_indices[g].
    `extradata` is the decoder configuration (avcC).
    """

    times: FrameTimes
    byte_offsets: list[int]
    keyframe_indices: list[int]
    gop_digests: bytes
    extradata: bytes

    def get_gop_start(self, gop: int) -> int:
        """The index of the first frame of a GOP; for the index after the last GOP, the number of frames."""
        return self.keyframe_indices[gop] if gop < len(self.keyframe_indices) else len(self.times)

    def plan_decoding(self, frame_indices: Sequence[int]) -> list[tuple[range, int]]:
        """Runs of consecutive GOPs that contain `frame_indices` (increasing), each with the last frame to decode."""
        runs: list[tuple[range, int]] = []
        for frame_index in frame_indices:
            gop = bisect_right(self.keyframe_indices, frame_index) - 1
            if runs and gop <= runs[-1][0].stop:
                runs[-1] = range(runs[-1][0].start, gop + 1), frame_index
            else:
                runs.append((range(gop, gop + 1), frame_index))
        return runs

    def is_gop_intact(self, gop: int, content: bytes) -> bool:
        """Whether `content` matches the digest of a GOP."""
        expected = self.gop_digests[gop * _DIGEST_BYTES : (gop + 1) * _DIGEST_BYTES]
        return hashlib.sha256(content).digest()[:_DIGEST_BYTES] == expected


def mux_mp4(video: EncodedVideo) -> tuple[bytes, str]:
    """The content of the file and the SHA-256 of its header in hexadecimal. Ticks are counted from the first frame.

    Raises ValueError if times or sizes exceed 32 bits.
    """
    samples = [_make_sample(packet) for packet in video.packets]
    gop_bounds = pairwise([*video.keyframe_indices, len(samples)])
    gops = [b"".join(samples[start:stop]) for start, stop in gop_bounds]
    digests = b"".join(hashlib.sha256(gop).digest()[:_DIGEST_BYTES] for gop in gops)
    sizes = np.array([len(sample) for sample in samples], np.int64)
    moov = _build_moov(video, sizes, digests, data_offset=0)
    moov = _build_moov(video, sizes, digests, data_offset=len(_FTYP) + len(moov) + 8)
    header = _FTYP + moov + struct.pack(">I4s", 8 + int(sizes.sum()), b"mdat")
    return header + b"".join(gops), hashlib.sha256(header).hexdigest()


def parse_header_length(first_bytes: bytes) -> int | None:
    """The length of the header of the file that begins with `first_bytes`; None if it is not a stored video."""
    if len(first_bytes) < len(_FTYP) + 8 or not first_bytes.startswith(_FTYP):
        return None
    size, box_type = struct.unpack_from(">I4s", first_bytes, len(_FTYP))
    return len(_FTYP) + int(size) + 8 if box_type == b"moov" else None


def parse_header(header: bytes) -> StoredIndex:
    """Parse a header written by `mux_mp4`. The caller has verified its checksum, which tells damage and not intent.

    Raises ValueError for a header that `mux_mp4` does not write. Memory is bounded by the length of the header.
    """
    try:
        index = _parse_tables(header)
    except (struct.error, LookupError) as error:
        raise ValueError(f"its header is malformed ({type(error).__name__}: {error})") from error
    starts = np.array(index.keyframe_indices)
    if len(starts) == 0 or starts[0] != 0 or (np.diff(starts) < 1).any() or starts[-1] >= len(index.times):
        raise ValueError("its header is malformed: the key frames are not in order, or the first frame is none")
    if len(index.gop_digests) != _DIGEST_BYTES * len(starts):
        raise ValueError("its header is malformed: it does not have a checksum for each key frame")
    return index


def _parse_tables(header: bytes) -> StoredIndex:
    moov = _parse_boxes(header, len(_FTYP) + 8, len(header) - 8)
    media = _parse_child_boxes(header, _parse_child_boxes(header, moov, b"trak"), b"mdia")
    table = _parse_child_boxes(header, _parse_child_boxes(header, media, b"minf"), b"stbl")
    (timescale,) = struct.unpack_from(">I", header, media[b"mdhd"].start + 20)
    runs = _read_uint32s(header, table[b"stts"], 2)
    counts, durations = runs[: len(runs) // 2 * 2].reshape(-1, 2).T
    sizes = _read_uint32s(header, table[b"stsz"], 3).tolist()
    if counts.sum() != len(sizes) or timescale == 0 or (durations == 0).any():
        raise ValueError(f"its header is malformed: it has {len(sizes)} frames and times of {counts.sum()}")
    stamps = np.concatenate([[0], np.cumsum(np.repeat(durations, counts))])
    avcc = table[b"stsd"].start + 8 + 8 + 78  # skip version and count, the header of the avc1 entry, its fixed fields
    (avcc_size,) = struct.unpack_from(">I", header, avcc)
    return StoredIndex(
        times=FrameTimes(stamps[:-1], Fraction(1, timescale), int(stamps[-1])),
        byte_offsets=list(accumulate(sizes, initial=len(header))),
        keyframe_indices=(_read_uint32s(header, table[b"stss"], 2) - 1).tolist(),
        gop_digests=header[moov[b"uuid"].start + 16 : moov[b"uuid"].stop],
        extradata=header[avcc + 8 : avcc + avcc_size],
    )


def _make_sample(packet: bytes) -> bytes:
    """The slices of a packet, each preceded by its length in place of the start code; other NAL units are dropped."""
    slices = [unit for unit in split_nal_units(packet) if unit[0] & 31 in _SLICE_NAL_TYPES]
    return b"".join(struct.pack(">I", len(unit)) + unit for unit in slices)


def split_nal_units(packet: bytes) -> list[bytes]:
    """The NAL units between the start codes of a packet (ISO/IEC 14496-10, annex B)."""
    return [part.rstrip(b"\0") for part in packet.split(b"\0\0\1")[1:]]


def _build_avcc(packet: bytes) -> bytes:
    """The avcC record, made of the parameter sets in the first packet of a stream (ISO/IEC 14496-15, 5.3.3)."""
    units = split_nal_units(packet)
    (sequence,) = (unit for unit in units if unit[0] & 31 == 7)
    (picture,) = (unit for unit in units if unit[0] & 31 == 8)
    sizes = struct.pack(">H", len(sequence)), struct.pack(">H", len(picture))
    record = b"\x01" + sequence[1:4] + b"\xff\xe1" + sizes[0] + sequence + b"\x01" + sizes[1] + picture
    return record + b"\xfd\xf8\xf8\0" if sequence[1] in (100, 110, 122, 144) else record


def _build_moov(video: EncodedVideo, sizes: NDArray[np.int64], digests: bytes, *, data_offset: int) -> bytes:
    step = video.times.tick_seconds.numerator
    stamps = (np.append(video.times.ticks, video.times.end_tick) - video.times.ticks[0]) * step
    timescale, duration = video.times.tick_seconds.denominator, int(stamps[-1])
    durations = np.diff(stamps)
    if timescale > _MAX_UINT32 or durations.max() > _MAX_UINT32 or data_offset + sizes.sum() > _MAX_UINT32:
        raise ValueError(
            f"a video of {video.times.duration_seconds:.0f} s in ticks of 1/{timescale} s and {sizes.sum()} bytes "
            "is too long for one file of a shard"
        )
    times = struct.pack(">QQIQ", 0, 0, timescale, duration)  # creation and modification time: not set
    self_reference = _make_box(b"dref", struct.pack(">II", 0, 1) + _make_box(b"url ", struct.pack(">I", 1)))
    media = (
        _make_box(b"mdhd", struct.pack(">I", 1 << 24) + times + struct.pack(">HH", 0x55C4, 0)),  # language "und"
        _make_box(b"hdlr", struct.pack(">II4s", 0, 0, b"vide") + bytes(13)),
        _make_box(
            b"minf",
            _make_box(b"vmhd", struct.pack(">I", 1) + bytes(8)),
            _make_box(b"dinf", self_reference),
            _build_sample_table(video, durations, sizes, data_offset),
        ),
    )
    shape = bytes(16) + _IDENTITY_MATRIX + struct.pack(">II", video.width << 16, video.height << 16)
    track = struct.pack(">IQQIIQ", (1 << 24) + 7, 0, 0, 1, 0, duration) + shape
    movie = struct.pack(">I", 1 << 24) + times + struct.pack(">IHH8x", 0x10000, 0x100, 0) + _IDENTITY_MATRIX + bytes(24)
    return _make_box(
        b"moov",
        _make_box(b"mvhd", movie + struct.pack(">I", 2)),
        _make_box(b"trak", _make_box(b"tkhd", track), _make_box(b"mdia", *media)),
        _make_box(b"uuid", _DIGESTS_UUID + digests),
    )


def _build_sample_table(
    video: EncodedVideo, durations: NDArray[np.int64], sizes: NDArray[np.int64], data_offset: int
) -> bytes:
    """The stbl box: decoder configuration, durations as runs of equal values, key frames and sizes; all frames in one chunk."""
    entry = bytes(6) + struct.pack(">H", 1) + bytes(16) + struct.pack(">HH", video.width, video.height)
    entry += struct.pack(">III", 0x480000, 0x480000, 0) + struct.pack(">H", 1) + bytes(32) + b"\0\x18\xff\xff"
    entry += _make_box(b"avcC", _build_avcc(video.packets[0]))
    changes = np.concatenate([[0], np.flatnonzero(np.diff(durations)) + 1, [len(durations)]])
    runs = np.stack([np.diff(changes), durations[changes[:-1]]], axis=1)
    return _make_box(
        b"stbl",
        _make_box(b"stsd", struct.pack(">II", 0, 1) + _make_box(b"avc1", entry)),
        _make_box(b"stts", _make_table(0, len(runs), values=runs)),
        _make_box(b"stss", _make_table(0, len(video.keyframe_indices), values=np.array(video.keyframe_indices) + 1)),
        _make_box(b"stsc", struct.pack(">5I", 0, 1, 1, len(sizes), 1)),
        _make_box(b"stsz", _make_table(0, 0, len(sizes), values=sizes)),
        _make_box(b"stco", struct.pack(">3I", 0, 1, data_offset)),
    )


def _make_box(box_type: bytes, *parts: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, parts)), box_type) + b"".join(parts)


def _make_table(*header_fields: int, values: NDArray[np.int64]) -> bytes:
    return struct.pack(f">{len(header_fields)}I", *header_fields) + values.astype(">u4").tobytes()


def _parse_boxes(content: bytes, start: int, stop: int) -> dict[bytes, range]:
    """The byte ranges of the contents of consecutive boxes, by type."""
    payloads = {}
    while start < stop:
        size, box_type = struct.unpack_from(">I4s", content, start)
        if not 8 <= size <= stop - start:
            raise ValueError(f"its header is malformed: the box {box_type!r} has {size} bytes of {stop - start}")
        payloads[box_type] = range(start + 8, start + size)
        start += size
    return payloads


def _parse_child_boxes(content: bytes, boxes: dict[bytes, range], box_type: bytes) -> dict[bytes, range]:
    return _parse_boxes(content, boxes[box_type].start, boxes[box_type].stop)


def _read_uint32s(content: bytes, box: range, num_skipped: int) -> NDArray[np.int64]:
    values = content[box.start + 4 * num_skipped : box.stop]
    return np.frombuffer(values[: len(values) // 4 * 4], ">u4").astype(np.int64)
