"""Writing score files with a row a view so that an interrupted evaluation resumes.

Input: rows of views from `scores.score_batch`, and how many of their videos repeat in a loop. Output: a score file, the same
bytes whether the evaluation was interrupted or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from muybridge.evaluation.scores import make_late_part_settings, make_part_settings, write_scores
from muybridge.evaluation.scores_header import ScoresHeader
from muybridge.files.resumable_table import ResumableTable

_ROWS_PER_PART = 16384  # the most that a kill loses; 400 classes make it 26 MB
_LOOPED = "looped"  # looped videos of a batch, in its first row; 0 in the others


class ViewScoresWriter:
    """Writes a file with a row a view, resuming an interrupted one.

    Parts left by an evaluation of another model, data set or protocol are removed.
    """

    def __init__(self, path: Path, header: ScoresHeader, execution: Mapping[str, Any] | None = None) -> None:
        self._path, self._header, self._execution = path, header, execution
        settings, late_settings = make_part_settings(header, execution), make_late_part_settings(execution)
        self._schema = header.schema.append(pa.field(_LOOPED, pa.int32(), nullable=False))
        self._parts = ResumableTable(
            path, self._schema, settings, late_settings=late_settings, rows_per_part=_ROWS_PER_PART
        )
        self._parts.clean_up()
        if not self._parts.has_same_settings:
            self._parts.remove()
        self.num_done = len(self._parts.read_column("view")) // header.protocol.num_views

    def write(self, batches: Iterable[tuple[pa.RecordBatch, int]]) -> int:
        """Add the rows of the remaining videos, write the file, and return the number of videos that repeat in a loop."""
        with self._parts:
            for rows, num_looped in batches:
                looped = pa.array([num_looped] + [0] * (len(rows) - 1), pa.int32())
                self._parts.add(pa.RecordBatch.from_arrays([*rows.columns, looped], schema=self._schema))
            self._parts.flush()
            tables = (table.drop_columns([_LOOPED]) for table in self._parts.iterate_tables())
            rows_of_tables = (batch for table in tables for batch in table.to_batches())
            write_scores(self._path, rows_of_tables, self._header, self._execution)
            total = sum(map(int, self._parts.read_column(_LOOPED)))
            self._parts.remove()
        return total
