"""A long table in parts: what takes hours to make is on disk as it comes, and a run that ends early is taken up again.

Enter: record batches of one schema, and the settings that made them. Leave: numbered Parquet files in a hidden folder beside
the file that they will be. A part is whole or absent; what waits for the next one is all that a kill costs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from muybridge.files.atomic import atomic_write, remove_partial_files

SETTINGS_KEY = b"muybridge_parts"


class ResumableTable:
    """The parts of the table that will be `path`; one process writes. Leaving a `with` block keeps what was added."""

    def __init__(self, path: Path, schema: pa.Schema, settings: Mapping[str, Any], *, rows_per_part: int) -> None:
        self.folder = path.with_name(f".{path.name}.parts")
        self._schema = schema
        self._settings = json.dumps(settings, sort_keys=True).encode()
        self._rows_per_part = rows_per_part
        self._pending: list[pa.RecordBatch] = []

    def __enter__(self) -> ResumableTable:
        return self

    def __exit__(self, *exception: object) -> None:
        self.flush()

    @property
    def has_same_settings(self) -> bool:
        """Whether the parts that are there were made by the same settings; so it is where there are none."""
        return all(
            pq.read_schema(part).metadata.get(SETTINGS_KEY) == self._settings for part in self._list_part_paths()
        )

    def read_column(self, name: str) -> list[Any]:
        """What a column holds so far on disk."""
        return [
            value for part in self._list_part_paths() for value in pq.read_table(part, columns=[name])[name].to_pylist()
        ]

    def add(self, batch: pa.RecordBatch) -> None:
        """Some rows more; they are on disk when `part_rows` have come together, or after `flush`."""
        self._pending.append(batch)
        if sum(map(len, self._pending)) >= self._rows_per_part:
            self.flush()

    def flush(self) -> None:
        """Writes what waits."""
        if not self._pending:
            return
        table = pa.Table.from_batches(self._pending, self._schema)
        table = table.replace_schema_metadata({SETTINGS_KEY: self._settings})
        with atomic_write(self.folder / f"{len(self._list_part_paths()):06d}.parquet") as temporary:
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        self._pending.clear()

    def iterate_tables(self) -> Iterator[pa.Table]:
        """The parts on disk, one after another."""
        for part in self._list_part_paths():
            with pq.ParquetFile(part, page_checksum_verification=True) as file:
                yield file.read().replace_schema_metadata(None)

    def remove(self) -> None:
        """When the table is written, or is to begin anew."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def clean_up(self) -> None:
        """Removes what a killed process left half written."""
        remove_partial_files(self.folder)

    def _list_part_paths(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.parquet"))
