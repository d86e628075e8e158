"""A long table written in parts, so that an interrupted run keeps the rows it has.

Input: record batches of one schema, and the settings they were made with. Output: numbered Parquet files in a hidden folder
beside the final file, and at the end the final file. Parts are written atomically; a killed process loses at most the rows
that wait for the next part.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from muybridge.files.atomic import atomic_write, check_output_file, is_stream, remove_partial_files
from muybridge.files.lock import lock_folder
from muybridge.files.parquet_file import find_column_problems, read_parquet, refuse_damaged
from muybridge.parsing import parse_json_object
from muybridge.text import join_names

SETTINGS_KEY = b"muybridge_parts"


class ResumableTable:
    """The rows of the future file `path`, on disk part by part. Leaving its `with` block flushes and unlocks.

    One process writes: ValueError where another one is writing the same file, or where `path` is a folder. Parts of a device or
    a pipe are temporary.

    Use: `add` batches, then `write_file`. `settings` are anything JSON can hold; parts made with other settings are detected
    by `has_same_settings` and refused by `check_settings`. `part_fields` are columns that the final file does not have. Parts
    of an older version may lack them, which are null then, and `late_settings`.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema,
        settings: Mapping[str, Any],
        *,
        rows_per_part: int,
        late_settings: Mapping[str, Any] | None = None,
        part_fields: Sequence[pa.Field] = (),
    ) -> None:
        self.path = path
        check_output_file(path)
        self._resources = ExitStack()
        if is_stream(path):
            self.folder = Path(self._resources.enter_context(tempfile.TemporaryDirectory(prefix="muybridge-")))
        else:
            self.folder = path.with_name(f".{path.name}.parts")
        self._resources.enter_context(lock_folder(self.folder, subject=path))
        self._schema = schema
        self._part_fields = part_fields
        self.part_schema = pa.schema([*schema, *part_fields])
        self._late_settings = dict(late_settings or {})
        self._settings = _serialize({**settings, **self._late_settings})
        self._rows_per_part = rows_per_part
        self._pending: list[pa.RecordBatch] = []
        # Counted, since listing the folder for each of many parts takes longer than writing them.
        self._next_number = max((int(part.stem) + 1 for part in self.list_parts()), default=0)

    def __enter__(self) -> ResumableTable:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.flush()
        finally:
            self.close()

    def close(self) -> None:
        """Unlocks the file. Rows that wait for the next part are lost."""
        self._resources.close()
        with suppress(OSError):
            self.folder.rmdir()  # succeeds where no part is left

    @property
    def has_same_settings(self) -> bool:
        """Whether the parts on disk, if any, were made with the same settings."""
        return all(map(self._is_part_of_same_settings, self.list_parts()))

    def _is_part_of_same_settings(self, part: Path) -> bool:
        settings = read_part_settings(part)
        if settings is None or not self._late_settings:
            return settings == self._settings
        return (
            _serialize({**self._late_settings, **parse_json_object(settings, f"{part}'s settings")}) == self._settings
        )

    def check_settings(self) -> None:
        """Raises ValueError where the parts on disk were made with other settings."""
        if not self.has_same_settings:
            raise ValueError(
                f"the unfinished {self.path.name} in {self.folder} was made by another network or other settings; "
                "delete that folder, or name another output"
            )

    def read_column(self, name: str) -> list[Any]:
        """The values of a column in the parts on disk."""
        return [value for part in self.list_parts() for value in self.read_part(part, [name])[name].to_pylist()]

    def add(self, batch: pa.RecordBatch) -> None:
        """Adds rows of `part_schema`. They are on disk once `rows_per_part` have accumulated, or after `flush`."""
        self._pending.append(batch)
        if sum(map(len, self._pending)) >= self._rows_per_part:
            self.flush()

    def flush(self) -> None:
        """Writes the rows that wait as a part."""
        if not self._pending:
            return
        table = pa.Table.from_batches(self._pending, self.part_schema)
        table = table.replace_schema_metadata({SETTINGS_KEY: self._settings})
        with atomic_write(self.folder / f"{self._next_number:06d}.parquet") as temporary:
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        self._next_number += 1
        self._pending.clear()

    def iterate_tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The parts on disk, in the order they were written: these columns, or those of the final file."""
        for part in self.list_parts():
            yield self.read_part(part, columns)

    def read_part(self, part: Path, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a part on disk: these columns, or those of the final file. Raises ValueError where it is damaged."""
        columns = columns or self._schema.names
        with refuse_damaged(_describe_damage(part)):
            table = read_parquet(part, columns)
        for field in self._part_fields:
            if field.name in columns and field.name not in table.column_names:
                table = table.append_column(field, pa.nulls(len(table), field.type))
        expected = pa.schema([self.part_schema.field(name) for name in columns])
        if problems := find_column_problems(table.schema, expected):
            raise ValueError(f"{_describe_damage(part)} ({join_names(problems, '; ')})")
        return table.select(list(columns)).replace_schema_metadata(None)

    def write_file(
        self,
        metadata: Mapping[bytes, str],
        *,
        tables: Iterable[pa.Table] | None = None,
        verify: Callable[[Path], object] | None = None,
    ) -> int:
        """Flushes, writes the final file atomically, removes the parts; returns the number of rows.

        `metadata` is the file's schema metadata. `tables` replaces the rows of the parts, for instance filtered or sorted.
        `verify` reads the file before it gets its name, and raises where it is wrong.
        """
        self.flush()
        num_rows = 0
        with atomic_write(self.path) as temporary:
            with pq.ParquetWriter(
                temporary, self._schema.with_metadata(metadata), compression="zstd", write_page_checksum=True
            ) as writer:
                for table in self.iterate_tables() if tables is None else tables:
                    writer.write_table(table)
                    num_rows += len(table)
            if verify:
                verify(temporary)
        self.remove()
        return num_rows

    def remove(self) -> None:
        """Removes all parts; the lock stays. The newest go first: what a kill leaves is the beginning of the table."""
        for part in reversed(self.list_parts()):
            part.unlink()

    def clean_up(self) -> None:
        """Removes the temporary files of a killed process."""
        remove_partial_files(self.folder)

    def list_parts(self) -> list[Path]:
        """The parts on disk, in the order they were written."""
        parts = [part for part in self.folder.glob("[0-9]*.parquet") if part.stem.isdecimal()]
        return sorted(parts, key=lambda part: int(part.stem))


def read_part_settings(part: Path) -> bytes | None:
    """The settings that a part was made with; None for a file without them. Raises ValueError for one that is damaged."""
    with refuse_damaged(_describe_damage(part)):
        settings: bytes | None = (pq.read_schema(part).metadata or {}).get(SETTINGS_KEY)
        return settings


def _serialize(settings: Mapping[str, Any]) -> bytes:
    return json.dumps(settings, sort_keys=True).encode()


def _describe_damage(part: Path) -> str:
    return f"{part} is damaged; delete the folder {part.parent} and run the same command again"
