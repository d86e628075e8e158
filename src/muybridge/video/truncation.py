"""What the structure of a file promises against what is there, so that a file that was cut short is named.

Input: a path and FFmpeg's name of the format. Output: a sentence about what is missing, or None. Only heads and the last
kilobytes are read. Cut exactly between two packets, MPEG streams and bare elementary streams look whole (docs/data.md).
References: RFC 8794 and 9559 (Matroska), ISO 14496-12 (MP4), ISO 13818-1 (MPEG), ASF specification 3.2, RFC 3533 (Ogg),
Adobe FLV 10.1.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, TypeVar

from muybridge.text import format_count

Reader = TypeVar("Reader")

_HEAD_BYTES, _TAIL_BYTES = 1 << 16, 1 << 18
_EBML_SEGMENT, _EBML_INFO = 0x18538067, 0x1549A966
_EBML_DURATION, _EBML_TIMESTAMP_SCALE, _EBML_CLUSTER = 0x4489, 0x2AD7B1, 0x1F43B675
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_BROADCAST = 1
_TS_SYNC, _TS_PACKET_SIZES = 0x47, (188, 192, 204)
_PS_PACK, _PS_SYSTEM, _PS_END = 0xBA, 0xBB, 0xB9
_MIN_ZERO_BYTES = 4096  # at the end of a file; fewer may be padding, as up to the sector of a disc
_MIN_TOLERANCE_SECONDS = 0.25  # of a promised duration; muxers round it, or count the last frame or not
_MAX_PROMISED_SECONDS = 1e9  # 30 years; what states more states no duration
_MAX_EBML_INTEGER_BYTES = 8  # RFC 8794, section 7.2


def find_missing_end(path: str, format_name: str) -> str | None:
    """What shows that the file was cut short, or None. Raises OSError."""
    check = _find_reader(_CHECKS, format_name)
    if check is None:
        return None
    with Path(path).open("rb") as file:
        return check(file, os.fstat(file.fileno()).st_size)


def read_promised_seconds(path: str, format_name: str) -> float | None:
    """The duration that the file's head states, or None if it states none. Raises OSError."""
    with Path(path).open("rb") as file:
        head = file.read(_HEAD_BYTES)
    read = _find_reader(_READ_SECONDS, format_name)
    seconds = None if read is None else read(head)
    return seconds if seconds is not None and 0 < seconds < _MAX_PROMISED_SECONDS else None


def read_last_seconds(path: str, format_name: str) -> float:
    """When the last packet of a FLV file is shown, also of a stream that FFmpeg does not list; 0 if unknown. Raises OSError."""
    if format_name != "flv":
        return 0.0
    with Path(path).open("rb") as file:
        tag = _read_last_flv_tag(file, os.fstat(file.fileno()).st_size)
    return int.from_bytes(tag[7:8] + tag[4:7]) / 1000


def is_too_short(promised_seconds: float, actual_seconds: float, frame_seconds: float) -> bool:
    """Whether a file lasts less long than its head states."""
    return actual_seconds < promised_seconds - max(_MIN_TOLERANCE_SECONDS, 3 * frame_seconds)


def _find_reader(readers: Mapping[str, Reader], format_name: str) -> Reader | None:
    """The reader for FFmpeg's name of a format, which may list several names."""
    return next((reader for name, reader in readers.items() if name in format_name.split(",")), None)


def _check_matroska(file: BinaryIO, num_bytes: int) -> str | None:
    for element_id, start, size in _iterate_ebml(file.read(_HEAD_BYTES)):
        if element_id == _EBML_SEGMENT:
            return _describe_overrun("segment", start, size, num_bytes)
    return None


def _check_riff(file: BinaryIO, num_bytes: int) -> str | None:
    head = file.read(8)
    size = int.from_bytes(head[4:], "little")
    if head[:4] != b"RIFF" or size in (0, 0xFFFFFFFF):  # a recorder that was stopped writes neither
        return None
    return _describe_overrun("RIFF chunk", 8, size, num_bytes)


def _check_mpegts(file: BinaryIO, num_bytes: int) -> str | None:
    head = file.read(_HEAD_BYTES)
    for packet_size in _TS_PACKET_SIZES:
        start = next((at for at in range(packet_size) if _has_sync_bytes(head, at, packet_size)), None)
        if start is not None:
            num_left = (num_bytes - start) % packet_size
            file.seek(num_bytes - num_left)
            is_partial = 0 < num_left < 188 and file.read(1) == bytes([_TS_SYNC])
            return "the file ends in the middle of a transport packet" if is_partial else None
    return None


