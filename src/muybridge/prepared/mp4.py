"""The files inside prepared shards: MP4 with one H.264 track and checksums that let a part be read and trusted alone.

What enters is encoded frames and when they are shown, what leaves is the bytes of a file, and back again. Any player reads
these files (ISO/IEC 14496-12 and -15). They are written here rather than by FFmpeg so that the same frames are the same
bytes with every version of it, without a time of creation, and so that reading a clip needs no demuxer:

    ftyp | moov: when, where and how long each frame is, and 16 bytes of SHA-256 for each group of pictures | mdat

The SHA-256 of the head (everything before the pictures) stands in the manifest. It vouches for the groups' checksums, and
these for the pictures: a clip is verified by reading its own groups, however long the video.
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
_SLICE_NAL_TYPES = (
    1,
    5,
)  # of NAL units: the pictures themselves; parameter sets stand in the head, the rest is comment
_MAX_UINT32 = 2**32 - 1


@dataclass(frozen=True)
class EncodedVideo:
    """H.264 as an encoder gives it: one packet of NAL units with start codes for each frame, none shown out of order."""

    packets: Sequence[bytes]
    keyframe_indices: Sequence[int]
    times: FrameTimes
    height: int
    width: int


@dataclass(frozen=True)
class StoredIndex:
    """What the head of a stored file says.

    Frame n lies at bytes places[n] to places[n + 1] of the file; group of pictures g begins with frame keys[g]. `settings`
    is what a decoder must be given beforehand (avcC).
    """

    times: FrameTimes
    byte_offsets: list[int]
    keyframe_indices: list[int]
    gop_digests: bytes
    extradata: bytes

    def get_gop_start(self, gop: int) -> int:
        """The first frame of a group; behind the last group, the number of frames."""
        return self.keyframe_indices[gop] if gop < len(self.keyframe_indices) else len(self.times)

    def plan_decoding(self, frame_indices: Sequence[int]) -> list[tuple[range, int]]:
        """What to decode for the frames `numbers` (increasing): runs of groups side by side, and the last frame in each."""
        gop_runs: list[tuple[range, int]] = []
        for number in frame_indices:
            group = bisect_right(self.keyframe_indices, number) - 1
            if gop_runs and group <= gop_runs[-1][0].stop:
                gop_runs[-1] = range(gop_runs[-1][0].start, group + 1), number
            else:
                gop_runs.append((range(group, group + 1), number))
        return gop_runs

    def is_gop_intact(self, gop: int, content: bytes) -> bool:
        """Whether `content` is what was stored as group number `group`."""
        expected = self.gop_digests[gop * _DIGEST_BYTES : (gop + 1) * _DIGEST_BYTES]
        return hashlib.sha256(content).digest()[:_DIGEST_BYTES] == expected


def mux_mp4(video: EncodedVideo) -> tuple[bytes, str]:
    """The file, and the SHA-256 of its head in hexadecimal. Ticks are counted from the first frame.

    Raises ValueError where times or sizes exceed what 32 bits hold.
    """
    samples = [_make_sample(packet) for packet in video.packets]
    firsts = [*video.keyframe_indices, len(samples)]
    groups = [b"".join(samples[first:last]) for first, last in pairwise(firsts)]
    digests = b"".join(hashlib.sha256(group).digest()[:_DIGEST_BYTES] for group in groups)
    sizes = np.array([len(sample) for sample in samples], np.int64)
    moov = _build_moov(video, sizes, digests, data_offset=0)
    moov = _build_moov(video, sizes, digests, data_offset=len(_FTYP) + len(moov) + 8)
    head = _FTYP + moov + struct.pack(">I4s", 8 + int(sizes.sum()), b"mdat")
    return head + b"".join(groups), hashlib.sha256(head).hexdigest()


def parse_header_length(first_bytes: bytes) -> int | None:
    """How many bytes the head of a file has that begins so; None where it is no such file."""
    if len(first_bytes) < len(_FTYP) + 8 or not first_bytes.startswith(_FTYP):
        return None
    size, kind = struct.unpack_from(">I4s", first_bytes, len(_FTYP))
    return len(_FTYP) + int(size) + 8 if kind == b"moov" else None


def parse_header(header: bytes) -> StoredIndex:
    """The index in a head written by `mux_mp4`; the head has been verified by its checksum."""
    moov = _parse_boxes(header, len(_FTYP) + 8, len(header) - 8)
    media = _parse_child_boxes(header, _parse_child_boxes(header, moov, b"trak"), b"mdia")
    table = _parse_child_boxes(header, _parse_child_boxes(header, media, b"minf"), b"stbl")
    (timescale,) = struct.unpack_from(">I", header, media[b"mdhd"].start + 20)
    runs = _read_uint32s(header, table[b"stts"], 2).reshape(-1, 2)
    stamps = np.concatenate([[0], np.cumsum(np.repeat(runs[:, 1], runs[:, 0]))])
    sizes = _read_uint32s(header, table[b"stsz"], 3).tolist()
    avcc = table[b"stsd"].start + 8 + 8 + 78  # version and count, the entry's own header, its fixed fields
    (avcc_size,) = struct.unpack_from(">I", header, avcc)
    return StoredIndex(
        times=FrameTimes(stamps[:-1], Fraction(1, timescale), int(stamps[-1])),
        byte_offsets=list(accumulate(sizes, initial=len(header))),
        keyframe_indices=(_read_uint32s(header, table[b"stss"], 2) - 1).tolist(),
        gop_digests=header[moov[b"uuid"].start + 16 : moov[b"uuid"].stop],
        extradata=header[avcc + 8 : avcc + avcc_size],
    )


def _make_sample(packet: bytes) -> bytes:
    """The slices of a packet, each behind its length: start codes, parameter sets and comments are left out."""
    slices = [unit for unit in split_nal_units(packet) if unit[0] & 31 in _SLICE_NAL_TYPES]
    return b"".join(struct.pack(">I", len(unit)) + unit for unit in slices)


def split_nal_units(packet: bytes) -> list[bytes]:
    """The NAL units between the start codes of a packet (ISO/IEC 14496-10, annex B)."""
    return [part.rstrip(b"\0") for part in packet.split(b"\0\0\1")[1:]]


def _build_avcc(packet: bytes) -> bytes:
    """The avcC record of a stream from the parameter sets in its first packet (ISO/IEC 14496-15, 5.3.3)."""
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
    changes = np.concatenate([[0], np.flatnonzero(np.diff(durations)) + 1, [len(durations)]])
    runs = np.stack([np.diff(changes), durations[changes[:-1]]], axis=1)
    times = struct.pack(">QQIQ", 0, 0, timescale, duration)  # created, changed: at no time
    entry = bytes(6) + struct.pack(">H", 1) + bytes(16) + struct.pack(">HH", video.width, video.height)
    entry += struct.pack(">III", 0x480000, 0x480000, 0) + struct.pack(">H", 1) + bytes(32) + b"\0\x18\xff\xff"
    entry += _make_box(b"avcC", _build_avcc(video.packets[0]))
    table = (
        _make_box(b"stsd", struct.pack(">II", 0, 1) + _make_box(b"avc1", entry)),
        _make_box(b"stts", _make_table(0, len(runs), values=runs)),
        _make_box(b"stss", _make_table(0, len(video.keyframe_indices), values=np.array(video.keyframe_indices) + 1)),
        _make_box(b"stsc", struct.pack(">5I", 0, 1, 1, len(sizes), 1)),
        _make_box(b"stsz", _make_table(0, 0, len(sizes), values=sizes)),
        _make_box(b"stco", struct.pack(">3I", 0, 1, data_offset)),
    )
    data_is_here = _make_box(b"dref", struct.pack(">II", 0, 1) + _make_box(b"url ", struct.pack(">I", 1)))
    media = (
        _make_box(
            b"mdhd", struct.pack(">I", 1 << 24) + times + struct.pack(">HH", 0x55C4, 0)
        ),  # language: undetermined
        _make_box(b"hdlr", struct.pack(">II4s", 0, 0, b"vide") + bytes(13)),
        _make_box(
            b"minf",
            _make_box(b"vmhd", struct.pack(">I", 1) + bytes(8)),
            _make_box(b"dinf", data_is_here),
            _make_box(b"stbl", *table),
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


def _make_box(box_type: bytes, *parts: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, parts)), box_type) + b"".join(parts)


def _make_table(*header_fields: int, values: NDArray[np.int64]) -> bytes:
    return struct.pack(f">{len(header_fields)}I", *header_fields) + values.astype(">u4").tobytes()


def _parse_boxes(content: bytes, start: int, stop: int) -> dict[bytes, range]:
    """Where the content of each box lies."""
    payloads = {}
    while start < stop:
        size, kind = struct.unpack_from(">I4s", content, start)
        payloads[kind] = range(start + 8, start + size)
        start += size
    return payloads


def _parse_child_boxes(content: bytes, boxes: dict[bytes, range], box_type: bytes) -> dict[bytes, range]:
    return _parse_boxes(content, boxes[box_type].start, boxes[box_type].stop)


def _read_uint32s(content: bytes, box: range, num_skipped: int) -> NDArray[np.int64]:
    return np.frombuffer(content[box.start + 4 * num_skipped : box.stop], ">u4").astype(np.int64)
