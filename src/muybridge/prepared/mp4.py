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
_DIGESTS_ID = b"muybridge digest"  # 16 bytes, as a box of type uuid wants
_DIGEST_BYTES = 16
_UNITY = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_SLICE_TYPES = (1, 5)  # of NAL units: the pictures themselves; parameter sets stand in the head, the rest is comment
_LARGEST = 2**32 - 1


@dataclass(frozen=True)
class EncodedVideo:
    """H.264 as an encoder gives it: one packet of NAL units with start codes for each frame, none shown out of order."""

    packets: Sequence[bytes]
    key_numbers: Sequence[int]
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
    places: list[int]
    keys: list[int]
    digests: bytes
    settings: bytes

    def group_start(self, group: int) -> int:
        """The first frame of a group; behind the last group, the number of frames."""
        return self.keys[group] if group < len(self.keys) else len(self.times)

    def runs(self, numbers: Sequence[int]) -> list[tuple[range, int]]:
        """What to decode for the frames `numbers` (increasing): runs of groups side by side, and the last frame in each."""
        found: list[tuple[range, int]] = []
        for number in numbers:
            group = bisect_right(self.keys, number) - 1
            if found and group <= found[-1][0].stop:
                found[-1] = range(found[-1][0].start, group + 1), number
            else:
                found.append((range(group, group + 1), number))
        return found

    def is_group(self, group: int, content: bytes) -> bool:
        """Whether `content` is what was stored as group number `group`."""
        expected = self.digests[group * _DIGEST_BYTES : (group + 1) * _DIGEST_BYTES]
        return hashlib.sha256(content).digest()[:_DIGEST_BYTES] == expected


def write_mp4(video: EncodedVideo) -> tuple[bytes, str]:
    """The file, and the SHA-256 of its head in hexadecimal. Ticks are counted from the first frame.

    Raises ValueError where times or sizes exceed what 32 bits hold.
    """
    samples = [_sample(packet) for packet in video.packets]
    firsts = [*video.key_numbers, len(samples)]
    groups = [b"".join(samples[first:last]) for first, last in pairwise(firsts)]
    digests = b"".join(hashlib.sha256(group).digest()[:_DIGEST_BYTES] for group in groups)
    sizes = np.array([len(sample) for sample in samples], np.int64)
    moov = _moov(video, sizes, digests, first_byte=0)
    moov = _moov(video, sizes, digests, first_byte=len(_FTYP) + len(moov) + 8)
    head = _FTYP + moov + struct.pack(">I4s", 8 + int(sizes.sum()), b"mdat")
    return head + b"".join(groups), hashlib.sha256(head).hexdigest()


def head_length(beginning: bytes) -> int | None:
    """How many bytes the head of a file has that begins so; None where it is no such file."""
    if len(beginning) < len(_FTYP) + 8 or not beginning.startswith(_FTYP):
        return None
    size, kind = struct.unpack_from(">I4s", beginning, len(_FTYP))
    return len(_FTYP) + int(size) + 8 if kind == b"moov" else None


def read_head(head: bytes) -> StoredIndex:
    """The index in a head written by `write_mp4`; the head has been verified by its checksum."""
    moov = _boxes(head, len(_FTYP) + 8, len(head) - 8)
    media = _inside(head, _inside(head, moov, b"trak"), b"mdia")
    table = _inside(head, _inside(head, media, b"minf"), b"stbl")
    (timescale,) = struct.unpack_from(">I", head, media[b"mdhd"].start + 20)
    runs = _integers(head, table[b"stts"], 2).reshape(-1, 2)
    stamps = np.concatenate([[0], np.cumsum(np.repeat(runs[:, 1], runs[:, 0]))])
    sizes = _integers(head, table[b"stsz"], 3).tolist()
    avcc = table[b"stsd"].start + 8 + 8 + 78  # version and count, the entry's own header, its fixed fields
    (avcc_size,) = struct.unpack_from(">I", head, avcc)
    return StoredIndex(
        times=FrameTimes(stamps[:-1], Fraction(1, timescale), int(stamps[-1])),
        places=list(accumulate(sizes, initial=len(head))),
        keys=(_integers(head, table[b"stss"], 2) - 1).tolist(),
        digests=head[moov[b"uuid"].start + 16 : moov[b"uuid"].stop],
        settings=head[avcc + 8 : avcc + avcc_size],
    )


def _sample(packet: bytes) -> bytes:
    """The slices of a packet, each behind its length: start codes, parameter sets and comments are left out."""
    slices = [unit for unit in nal_units(packet) if unit[0] & 31 in _SLICE_TYPES]
    return b"".join(struct.pack(">I", len(unit)) + unit for unit in slices)


def nal_units(packet: bytes) -> list[bytes]:
    """The NAL units between the start codes of a packet (ISO/IEC 14496-10, annex B)."""
    return [part.rstrip(b"\0") for part in packet.split(b"\0\0\1")[1:]]


