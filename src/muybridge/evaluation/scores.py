"""Clips to rows of scores, and the file that holds them (design decision 9; format in docs/protocol.md).

Enter: batches of planned views of whole videos and a `Scorer`. Leave: rows, one a planned view, scored or recorded as failed
with its reason; nothing is replaced, padded or averaged here. Accuracy is computed from the file alone (`aggregate`,
`metrics`), so a number can always be computed again, by another protocol of averaging or by other software.

A score file is Parquet: video, view, start_seconds, labels, logits (null where the view failed), status, reason; a
`ScoresHeader` as JSON in the schema metadata key `muybridge`. Rows go in and out in row groups of whole batches.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.files.atomic import atomic_write
from muybridge.records import SPLITS, STATUSES, PlannedView, Preprocessing, Scorer
from muybridge.video.views import prepare_network_input

if TYPE_CHECKING:
    from muybridge.loading.datasets import EvaluationBatch

FORMAT = 1
METADATA_KEY = b"muybridge"
VIDEO_SCORES_METADATA_KEY = b"muybridge_videos"  # instead, in a file with a row a video (`videos.py`)
ROW_GROUP_ROWS = 8192  # 13 MB of logits for 400 classes: what writing holds in memory at once

SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("view", pa.int32(), nullable=False),
        pa.field("start_seconds", pa.float64()),  # null: the video could not be opened, so the view has no place
        pa.field("labels", pa.list_(pa.int32()), nullable=False),
        pa.field("logits", pa.list_(pa.float32())),  # null: the view failed
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class ScoresHeader:
    """What a score file says of itself. `num_videos` counts all videos of the split, readable or not."""

    classes: tuple[str, ...]
    protocol: EvaluationProtocol
    split: str
    fold: int | None
    model_sha256: str
    manifest_sha256: str
    num_videos: int
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"scores of format {self.format} were found, this version reads format {FORMAT}")
        if self.split not in SPLITS:
            raise ValueError(f"the scores' split is {self.split!r}, expected one of {', '.join(SPLITS)}")
        if not self.classes:
            raise ValueError("the scores name no classes")

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "classes": list(self.classes), "protocol": self.protocol.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ScoresHeader:
        """The record from JSON values; another format, an unknown or a missing key is a ValueError."""
        if values.get("format") != FORMAT:  # first: another format may well have other keys
            raise ValueError(f"scores of format {values.get('format')} were found, this version reads format {FORMAT}")
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            raise ValueError(f"the header has the keys {sorted(values)}, expected {sorted(names)}")
        protocol = EvaluationProtocol.from_json(values["protocol"])
        return cls(**{**values, "classes": tuple(values["classes"]), "protocol": protocol})


@dataclass(frozen=True)
class Scores:
    """A whole score file: `table` has the columns of `SCHEMA`, one row a planned view. It is complete and consistent."""

    table: pa.Table
    header: ScoresHeader

    def __post_init__(self) -> None:
        _check_rows(self.table, len(self.header.classes))
        _check_views(self.table, self.header)


def score_views(
    batches: Iterable[EvaluationBatch], scorer: Scorer, *, preprocessing: Preprocessing, device: torch.device
) -> Iterator[pa.RecordBatch]:
    """One record batch (`SCHEMA`) for each evaluation batch, in its order; a failed view keeps its row, without logits.

    Raises ValueError, naming the video, where a score is not finite: softmax would turn it into a number that looks right.
    """
    for batch in batches:
        scored = np.array([row.status == "ok" for row in batch.planned_views], dtype=np.bool_)
        logits_nc = np.zeros((0, 0), np.float32)
        if batch.views is not None:
            with torch.no_grad():
                logits_nc = scorer(prepare_network_input(batch.views, preprocessing, device)).float().cpu().numpy()
        assert len(logits_nc) == scored.sum(), f"{len(logits_nc)} scores for {scored.sum()} readable views"
        _check_finite(logits_nc, [row for row in batch.planned_views if row.status == "ok"])
        yield make_record_batch(batch.planned_views, logits_nc)


def make_record_batch(rows: Sequence[PlannedView], logits_nc: NDArray[np.float32]) -> pa.RecordBatch:
    """Planned views and the logits (N, classes) of those with status ok, in the same order, as rows of `SCHEMA`."""
    scored = np.array([row.status == "ok" for row in rows], dtype=np.bool_)
    num_labels = np.array([len(row.labels) for row in rows], dtype=np.int64)
    labels = np.fromiter(chain.from_iterable(row.labels for row in rows), np.int32, count=int(num_labels.sum()))
    columns = [
        pa.array([row.video for row in rows], pa.string()),
        pa.array([row.view for row in rows], pa.int32()),
        pa.array([row.start_seconds for row in rows], pa.float64()),
        pa.ListArray.from_arrays(_compute_offsets(num_labels), labels),
        pa.ListArray.from_arrays(
            _compute_offsets(scored * logits_nc.shape[1]),
            pa.array(np.ascontiguousarray(logits_nc, dtype=np.float32).reshape(-1)),
            mask=pa.array(~scored),
        ),
        pa.array([row.status for row in rows], pa.string()),
        pa.array([row.reason for row in rows], pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _compute_offsets(lengths: NDArray[np.int64]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


def _check_finite(logits_nc: NDArray[np.float32], rows: Sequence[PlannedView]) -> None:
    finite = np.isfinite(logits_nc).all(axis=1)
    if not finite.all():
        row = rows[int(np.argmin(finite))]
        raise ValueError(
            f"the network gave scores that are not finite for {row.video}, view {row.view}; its weights or its "
            "preprocessing are damaged: look at the weights, or evaluate in fp32"
        )


def write_scores(path: Path, batches: Iterable[pa.RecordBatch], header: ScoresHeader) -> None:
    """Writes a score file whole or not at all, a row group at a time; `batches` are those of `score_views`.

    Raises ValueError, and leaves `path` as it was, where the rows are not every planned view once (`Scores` says how).
    """
    schema = SCHEMA.with_metadata({METADATA_KEY: json.dumps(header.to_json())})
    with atomic_write(path) as temporary:
        with pq.ParquetWriter(
            temporary,
            schema,
            compression="zstd",
            use_dictionary=["video", "status", "reason"],
            column_encoding={"logits.list.element": "BYTE_STREAM_SPLIT"},  # 84 % of the floats' size, 92 % without
            write_page_checksum=True,
        ) as writer:
            for group in _iterate_row_groups(batches):
                _check_rows(group, len(header.classes))
                writer.write_table(group)
        # The rows are on disk; whether each is there once is a question about the three small columns alone.
        with pq.ParquetFile(temporary) as file:
            _check_views(file.read(columns=["video", "view", "labels"]), header)


def _iterate_row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    pending: list[pa.RecordBatch] = []
    num_rows = 0
    for batch in batches:
        pending.append(batch)
        num_rows += len(batch)
        if num_rows >= ROW_GROUP_ROWS:
            yield pa.Table.from_batches(pending, SCHEMA)
            pending, num_rows = [], 0
    if pending:
        yield pa.Table.from_batches(pending, SCHEMA)


def read_scores(path: Path) -> Scores:
    """A score file, checked.

    Raises ValueError with one sentence where it is absent, not Parquet, damaged, of another format, or not every planned
    view exactly once.
    """
    if not path.is_file():
        raise ValueError(f"there is no score file {path}; `muybridge evaluate` writes one")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            header = _parse_header(file.schema_arrow)
            _check_columns(file.schema_arrow)
            table = file.read(columns=SCHEMA.names).select(SCHEMA.names).replace_schema_metadata(None)
        return Scores(table, header)
    except (pa.ArrowException, OSError) as error:
        cause = str(error).partition("\n")[0]
        raise ValueError(f"{path} is not a Parquet file, or a damaged one; evaluate again ({cause})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _parse_header(schema: pa.Schema) -> ScoresHeader:
    text = (schema.metadata or {}).get(METADATA_KEY)
    if VIDEO_SCORES_METADATA_KEY in (schema.metadata or {}):
        raise ValueError(
            "it has a row a video (evaluation.keep videos), but the views are needed here; evaluate again with "
            "--evaluation.keep views"
        )
    if text is None:
        raise ValueError(
            "a Parquet file, but not of scores: it has no muybridge metadata; give a file that "
            "`muybridge evaluate` wrote"
        )
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"its muybridge metadata is not JSON ({error}); evaluate again") from error
    if not isinstance(values, dict):
        raise ValueError("its muybridge metadata is not a JSON object; evaluate again")
    return ScoresHeader.from_json(values)


def _check_columns(schema: pa.Schema) -> None:
    missing = [name for name in SCHEMA.names if name not in schema.names]
    if missing:
        raise ValueError(f"the score file lacks the columns {', '.join(missing)}; evaluate again")
    for field in SCHEMA:
        found = schema.field(field.name).type
        if found != field.type:
            raise ValueError(f"the column {field.name} holds {found}, expected {field.type}; evaluate again")


def _check_rows(table: pa.Table, num_classes: int) -> None:
    """What can be wrong within a row."""
    for name in ("video", "view", "labels", "status", "reason"):
        if table[name].null_count:
            raise ValueError(f"{table[name].null_count} rows have no {name}")
    unknown = set(table["status"].unique().to_pylist()) - set(STATUSES)
    if unknown:
        raise ValueError(f"the status {sorted(unknown)[0]!r} is unknown, expected one of {', '.join(STATUSES)}")
    _raise_if_any(
        pc.not_equal(pc.equal(table["status"], "ok"), table["logits"].is_valid()),
        table,
        "has a status that contradicts its scores: ok must have scores and a failed view none",
    )
    lengths = pc.list_value_length(table["logits"])
    _raise_if_any(
        pc.not_equal(lengths, num_classes), table, f"has another number of scores than the {num_classes} classes"
    )
    if not pc.all(pc.is_finite(pc.list_flatten(table["logits"])), min_count=0).as_py():
        raise ValueError("some scores are not finite; look at the weights, or evaluate in fp32")
    labels = pc.list_flatten(table["labels"])
    extremes = pc.min_max(labels).as_py() if len(labels) else {"min": 0, "max": 0}
    if extremes["min"] < 0 or extremes["max"] >= num_classes:
        raise ValueError(f"labels run from {extremes['min']} to {extremes['max']}, but there are {num_classes} classes")


def _raise_if_any(is_wrong: pa.ChunkedArray, table: pa.Table, sentence: str) -> None:
    row = pc.index(is_wrong, True).as_py()
    if row >= 0:
        raise ValueError(f"{table['video'][row]}, view {table['view'][row]} {sentence}")


def _check_views(table: pa.Table, header: ScoresHeader) -> None:
    """Every planned view is there exactly once, and all views of a video have the same labels."""
    video_indices, names = compute_video_indices(table)
    view = table["view"].to_numpy()
    clips = header.protocol.clips
    if len(names) != header.num_videos:
        raise ValueError(f"the scores are of {len(names)} videos, expected {header.num_videos}")
    wrong = (view < 0) | (view >= clips)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{names[video_indices[row]]} has a view {view[row]}, but {clips} views a video were planned")
    counts = np.bincount(video_indices * clips + view, minlength=len(names) * clips)
    wrong_counts = np.flatnonzero(counts != 1)
    if len(wrong_counts):
        video_index, view_index = divmod(int(wrong_counts[0]), clips)
        problem = "is missing" if counts[wrong_counts[0]] == 0 else f"is there {counts[wrong_counts[0]]} times"
        raise ValueError(
            f"view {view_index} of {names[video_index]} {problem}, but every planned view belongs there exactly once"
        )
    if len(table) and not _has_consistent_labels(table["labels"], video_indices):
        raise ValueError("the views of one video have different labels")


def compute_video_indices(table: pa.Table) -> tuple[NDArray[np.int64], list[str]]:
    """For each row the number of its video, int64 (rows,), and the videos' names, in the order they first appear."""
    if not len(table):
        return np.zeros(0, np.int64), []
    encoded = table["video"].dictionary_encode()  # its chunks share one dictionary
    indices = np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])
    return indices.astype(np.int64), encoded.chunk(0).dictionary.to_pylist()


def _has_consistent_labels(labels: pa.ChunkedArray, video_indices: NDArray[np.int64]) -> bool:
    _, first_rows = np.unique(video_indices, return_index=True)
    return bool(labels.equals(labels.take(pa.array(first_rows[video_indices]))))
