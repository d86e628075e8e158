"""Reading Parquet files that anybody may have written: memory is bounded before it is allocated.

A file of some kilobytes can hold a billion rows, since repeated values take no space in it. What a table takes in memory is
computed from the numbers of values that the file's footer states, where a value has a fixed size; strings are read in
batches, and counted, where they could exceed the limit (`limits.TABLE_BYTES`). Where the pages disagree with the footer, a
child process of limited memory reads the file first.
"""

from __future__ import annotations

import errno
import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from muybridge.files.limited_child import check_in_child
from muybridge.files.parquet_pages import agrees_with_footer, read_column_chunks
from muybridge.limits import TABLE_BYTES, raise_if_system_is_short
from muybridge.text import join_names

BYTES_OF_A_VALUE = 8  # of the widest type of fixed size that our files hold
_MAX_BATCH_ROWS, _MAX_COLUMNS = 65_536, 10_000  # pyarrow takes minutes for 100,000 columns
PARQUET_ERRORS = (pa.ArrowException, OSError, UnicodeDecodeError)
"""What pyarrow raises for a damaged file: OSError also without a fault of the system, the last for names that are no text."""
_NO_THREAD = "Resource temporarily unavailable"


@contextmanager
def refuse_damaged(sentence: str) -> Iterator[None]:
    """Inside the block, raise ValueError with `sentence` and the cause where pyarrow cannot read a file.

    A shortage of memory, threads or descriptors stays MemoryError or OSError: it says nothing about a file of checked size.
    """
    try:
        yield
    except PARQUET_ERRORS as error:
        raise_if_system_is_short(error)
        if isinstance(error, MemoryError):
            raise
        if _NO_THREAD in str(error):
            raise OSError(errno.EAGAIN, _NO_THREAD) from error
        raise ValueError(f"{sentence} ({str(error).partition(chr(10))[0]})") from error


def read_parquet(source: Path | bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in a file, or in the content of one. Checksums of pages are verified.

    Raises ValueError where it would take more memory than the limit, OSError and pa.ArrowException where it cannot be read.
    """
    num_rows = check_parquet(source, columns)
    opened = str(source) if isinstance(source, Path) else pa.BufferReader(source)
    with pq.ParquetFile(opened, page_checksum_verification=True) as file:
        if num_rows >= file.metadata.num_rows:
            return file.read(columns=columns)
        batches, num_bytes = [], 0
        for batch in file.iter_batches(num_rows, columns=columns):
            num_bytes += batch.nbytes
            check_table_size(num_bytes)
            batches.append(batch)
        return pa.Table.from_batches(batches)


def read_finite_table(path: Path, schema: pa.Schema) -> pa.Table:
    """The columns of `schema` in a file, which may have others too; with the file's own metadata.

    Raises ValueError with all problems: a file that cannot be read, columns that are missing or of another type, rows without
    a value, also within lists, and numbers that are not finite.
    """
    try:
        with refuse_damaged("the file is damaged, or not a Parquet file"):
            problems = find_column_problems(pq.read_schema(path), schema)
            table = None if problems else read_parquet(path, schema.names).select(schema.names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    problems += [] if table is None else filter(None, map(_find_value_problem, schema.names, table.columns))
    if problems:
        raise ValueError(f"{path} cannot be used: {join_names(problems, '; ')}")
    return table


def find_column_problems(schema: pa.Schema, expected: pa.Schema) -> list[str]:
    """Which columns of `expected` a file's schema lacks, or has with another type, a clause each."""
    missing = [name for name in expected.names if name not in schema.names]
    wrong = [field for field in expected if field.name not in missing and schema.field(field.name).type != field.type]
    return [f"the columns {join_names(missing)} are missing"] * bool(missing) + [
        f"the column {field.name} holds {schema.field(field.name).type}, expected {field.type}" for field in wrong
    ]


def _find_value_problem(name: str, column: pa.ChunkedArray) -> str | None:
    """Why the values of a column cannot be used, None if they can; those within lists are as those of rows."""
    if column.null_count:
        return f"{column.null_count} rows have no {name}"
    if pa.types.is_list(column.type):
        return _find_value_problem(name, pc.list_flatten(column))
    if pa.types.is_floating(column.type) and not pc.all(pc.is_finite(column), min_count=0).as_py():
        return f"the column {name} holds numbers that are not finite"
    return None


def check_parquet(source: Path | bytes, columns: Sequence[str] | None = None) -> int:
    """How many rows of a file can be read at a time within the limit, where only some columns are. Raises as `read_parquet`."""
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as opened:
        metadata = pq.read_metadata(opened)
        if metadata.num_columns > _MAX_COLUMNS:
            raise pa.ArrowInvalid(f"it has {metadata.num_columns:,} columns, expected at most {_MAX_COLUMNS:,}")
        chunks = read_column_chunks(opened)
        if len(chunks) != metadata.num_row_groups * metadata.num_columns:
            raise pa.ArrowInvalid("its footer is ambiguous")
        num_bytes = sum(max(chunk.num_values * BYTES_OF_A_VALUE, chunk.num_bytes) for chunk in chunks)
        check_table_size(num_bytes)
        texts = [chunk for chunk in chunks if chunk.holds_text]
        # No string is longer than all strings of its column in its group of rows.
        longest = max((chunk.num_bytes for chunk in texts), default=0)
        is_small = sum(chunk.num_values * chunk.num_bytes for chunk in texts) <= TABLE_BYTES.value - num_bytes
        num_rows = int(metadata.num_rows) if is_small else min(_MAX_BATCH_ROWS, TABLE_BYTES.value // int(longest))
        has_lists_of_text = any(
            column.max_repetition_level and column.physical_type.endswith("BYTE_ARRAY")
            for column in map(metadata.schema.column, range(metadata.num_columns))
            if columns is None or column.path.startswith(tuple(columns))
        )
        # The number of rows bounds no list.
        if (has_lists_of_text and not is_small) or not agrees_with_footer(opened, chunks):
            _try_in_child(source)
    return max(1, num_rows)


def _try_in_child(source: Path | bytes) -> None:
    if isinstance(source, Path):
        check_in_child(_read_in_batches, str(source), TABLE_BYTES)
        return
    with tempfile.NamedTemporaryFile(prefix="muybridge-", suffix=".parquet") as temporary:
        temporary.write(source)
        temporary.flush()
        check_in_child(_read_in_batches, temporary.name, TABLE_BYTES)


def _read_in_batches(path: str) -> None:
    """Read all columns and keep nothing. Raises ValueError where they would take more memory than the limit.

    Damage is left to the caller, who meets it when it reads the file itself.
    """
    with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError), pq.ParquetFile(path) as file:
        num_bytes = 0
        for batch in file.iter_batches(_MAX_BATCH_ROWS):
            num_bytes += batch.nbytes
            check_table_size(num_bytes)


def check_table_size(num_bytes: int) -> None:
    """Raise ValueError for a table above the limit."""
    if problem := TABLE_BYTES.exceed(num_bytes):
        raise ValueError(f"the table needs {problem}")