def _decoder_settings(packet: bytes) -> bytes:
    """The avcC record of a stream from the parameter sets in its first packet (ISO/IEC 14496-15, 5.3.3)."""
    units = nal_units(packet)
    (sequence,) = (unit for unit in units if unit[0] & 31 == 7)
    (picture,) = (unit for unit in units if unit[0] & 31 == 8)
    sizes = struct.pack(">H", len(sequence)), struct.pack(">H", len(picture))
    record = b"\x01" + sequence[1:4] + b"\xff\xe1" + sizes[0] + sequence + b"\x01" + sizes[1] + picture
    return record + b"\xfd\xf8\xf8\0" if sequence[1] in (100, 110, 122, 144) else record


def _moov(video: EncodedVideo, sizes: NDArray[np.int64], digests: bytes, *, first_byte: int) -> bytes:
    step = video.times.tick_seconds.numerator
    stamps = (np.append(video.times.ticks, video.times.end_tick) - video.times.ticks[0]) * step
    timescale, duration = video.times.tick_seconds.denominator, int(stamps[-1])
    durations = np.diff(stamps)
    if timescale > _LARGEST or durations.max() > _LARGEST or first_byte + sizes.sum() > _LARGEST:
        raise ValueError(
            f"a video of {video.times.duration_seconds:.0f} s in ticks of 1/{timescale} s and {sizes.sum()} bytes "
            "is too long for one file of a shard"
        )
    changes = np.concatenate([[0], np.flatnonzero(np.diff(durations)) + 1, [len(durations)]])
    runs = np.stack([np.diff(changes), durations[changes[:-1]]], axis=1)
    times = struct.pack(">QQIQ", 0, 0, timescale, duration)  # created, changed: at no time
    entry = bytes(6) + struct.pack(">H", 1) + bytes(16) + struct.pack(">HH", video.width, video.height)
    entry += struct.pack(">III", 0x480000, 0x480000, 0) + struct.pack(">H", 1) + bytes(32) + b"\0\x18\xff\xff"
    entry += _box(b"avcC", _decoder_settings(video.packets[0]))
    table = (
        _box(b"stsd", struct.pack(">II", 0, 1) + _box(b"avc1", entry)),
        _box(b"stts", _table(0, len(runs), values=runs)),
        _box(b"stss", _table(0, len(video.key_numbers), values=np.array(video.key_numbers) + 1)),
        _box(b"stsc", struct.pack(">5I", 0, 1, 1, len(sizes), 1)),
        _box(b"stsz", _table(0, 0, len(sizes), values=sizes)),
        _box(b"stco", struct.pack(">3I", 0, 1, first_byte)),
    )
    data_is_here = _box(b"dref", struct.pack(">II", 0, 1) + _box(b"url ", struct.pack(">I", 1)))
    media = (
        _box(b"mdhd", struct.pack(">I", 1 << 24) + times + struct.pack(">HH", 0x55C4, 0)),  # language: undetermined
        _box(b"hdlr", struct.pack(">II4s", 0, 0, b"vide") + bytes(13)),
        _box(
            b"minf", _box(b"vmhd", struct.pack(">I", 1) + bytes(8)), _box(b"dinf", data_is_here), _box(b"stbl", *table)
        ),
    )
    shape = bytes(16) + _UNITY + struct.pack(">II", video.width << 16, video.height << 16)
    track = struct.pack(">IQQIIQ", (1 << 24) + 7, 0, 0, 1, 0, duration) + shape
    movie = struct.pack(">I", 1 << 24) + times + struct.pack(">IHH8x", 0x10000, 0x100, 0) + _UNITY + bytes(24)
    return _box(
        b"moov",
        _box(b"mvhd", movie + struct.pack(">I", 2)),
        _box(b"trak", _box(b"tkhd", track), _box(b"mdia", *media)),
        _box(b"uuid", _DIGESTS_ID + digests),
    )


def _box(kind: bytes, *parts: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, parts)), kind) + b"".join(parts)


def _table(*numbers: int, values: NDArray[np.int64]) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers) + values.astype(">u4").tobytes()


def _boxes(content: bytes, start: int, stop: int) -> dict[bytes, range]:
    """Where the content of each box lies."""
    found = {}
    while start < stop:
        size, kind = struct.unpack_from(">I4s", content, start)
        found[kind] = range(start + 8, start + size)
        start += size
    return found


def _inside(content: bytes, boxes: dict[bytes, range], kind: bytes) -> dict[bytes, range]:
    return _boxes(content, boxes[kind].start, boxes[kind].stop)


def _integers(content: bytes, box: range, skipped: int) -> NDArray[np.int64]:
    return np.frombuffer(content[box.start + 4 * skipped : box.stop], ">u4").astype(np.int64)
