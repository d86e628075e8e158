"""What stands on a command line made into video files, and features made into a file that is whole or absent.

Enter: paths of files and folders. Leave: the names of videos, in a fixed order. A file that is named but not there stays in
the list, so that it fails under its own name and the others are still done.

features.parquet has a row a view: video, view, start_seconds, features list<float32>; what made it stands as JSON in the
schema metadata key `muybridge`. While it grows, finished videos wait in parts in a hidden folder beside it; the next run
with the same settings goes on from there.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from muybridge.datasets.folders import VIDEO_EXTENSIONS
from muybridge.files.atomic import atomic_write
from muybridge.prediction.prepared_videos import list_prepared_videos
from muybridge.prediction.recognizer import Features

FORMAT = 1
METADATA_KEY = b"muybridge"
PART_VIDEOS = 64  # finished videos that a crash may cost, and a hundredth of the files that one part a video would make

SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("view", pa.int32(), nullable=False),
        pa.field("start_seconds", pa.float64(), nullable=False),
        pa.field("features", pa.list_(pa.float32()), nullable=False),
    ]
)


def list_video_files(arguments: Sequence[str | Path]) -> list[str]:
    """Files as given, folders replaced by the videos below them in order of their names; hidden ones are left out.

    A prepared folder stands for its videos, as if they were files in it, a CSV file for the files in its column `path`,
    relative to itself. Every name stands once, where it is first met.
    ValueError: nothing given, a folder without a video, or a CSV file without that column or without a row.
    """
    videos: list[str] = []
    for argument in map(Path, arguments):
        if argument.is_dir():
            videos += _list_videos_in_folder(argument)
        elif argument.suffix.lower() == ".csv":
            videos += _read_video_list(argument)
        else:
            videos.append(str(argument))
    if not videos:
        raise ValueError("no video was given; name files or folders")
    return list(dict.fromkeys(videos))


def _list_videos_in_folder(folder: Path) -> list[str]:
    if (prepared_videos := list_prepared_videos(folder)) is not None:
        return prepared_videos
    videos = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix[1:].lower() in VIDEO_EXTENSIONS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    if not videos:
        raise ValueError(
            f"there is no video in the folder {folder}; looked for files such as .mp4, .mkv or .avi below it"
        )
    return [str(path) for path in videos]


def _read_video_list(table: Path) -> list[str]:
    if not table.is_file():
        raise ValueError(f"there is no file {table}")
    with table.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if "path" not in (rows.fieldnames or ()):
            raise ValueError(f"{table} has no column path; its first line must name the columns")
        videos = [str(table.parent / row["path"]) for row in rows if row["path"]]
    if not videos:
        raise ValueError(f"{table} lists no video")
    return videos


class FeaturesWriter:
    """features.parquet in the making: `add` videos, then `finish`. Leaving a `with` block keeps what was added.

    `settings` say what made the features; parts made by others are refused.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._parts_folder = self.path.with_name(f".{self.path.name}.parts")
        self._schema = SCHEMA.with_metadata({METADATA_KEY: json.dumps({"format": FORMAT, **settings})})
        self._pending: list[Features] = []
        self._done_videos = {video for part in self._list_part_paths() for video in self._read_part_videos(part)}

    @property
    def done_videos(self) -> Set[str]:
        """The videos that need no more work, of this run and of the one before it; it grows with `add`."""
        return self._done_videos

    def __enter__(self) -> FeaturesWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self._write_part()

    def add(self, features: Features) -> None:
        """Keeps the features of one video, once."""
        assert features.video not in self._done_videos, f"{features.video} is done already"
        self._pending.append(features)
        self._done_videos.add(features.video)
        if len(self._pending) >= PART_VIDEOS:
            self._write_part()

    def finish(self, videos: Iterable[str]) -> int:
        """Writes the file with the rows of `videos`, in the order they were added, removes the parts; the number of rows."""
        self._write_part()
        requested_videos = pa.array(
            sorted(set(videos)), pa.string()
        )  # an unfinished run before this one may have had others
        num_rows = 0
        with (
            atomic_write(self.path) as temporary,
            pq.ParquetWriter(temporary, self._schema, compression="zstd") as writer,
        ):
            for part in self._list_part_paths():
                table = pq.read_table(part)
                table = table.filter(pc.is_in(table["video"], value_set=requested_videos))
                writer.write_table(table)
                num_rows += len(table)
        shutil.rmtree(self._parts_folder, ignore_errors=True)
        return num_rows

    def _list_part_paths(self) -> list[Path]:
        return sorted(self._parts_folder.glob("[0-9]*.parquet"))

    def _read_part_videos(self, part: Path) -> list[str]:
        """The videos of a part that an earlier run left; ValueError where it was made by other settings."""
        with pq.ParquetFile(part) as file:
            if file.schema_arrow.metadata.get(METADATA_KEY) != self._schema.metadata[METADATA_KEY]:
                raise ValueError(
                    f"the unfinished {self.path.name} in {self._parts_folder} was made by another network or other settings; "
                    "delete that folder, or name another output"
                )
            videos: list[str] = file.read(["video"])["video"].unique().to_pylist()
        return videos

    def _write_part(self) -> None:
        if not self._pending:
            return
        table = pa.Table.from_batches([_make_record_batch(features) for features in self._pending], SCHEMA)
        with atomic_write(self._parts_folder / f"{len(self._list_part_paths()):06d}.parquet") as temporary:
            pq.write_table(table.replace_schema_metadata(self._schema.metadata), temporary, compression="zstd")
        self._pending.clear()


def _make_record_batch(features: Features) -> pa.RecordBatch:
    num_rows, num_channels = features.features.shape
    offsets = np.arange(num_rows + 1, dtype=np.int32) * num_channels
    columns = [
        pa.array([features.video] * num_rows, pa.string()),
        pa.array(features.views, pa.int32()),
        pa.array(features.start_seconds, pa.float64()),
        pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(features.features.reshape(-1), pa.float32())),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
