"""Scores of views, and the file that holds them (format: docs/protocol.md).

Input: batches of planned views of whole videos and a `Scorer`. Output: a row for each planned view, with its logits, or with
the reason why it failed; no view is replaced, padded or averaged. Accuracy is computed from the file alone (`aggregate`,
`metrics`), so it can be recomputed later, with another average or with other software.

A score file is Parquet with the columns video, view, start_seconds, labels, logits (null where the view failed), status and
reason. The schema metadata key `muybridge` holds a `ScoresHeader` as JSON. Row groups consist of whole batches.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from muybridge.evaluation.overlap import NO_TEST_RESULT
from muybridge.evaluation.scores_header import SCHEMA, TARGETS_SCHEMA, ScoresHeader
from muybridge.files.atomic import atomic_write
from muybridge.files.parquet_file import find_column_problems, read_parquet, refuse_damaged
from muybridge.parsing import parse_json_object
from muybridge.records import STATUSES, PlannedView, Preprocessing, Scorer
from muybridge.text import format_count
from muybridge.video.views import prepare_network_input

if TYPE_CHECKING:
    from muybridge.loading.datasets import EvaluationBatch

METADATA_KEY = b"muybridge"
REMARKS_METADATA_KEY = b"muybridge_remarks"  # what a reader has to know beside the accuracy
EXECUTION_METADATA_KEY = b"muybridge_execution"  # device, precision, versions and data of the scores
VIDEO_SCORES_METADATA_KEY = b"muybridge_videos"  # instead, in a file with a row a video (`video_scores`)
_REMARK_OF_OLD_VALIDATION = f"{NO_TEST_RESULT}, since the best weights are chosen by the validation videos"
ROW_GROUP_ROWS = 8192  # 13 MB of logits for 400 classes: the memory that writing needs


@dataclass(frozen=True)
class Scores:
    """A score file in memory: `table` has the columns of the header's schema and every planned view exactly once."""

    table: pa.Table
    header: ScoresHeader

    def __post_init__(self) -> None:
        _check_rows(self.table, self.header)
        _check_views(self.table, self.header)


def score_batch(
    batch: EvaluationBatch,
    scorer: Scorer,
    *,
    preprocessing: Preprocessing,
    device: torch.device,
    schema: pa.Schema = SCHEMA,
) -> pa.RecordBatch:
    """Score the readable views of an evaluation batch; the result has a row of `schema` for every planned view, in order.

    Raises ValueError with the name of the video where a score is not finite: softmax would turn it into a plausible number.
    """
    readable_views = [view for view in batch.planned_views if view.status == "ok"]
    logits_nc = np.zeros((0, 0), np.float32)
    if batch.views is not None:
        with torch.no_grad():
            logits_nc = scorer(prepare_network_input(batch.views, preprocessing, device)).float().cpu().numpy()
    assert len(logits_nc) == len(readable_views), f"{len(logits_nc)} scores for {len(readable_views)} readable views"
    _check_finite(logits_nc, readable_views)
    return make_record_batch(batch.planned_views, logits_nc, schema)


