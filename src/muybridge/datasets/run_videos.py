"""The videos of a run, in their order, as `videos.parquet` of the run folder.

Draws are positions in this order. A resumed run puts the rows of its data, which may have moved or grown, into it. The sizes
of some of the files tell other data of the same names apart, and hashes of bounds and of labels or targets an edited list.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from muybridge.datasets.columns import TARGET_PREFIX
from muybridge.datasets.manifest import Manifest
from muybridge.files.atomic import atomic_write
from muybridge.files.parquet_file import read_finite_table
from muybridge.files.run_folder import find_address, read_addresses
from muybridge.parsing import parse_json_object, parse_record
from muybridge.records import Task
from muybridge.text import format_count, join_names

FILE_NAME = "videos.parquet"
FORMAT = 1
MAX_SIZES = 100  # files of which the size is recorded: it takes no time, and other data differs in nearly all
METADATA_KEY = b"muybridge"
SPLITS = ("train", "validation")
SCHEMA = pa.schema([pa.field("video", pa.string()), pa.field("split", pa.string())])


@dataclass(frozen=True)
class _Header:
    """Metadata of videos.parquet."""

    format: int
    classes: tuple[str, ...]
    num_bytes: Mapping[str, int] = field(default_factory=dict)
    labels_sha256: str | None = None
    bounds_sha256: str | None = None


@dataclass(frozen=True, eq=False)
class RunVideos:
    """Names and splits of training and validation videos, a row each, and the classes of the run.

    `num_bytes` are sizes of some of their files, by path under the root of the data; of prepared data there are none.
    `labels_sha256` is that of their labels or targets, `bounds_sha256` of the start and end of each in its file; None in files
    of versions that did not record it.
    """

    table: pa.Table
    classes: tuple[str, ...]
    num_bytes: Mapping[str, int] = field(default_factory=dict)
    labels_sha256: str | None = None
    bounds_sha256: str | None = None

    @classmethod
    def from_manifest(cls, data: Manifest, task: Task = "single_label") -> RunVideos:
        """The training and validation videos of a data set, in its order."""
        rows = data.replace_table(data.table.filter(pc.is_in(data.table["split"], pa.array(SPLITS))))
        names = rows.table.select(["video", "split"])
        return cls(names, data.classes, dict(_iterate_sizes(rows)), _hash_labels(rows, task), _hash_bounds(rows))

    def select_from(self, data: Manifest) -> Manifest:
        """The videos of the run, from a data set that has them, in the order of the run and with its splits and classes.

        Raises ValueError where videos are missing, or where the data has other classes.
        """
        rows_by_video = {video: row for row, video in enumerate(data.table["video"].to_pylist())}
        videos = self.table["video"].to_pylist()
        missing = [video for video in videos if video not in rows_by_video]
        if missing:
            raise ValueError(
                f"{data.root} lacks {format_count(len(missing), 'video')} of the run ({join_names(missing)}); name the "
                "data of the run with --data, or start a new run with another -o"
            )
        rows = data.table.take(pa.array(np.array([rows_by_video[video] for video in videos], np.int64)))
        rows = rows.set_column(rows.column_names.index("split"), "split", self.table["split"])
        return data.replace_table(rows).remap_labels(self.classes)

    def has_labels_of(self, data: Manifest, task: Task) -> bool:
        """Whether the labels or targets of `data`, as `select_from` returns it, are those of training, as far as is known."""
        return self.labels_sha256 is None or self.labels_sha256 == _hash_labels(data, task)

    def has_bounds_of(self, data: Manifest) -> bool:
        """Whether the bounds of `data`, as `select_from` returns it, are those of training, as far as is known."""
        bounds_sha256 = _hash_bounds(data)
        return None in (self.bounds_sha256, bounds_sha256) or self.bounds_sha256 == bounds_sha256

    def compare_sizes(self, root: str | Path) -> list[bool]:
        """For each file under `root` whose size in training is known: whether it has this size now."""
        now = {path: _read_size(Path(root, path)) for path in self.num_bytes}
        return [now[path] == num_bytes for path, num_bytes in self.num_bytes.items() if now[path] is not None]


def _hash_labels(data: Manifest, task: Task) -> str:
    """The SHA-256 of what a run of this task learns: its targets, or the labels of each video, whose order does not count."""
    if task == "regression":
        digest = hashlib.sha256(json.dumps(data.target_names).encode())
        for name in data.target_names:
            digest.update(data.table[f"{TARGET_PREFIX}{name}"].to_numpy().astype("<f8").tobytes())
        return digest.hexdigest()
    lengths = pc.fill_null(pc.list_value_length(data.table["labels"]), 0).to_numpy()
    labels = pc.list_flatten(data.table["labels"]).to_numpy()
    rows = np.repeat(np.arange(len(lengths)), lengths)
    digest = hashlib.sha256(lengths.astype("<i4").tobytes())
    digest.update(labels[np.lexsort((labels, rows))].astype("<i4").tobytes())
    return digest.hexdigest()


def _hash_bounds(data: Manifest) -> str | None:
    """The SHA-256 of start and end of each video in its file. None for prepared data of a version that did not record them."""
    prefix = "source_" if "shard" in data.table.column_names else ""
    names = [f"{prefix}start_seconds", f"{prefix}end_seconds"]
    if not set(names) <= set(data.table.column_names):
        return None
    bounds = [pc.fill_null(data.table[name], np.nan).to_numpy().astype("<f8").tobytes() for name in names]
    return hashlib.sha256(b"".join(bounds)).hexdigest()


def _iterate_sizes(data: Manifest) -> Iterator[tuple[str, int]]:
    """Paths and sizes in bytes of up to MAX_SIZES files, evenly spread."""
    if "shard" in data.table.column_names:
        return
    for row in range(0, len(data), -(-len(data) // MAX_SIZES) or 1):
        path = data.get_path(row)
        if (num_bytes := _read_size(Path(data.root, path))) is not None:
            yield path, num_bytes


def _read_size(path: Path) -> int | None:
    """The size of a file; None for a folder of frames, and for what is not there."""
    return path.stat().st_size if path.is_file() else None


def write_run_videos(folder: Path, videos: RunVideos) -> None:
    """Writes videos.parquet, atomically."""
    header = {
        "format": FORMAT,
        "classes": list(videos.classes),
        "num_bytes": dict(videos.num_bytes),
        "labels_sha256": videos.labels_sha256,
        "bounds_sha256": videos.bounds_sha256,
    }
    metadata = {METADATA_KEY: json.dumps(header)}
    with atomic_write(folder / FILE_NAME) as temporary:
        pq.write_table(videos.table.replace_schema_metadata(metadata), temporary)


def read_run_videos(folder: Path) -> RunVideos | None:
    """The videos of a run; None for a run of a version that did not record them. Raises ValueError for another format."""
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    try:
        table = read_finite_table(path, SCHEMA)
    except ValueError as error:
        raise ValueError(f"{error}; restore it, or start a new run with another -o") from error
    values = parse_json_object((table.schema.metadata or {}).get(METADATA_KEY, b"{}"), f"the metadata of {path}")
    if values.get("format") != FORMAT:
        raise ValueError(f"{path} has format {values.get('format')}, this version reads format {FORMAT}")
    header = parse_record(
        _Header, values, f"the metadata of {path}", optional=("num_bytes", "labels_sha256", "bounds_sha256")
    )
    if unknown := set(table["split"].unique().to_pylist()) - set(SPLITS):
        raise ValueError(f"{path} has the split {min(unknown)!r}, expected {' or '.join(SPLITS)}; restore it")
    recorded = header.num_bytes, header.labels_sha256, header.bounds_sha256
    return RunVideos(table.replace_schema_metadata(None), header.classes, *recorded)


def is_run_data(folder: Path, saved: str, data: str) -> bool:
    """Whether `data` is what a run was trained on, which its settings call `saved`.

    Data that is not where it was in training is known by its name in the current folder, if its files have the same sizes.
    """
    if Path(find_address(folder, "data", saved)).resolve() != Path(data).resolve():
        return False
    place = read_addresses(folder).get("data")
    recorded = None if place is None or Path(place).exists() else read_run_videos(folder)
    if recorded is None or not recorded.num_bytes:
        return True
    equal = recorded.compare_sizes(data if Path(data).is_dir() else Path(data).parent)
    return bool(equal) and all(equal)
