"""Which videos there are, what they show and which split they belong to: one Arrow table (docs/data.md).

Enters: rows from an indexing function (`datasets.py`, or a prepared folder). Leaves: a `Manifest`, the same for every data
set. A row is read from its columns when it is asked for: no Python object a video, so a million videos cost what their
columns cost, and any row is as near as the first.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from muybridge.records import SPLITS, STATUSES, VideoError
from muybridge.text import join_names

FORMAT_VERSION = 1

SCHEMA = pa.schema(
    [
        ("video", pa.string()),  # unique name
        ("path", pa.string()),  # what a FrameSource is asked for; several videos may be segments of one file
        ("labels", pa.list_(pa.int32())),  # places in the classes
        ("split", pa.string()),
        ("group", pa.string()),  # what must stay on one side of a split: a person, a recording
        ("start_seconds", pa.float64()),  # the segment, from the file's first frame; null: its beginning, its end
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
_MIN_MAPPED_BYTES = 16_000_000


@dataclass(frozen=True)
class ShardMember:
    """Where a stored video lies, and the SHA-256 of its head. As text it is what a `ShardFrameSource` is asked for."""

    shard: int
    offset: int
    num_bytes: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.shard}:{self.offset}:{self.num_bytes}:{self.sha256}"

    @classmethod
    def parse(cls, text: str) -> ShardMember:
        """The reverse of `str`."""
        shard, offset, num_bytes, sha256 = text.split(":")
        return cls(int(shard), int(offset), int(num_bytes), sha256)


@dataclass(frozen=True, eq=False)
class Manifest:
    """The videos of a data set or of one split of it. Columns beyond SCHEMA are kept; `notes` are lines for people."""

    table: pa.Table
    classes: tuple[str, ...]
    root: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        missing = [name for name in SCHEMA.names if name not in self.table.column_names]
        if missing:
            raise ValueError(
                f"the manifest lacks the columns {', '.join(missing)}; it has {', '.join(self.table.column_names)}"
            )
        wrong = [field for field in SCHEMA if not self.table.schema.field(field.name).type.equals(field.type)]
        if wrong:
            listed = ", ".join(
                f"{field.name} {self.table.schema.field(field.name).type}, not {field.type}" for field in wrong
            )
            raise ValueError(f"the manifest has columns of the wrong type: {listed}")
        problems = _find_problems(self.table, len(self.classes))
        if problems:
            raise ValueError(f"the manifest cannot be used: {'; '.join(problems)}")
        object.__setattr__(self, "table", self.table.combine_chunks())  # one chunk: a row is found at once

    @classmethod
    def from_trusted_table(
        cls, table: pa.Table, classes: tuple[str, ...], root: str, notes: tuple[str, ...]
    ) -> Manifest:
        """Of a table that was checked when it was written: checking a million rows again takes longer than reading them."""
        manifest = object.__new__(cls)
        for name, value in zip(("table", "classes", "root", "notes"), (table, classes, root, notes), strict=True):
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
        """A manifest of rows with the columns' names as keys; what a row leaves out is null, `path` is `video`, status ok."""
        filled = [{"path": row["video"], "split": "unused", "status": "ok", "reason": "", **row} for row in rows]
        return cls(pa.Table.from_pylist(filled, schema=SCHEMA), tuple(classes), root, tuple(notes))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def get_video(self, index: int) -> str:
        """The unique name of a video."""
        return str(self._get_value("video", index))

    def get_path(self, index: int) -> str:
        """What a FrameSource is asked for: the file of a video relative to `root`, or where it lies in the shards."""
        if "shard" in self.table.column_names:
            names = ("shard", "offset", "num_bytes", "sha256")
            return str(ShardMember(*(self._get_value(name, index) for name in names)))
        return str(self._get_value("path", index))

    def select_flow(self) -> Manifest:
        """The same videos, whose `path` is where their stored flow lies."""
        table = self.table
        for name in ("offset", "num_bytes", "sha256"):
            table = table.set_column(table.column_names.index(name), name, table[f"flow_{name}"])
        return Manifest.from_trusted_table(table, self.classes, self.root, self.notes)

    def check_status(self, index: int) -> None:
        """Raises VideoError where the manifest itself knows that a video cannot be read."""
        status = self._get_value("status", index)
        if status != "ok":
            raise VideoError(status, self._get_value("reason", index) or "it failed in preparation")

    def get_labels(self, index: int) -> tuple[int, ...]:
        """Places of a video's labels in `classes`."""
        return tuple(self._get_value("labels", index) or ())

    def get_bounds(self, index: int) -> tuple[float | None, float | None]:
        """Start and end of a video's segment, in seconds from its file's first frame."""
        return self._get_value("start_seconds", index), self._get_value("end_seconds", index)

    def select_split(self, split: str) -> Manifest:
        """The videos of one split, in the same order."""
        if split not in SPLITS:
            raise ValueError(f"there is no split {split!r}; the splits are {', '.join(SPLITS)}")
        rows = self.table.filter(pc.equal(self.table["split"], split))
        return Manifest.from_trusted_table(rows, self.classes, self.root, self.notes)

    def count_videos(self) -> dict[str, dict[str, int]]:
        """Videos of each class in each split that has any; a video with several labels counts for each."""
        counts_by_split: dict[str, dict[str, int]] = {}
        for split in SPLITS:
            labels = self.table["labels"].filter(pc.equal(self.table["split"], split))
            if len(labels):
                class_counts = np.bincount(pc.list_flatten(labels).to_numpy(), minlength=len(self.classes))
                counts_by_split[split] = dict(zip(self.classes, map(int, class_counts), strict=True))
        return counts_by_split

    def remap_labels(self, classes: Sequence[str]) -> Manifest:
        """The same videos with their labels as places in `classes`, matched by name.

        Raises ValueError where a class that a video has is not among them: a network cannot be right about it.
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
        return Manifest(table, tuple(classes), self.root, self.notes)

    def compute_sha256(self) -> str:
        """A hash of classes and SCHEMA's columns, row by row in order; `root` and notes are left out."""
        digest = hashlib.sha256(json.dumps([FORMAT_VERSION, self.classes]).encode())
        for name in SCHEMA.names:
            for part in _iterate_canonical_bytes(self.table[name]):
                digest.update(part)
        return digest.hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        """A large table travels as the name of a file that workers map: together they hold it once, and no object a row."""
        rest = (self.classes, self.root, self.notes)
        if self.table.nbytes < _MIN_MAPPED_BYTES:
            return Manifest.from_trusted_table, (self.table, *rest)
        if "_file" not in self.__dict__:
            descriptor, path = tempfile.mkstemp(prefix="muybridge-manifest-", suffix=".arrow")
            with os.fdopen(descriptor, "wb") as file, pa.ipc.new_file(file, self.table.schema) as writer:
                writer.write_table(self.table)
            object.__setattr__(self, "_file", path)
            weakref.finalize(self, Path(path).unlink, missing_ok=True)  # also when the process ends
        return _open_memory_mapped, (self.__dict__["_file"], *rest)

    def _get_value(self, column: str, index: int) -> Any:
        return self.table[column][index].as_py()