def make_record_batch(
    views: Sequence[PlannedView], logits_nc: NDArray[np.float32], schema: pa.Schema = SCHEMA
) -> pa.RecordBatch:
    """Rows of `schema` for planned views, given the logits (N, classes) of those with status ok, in the same order."""
    is_scored = np.array([view.status == "ok" for view in views], dtype=np.bool_)
    known = [view.targets if schema is TARGETS_SCHEMA else view.labels for view in views]
    num_known = np.array([len(row) for row in known], dtype=np.int64)
    dtype: Any = np.float32 if schema is TARGETS_SCHEMA else np.int32
    flat = np.fromiter(chain.from_iterable(known), dtype, count=int(num_known.sum()))
    columns = [
        pa.array([view.video for view in views], pa.string()),
        pa.array([view.view for view in views], pa.int32()),
        pa.array([view.start_seconds for view in views], pa.float64()),
        pa.ListArray.from_arrays(_compute_offsets(num_known), flat),
        pa.ListArray.from_arrays(
            _compute_offsets(is_scored * logits_nc.shape[1]),
            pa.array(np.ascontiguousarray(logits_nc, dtype=np.float32).reshape(-1)),
            mask=pa.array(~is_scored),
        ),
        pa.array([view.status for view in views], pa.string()),
        pa.array([view.reason for view in views], pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _compute_offsets(lengths: NDArray[np.int64]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


def _check_finite(logits_nc: NDArray[np.float32], views: Sequence[PlannedView]) -> None:
    is_finite = np.isfinite(logits_nc).all(axis=1)
    if not is_finite.all():
        view = views[int(np.argmin(is_finite))]
        raise ValueError(
            f"the scores of {view.video}, view {view.view} are not finite; the weights or the preprocessing are wrong: "
            "check the weights, or evaluate in fp32"
        )


def write_scores(
    path: Path, batches: Iterable[pa.RecordBatch], header: ScoresHeader, execution: Mapping[str, Any] | None = None
) -> None:
    """Write a score file atomically, one row group at a time. `batches` are results of `score_batch`.

    `execution` (`muybridge.kernels.precision.describe_execution`, and where the data was) stands in a metadata key of its own.

    Raises ValueError and leaves `path` unchanged where the rows are not every planned view exactly once.
    """
    metadata = {METADATA_KEY: json.dumps(header.to_json()), **make_execution_metadata(execution)}
    schema = header.schema.with_metadata(metadata)
    with atomic_write(path) as temporary:
        with pq.ParquetWriter(
            temporary,
            schema,
            compression="zstd",
            use_dictionary=["video", "status", "reason"],
            # 84 % of the floats' size, 92 % without
            column_encoding={f"{header.output_column}.list.element": "BYTE_STREAM_SPLIT"},
            write_page_checksum=True,
        ) as writer:
            for group in iterate_row_groups(batches, header.schema, ROW_GROUP_ROWS):
                _check_rows(group, header)
                writer.write_table(group)
        # Completeness is checked on three small columns read back from disk, so that logits need not stay in memory.
        with pq.ParquetFile(temporary) as file:
            _check_views(file.read(columns=["video", "view", header.target_column]), header)


def make_execution_metadata(execution: Mapping[str, Any] | None) -> dict[bytes, str]:
    """The schema metadata that says how scores were computed; empty where it is not known.

    `remarks` of the execution, sentences without which the accuracy flatters, have a key of their own, also where there are
    none: then it has been looked for them.
    """
    if execution is None:
        return {}
    values = dict(execution)
    remarks = values.pop("remarks", None)
    return {EXECUTION_METADATA_KEY: json.dumps(values), **({} if remarks is None else make_remarks_metadata(remarks))}


def make_remarks_metadata(remarks: Sequence[str]) -> dict[bytes, str]:
    """The schema metadata with sentences that belong beside the rows of a file."""
    return {REMARKS_METADATA_KEY: json.dumps({"remarks": list(remarks)})}


def make_part_settings(header: ScoresHeader, execution: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the parts of an interrupted evaluation must agree on with the one that resumes it: precisions are not mixed."""
    precision = execution["precision"] if execution else "fp32"
    return header.to_json() if precision == "fp32" else {**header.to_json(), "precision": precision}


def make_late_part_settings(execution: Mapping[str, Any] | None) -> dict[str, Any]:
    """As `make_part_settings`, what parts of older versions do not say: where the data is, since a copy has the same names."""
    return {"data": execution["data"]} if execution and "data" in execution else {}


def read_execution(path: Path) -> dict[str, Any] | None:
    """How the scores of a file were computed: precision, device, versions and, since it is recorded, `data` with its absolute
    address and `is_own_data`, whether it is what the run was trained on. None for a file that does not say.
    """
    text = (pq.read_schema(path).metadata or {}).get(EXECUTION_METADATA_KEY)
    return None if text is None else parse_json_object(text, f"the metadata of {path}")


def describe_different_data(addresses: Mapping[str, Any]) -> list[str]:
    """A sentence where scores are of data in different places. `addresses` has that of each file by name, None: not known."""
    known = {name: address for name, address in addresses.items() if address is not None}
    if len(set(known.values())) < 2:
        return []
    listed = "; ".join(f"{name} of {address}" for name, address in known.items())
    return [f"the scores are of data in different places, so videos of one name may differ: {listed}"]


def read_remarks(path: Path) -> tuple[str, ...]:
    """The sentences that belong beside the rows of a file, such as how many training videos are included.

    A file of an older version, for which it was not looked for any, has one for the split validation.
    """
    metadata = pq.read_schema(path).metadata or {}
    text = metadata.get(REMARKS_METADATA_KEY)
    if text is None:
        header = metadata.get(METADATA_KEY) or metadata.get(VIDEO_SCORES_METADATA_KEY) or b"{}"
        split = parse_json_object(header, f"the metadata of {path}").get("split")
        return (_REMARK_OF_OLD_VALIDATION,) if split == "validation" else ()
    remarks = parse_json_object(text, f"the metadata of {path}").get("remarks")
    return tuple(map(str, remarks)) if isinstance(remarks, list) else ()


def iterate_row_groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema, num_group_rows: int) -> Iterator[pa.Table]:
    """The rows in tables of `num_group_rows`, the last one shorter."""
    pending: list[pa.RecordBatch] = []
    num_rows = 0
    for batch in batches:
        pending.append(batch)
        num_rows += len(batch)
        while num_rows >= num_group_rows:
            table = pa.Table.from_batches(pending, schema)
            # Row groups of one size and one chunk: the file does not depend on the sizes of the batches.
            yield table.slice(0, num_group_rows).combine_chunks()
            pending, num_rows = table.slice(num_group_rows).to_batches(), num_rows - num_group_rows
    if pending:
        yield pa.Table.from_batches(pending, schema).combine_chunks()


def read_scores(path: Path) -> Scores:
    """Read and check a score file of the task single_label.

    Raises ValueError where the file is missing, not Parquet, damaged, of another format or task, or incomplete.
    """
    scores = read_any_scores(path)
    if scores.header.head:
        raise ValueError(f"{path}: the scores are of the task {scores.header.task}, expected single_label")
    return scores


def read_any_scores(path: Path) -> Scores:
    """As `read_scores`, for any task."""
    if not path.is_file():
        raise ValueError(f"there is no score file {path}; `muybridge evaluate` writes one")
    try:
        with refuse_damaged("not a Parquet file, or a damaged one; evaluate again"):
            schema = pq.read_schema(path)
            header = _parse_header(schema)
            if problems := find_column_problems(schema, header.schema):
                raise ValueError(f"{'; '.join(problems)}; evaluate again")
            names = header.schema.names
            table = read_parquet(path, names).select(names).replace_schema_metadata(None)
            return Scores(table, header)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _parse_header(schema: pa.Schema) -> ScoresHeader:
    text = (schema.metadata or {}).get(METADATA_KEY)
    if VIDEO_SCORES_METADATA_KEY in (schema.metadata or {}):
        raise ValueError(
            "the file has a row a video (evaluation.keep videos), but scores of views are needed; evaluate again with "
            "--evaluation.keep views"
        )
    if text is None:
        raise ValueError(
            "the Parquet file holds no scores: it has no muybridge metadata; use a file written by `muybridge evaluate`"
        )
    return ScoresHeader.from_json(parse_json_object(text, "the muybridge metadata"))


def _check_rows(table: pa.Table, header: ScoresHeader) -> None:
    """Check what can be wrong within a row."""
    outputs, num_outputs = table[header.output_column], header.num_outputs
    for name in ("video", "view", header.target_column, "status", "reason"):
        if table[name].null_count:
            raise ValueError(f"{format_count(table[name].null_count, 'row', 'has')} no {name}")
    unknown = set(table["status"].unique().to_pylist()) - set(STATUSES)
    if unknown:
        raise ValueError(f"the status {sorted(unknown)[0]!r} is unknown, expected one of {', '.join(STATUSES)}")
    _raise_if_any(
        pc.not_equal(pc.equal(table["status"], "ok"), outputs.is_valid()),
        table,
        "has a status that contradicts its scores: a view has scores if and only if its status is ok",
    )
    noun = "classes" if header.head is None else "outputs"
    lengths = pc.list_value_length(outputs)
    _raise_if_any(
        pc.not_equal(lengths, num_outputs), table, f"does not have a score for each of the {num_outputs} {noun}"
    )
    if not pc.all(pc.is_finite(pc.list_flatten(outputs)), min_count=0).as_py():
        raise ValueError("some scores are not finite; check the weights, or evaluate in fp32")
    if header.head is None:
        _check_labels(table, num_outputs)
        return
    lengths = pc.list_value_length(table["targets"])
    _raise_if_any(
        pc.not_equal(lengths, header.num_targets), table, f"does not have {format_count(header.num_targets, 'target')}"
    )
    if pc.any(pc.is_inf(pc.list_flatten(table["targets"]))).as_py():
        raise ValueError("some targets are infinite; evaluate again")


def _check_labels(table: pa.Table, num_classes: int) -> None:
    labels = pc.list_flatten(table["labels"])
    extremes = pc.min_max(labels).as_py() if len(labels) else {"min": 0, "max": 0}
    if extremes["min"] < 0 or extremes["max"] >= num_classes:
        raise ValueError(
            f"labels run from {extremes['min']} to {extremes['max']}, expected indices of {format_count(num_classes, 'class')}"
        )


def _raise_if_any(is_wrong: pa.ChunkedArray, table: pa.Table, problem: str) -> None:
    row = pc.index(is_wrong, True).as_py()
    if row >= 0:
        raise ValueError(f"{table['video'][row]}, view {table['view'][row]} {problem}")


def _check_views(table: pa.Table, header: ScoresHeader) -> None:
    """Check that every planned view is there exactly once, and that all views of a video have the same labels."""
    video_indices, names = compute_video_indices(table)
    view_indices = table["view"].to_numpy()
    clips = header.protocol.num_views
    if len(names) != header.num_videos:
        raise ValueError(f"the scores are of {format_count(len(names), 'video')}, expected {header.num_videos}")
    is_wrong = (view_indices < 0) | (view_indices >= clips)
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        raise ValueError(
            f"{names[video_indices[row]]} has a view {view_indices[row]}, but "
            f"{format_count(clips, 'view')} a video {'was' if clips == 1 else 'were'} planned"
        )
    counts = np.bincount(video_indices * clips + view_indices, minlength=len(names) * clips)
    wrong_counts = np.flatnonzero(counts != 1)
    if len(wrong_counts):
        video_index, view_index = divmod(int(wrong_counts[0]), clips)
        count = counts[wrong_counts[0]]
        problem = "is missing" if count == 0 else f"is there {format_count(count, 'time')}"
        raise ValueError(
            f"view {view_index} of {names[video_index]} {problem}, expected every planned view exactly once"
        )
    if len(table) and not _has_consistent_targets(table[header.target_column], video_indices):
        raise ValueError(f"the views of one video have different {header.target_column}")


def compute_video_indices(table: pa.Table) -> tuple[NDArray[np.int64], list[str]]:
    """The index of each row's video, int64 (rows,), and the names of the videos in order of first appearance."""
    if not len(table):
        return np.zeros(0, np.int64), []
    encoded = table["video"].dictionary_encode()  # all chunks share one dictionary
    indices = np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])
    return indices.astype(np.int64), encoded.chunk(0).dictionary.to_pylist()


def _has_consistent_targets(targets: pa.ChunkedArray, video_indices: NDArray[np.int64]) -> bool:
    _, first_rows = np.unique(video_indices, return_index=True)
    expected = targets.take(pa.array(first_rows[video_indices]))
    if not pa.types.is_floating(targets.type.value_type):
        return bool(targets.equals(expected))
    # To Arrow NaN differs from NaN.
    values, expected_values = (pc.list_flatten(rows).to_numpy() for rows in (targets, expected))
    return np.array_equal(values, expected_values, equal_nan=True)
