"""Rows of scored videos in parts, so that an interrupted evaluation resumes.

Input: the rows of whole videos, in manifest order. Output: the rows of each video once, in manifest order. A resumed evaluation
scores what is missing, videos with views that failed, and videos whose files changed since; their rows replace earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from muybridge.evaluation.scores import make_late_part_settings, make_part_settings
from muybridge.evaluation.scores_header import ScoresHeader
from muybridge.files.file_state import FILE_FIELDS, FileState, has_changed, make_file_columns, read_path_state
from muybridge.files.resumable_table import ResumableTable

LOOPED = "looped"  # 1 in the first row of a video that repeats in a loop (older parts: their number, in the first of a batch)


class ScoreParts:
    """The rows of videos in parts of `path`. Parts of an evaluation of another model, data set or protocol are removed.

    `schema` has the columns video, reason and `LOOPED`.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema,
        header: ScoresHeader,
        execution: Mapping[str, Any] | None,
        *,
        rows_per_part: int,
    ) -> None:
        self.table = ResumableTable(
            path,
            schema,
            make_part_settings(header, execution),
            late_settings=make_late_part_settings(execution),
            rows_per_part=rows_per_part,
            part_fields=FILE_FIELDS,
        )
        self.table.clean_up()
        if not self.table.has_same_settings:
            self.table.remove()
        self._file_states: dict[str, FileState | None] = {}

    def select_pending(self, paths: Mapping[str, str | Path]) -> list[int]:
        """The indices of the videos that are to be scored, of all `paths` by name, in manifest order.

        Call it before they are read: the states of their files are those of now.
        """
        done = self._read_done_states()
        present = {video: read_path_state(path) for video, path in paths.items()}
        pending = [
            index for index, video in enumerate(paths) if video not in done or has_changed(done[video], present[video])
        ]
        videos = list(paths)
        self._file_states = {videos[index]: present[videos[index]] for index in pending}
        return pending

    def _read_done_states(self) -> dict[str, FileState | None]:
        """The videos without a view that failed, with the states of their files, None where not known."""
        done: dict[str, FileState | None] = {}
        for table in self.table.iterate_tables(["video", "reason", *(field.name for field in FILE_FIELDS)]):
            failed = set(table.filter(pc.not_equal(table["reason"], ""))["video"].to_pylist())
            for video, _, num_bytes, changed_ns in set(
                zip(*map(pa.ChunkedArray.to_pylist, table.columns), strict=True)
            ):
                done[video] = None if num_bytes is None else (num_bytes, changed_ns)
            for video in failed:
                del done[video]
        return done

    def add(self, rows: pa.RecordBatch) -> None:
        """Adds the rows of whole videos, which come after those added before in manifest order."""
        columns = make_file_columns(map(self._file_states.get, rows["video"].to_pylist()))
        self.table.add(pa.RecordBatch.from_arrays([*rows.columns, *columns], schema=self.table.part_schema))

    def iterate_tables(self) -> Iterator[pa.Table]:
        """The latest rows of every video, in manifest order."""
        parts = self.table.list_parts()
        latest_parts: dict[str, Path] = {}
        for part in parts:  # every interrupted evaluation had begun where the one before had ended
            latest_parts.update(dict.fromkeys(self.table.read_part(part, ["video"])["video"].to_pylist(), part))
        # Two parts in memory: that of most videos here, and that of replaced ones.
        read_part = lru_cache(maxsize=2)(self.table.read_part)
        for part, names in groupby(latest_parts, key=latest_parts.__getitem__):
            table = read_part(part)
            yield table.filter(pc.is_in(table["video"], value_set=pa.array(names, pa.string())))


def mark_looped(rows: pa.RecordBatch, looped: Sequence[bool]) -> pa.Array:
    """The column LOOPED for the rows of whole videos with equally many views each, of which some repeat in a loop."""
    column = np.zeros(len(rows), np.int32)
    column[:: max(1, len(rows) // max(1, len(looped)))] = looped
    return pa.array(column)
