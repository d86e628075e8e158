"""Prepared folders: what dataset.json says, the manifest of their shards, and whether they are still what was written.

What enters is the folder or fsspec address of prepared data, what leaves is a `Manifest` whose `path` is where a video lies
in the shards. Format 1: dataset.json, manifest.parquet, coverage.json, shards/NNNNNN.tar (docs/data.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from muybridge.datasets.manifest import SCHEMA, Manifest
from muybridge.files.hashing import hash_file
from muybridge.prepared.object_store import read_bytes
from muybridge.prepared.shards import format_shard_path, is_remote
from muybridge.prepared.tar_shards import find_damaged_videos

FORMAT = 1
DESCRIPTION, MANIFEST, COVERAGE = "dataset.json", "manifest.parquet", "coverage.json"
STORED_COLUMNS = pa.schema([("shard", pa.int32()), ("offset", pa.int64()), ("num_bytes", pa.int64())])
FLOW_COLUMNS = pa.schema([("flow_offset", pa.int64()), ("flow_num_bytes", pa.int64()), ("flow_sha256", pa.string())])
_DESCRIPTION_KEYS = frozenset(
    (
        "format",
        "classes",
        "scale_height",
        "scale_width",
        "frames_per_second",
        "flow_bound",
        "num_folds",
        "notes",
        "manifest_sha256",
        "shards",
    )
)


@dataclass(frozen=True)
class DatasetDescription:
    """dataset.json: how the data was made. `shards` are (num_bytes, sha256), by number."""

    classes: tuple[str, ...]
    scale_height: int
    scale_width: int
    frames_per_second: float | None
    flow_bound: float | None  # pixels; null where no flow is stored
    num_folds: int
    notes: tuple[str, ...]
    manifest_sha256: str
    shards: tuple[tuple[int, str], ...]

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        shards = [{"num_bytes": num_bytes, "sha256": sha256} for num_bytes, sha256 in self.shards]
        lists = {"classes": list(self.classes), "notes": list(self.notes), "shards": shards}
        return {"format": FORMAT, **self.__dict__, **lists}

    @classmethod
    def from_json(cls, address: str, values: Mapping[str, Any]) -> DatasetDescription:
        """The record from JSON values; ValueError for another format or other keys."""
        if values.get("format") != FORMAT:
            raise ValueError(
                f"{address} is prepared data of format {values.get('format')}, this version reads format {FORMAT}; "
                "prepare it again, or use the version that made it"
            )
        if set(values) != _DESCRIPTION_KEYS:
            raise ValueError(
                f"{address}/{DESCRIPTION} has the keys {sorted(values)}, expected {sorted(_DESCRIPTION_KEYS)}"
            )
        kept = {key: value for key, value in values.items() if key != "format"}
        shards = tuple((shard["num_bytes"], shard["sha256"]) for shard in values["shards"])
        return cls(**{**kept, "classes": tuple(values["classes"]), "notes": tuple(values["notes"]), "shards": shards})


def is_prepared(address: str) -> bool:
    """Whether an address is one of prepared data: a folder with a dataset.json, or any address of fsspec."""
    return bool(address) and (is_remote(address) or Path(address, DESCRIPTION).is_file())


def read_description(address: str) -> DatasetDescription:
    """Raises ValueError with a sentence where it is absent, damaged or of another format."""
    try:
        text = _read_file(address, DESCRIPTION).decode()
        values = json.loads(text)
    except FileNotFoundError as error:
        raise ValueError(f"there is no prepared data at {address}: it has no {DESCRIPTION}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{address}/{DESCRIPTION} is damaged ({error}); prepare the data again") from error
    if not isinstance(values, dict):
        raise ValueError(f"{address}/{DESCRIPTION} is damaged (no JSON object); prepare the data again")
    return DatasetDescription.from_json(address, values)


def open_prepared(address: str, *, fold: int | None = None) -> Manifest:
    """The manifest of prepared data. Training videos that failed in preparation are set aside, and a note says how many."""
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
            f"{address}/{MANIFEST} is damaged: it is not the one that {DESCRIPTION} describes; prepare the data again"
        )
    if fold is not None:
        table = table.set_column(table.column_names.index("split"), "split", table[f"fold_{fold}"])
    # The same strings under two names: no second copy of them.
    table = table.append_column("path", table["video"])
    failed = pc.and_(pc.not_equal(table["status"], "ok"), pc.equal(table["split"], "train"))
    num_failed = pc.sum(failed).as_py() or 0
    notes = list(description.notes)
    if num_failed:
        split = pc.if_else(failed, "unused", table["split"])
        table = table.set_column(table.column_names.index("split"), "split", split)
        notes.append(f"{num_failed} training videos failed in preparation and are left out; {COVERAGE} names them.")
    return Manifest.from_trusted_table(
        table, description.classes, address, tuple(notes)
    )  # `prepare` checked what it wrote


def find_damage(address: str) -> Iterator[str]:
    """A sentence for everything in a prepared folder that is not as it was written; nothing where all is well."""
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
        size_and_sha256 = hash_file(root / name)
        if size_and_sha256 == (num_bytes, sha256):
            continue
        problem = (
            f"has {size_and_sha256[0]} bytes, expected {num_bytes}" if size_and_sha256[0] != num_bytes else "is damaged"
        )
        rows = table.filter(pc.equal(table["shard"], shard_index)).select(["video", "offset", "num_bytes", "sha256"])
        locations = [tuple(row.values()) for row in rows.to_pylist()]
        if description.flow_bound is not None:
            of_flow = table.filter(pc.equal(table["shard"], shard_index)).select(["video", *FLOW_COLUMNS.names])
            locations += [(f"{row['video']} (flow)", *list(row.values())[1:]) for row in of_flow.to_pylist()]
        lost = list(find_damaged_videos(root / name, locations))
        yield f"{name} {problem}; damaged videos: {', '.join(lost) or 'none, only what lies between them'}"


def compute_manifest_sha256(address: str) -> str:
    """Of the manifest's file."""
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
        if is_remote(address):
            return pq.read_table(pa.BufferReader(_read_file(address, MANIFEST)))
        return pq.ParquetFile(Path(address, MANIFEST), memory_map=True).read()
    except (FileNotFoundError, pa.ArrowException) as error:
        cause = str(error).partition("\n")[0]
        raise ValueError(f"{address}/{MANIFEST} cannot be read ({cause}); prepare the data again") from error
