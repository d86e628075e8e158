"""`Manifest`: the videos of a data set with their labels and splits, as one Arrow table (docs/data.md).

Input: rows of a folder or a CSV file, or the manifest of a prepared folder. Output: the same `Manifest` for every kind of data.
Values are read from the columns on access. There is no Python object per video, so that a million videos take the memory of
their columns, and access to any row takes the same time.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from muybridge.datasets.classes import match_classes
from muybridge.datasets.columns import TARGET_PREFIX
from muybridge.datasets.rows import VideoRow
from muybridge.datasets.source_rates import may_lack_rate
from muybridge.records import SPLITS, STATUSES, TimeOrigin, VideoError
from muybridge.text import format_count, join_names

FORMAT_VERSION = 1
SOURCE_RATE_COLUMN = "source_fps"  # float64, only in manifests of frames that are stored without a rate

SCHEMA = pa.schema(
    [
        ("video", pa.string()),  # unique name
        ("path", pa.string()),  # the argument of a FrameSource; several videos may be segments of one file
        ("labels", pa.list_(pa.int32())),  # indices into the classes
        ("split", pa.string()),
        ("group", pa.string()),  # videos that must share a split: of one person, of one recording
        ("start_seconds", pa.float64()),  # the segment, from the file's first frame; null: start or end of the file
        ("end_seconds", pa.float64()),
        ("num_frames", pa.int32()),
        ("duration_seconds", pa.float64()),
        ("frames_per_second", pa.float64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("sha256", pa.string()),
    ]
)
NO_FRAMES = "no frames"  # in place of a path
_MIN_MAPPED_BYTES = 16_000_000


@dataclass(frozen=True)
class ShardMember:
    """The location of a stored video in the shards and the SHA-256 of its header.

    Its text form is the argument of a `ShardFrameSource`; NO_FRAMES stands for a video of which only the flow is stored.
    """

    shard: int
    offset: int
    num_bytes: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.shard}:{self.offset}:{self.num_bytes}:{self.sha256}"

    @classmethod
    def parse(cls, text: str) -> ShardMember:
        """The inverse of `str`. Raises VideoError("no_video") for NO_FRAMES."""
        if text == NO_FRAMES:
            raise VideoError("no_video", "its optical flow is stored, but no frames: only networks of flow can read it")
        shard, offset, num_bytes, sha256 = text.split(":")
        return cls(int(shard), int(offset), int(num_bytes), sha256)


@dataclass(frozen=True, eq=False)
class Manifest:
    """The videos of a data set or of one of its splits.

    Columns beyond SCHEMA are kept. `notes` are messages for the user, such as how many videos were held out. `time_origin` is
    where the bounds of segments count from.
    """

    table: pa.Table
    classes: tuple[str, ...]
    root: str
    notes: tuple[str, ...] = ()
    time_origin: TimeOrigin = "picture"

    def __post_init__(self) -> None:
        missing = [name for name in SCHEMA.names if name not in self.table.column_names]
        if missing:
            raise ValueError(
                f"the manifest lacks the columns {', '.join(missing)}; it has {', '.join(self.table.column_names)}"
            )
        wrong = [field for field in SCHEMA if not self.table.schema.field(field.name).type.equals(field.type)]
        if wrong:
            types = ", ".join(
                f"{field.name} {self.table.schema.field(field.name).type}, not {field.type}" for field in wrong
            )
            raise ValueError(f"the manifest has columns of the wrong type: {types}")
        problems = _find_problems(self.table, len(self.classes))
        if problems:
            raise ValueError(f"the manifest cannot be used: {'; '.join(problems)}")
        object.__setattr__(self, "table", self.table.combine_chunks())  # one chunk: constant-time access to a row

    @classmethod
    def from_trusted_table(
        cls,
        table: pa.Table,
        classes: tuple[str, ...],
        root: str,
        notes: tuple[str, ...],
        time_origin: TimeOrigin = "picture",
    ) -> Manifest:
        """Construct without validation, for a table that was validated when it was written.

        Validating a million rows takes longer than reading them.
        """
        manifest = object.__new__(cls)
        values = {"table": table, "classes": classes, "root": root, "notes": notes, "time_origin": time_origin}
        for name, value in values.items():
            object.__setattr__(manifest, name, value)
        return manifest

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Mapping[str, Any]],
        *,
        classes: Sequence[str],
        root: str,
        notes: Sequence[str] = (),
    ) -> Manifest:
        """Construct from mappings with column names as keys.

        Missing values default to null, `path` to `video`, `split` to unused and `status` to ok.
        """
        filled = [{"path": row["video"], "split": "unused", "status": "ok", "reason": "", **row} for row in rows]
        return cls(pa.Table.from_pylist(filled, schema=SCHEMA), tuple(classes), root, tuple(notes))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def get_video(self, index: int) -> str:
        """The unique name of a video."""
        return str(self._get_value("video", index))

    def get_path(self, index: int) -> str:
        """The argument of a FrameSource: a file relative to `root`, or a `ShardMember` as text."""
        if "shard" in self.table.column_names:
            values = [self._get_value(name, index) for name in ("shard", "offset", "num_bytes", "sha256")]
            return str(ShardMember(*values)) if values[1] is not None else NO_FRAMES
        return str(self._get_value("path", index))

    def select_flow(self) -> Manifest:
        """The same videos with the locations of their stored flow in place of those of their frames."""
        table = self.table
        for name in ("offset", "num_bytes", "sha256"):
            table = table.set_column(table.column_names.index(name), name, table[f"flow_{name}"])
        return self.replace_table(table)

    def check_status(self, index: int) -> None:
        """Raise VideoError if the manifest already records that a video cannot be read."""
        status = self._get_value("status", index)
        if status != "ok":
            raise VideoError(status, self._get_value("reason", index) or "it failed in preparation")

    def get_labels(self, index: int) -> tuple[int, ...]:
        """The labels of a video as indices into `classes`."""
        return tuple(self._get_value("labels", index) or ())

    def get_bounds(self, index: int) -> tuple[float | None, float | None]:
        """Start and end of a video's segment, in seconds from `time_origin`; None: not given."""
        return self._get_value("start_seconds", index), self._get_value("end_seconds", index)

    def get_source_rate(self, index: int) -> float | None:
        """The rate of a video whose frames are stored without one, in frames a second; None: not given."""
        if SOURCE_RATE_COLUMN not in self.table.column_names:
            return None
        return cast("float | None", self._get_value(SOURCE_RATE_COLUMN, index))

    @property
    def target_names(self) -> tuple[str, ...]:
        """The names of the targets of a regression, in the order of their columns."""
        names = [name for name in self.table.column_names if name.startswith(TARGET_PREFIX)]
        return tuple(name.removeprefix(TARGET_PREFIX) for name in names)

    def get_targets(self, index: int) -> tuple[float, ...]:
        """The targets of a video, NaN where not measured."""
        return tuple(float(self._get_value(f"{TARGET_PREFIX}{name}", index)) for name in self.target_names)

    def select_targets(self, sources: Mapping[str, str]) -> Manifest:
        """The same videos with the targets `sources`: the present name of each, by its name in the result, in order."""
        columns = {f"{TARGET_PREFIX}{name}": self.table[f"{TARGET_PREFIX}{source}"] for name, source in sources.items()}
        table = self.table.drop_columns([f"{TARGET_PREFIX}{name}" for name in self.target_names])
        for name, column in columns.items():
            table = table.append_column(name, column)
        return self.replace_table(table)

    @property
    def noun(self) -> str:
        """What a row is: a video, or a segment of one."""
        bounds = (self.table["start_seconds"], self.table["end_seconds"])
        return "segment" if any(column.null_count < len(column) for column in bounds) else "video"

    def select_split(self, split: str) -> Manifest:
        """The videos of one split, in the order of the manifest. Raises ValueError for an unknown split."""
        if split not in SPLITS:
            raise ValueError(f"there is no split {split!r}; the splits are {', '.join(SPLITS)}")
        rows = self.table.filter(pc.equal(self.table["split"], split))
        return self.replace_table(rows)

    def count_videos(self) -> dict[str, dict[str, int]]:
        """The number of videos by split and class; a video with several labels counts once for each."""
        counts_by_split: dict[str, dict[str, int]] = {}
        for split in SPLITS:
            labels = self.table["labels"].filter(pc.equal(self.table["split"], split))
            if len(labels):
                class_counts = np.bincount(pc.list_flatten(labels).to_numpy(), minlength=len(self.classes))
                counts_by_split[split] = dict(zip(self.classes, map(int, class_counts), strict=True))
        return counts_by_split

    def remap_labels(self, classes: Sequence[str]) -> Manifest:
        """The same videos with labels as indices into `classes`, matched by name.

        Raises ValueError if `classes` lacks the class of any video, since no prediction for that video could be correct.
        """
        used = sorted(set(pc.list_flatten(self.table["labels"]).to_pylist()))
        class_indices = np.zeros(len(self.classes), np.int32)
        class_indices[used] = match_classes([self.classes[label] for label in used], classes)
        column = self.table["labels"].combine_chunks()
        labels = pa.ListArray.from_arrays(
            pa.array(np.concatenate([[0], np.cumsum(column.value_lengths().fill_null(0).to_numpy())]), pa.int32()),
            pa.array(class_indices[column.flatten().to_numpy()], pa.int32()),
        )
        table = self.table.set_column(self.table.column_names.index("labels"), "labels", labels)
        return replace(self, table=table, classes=tuple(classes))

    def compute_sha256(self) -> str:
        """A hash of the classes, of the columns of SCHEMA in the order of the rows, of targets, and of another time origin.

        And of the rates, where videos are stored as frames without one.
        """
        origin = [] if self.time_origin == "picture" else [self.time_origin]
        digest = hashlib.sha256(json.dumps([FORMAT_VERSION, self.classes, *origin]).encode())
        names = [*SCHEMA.names, *(f"{TARGET_PREFIX}{target}" for target in self.target_names)]
        if SOURCE_RATE_COLUMN in self.table.column_names and any(map(may_lack_rate, self.table["path"].to_pylist())):
            names.append(SOURCE_RATE_COLUMN)
        for name in names:
            for data in _iterate_canonical_bytes(self.table[name]):
                digest.update(data)
        return digest.hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle a large table as the path of a file that workers memory-map, so that all of them share one copy."""
        rest = (self.classes, self.root, self.notes, self.time_origin)
        if self.table.nbytes < _MIN_MAPPED_BYTES:
            return Manifest.from_trusted_table, (self.table, *rest)
        if "_file" not in self.__dict__:
            descriptor, path = tempfile.mkstemp(prefix="muybridge-manifest-", suffix=".arrow")
            with os.fdopen(descriptor, "wb") as file, pa.ipc.new_file(file, self.table.schema) as writer:
                writer.write_table(self.table)
            object.__setattr__(self, "_file", path)
            weakref.finalize(self, Path(path).unlink, missing_ok=True)  # also runs at exit
        return _open_memory_mapped, (self.__dict__["_file"], *rest)

    def replace_table(self, table: pa.Table) -> Manifest:
        """The same data set with other rows, which are trusted (`from_trusted_table`)."""
        return Manifest.from_trusted_table(table, self.classes, self.root, self.notes, self.time_origin)

    def _get_value(self, column: str, index: int) -> Any:
        return self.table[column][index].as_py()


def _open_memory_mapped(path: str, *rest: Any) -> Manifest:
    return Manifest.from_trusted_table(pa.ipc.open_file(pa.memory_map(path)).read_all(), *rest)


def build_manifest(
    rows: Sequence[VideoRow],
    classes: Sequence[str],
    root: str,
    notes: Sequence[str],
    *,
    time_origin: TimeOrigin = "picture",
) -> Manifest:
    """The manifest of rows that all have a split; labels become indices into `classes`."""
    class_indices = {label: class_index for class_index, label in enumerate(classes)}
    num_rows_by_path = Counter(row.path for row in rows)
    manifest = Manifest.from_rows(
        (
            {
                "video": row.path if num_rows_by_path[row.path] == 1 else row.segment_name,
                "path": row.path,
                "labels": [class_indices[label] for label in row.labels],
                "split": row.split,
                "group": row.group,
                "start_seconds": row.start_seconds,
                "end_seconds": row.end_seconds,
            }
            for row in rows
        ),
        classes=classes,
        root=root,
        notes=notes,
    )
    table, rates = append_target_columns(manifest.table, rows), [row.source_fps for row in rows]
    if any(rates):
        table = table.append_column(SOURCE_RATE_COLUMN, pa.array(rates, pa.float64()))
    return replace(manifest, table=table, time_origin=time_origin)


def append_target_columns(table: pa.Table, rows: Sequence[VideoRow]) -> pa.Table:
    """The table of a manifest with a column `target_<name>` for each target of its rows."""
    names = dict.fromkeys(name for row in rows for name, _ in row.targets)
    for name in names:
        values = [dict(row.targets).get(name, math.nan) for row in rows]
        table = table.append_column(f"{TARGET_PREFIX}{name}", pa.array(values, pa.float64()))
    return table


def _find_problems(table: pa.Table, num_classes: int) -> list[str]:
    problems = [*_find_unknown_values(table, "split", SPLITS), *_find_unknown_values(table, "status", STATUSES)]
    for name in ("video", "path"):
        num_empty = pc.sum(pc.fill_null(pc.equal(table[name], ""), True)).as_py() or 0
        if num_empty:
            problems.append(f"{format_count(num_empty, 'row', 'has')} no {name}")
    name_counts = pc.value_counts(table["video"].combine_chunks())
    repeated = name_counts.filter(pc.greater(name_counts.field("counts"), 1)).field("values").to_pylist()
    if repeated:
        problems.append(f"{format_count(len(repeated), 'video', 'is')} in several rows ({join_names(repeated)})")
    labels = pc.list_flatten(table["labels"])
    is_class_index = pc.is_in(labels, pa.array(range(num_classes), pa.int32()))
    unknown_labels = pc.unique(labels.filter(pc.invert(is_class_index))).to_pylist()
    if unknown_labels:
        problems.append(
            f"the labels {join_names(unknown_labels)} are not indices of {format_count(num_classes, 'class')}"
        )
    start, end = pc.fill_null(table["start_seconds"], 0.0), table["end_seconds"]
    is_end_valid = pc.fill_null(pc.and_(pc.greater(end, start), pc.is_finite(end)), True)
    is_start_valid = pc.and_(pc.greater_equal(start, 0.0), pc.is_finite(start))  # comparisons with NaN are false
    invalid_segments = table["video"].filter(pc.invert(pc.and_(is_start_valid, is_end_valid))).to_pylist()
    if invalid_segments:
        problems.append(
            f"{format_count(len(invalid_segments), 'segment', 'does')} not start at 0 s or later and end after that "
            f"({join_names(invalid_segments)})"
        )
    return problems


def _find_unknown_values(table: pa.Table, column: str, allowed: Sequence[str]) -> list[str]:
    unknown = [value for value in pc.unique(table[column]).to_pylist() if value not in allowed]
    return (
        [f"{column} is {join_names(unknown)} in some rows, but must be one of {', '.join(allowed)}"] if unknown else []
    )


def _iterate_canonical_bytes(column: pa.ChunkedArray) -> Iterable[bytes]:
    """The content of a column as bytes that do not depend on chunking or on Arrow's memory layout."""
    yield pc.is_valid(column).to_numpy().tobytes()
    if pa.types.is_list(column.type):
        yield pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype("<i4").tobytes()
        column = pc.list_flatten(column)
    if pa.types.is_string(column.type):
        filled = pc.fill_null(column, "")
        yield pc.binary_length(filled).to_numpy().astype("<i4").tobytes()
        for chunk in filled.chunks:
            yield "".join(chunk.to_pylist()).encode()
    else:
        dtype = "<f8" if pa.types.is_floating(column.type) else "<i4"
        yield pc.fill_null(column, 0).to_numpy().astype(dtype).tobytes()
