"""Prepared folders: their description, their manifest and their integrity.

Input: the folder or fsspec address of prepared data. Output: a `Manifest` whose `get_path` locates videos in the shards.
Format 2: dataset.json, manifest.parquet, coverage.json, shards/NNNNNN.tar (docs/data.md). Format 1 has frames of every video,
and no columns about the source files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Annotated, Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Interval

from muybridge.bounds import FrameSize, FramesPerSecond
from muybridge.datasets.manifest import SCHEMA, Manifest
from muybridge.files.hashing import hash_file
from muybridge.files.parquet_file import read_parquet, refuse_damaged
from muybridge.parsing import parse_json_object, parse_record
from muybridge.prepared.object_store import read_bytes
from muybridge.prepared.shards import format_shard_path, is_remote
from muybridge.prepared.tar_shards import find_damaged_videos
from muybridge.records import Preprocessing
from muybridge.text import format_count

FORMAT = 2
DESCRIPTION, MANIFEST, COVERAGE = "dataset.json", "manifest.parquet", "coverage.json"
STORED_COLUMNS = pa.schema([("shard", pa.int32()), ("offset", pa.int64()), ("num_bytes", pa.int64())])
# What was stored: size and `hash_ends` of the file, None for folders of frames, and the segment of it.
SOURCE_COLUMNS = pa.schema(
    [
        ("source_num_bytes", pa.int64()),
        ("source_sha256", pa.string()),
        ("source_start_seconds", pa.float64()),
        ("source_end_seconds", pa.float64()),
    ]
)
FLOW_COLUMNS = pa.schema([("flow_offset", pa.int64()), ("flow_num_bytes", pa.int64()), ("flow_sha256", pa.string())])


@dataclass(frozen=True)
class DatasetDescription:
    """dataset.json: how the data was prepared. `shards` are (num_bytes, sha256) by shard index."""

    classes: tuple[str, ...]
    scale_height: int
    scale_width: int
    frames_per_second: float | None  # None: that of each source video
    flow_bound: float | None  # pixels; None: no flow is stored
    num_folds: int
    notes: tuple[str, ...]
    manifest_sha256: str
    shards: tuple[tuple[int, str], ...]
    has_frames: bool = True  # False: nothing but flow is stored

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        shards = [{"num_bytes": num_bytes, "sha256": sha256} for num_bytes, sha256 in self.shards]
        lists = {"classes": list(self.classes), "notes": list(self.notes), "shards": shards}
        return {"format": FORMAT, **self.__dict__, **lists}

    @classmethod
    def from_json(cls, address: str, values: Mapping[str, Any]) -> DatasetDescription:
        """The record from JSON values. Raises ValueError for another format and for unknown or missing keys."""
        if values.get("format") not in (1, FORMAT):
            raise ValueError(
                f"{address} is prepared data of format {values.get('format')}, this version reads formats 1 and 2; "
                "prepare it again, or use the version that made it"
            )
        first_format = {"has_frames": True} if values["format"] == 1 else {}
        described = {key: value for key, value in values.items() if key != "format"} | first_format
        stored = parse_record(_StoredDescription, described, f"{address}/{DESCRIPTION}")
        shards = tuple((shard.num_bytes, shard.sha256) for shard in stored.shards)
        return cls(**{**stored.__dict__, "shards": shards})


@dataclass(frozen=True)
class _StoredShard:
    num_bytes: Annotated[int, Interval(ge=0, le=2**50)]
    sha256: str


@dataclass(frozen=True)
class _StoredDescription:
    """`DatasetDescription` as dataset.json has it."""

    classes: tuple[str, ...]
    scale_height: FrameSize
    scale_width: FrameSize
    frames_per_second: FramesPerSecond | None
    flow_bound: Annotated[float, Interval(gt=0, le=1_000_000)] | None
    num_folds: Annotated[int, Interval(ge=0, le=3)]
    notes: tuple[str, ...]
    manifest_sha256: str
    shards: tuple[_StoredShard, ...]
    has_frames: bool


def is_prepared(address: str) -> bool:
    """Whether an address is prepared data: a folder with a dataset.json, or any fsspec address."""
    return bool(address) and (is_remote(address) or Path(address, DESCRIPTION).is_file())


def read_description(address: str) -> DatasetDescription:
    """Read dataset.json. Raises ValueError if it is absent, damaged or of another format."""
    try:
        text = _read_file(address, DESCRIPTION)
    except FileNotFoundError as error:
        raise ValueError(f"there is no prepared data at {address}: it has no {DESCRIPTION}") from error
    try:
        values = parse_json_object(text, f"{address}/{DESCRIPTION}")
    except ValueError as error:
        raise ValueError(f"{error}; prepare the data again") from error
    return DatasetDescription.from_json(address, values)


def open_prepared(address: str, *, fold: int | None = None) -> Manifest:
    """The manifest of prepared data, with the splits of `fold` (from 1) where one is given.

    It has the videos that failed in preparation, too (`leave_out_failed`). Raises ValueError for damaged data and for a fold
    that it does not have.
    """
    description = read_description(address)
    if fold is not None and not 1 <= fold <= description.num_folds:
        has = f"folds 1 to {description.num_folds}" if description.num_folds else "no official folds"
        raise ValueError(f"{address} has {has}, not fold {fold}")
    table = _read_manifest(address)
    missing = [name for name in (*SCHEMA.names, *STORED_COLUMNS.names) if name not in (*table.column_names, "path")]
    if missing:
        raise ValueError(
            f"{address}/{MANIFEST} lacks the columns {', '.join(missing)}; it has {', '.join(table.column_names)}"
        )
    if compute_manifest_sha256(address) != description.manifest_sha256:
        raise ValueError(
            f"{address}/{MANIFEST} is damaged: its checksum is not the one in {DESCRIPTION}; prepare the data again"
        )
    _check_labels(address, table, len(description.classes))
    table, impossible_notes = _fail_impossible_rows(table, len(description.shards))
    if fold is not None:
        table = table.set_column(table.column_names.index("split"), "split", table[f"fold_{fold}"])
    table = table.append_column("path", table["video"])  # shares the buffers of `video`
    # `prepare` validated the table before it wrote it.
    return Manifest.from_trusted_table(table, description.classes, address, (*description.notes, *impossible_notes))


def leave_out_failed(manifest: Manifest) -> Manifest:
    """Prepared data with the training videos that failed in preparation unused, and a note on how many."""
    table = manifest.table
    failed = pc.and_(pc.not_equal(table["status"], "ok"), pc.equal(table["split"], "train"))
    num_failed = pc.sum(failed).as_py() or 0
    if not num_failed:
        return manifest
    split = pc.if_else(failed, "unused", table["split"])
    table = table.set_column(table.column_names.index("split"), "split", split)
    note = f"{format_count(num_failed, 'training video')} failed in preparation, left out; {COVERAGE} names which."
    return Manifest.from_trusted_table(table, manifest.classes, manifest.root, (*manifest.notes, note))


def _check_labels(address: str, table: pa.Table, num_classes: int) -> None:
    """Raise ValueError for labels of no class; the checksum does not tell, since it comes with the file."""
    labels = pc.list_flatten(table["labels"])
    low, high = pc.min(labels).as_py(), pc.max(labels).as_py()
    if low is not None and (low < 0 or high >= num_classes):
        raise ValueError(
            f"{address}/{MANIFEST} cannot be used: label runs from {low} to {high}, expected 0 to {num_classes - 1}; "
            "prepare the data again"
        )


def _fail_impossible_rows(table: pa.Table, num_shards: int) -> tuple[pa.Table, list[str]]:
    """The table with the rows as unreadable that lie where no preparation writes, and a note. Fast for a million rows."""
    limits = {"shard": num_shards - 1, "offset": 2**50, "num_bytes": 2**40}
    limits |= {
        name: limits[name.removeprefix("flow_")] for name in FLOW_COLUMNS.names if name.endswith(("offset", "bytes"))
    }
    wrong = [
        pc.or_(pc.less(table[name], 0), pc.greater(table[name], limit))
        for name, limit in limits.items()
        if name in table.column_names
    ]
    is_stored = pc.equal(table["status"], "ok")
    wrong.append(pc.and_(is_stored, pc.is_null(table["shard"])))
    for name in ("offset", "num_bytes"):
        is_missing = pc.is_null(table[name])
        if f"flow_{name}" in table.column_names:
            is_missing = pc.and_(is_missing, pc.is_null(table[f"flow_{name}"]))
        wrong.append(pc.and_(is_stored, is_missing))
    wrong += [pc.invert(pc.is_finite(table[name])) for name in ("start_seconds", "end_seconds")]
    is_impossible = reduce(pc.or_, (pc.fill_null(mask, False) for mask in wrong))
    num_impossible = pc.sum(is_impossible).as_py() or 0
    if not num_impossible:
        return table, []
    shown = [name for name in limits if name in table.column_names]
    reasons = table["reason"].to_pylist()
    for index in np.flatnonzero(is_impossible.to_numpy()).tolist():
        place = ", ".join(f"{name} {table[name][index].as_py()}" for name in shown)
        reasons[index] = f"the manifest says {place}, where nothing can be; prepare the data again"
    status = pc.if_else(is_impossible, "unreadable", table["status"])
    table = table.set_column(table.column_names.index("status"), "status", status)
    table = table.set_column(table.column_names.index("reason"), "reason", pa.array(reasons, pa.string()))
    return table, [f"{format_count(num_impossible, 'row', 'has')} impossible numbers in {MANIFEST}: unreadable."]


def check_frame_size(address: str, stored_size: tuple[int, int], preprocessing: Preprocessing) -> None:
    """Raise ValueError if prepared data has frames of another size (height, width) than `preprocessing` expects."""
    expected_size = preprocessing.scale_height, preprocessing.scale_width
    if stored_size != expected_size:
        stored, expected = (f"{height}x{width}" for height, width in (stored_size, expected_size))
        raise ValueError(
            f"{address} has frames of {stored}, but the preprocessing expects {expected}; prepare the data again with "
            f"--scale {expected_size[0]} {expected_size[1]}, read the original video files instead, or train with "
            f"clips.scale [{stored_size[0]}, {stored_size[1]}]"
        )


def find_damage(address: str) -> Iterator[str]:
    """Verify a prepared folder by its checksums: a sentence for each missing or damaged file, with the damaged videos."""
    description = read_description(address)
    root = Path(address)
    if not (root / MANIFEST).is_file():
        yield f"{MANIFEST} does not exist"
        return
    if hash_file(root / MANIFEST)[1] != description.manifest_sha256:
        yield f"{MANIFEST} is damaged: its checksum does not match"
        return
    table = _read_manifest(address)
    for shard_index, (num_bytes, sha256) in enumerate(description.shards):
        name = format_shard_path(shard_index)
        if not (root / name).is_file():
            yield f"{name} does not exist"
            continue
        actual_num_bytes, actual_sha256 = hash_file(root / name)
        if (actual_num_bytes, actual_sha256) == (num_bytes, sha256):
            continue
        problem = "is damaged"
        if actual_num_bytes != num_bytes:
            problem = f"has {actual_num_bytes} bytes, expected {num_bytes}"
        rows = table.filter(pc.equal(table["shard"], shard_index))
        columns = [rows[column].to_pylist() for column in ("video", "offset", "num_bytes", "sha256")]
        locations = list(zip(*columns, strict=True))
        if description.flow_bound is not None:
            names = [f"{video} (flow)" for video in rows["video"].to_pylist()]
            columns = [rows[column].to_pylist() for column in FLOW_COLUMNS.names]
            locations += list(zip(names, *columns, strict=True))
        stored = [location for location in locations if location[1] is not None]
        damaged = ", ".join(find_damaged_videos(root / name, stored))
        yield f"{name} {problem}; damaged videos: {damaged or 'none, only the bytes between videos'}"


def compute_manifest_sha256(address: str) -> str:
    """SHA-256 of manifest.parquet."""
    if is_remote(address):
        return hashlib.sha256(_read_file(address, MANIFEST)).hexdigest()
    return hash_file(Path(address, MANIFEST))[1]


def _read_file(address: str, file_name: str) -> bytes:
    if not is_remote(address):
        return Path(address, file_name).read_bytes()
    files = fsspec.core.url_to_fs(address)[0]
    return read_bytes(files, f"{address.rstrip('/')}/{file_name}")


def _read_manifest(address: str) -> pa.Table:
    try:
        content = _read_file(address, MANIFEST) if is_remote(address) else Path(address, MANIFEST)
    except FileNotFoundError as error:
        raise ValueError(f"there is no {address}/{MANIFEST} ({error}); prepare the data again") from error
    with refuse_damaged(f"{address}/{MANIFEST} cannot be read; prepare the data again"):
        return read_parquet(content)
