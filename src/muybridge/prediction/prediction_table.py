"""predictions.parquet: a row a video, for collections too large to print.

Enter: `Prediction`s in any order, as they are done. Leave: one file with every video once, in the order asked for, also those
that failed. It grows in parts; the same line goes on behind them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from muybridge.files.atomic import atomic_write
from muybridge.files.resumable_table import ResumableTable
from muybridge.prediction.recognizer import Prediction

FORMAT = 1
METADATA_KEY = b"muybridge"
PART_VIDEOS = 64  # what a kill may cost

SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("labels", pa.list_(pa.string()), nullable=False),
        pa.field("probabilities", pa.list_(pa.float64()), nullable=False),
    ]
)


class PredictionsWriter:
    """The file in the making: `add` predictions, then `finish`. Leaving a `with` block keeps what was added.

    `settings` say what made them; ValueError where an unfinished file was made by others.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._settings = {"format": FORMAT, **settings}
        self._parts = ResumableTable(self.path, SCHEMA, self._settings, rows_per_part=PART_VIDEOS)
        if not self._parts.has_same_settings:
            raise ValueError(
                f"the unfinished {self.path.name} in {self._parts.folder} was made by another network or other settings; "
                "delete that folder, or name another output"
            )
        self._parts.clean_up()
        self._done_videos = set(self._parts.read_column("video"))

    def __enter__(self) -> PredictionsWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self._parts.flush()

    @property
    def done_videos(self) -> Set[str]:
        """The videos that need no more work, of this run and of the one before it; it grows with `add`."""
        return self._done_videos

    def add(self, prediction: Prediction) -> None:
        """Keeps what is said of one video, once."""
        assert prediction.video not in self._done_videos, f"{prediction.video} is done already"
        self._done_videos.add(prediction.video)
        labels, probabilities = ([pair[index] for pair in prediction.classes] for index in (0, 1))
        row = [[prediction.video], [prediction.status], [prediction.reason], [labels], [probabilities]]
        columns = [pa.array(value, field.type) for value, field in zip(row, SCHEMA, strict=True)]
        self._parts.add(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))

    def finish(self, videos: Sequence[str]) -> int:
        """Writes the file with a row for each of `videos`, in their order, and removes the parts; how many have failed."""
        self._parts.flush()
        table = pa.concat_tables(list(self._parts.iterate_tables()))
        row_by_video = {video: row for row, video in enumerate(table["video"].to_pylist())}
        assert len(row_by_video) == len(table), "every video once"
        # An unfinished run before this one may have had others.
        table = table.take(pa.array(np.array([row_by_video[video] for video in videos], np.int64)))
        metadata = {METADATA_KEY: json.dumps(self._settings)}
        with atomic_write(self.path) as temporary:
            pq.write_table(
                table.replace_schema_metadata(metadata), temporary, compression="zstd", write_page_checksum=True
            )
        self._parts.remove()
        return int(pc.sum(pc.not_equal(table["status"], "ok")).as_py())
