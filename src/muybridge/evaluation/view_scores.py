"""Writing score files with a row a view so that an interrupted evaluation resumes.

Input: rows of views from `scores.score_batch`, and which of their videos repeat in a loop. Output: a score file, the same
bytes whether the evaluation was interrupted or not, unless videos were read in between that could not be read at first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from muybridge.evaluation.score_parts import LOOPED, ScoreParts, mark_looped
from muybridge.evaluation.scores import write_scores
from muybridge.evaluation.scores_header import ScoresHeader

_ROWS_PER_PART = 16384  # the most that a kill loses; 400 classes make it 26 MB


class ViewScoresWriter:
    """Writes a file with a row a view, resuming an interrupted one.

    Parts left by an evaluation of another model, data set or protocol are removed.
    """

    def __init__(self, path: Path, header: ScoresHeader, execution: Mapping[str, Any] | None = None) -> None:
        self._path, self._header, self._execution = path, header, execution
        self._schema = header.schema.append(pa.field(LOOPED, pa.int32(), nullable=False))
        self._parts = ScoreParts(path, self._schema, header, execution, rows_per_part=_ROWS_PER_PART)

    def select_pending(self, paths: Mapping[str, str | Path]) -> list[int]:
        """See `ScoreParts`."""
        return self._parts.select_pending(paths)

    def write(self, batches: Iterable[tuple[pa.RecordBatch, Sequence[bool]]]) -> int:
        """Add the rows of the pending videos, write the file, and return the number of videos that repeat in a loop."""
        num_looped = 0

        def iterate_rows() -> Iterator[pa.RecordBatch]:
            nonlocal num_looped
            for table in self._parts.iterate_tables():
                num_looped += pc.sum(table[LOOPED]).as_py()
                yield from table.drop_columns([LOOPED]).to_batches()

        with self._parts.table as parts:
            for rows, looped in batches:
                columns = [*rows.columns, mark_looped(rows, looped)]
                self._parts.add(pa.RecordBatch.from_arrays(columns, schema=self._schema))
            parts.flush()
            write_scores(self._path, iterate_rows(), self._header, self._execution)
            parts.remove()
        return num_looped
