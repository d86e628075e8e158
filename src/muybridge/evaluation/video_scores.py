"""Score files with a row a video, for data sets too large to keep every view (`evaluation.keep videos`).

The test split of Sports-1M with 100 clips a video has 22 million views of 487 classes, 43 GB of logits; averaged over views,
its 220 thousand videos take 0.9 GB.

Input: rows of views from `scores.score_batch`. Output: a row a video with the float64 mean over its readable views, and
the numbers of planned, failed and right views. The file is written in parts; an interrupted evaluation resumes (`score_parts`).
`read_video_scores` reads both kinds of score files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from muybridge.evaluation.aggregate import VideoScores, compute_video_scores
from muybridge.evaluation.outputs import VideoOutputs, average_scores
from muybridge.evaluation.score_parts import LOOPED, ScoreParts
from muybridge.evaluation.scores import (
    VIDEO_SCORES_METADATA_KEY,
    Scores,
    iterate_row_groups,
    make_execution_metadata,
    read_any_scores,
    read_scores,
)
from muybridge.evaluation.scores_header import ScoresHeader
from muybridge.files.parquet_file import PARQUET_ERRORS, check_parquet, check_table_size, refuse_damaged
from muybridge.parsing import parse_json_object
from muybridge.text import format_count

PART_VIDEOS = 256  # the most that a kill loses, and what is read at a time
COUNT_COLUMNS = ("num_views", "num_failed_views", "num_right_views")

SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("labels", pa.list_(pa.int32()), nullable=False),
        *(pa.field(name, pa.int32(), nullable=False) for name in COUNT_COLUMNS),
        pa.field(LOOPED, pa.int32(), nullable=False),
        pa.field("probabilities", pa.list_(pa.float64())),  # null: no view was readable
        pa.field("reason", pa.string(), nullable=False),  # of the first view that failed
    ]
)


def aggregate_record_batch(views: pa.RecordBatch, header: ScoresHeader, looped: Sequence[bool]) -> pa.RecordBatch:
    """Check the rows of the views of whole videos and average them into a row (`SCHEMA`) a video, as the protocol says."""
    table = pa.Table.from_batches([views])
    names = table["video"].unique()
    scores = compute_video_scores(Scores(table, replace(header, num_videos=len(names))))
    values = pa.array(scores.probabilities[scores.readable_mask].reshape(-1))
    lengths = np.where(scores.readable_mask, len(header.classes), 0)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    failed = table.filter(pc.not_equal(table["status"], "ok"))
    reasons = dict(zip(reversed(failed["video"].to_pylist()), reversed(failed["reason"].to_pylist()), strict=True))
    columns = [
        pa.array(scores.videos, pa.string()),
        pa.array(scores.labels, pa.list_(pa.int32())),
        *(pa.array(getattr(scores, name), pa.int32()) for name in COUNT_COLUMNS),
        pa.array(map(int, looped), pa.int32()),
        pa.ListArray.from_arrays(offsets, values, mask=pa.array(~scores.readable_mask)),
        pa.array([reasons.get(name, "") for name in scores.videos], pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


class VideoScoresWriter:
    """Writes a file with a row a video, resuming an interrupted one.

    Parts left by an evaluation of another model, data set or protocol are removed.
    """

    def __init__(self, path: Path, header: ScoresHeader, execution: Mapping[str, Any] | None = None) -> None:
        self._header, self._execution = header, execution
        self._parts = ScoreParts(path, SCHEMA, header, execution, rows_per_part=PART_VIDEOS)

    def select_pending(self, paths: Mapping[str, str | Path]) -> list[int]:
        """See `ScoreParts`."""
        return self._parts.select_pending(paths)

    def write(self, batches: Iterable[pa.RecordBatch]) -> int:
        """Add the rows of the pending videos, write the file, and return the number of videos that repeat in a loop."""
        num_looped = 0

        def iterate_rows() -> Iterator[pa.RecordBatch]:
            nonlocal num_looped
            for table in self._parts.iterate_tables():
                num_looped += pc.sum(table[LOOPED]).as_py()
                yield from table.to_batches()

        header = json.dumps(self._header.to_json())
        metadata = {VIDEO_SCORES_METADATA_KEY: header, **make_execution_metadata(self._execution)}
        with self._parts.table as parts:
            for rows in batches:
                self._parts.add(rows)
            parts.flush()
            groups = iterate_row_groups(iterate_rows(), SCHEMA, PART_VIDEOS)
            parts.write_file(metadata, tables=groups, verify=_read_video_rows)
        return num_looped


def read_video_scores(path: Path) -> VideoScores:
    """Read the scores of videos from a file with a row a view or a row a video.

    Raises ValueError where the file is missing, not Parquet, damaged, of another format, or incomplete.
    """
    with refuse_damaged(f"{path} is not a Parquet file, or a damaged one; evaluate again"):
        return _read_video_rows(path) if has_video_rows(path) else compute_video_scores(read_scores(path))


def read_any_video_scores(path: Path) -> VideoScores | VideoOutputs:
    """As `read_video_scores`, for any task."""
    return read_video_scores(path) if has_video_rows(path) else average_scores(read_any_scores(path))


def has_video_rows(path: Path) -> bool:
    """Whether a score file has a row a video rather than a row a view; False for a missing file or one that is not Parquet."""
    try:
        return path.is_file() and VIDEO_SCORES_METADATA_KEY in (pq.read_schema(path).metadata or {})
    except PARQUET_ERRORS:
        return False


def _read_video_rows(path: Path) -> VideoScores:
    """Read and check a file with a row a video, some rows at a time to bound memory."""
    num_rows_at_a_time = min(PART_VIDEOS, check_parquet(path))
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        schema = file.schema_arrow
        if not schema.remove_metadata().equals(SCHEMA):
            raise ValueError(f"{path} does not have the columns {', '.join(SCHEMA.names)}; evaluate again")
        header = ScoresHeader.from_json(
            parse_json_object(schema.metadata[VIDEO_SCORES_METADATA_KEY], "the muybridge metadata")
        )
        num_rows = file.metadata.num_rows
        check_table_size(8 * num_rows * len(header.classes))
        if num_rows != header.num_videos:
            raise ValueError(
                f"{path}: the scores are of {format_count(num_rows, 'video')}, expected {header.num_videos}"
            )
        probabilities = np.full((num_rows, len(header.classes)), np.nan)
        columns: dict[str, list[Any]] = {name: [] for name in ("video", "labels", *COUNT_COLUMNS)}
        first_row = 0
        for batch in file.iter_batches(num_rows_at_a_time):
            table = pa.Table.from_batches([batch])
            readable = np.flatnonzero(table["probabilities"].is_valid().to_numpy())
            values = pc.list_flatten(table["probabilities"]).to_numpy()
            lengths = pc.unique(pc.list_value_length(table["probabilities"]).drop_null()).to_pylist()
            if lengths not in ([], [len(header.classes)]) or not np.isfinite(values).all():
                raise ValueError(
                    f"{path} has videos without a finite score for each of the {len(header.classes)} classes; evaluate again"
                )
            probabilities[first_row + readable] = values.reshape(len(readable), -1)
            first_row += len(table)
            for name, column in columns.items():
                column += table[name].to_pylist()
    _check_video_rows(path, header, columns, np.isnan(probabilities[:, 0]))
    counts = {name: np.array(columns[name], np.int64) for name in COUNT_COLUMNS}
    return VideoScores(header, tuple(columns["video"]), tuple(map(tuple, columns["labels"])), probabilities, **counts)


def _check_video_rows(
    path: Path, header: ScoresHeader, columns: dict[str, list[Any]], is_failed: NDArray[np.bool_]
) -> None:
    if len(set(columns["video"])) != header.num_videos:
        raise ValueError(f"{path}: a video occurs more than once; evaluate again")
    views, failures, right = (np.array(columns[name]) for name in COUNT_COLUMNS)
    if (
        (views != header.protocol.num_views).any()
        or (right + failures > views).any()
        or ((failures == views) != is_failed).any()
    ):
        raise ValueError(f"{path}: the counts of views contradict the scores; evaluate again")
    if any(not 0 <= label < len(header.classes) for labels in columns["labels"] for label in labels):
        raise ValueError(f"{path}: some labels are not among the {len(header.classes)} classes; evaluate again")