def _has_sync_bytes(head: bytes, start: int, packet_size: int) -> bool:
    places = range(start, min(len(head), start + 16 * packet_size), packet_size)
    return len(places) > 1 and all(head[place] == _TS_SYNC for place in places)


def _check_mpeg_program(file: BinaryIO, num_bytes: int) -> str | None:
    tail_start = max(0, num_bytes - _TAIL_BYTES)
    file.seek(tail_start)
    tail = file.read(_TAIL_BYTES)
    position = tail.find(b"\0\0\1\xba")
    if b"\0\0\1\xb9" not in tail and (zeros := _describe_zeros(tail)):
        return zeros
    while 0 <= position <= len(tail) - 4 and tail[position : position + 3] == b"\0\0\1":
        code = tail[position + 3]
        if code == _PS_END:
            return None
        if position > len(tail) - 6:
            break
        if code == _PS_PACK:
            size = (
                14 + (tail[position + 13] & 7 if position + 13 < len(tail) else 0)
                if tail[position + 4] >> 6 == 1
                else 12
            )
        elif code >= _PS_SYSTEM:
            size = 6 + int.from_bytes(tail[position + 4 : position + 6])
        else:
            return None
        position += size
    if position > len(tail) or (
        position >= 0 and 0 < len(tail) - position < 6 and b"\0\0\1".startswith(tail[position:][:3])
    ):
        return f"the last packet of the file lacks {format_count(max(1, position - len(tail)), 'byte')}"
    return None


def _check_asf(file: BinaryIO, num_bytes: int) -> str | None:
    head = file.read(_HEAD_BYTES)
    at = head.find(_ASF_FILE_PROPERTIES)
    if at < 0 or len(head) < at + 92 or head[at + 88] & _ASF_BROADCAST:
        return None
    return _describe_overrun("file", 0, int.from_bytes(head[at + 40 : at + 48], "little"), num_bytes)


def _check_flv(file: BinaryIO, num_bytes: int) -> str | None:
    if num_bytes < 28 or _read_last_flv_tag(file, num_bytes):
        return None
    return "the last tag of the file is incomplete"


def _read_last_flv_tag(file: BinaryIO, num_bytes: int) -> bytes:
    """The head of the last tag, or nothing if it is incomplete: each tag is followed by its size."""
    file.seek(max(0, num_bytes - 4))
    tag_size = int.from_bytes(file.read(4))
    if not 11 <= tag_size <= num_bytes - 13:
        return b""
    file.seek(num_bytes - 4 - tag_size)
    tag = file.read(11)
    is_whole = tag[0] & 31 in (8, 9, 18) and int.from_bytes(tag[1:4]) + 11 == tag_size
    return tag if is_whole else b""


def _check_ogg(file: BinaryIO, num_bytes: int) -> str | None:
    tail_start = max(0, num_bytes - _TAIL_BYTES)
    file.seek(tail_start)
    tail = file.read(_TAIL_BYTES)
    if zeros := _describe_zeros(tail):
        return zeros
    at = tail.rfind(b"OggS\0")
    if at < 0 or at + 27 > len(tail):
        return "the last page of the file is incomplete"
    lacing = tail[at + 27 : at + 27 + tail[at + 26]]
    is_whole = len(lacing) == tail[at + 26] and at + 27 + len(lacing) + sum(lacing) <= len(tail)
    return None if is_whole else "the last page of the file is incomplete"


def _check_mp4(file: BinaryIO, num_bytes: int) -> str | None:
    """Boxes of a fragmented file, or the lack of a table of all frames; a file that has one is judged by it."""
    position, is_fragmented, needs_table, has_table = 0, False, False, False
    while position + 8 <= num_bytes:
        file.seek(position)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4]), head[4:8]
        if size == 1:
            size = int.from_bytes(head[8:16])
        is_fragmented |= kind == b"moof"
        needs_table |= kind in (b"mdat", b"moov")
        has_table |= kind == b"moov" and position + size <= num_bytes
        if size < 8:  # to the end of the file
            break
        if is_fragmented and kind in (b"moof", b"mdat") and position + size > num_bytes:
            return f"the last fragment of the file lacks {format_count(position + size - num_bytes, 'byte')}"
        position += size
    if needs_table and not (has_table or is_fragmented):
        return "the table of frames (moov) is missing or incomplete: the recording or the download was cut off"
    return None


