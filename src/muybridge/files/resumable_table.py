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

from muybridge.files.atomic import atomic_write, remove_partial

SETTINGS_KEY = b"muybridge_parts"


class Parts:
    """The parts of the table that will be `path`; one process writes. Leaving a `with` block keeps what was added."""

    def __init__(self, path: Path, schema: pa.Schema, settings: Mapping[str, Any], *, part_rows: int) -> None:
        self.folder = path.with_name(f".{path.name}.parts")
        self._schema = schema
        self._settings = json.dumps(settings, sort_keys=True).encode()
        self._part_rows = part_rows
        self._waiting: list[pa.RecordBatch] = []

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *exception: object) -> None:
        self.flush()

    @property
    def belong(self) -> bool:
        """Whether the parts that are there were made by the same settings; so it is where there are none."""
        return all(pq.read_schema(part).metadata.get(SETTINGS_KEY) == self._settings for part in self._paths())

    def column(self, name: str) -> list[Any]:
        """What a column holds so far on disk."""
        return [value for part in self._paths() for value in pq.read_table(part, columns=[name])[name].to_pylist()]

    def add(self, rows: pa.RecordBatch) -> None:
        """Some rows more; they are on disk when `part_rows` have come together, or after `flush`."""
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= self._part_rows:
            self.flush()

    def flush(self) -> None:
        """Writes what waits."""
        if not self._waiting:
            return
        table = pa.Table.from_batches(self._waiting, self._schema)
        table = table.replace_schema_metadata({SETTINGS_KEY: self._settings})
        with atomic_write(self.folder / f"{len(self._paths()):06d}.parquet") as temporary:
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        self._waiting.clear()

    def tables(self) -> Iterator[pa.Table]:
        """The parts on disk, one after another."""
        for part in self._paths():
            with pq.ParquetFile(part, page_checksum_verification=True) as file:
                yield file.read().replace_schema_metadata(None)

    def remove(self) -> None:
        """When the table is written, or is to begin anew."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def tidy(self) -> None:
        """Removes what a killed process left half written."""
        remove_partial(self.folder)

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.parquet"))