def _open_memory_mapped(path: str, classes: tuple[str, ...], root: str, notes: tuple[str, ...]) -> Manifest:
    return Manifest.from_trusted_table(pa.ipc.open_file(pa.memory_map(path)).read_all(), classes, root, notes)


def match_classes(classes: Sequence[str], target_classes: Sequence[str]) -> list[int]:
    """For each of `classes` its place in `others`, matched by name: case, space, '-' and '_' do not count.

    Raises ValueError naming the classes that `others` lacks, and those whose names are the same to this matching.
    """
    target_indices = {normalize_class_name(name): place for place, name in enumerate(target_classes)}
    problems = [*find_ambiguous_names(classes), *find_ambiguous_names(target_classes)]
    missing = [name for name in classes if normalize_class_name(name) not in target_indices]
    if missing:
        problems.append(
            f"{join_names(missing)} {'is' if len(missing) == 1 else 'are'} not among {join_names(target_classes)}"
        )
    if problems:
        raise ValueError(f"classes cannot be matched by name: {'; '.join(problems)}")
    return [target_indices[normalize_class_name(name)] for name in classes]


def find_ambiguous_names(classes: Sequence[str]) -> list[str]:
    """A clause for each set of classes whose names differ in nothing but case, space, '-' and '_'."""
    by_name: dict[str, list[str]] = {}
    for name in classes:
        by_name.setdefault(normalize_class_name(name), []).append(name)
    return [f"{' and '.join(map(repr, names))} are the same name" for names in by_name.values() if len(names) > 1]


def normalize_class_name(name: str) -> str:
    """A class name without what does not count: case, space, '-' and '_'."""
    return re.sub(r"[\s_-]+", "", name.casefold())


def _find_problems(table: pa.Table, num_classes: int) -> list[str]:
    problems = [*_find_unknown_values(table, "split", SPLITS), *_find_unknown_values(table, "status", STATUSES)]
    for name in ("video", "path"):
        num_empty = pc.sum(pc.fill_null(pc.equal(table[name], ""), True)).as_py() or 0
        if num_empty:
            problems.append(f"{num_empty} rows have no {name}")
    repeated = pc.value_counts(table["video"].combine_chunks())
    repeated = repeated.filter(pc.greater(repeated.field("counts"), 1)).field("values").to_pylist()
    if repeated:
        problems.append(f"{len(repeated)} videos stand in several rows ({join_names(repeated)})")
    labels = pc.list_flatten(table["labels"])
    outside = pc.unique(
        labels.filter(pc.fill_null(pc.invert(pc.is_in(labels, pa.array(range(num_classes), pa.int32()))), True))
    )
    if len(outside):
        problems.append(f"the labels {join_names(outside.to_pylist())} are none of the {num_classes} classes")
    start, end = pc.fill_null(table["start_seconds"], 0.0), table["end_seconds"]
    ends_later = pc.fill_null(pc.and_(pc.greater(end, start), pc.is_finite(end)), True)
    fits = pc.and_(pc.and_(pc.greater_equal(start, 0.0), pc.is_finite(start)), ends_later)  # NaN is never greater
    misplaced = table["video"].filter(pc.invert(fits)).to_pylist()
    if misplaced:
        problems.append(
            f"{len(misplaced)} segments do not start at 0 s or later and end after that ({join_names(misplaced)})"
        )
    return problems


def _find_unknown_values(table: pa.Table, column: str, allowed: Sequence[str]) -> list[str]:
    unknown = [value for value in pc.unique(table[column]).to_pylist() if value not in allowed]
    return (
        [f"{column} is {join_names(unknown)} in some rows, but must be one of {', '.join(allowed)}"] if unknown else []
    )


def _iterate_canonical_bytes(column: pa.ChunkedArray) -> Iterable[bytes]:
    """The content of a column as bytes that depend neither on chunks nor on how Arrow lays it out."""
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
