"""Reading Parquet files that anybody may have written: memory is bounded before it is allocated.

A file of some kilobytes can hold a billion rows, since repeated values take no space in it. What a table takes in memory is
computed from the numbers of values that the file states, where a value has a fixed size; strings are read in batches, and
counted, where they could exceed the limit (`limits.TABLE_BYTES`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from muybridge.limits import TABLE_BYTES

BYTES_OF_A_VALUE = 8  # of the widest type of fixed size that our files hold
SUSPECT_BATCH_ROWS = 4096


def open_parquet(source: str | Path | pa.BufferReader, **options: Any) -> pq.ParquetFile:
    """An open file. Raises pyarrow's ArrowException for one that is damaged, also where pyarrow itself raises another."""
    with _damage_as_arrow_error():
        return pq.ParquetFile(source, **options)


@contextmanager
def _damage_as_arrow_error() -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise pa.ArrowInvalid(f"its names of columns are not UTF-8: {error}") from error
    except OSError as error:
        if error.errno is not None:  # of the operating system
            raise
        raise pa.ArrowInvalid(str(error)) from error


def read_bounded(file: pq.ParquetFile, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in an open file. Raises ValueError where it would take more memory than the limit."""
    chunks = [
        (chunk.num_values, chunk.total_uncompressed_size, chunk.physical_type == "BYTE_ARRAY")
        for chunk in _list_chunks(file.metadata, columns)
    ]
    fixed = sum(max(num_values * BYTES_OF_A_VALUE, num_bytes) for num_values, num_bytes, _ in chunks)
    check_table_size(fixed)
    # No string is longer than all of its column's strings in the file.
    longest = sum(num_values * num_bytes for num_values, num_bytes, is_text in chunks if is_text)
    with _damage_as_arrow_error():
        if fixed + longest <= TABLE_BYTES.value:
            return file.read(columns=columns)
        batches, num_bytes = [], 0
        for batch in file.iter_batches(SUSPECT_BATCH_ROWS, columns=columns):
            num_bytes += batch.nbytes
            check_table_size(num_bytes)
            batches.append(batch)
    return pa.Table.from_batches(batches)


def _list_chunks(metadata: pq.FileMetaData, columns: Sequence[str] | None) -> list[pq.ColumnChunkMetaData]:
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    return [chunk for chunk in chunks if columns is None or chunk.path_in_schema.partition(".")[0] in columns]


def check_table_size(num_bytes: int) -> None:
    """Raise ValueError for a table above the limit."""
    if problem := TABLE_BYTES.exceed(num_bytes):
        raise ValueError(f"the table needs {problem}")
