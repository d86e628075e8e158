"""How many frames a file makes FFmpeg list while it opens the file, as far as the file's boxes tell.

Input: a path. Output: whether the list could be far larger than the file. FFmpeg builds it before anything can be checked: an
MP4 file of 2 kB with 30 million frames of one byte takes 2 GB, and each entry of an edit list copies the list. Whole files have
at least a byte for each frame. References: ISO 14496-12 (MP4), OpenDML AVI file format extensions 1.02.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_CONTAINER_BOXES = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf"))
_TRACK_BOXES = (b"trak", b"traf")
MP4_STARTS = frozenset((b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"moof", b"styp"))
# Matroska, Ogg, FLV, GIF, PNG, ASF, MPEG: an entry of their lists takes bytes in the file, or they have no list.
_LISTING_NO_MORE = (
    *(b"\x1aE\xdf\xa3", b"OggS", b"FLV", b"GIF8", b"\x89PNG", b"0&\xb2u", b"\0\0\1", b"\0\0\0\1", b"G", b"\xff\xd8"),
    *(b"RIFF", b"YUV4MPEG2", b"DKIF"),
)
_MAX_BOXES = 1_000_000
_PER_FRAME_FIELDS = 0xF00  # flags of a trun box: its frames take bytes in it
_MAX_SUPER_INDEX_ENTRIES = 16  # of a small AVI file: writers make one for each gigabyte, or at least for each megabyte
_SUPER_INDEX_BYTES = 1 << 20


def may_list_more_than_it_has(path: str) -> bool:
    """Whether opening the file may take far more memory than it has bytes, or is of a rare kind. Raises OSError."""
    with Path(path).open("rb") as file:
        num_bytes = os.fstat(file.fileno()).st_size
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"AVI ":
            max_entries = _MAX_SUPER_INDEX_ENTRIES + num_bytes // _SUPER_INDEX_BYTES
            return _count_super_index_entries(file, 12, num_bytes) > max_entries
        if head[4:8] in MP4_STARTS:
            return _count_mp4_frames(file, num_bytes) > num_bytes
        return not head.startswith(_LISTING_NO_MORE)


def _count_mp4_frames(file: BinaryIO, num_bytes: int) -> int:
    """The frames of all tracks, each as often as its edit list has entries; more than any file has where that is unknown."""
    total = num_frames = num_edits = 0
    for number, (kind, content, _) in enumerate(_iterate_boxes(file, 0, num_bytes)):
        if kind == b"cmov" or number == _MAX_BOXES:  # compressed boxes
            return num_bytes + 1
        file.seek(content)
        head = file.read(12)
        if kind in _TRACK_BOXES:
            total, num_frames, num_edits = total + num_frames * max(1, num_edits), 0, 0
        elif kind == b"stsz" and head[4:8] != bytes(4):  # frames of one size; others are listed
            num_frames += int.from_bytes(head[8:12])
        elif kind == b"stsz":
            num_frames += min(int.from_bytes(head[8:12]), num_bytes // 4)
        elif kind == b"trun" and not int.from_bytes(head[1:4]) & _PER_FRAME_FIELDS:
            num_frames += int.from_bytes(head[4:8])
        elif kind == b"elst":
            num_edits = int.from_bytes(head[4:8])
    return total + num_frames * max(1, num_edits)


def _iterate_boxes(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start of the content, and end of boxes, those within boxes too."""
    ends = [stop]
    position = start
    while ends:
        if position + 8 > ends[-1]:
            position = ends.pop()
            continue
        file.seek(position)
        head = file.read(16)
        size, kind, content = int.from_bytes(head[:4]), head[4:8], position + 8
        if size == 1:
            size, content = int.from_bytes(head[8:16]), position + 16
        end = min(position + size, ends[-1]) if size >= content - position else ends[-1]  # 0: to the end
        yield kind, content, end
        if kind in _CONTAINER_BOXES:
            ends.append(end)
            position = content
        else:
            position = end


def _count_super_index_entries(file: BinaryIO, start: int, stop: int) -> int:
    """The entries of all indexes of indexes in the chunks between `start` and `stop`, those within lists too."""
    total, position = 0, start
    while position + 8 <= stop:
        file.seek(position)
        head = file.read(16)
        kind, size = head[:4], int.from_bytes(head[4:8], "little")
        if kind == b"indx" and head[11:12] == b"\0":
            total += int.from_bytes(head[12:16], "little")
        if kind == b"LIST" and head[8:12] != b"movi":
            position += 12
        else:
            position += 8 + size + size % 2
    return total
