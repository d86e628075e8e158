"""Frame indexes of large files on disk: a file of gigabytes is read as a whole once, and not again by every process.

Input: a path with its time of change and size. Output: the `FrameIndex` that was stored for them by the same FFmpeg, or None.
What is stored can be lost at any time: files are named by a hash, and the oldest make way.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, TypeAlias

import av
import numpy as np

from muybridge.files.atomic import atomic_write
from muybridge.files.cache import get_cache_folder
from muybridge.parsing import parse_json_object, parse_record
from muybridge.records import FrameTimes
from muybridge.video.frame_index import FrameIndex

LARGE_BYTES = 32 << 20  # smaller files are indexed in less than a second
_FORMAT = 1
_MAX_FILES = 500  # of some hundred kilobytes for hours of video
_ARRAYS = ("ticks", "stamps", "key_frame_stamps")
_FileKey: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class _Header:
    """What a `FrameIndex` holds besides arrays."""

    tick_seconds: str
    end_tick: int
    uses_dts: bool
    num_leading_packets: int
    stream_index: int
    sound_lead_seconds: float
    notes: tuple[str, ...]
    header_lengths: tuple[int, ...]


def get_index_folder() -> Path:
    """Where the studio stores indexes: in the user's cache folder."""
    return get_cache_folder() / "indexes"


def read_stored_index(folder: Path, path: str, key: _FileKey) -> FrameIndex | None:
    """The stored index of a file, None where there is none that can be read."""
    target = _get_target(folder, path, key)
    try:
        with target.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            ticks, stamps, key_frame_stamps = (stored[name] for name in _ARRAYS)
            headers = stored["headers"].tobytes()
            header = parse_record(_Header, parse_json_object(stored["header"].tobytes(), str(target)), str(target))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    borders = [0, *accumulate(header.header_lengths)]
    return FrameIndex(
        FrameTimes(ticks, Fraction(header.tick_seconds), header.end_tick),
        stamps,
        key_frame_stamps,
        tuple(headers[start:end] for start, end in pairwise(borders)),
        header.uses_dts,
        header.num_leading_packets,
        header.stream_index,
        header.sound_lead_seconds,
        header.notes,
    )


def write_stored_index(folder: Path, path: str, key: _FileKey, index: FrameIndex) -> None:
    """Store an index; where the folder cannot be written, nothing is."""
    header = _Header(
        str(index.times.tick_seconds),
        index.times.end_tick,
        index.uses_dts,
        index.num_leading_packets,
        index.stream_index,
        index.sound_lead_seconds,
        index.notes,
        tuple(map(len, index.key_frame_headers)),
    )
    arrays: dict[str, Any] = {
        "ticks": index.times.ticks,
        "stamps": index.stamps,
        "key_frame_stamps": index.key_frame_stamps,
        "headers": np.frombuffer(b"".join(index.key_frame_headers), np.uint8),
        "header": np.frombuffer(json.dumps(asdict(header)).encode(), np.uint8),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_oldest(folder)
        with atomic_write(_get_target(folder, path, key)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
    except OSError:
        return


def _get_target(folder: Path, path: str, key: _FileKey) -> Path:
    text = f"{_FORMAT}\0{av.library_versions}\0{path}\0{key}"
    return folder / f"{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.npz"


def _remove_oldest(folder: Path) -> None:
    files = sorted(folder.glob("*.npz"), key=lambda file: file.stat().st_mtime)
    for file in files[: max(0, len(files) - _MAX_FILES + 1)]:
        file.unlink(missing_ok=True)