def _check_gif(file: BinaryIO, num_bytes: int) -> str | None:
    file.seek(max(0, num_bytes - 64))
    return None if b"\0;" in file.read() else "the file lacks its end mark"


def _check_apng(file: BinaryIO, num_bytes: int) -> str | None:
    file.seek(max(0, num_bytes - 1024))
    return None if b"IEND" in file.read() else "the file lacks its end mark (IEND)"


_CHECKS: dict[str, Callable[[BinaryIO, int], str | None]] = {
    "matroska": _check_matroska,
    "avi": _check_riff,
    "webp_pipe": _check_riff,
    "mpegts": _check_mpegts,
    "mpeg": _check_mpeg_program,
    "asf": _check_asf,
    "flv": _check_flv,
    "ogg": _check_ogg,
    "mp4": _check_mp4,
    "gif": _check_gif,
    "apng": _check_apng,
}


def _describe_zeros(tail: bytes) -> str | None:
    """What a download that reserved its room, or a disk that lost power, leaves at the end of a file."""
    num_zeros = len(tail) - len(tail.rstrip(b"\0"))
    at_least = "at least " if num_zeros == _TAIL_BYTES else ""
    return f"the file ends in {at_least}{num_zeros:,} bytes of zeros" if num_zeros >= _MIN_ZERO_BYTES else None


def _describe_overrun(what: str, start: int, size: int | None, num_bytes: int) -> str | None:
    if size is None or start + size <= num_bytes:
        return None
    return f"the file has {num_bytes:,} bytes, and its head says that its {what} needs {start + size:,}"


def _iterate_ebml(data: bytes, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, int, int | None]]:
    """Id, start of the content, and size (None: unknown) of the elements side by side in `data`."""
    position = start
    while position < (len(data) if stop is None else min(stop, len(data))) and data[position]:
        id_bytes = 9 - data[position].bit_length()
        size_at = position + id_bytes
        if size_at >= len(data) or not data[size_at]:
            return
        size_bytes = 9 - data[size_at].bit_length()
        size = int.from_bytes(data[size_at : size_at + size_bytes]) & ((1 << 7 * size_bytes) - 1)
        content = size_at + size_bytes
        is_unknown = size == (1 << 7 * size_bytes) - 1
        yield int.from_bytes(data[position:size_at]), content, None if is_unknown else size
        position = len(data) if is_unknown else content + size


def _read_matroska_seconds(head: bytes) -> float | None:
    segment = next((start for element, start, _ in _iterate_ebml(head) if element == _EBML_SEGMENT), len(head))
    info = next(((start, size) for element, start, size in _iterate_ebml(head, segment) if element == _EBML_INFO), None)
    if info is None or info[1] is None:
        return None
    scale: int = 1_000_000
    duration: float = math.nan
    for element, start, size in _iterate_ebml(head, info[0], info[0] + info[1]):
        content = head[start : start + (size or 0)]
        if element == _EBML_TIMESTAMP_SCALE and len(content) <= _MAX_EBML_INTEGER_BYTES:
            scale = int.from_bytes(content)
        elif element == _EBML_DURATION and len(content) in (4, 8):
            (duration,) = struct.unpack(">f" if len(content) == 4 else ">d", content)
    return duration * (scale / 1e9)


def _read_asf_seconds(head: bytes) -> float | None:
    at = head.find(_ASF_FILE_PROPERTIES)
    if at < 0 or len(head) < at + 92 or head[at + 88] & _ASF_BROADCAST:
        return None
    play, _, preroll = struct.unpack("<3Q", head[at + 64 : at + 88])
    return float(play) / 1e7 - float(preroll) / 1e3


def _read_flv_seconds(head: bytes) -> float | None:
    key = b"\0\x08duration\0"
    at = head.find(key) + len(key)
    return float(struct.unpack(">d", head[at : at + 8])[0]) if len(key) <= at <= len(head) - 8 else None


_READ_SECONDS: dict[str, Callable[[bytes], float | None]] = {
    "matroska": _read_matroska_seconds,
    "asf": _read_asf_seconds,
    "flv": _read_flv_seconds,
}
