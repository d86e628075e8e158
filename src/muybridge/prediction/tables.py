"""Tables of many videos, features.parquet and predictions.parquet or .csv, written in parts that an interrupted run resumes.

Input: `Features` or `Prediction`s in any order, and the settings that made them. Output: one file, written atomically, with
the settings as JSON in the schema metadata key `muybridge`; CSV is for people and has no settings. Until then finished videos
are kept in parts in a hidden folder beside the file; parts of other settings are refused, and videos that failed or whose
files changed since are done again.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from muybridge.evaluation.scores import make_remarks_metadata
from muybridge.files.atomic import atomic_write
from muybridge.files.file_state import FILE_FIELDS, FileState, has_changed, make_file_columns
from muybridge.files.resumable_table import ResumableTable, read_part_settings
from muybridge.models.heads import Head
from muybridge.prediction.file_state import read_file_state
from muybridge.prediction.predictions_summary import PredictionsSummary, summarize_predictions
from muybridge.prediction.recognizer import Features, Prediction
from muybridge.text import escape_csv_cell, format_count, sanitize_text

FORMAT = 1
METADATA_KEY = b"muybridge"
# The most that a kill loses, and few enough files for millions of videos.
FEATURES_PER_PART = 640  # clips, 64 videos by default
PREDICTIONS_PER_PART = 64  # videos

FEATURES_SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("view", pa.int32(), nullable=False),
        pa.field("start_seconds", pa.float64(), nullable=False),
        pa.field("features", pa.list_(pa.float32()), nullable=False),
    ]
)
PREDICTIONS_SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("labels", pa.list_(pa.string()), nullable=False),
        pa.field("probabilities", pa.list_(pa.float64()), nullable=False),
    ]
)


# More columns for another task than single_label: the classes above their thresholds or the level; the numbers of a regression.
_TASK_FIELDS = (
    pa.field("predicted", pa.list_(pa.string()), nullable=False),
    pa.field("values", pa.list_(pa.float64()), nullable=False),
)

# A column of parts alone, where the table has no reasons; the others are FILE_FIELDS.
_REASON_FIELD = pa.field("reason", pa.string())


class _TableWriter:
    """Keeps the rows of finished videos in parts. Leaving a `with` block keeps added rows.

    Videos that failed, and videos whose files changed since, are not finished; `select_pending` names what is left to add.
    `settings` are those in the file, `late_settings` what must agree besides, but is unknown of the parts of an older version.
    Raises ValueError where unfinished parts were made with other settings.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema,
        settings: Mapping[str, Any],
        *,
        rows_per_part: int,
        late_settings: Mapping[str, Any] | None,
        remarks: Sequence[str] = (),
    ) -> None:
        """`remarks` are sentences that belong beside the rows; Parquet files have them in their metadata."""
        settings = {"format": FORMAT, **settings}
        self._metadata = {METADATA_KEY: json.dumps(settings), **(make_remarks_metadata(remarks) if remarks else {})}
        self._schema = schema
        self._parts = ResumableTable(
            path,
            schema,
            settings,
            rows_per_part=rows_per_part,
            late_settings=late_settings,
            part_fields=[*[_REASON_FIELD] * (_REASON_FIELD.name not in schema.names), *FILE_FIELDS],
        )
        try:
            if _has_parts_of_version_0_1(self._parts.folder):
                self._parts.remove()
            self._parts.check_settings()
        except ValueError:
            self._parts.close()
            raise
        self._parts.clean_up()
        self._file_states: dict[str, FileState | None] = {}
        self._done_videos = self._find_done_videos()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._parts.__exit__(*exception)

    def select_pending(self, videos: Iterable[str]) -> list[str]:
        """Those of `videos` that are to be added. Call it before they are read: the states of their files are those of now."""
        pending = [video for video in videos if video not in self._done_videos]
        self._file_states = {video: read_file_state(video) for video in pending}
        return pending

    def _add_rows(self, video: str, columns: Sequence[pa.Array]) -> None:
        assert video not in self._done_videos, f"{video} is done already"
        self._done_videos.add(video)
        more = make_file_columns([self._file_states.pop(video, None)] * len(columns[0]))
        self._parts.add(pa.RecordBatch.from_arrays([*columns, *more], schema=self._parts.part_schema))

    def _find_done_videos(self) -> set[str]:
        """The videos in the parts, without failed ones and changed files. Rows of a later part replace earlier ones."""
        names = ["video", *(field.name for field in FILE_FIELDS), *["status"] * ("status" in self._schema.names)]
        done: set[str] = set()
        for table in self._parts.iterate_tables(names):
            for video, *state_and_status in set(zip(*(table[name].to_pylist() for name in names), strict=True)):
                (done.discard if _is_outdated(video, *state_and_status) else done.add)(video)
        return done

    def _iterate_rows(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows of done videos, part by part, without those that a later part replaced."""
        part_by_video = {
            video: number
            for number, table in enumerate(self._parts.iterate_tables(["video"]))
            for video in self._done_videos.intersection(table["video"].to_pylist())
        }
        for number, table in enumerate(self._parts.iterate_tables(columns)):
            is_kept = [part_by_video.get(video) == number for video in table["video"].to_pylist()]
            yield table.filter(pa.array(is_kept, pa.bool_()))


def _is_outdated(video: str, num_bytes: int | None, changed_ns: int | None, status: str = "ok") -> bool:
    """Whether rows of a video are to be made again."""
    if status != "ok":
        return True
    if num_bytes is None or changed_ns is None:
        return False
    return has_changed((num_bytes, changed_ns), read_file_state(video))


class FeaturesWriter(_TableWriter):
    """Writes features.parquet, .csv or .npz, a row a clip: call `add` for each video, then `finish`.

    `extension` is that of the format, where the path has another one or none. `reasons` says after `finish` why some
    clips of a video are missing.
    """

    def __init__(
        self,
        path: str | Path,
        settings: Mapping[str, Any],
        *,
        late_settings: Mapping[str, Any] | None = None,
        remarks: Sequence[str] = (),
        extension: str | None = None,
    ) -> None:
        super().__init__(
            Path(path),
            FEATURES_SCHEMA,
            settings,
            rows_per_part=FEATURES_PER_PART,
            late_settings=late_settings,
            remarks=remarks,
        )
        self._extension = extension or self._parts.path.suffix.lower()
        self.reasons: Mapping[str, str] = {}

    def add(self, features: Features) -> None:
        """Add the features of one video, which must not have been added before."""
        num_rows, num_channels = features.features.shape
        offsets = np.arange(num_rows + 1, dtype=np.int32) * num_channels
        columns = [
            pa.array([features.video] * num_rows, pa.string()),
            pa.array(features.views, pa.int32()),
            pa.array(features.start_seconds, pa.float64()),
            pa.ListArray.from_arrays(
                pa.array(offsets, pa.int32()), pa.array(features.features.reshape(-1), pa.float32())
            ),
            pa.array([features.reason] * num_rows, pa.string()),
        ]
        self._add_rows(features.video, columns)

    def finish(self, videos: Iterable[str]) -> int:
        """Write the rows of `videos` in the order they were added, remove the parts, and return the number of rows.

        Raises ValueError unless every one of `videos` was added once.
        """
        self._parts.flush()
        requested_names = set(videos)
        rows = [row for table in self._iterate_rows(["video", "view", "reason"]) for row in table.to_pylist()]
        _check_complete(requested_names, [(row["video"], row["view"]) for row in rows], self._parts)
        reasons = {row["video"]: row["reason"] for row in rows if row["reason"]}
        self.reasons = {video: reason for video, reason in reasons.items() if video in requested_names}
        # The interrupted run may have been given other videos.
        requested_videos = pa.array(sorted(requested_names), pa.string())
        tables = (table.filter(pc.is_in(table["video"], value_set=requested_videos)) for table in self._iterate_rows())
        match self._extension:
            case ".csv":
                num_rows = _write_features_csv(self._parts.path, tables)
            case ".npz":
                num_rows = _write_features_npz(self._parts.path, pa.concat_tables(tables), self._metadata)
            case _:
                return self._parts.write_file(self._metadata, tables=tables)
        self._parts.remove()
        return num_rows


def _write_features_csv(path: Path, tables: Iterable[pa.Table]) -> int:
    """A row a clip: video, view, start_seconds, feature_0, feature_1, ... Returns the number of rows."""
    num_rows = 0
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for table in tables:
            for row in table.to_pylist():
                if num_rows == 0:
                    names = [f"feature_{index}" for index in range(len(row["features"]))]
                    writer.writerow(["video", "view", "start_seconds", *names])
                features = map(repr, np.asarray(row["features"], np.float32).tolist())
                writer.writerow([escape_csv_cell(row["video"]), row["view"], row["start_seconds"], *features])
                num_rows += 1
    return num_rows


def _write_features_npz(path: Path, table: pa.Table, metadata: Mapping[bytes, str]) -> int:
    """Arrays video, view, start_seconds and features (clips, channels), readable without pickle; `settings` is JSON."""
    arrays = {
        "video": np.array(table["video"].to_pylist(), np.str_),
        "view": table["view"].to_numpy(),
        "start_seconds": table["start_seconds"].to_numpy(),
        "features": np.array(table["features"].to_pylist(), np.float32),
        "settings": np.array(metadata[METADATA_KEY]),
    }
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    return len(table)


class PredictionsWriter(_TableWriter):
    """Writes a row a video, failed ones included, as Parquet or CSV: call `add` for each video, then `finish`."""

    def __init__(
        self,
        path: str | Path,
        settings: Mapping[str, Any],
        head: Head | None = None,
        *,
        late_settings: Mapping[str, Any] | None = None,
    ) -> None:
        """`head` is that of a network of another task than single_label; its names of values stand in the settings."""
        schema = pa.schema([*PREDICTIONS_SCHEMA, *_TASK_FIELDS]) if head else PREDICTIONS_SCHEMA
        settings = {**settings, "head": head.to_json()} if head else settings
        self._head = head
        super().__init__(Path(path), schema, settings, rows_per_part=PREDICTIONS_PER_PART, late_settings=late_settings)

    def add(self, prediction: Prediction) -> None:
        """Add the prediction of one video, which must not have been added before."""
        labels, probabilities = ([pair[index] for pair in prediction.classes] for index in (0, 1))
        row: list[Any] = [prediction.video, prediction.status, prediction.reason, labels, probabilities]
        if len(self._schema) > len(PREDICTIONS_SCHEMA):
            row += [list(prediction.labels or ()), [value for _, value, _ in prediction.values]]
        columns = [pa.array([value], field.type) for value, field in zip(row, self._schema, strict=True)]
        self._add_rows(prediction.video, columns)

    def finish(self, videos: Sequence[str]) -> PredictionsSummary:
        """Write a row for each of `videos`, in their order, remove the parts, and return what they hold.

        Raises ValueError unless every one of `videos` was added once.
        """
        self._parts.flush()
        table = pa.concat_tables(list(self._iterate_rows()))
        row_by_video = {video: row for row, video in enumerate(table["video"].to_pylist())}
        _check_complete(set(videos), [(video, 0) for video in table["video"].to_pylist()], self._parts)
        # The interrupted run may have been given other videos.
        table = table.take(pa.array(np.array([row_by_video[video] for video in videos], np.int64)))
        if self._parts.path.suffix.lower() == ".csv":
            _write_csv(self._parts.path, table, self._head)
            self._parts.remove()
        else:
            self._parts.write_file(self._metadata, tables=[table])
        return summarize_predictions(table, self._head)


def _write_csv(path: Path, table: pa.Table, head: Head | None) -> None:
    """A row a video: video, status, reason, label, probability, label_2, probability_2, ...

    Before the labels `predicted` has the classes above their thresholds, joined by `|`, or the level; a regression has the
    columns `value_<name>` instead of all these.
    """
    num_labels = max(1, pc.max(pc.list_value_length(table["labels"])).as_py() or 0)
    ranks = ["", *(f"_{rank}" for rank in range(2, num_labels + 1))]
    columns = [
        *["predicted"] * (head is not None),
        *(f"{name}{rank}" for rank in ranks for name in ("label", "probability")),
    ]
    if head and head.task == "regression":
        columns = [f"value_{sanitize_text(name)}" for name in head.outputs]
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["video", "status", "reason", *columns])
        for batch in table.to_batches():
            for row in batch.to_pylist():
                texts = [escape_csv_cell(row[name]) for name in ("video", "status", "reason")]
                cells = _list_cells(row, head)
                writer.writerow([*texts, *cells, *[""] * (len(columns) - len(cells))])


def _list_cells(row: Mapping[str, Any], head: Head | None) -> list[str | float]:
    """What was predicted for a video."""
    if head and head.task == "regression":
        return list(row["values"])
    pairs = zip(map(escape_csv_cell, row["labels"]), row["probabilities"], strict=True)
    predicted = [escape_csv_cell("|".join(row["predicted"]))] if head else []
    return [*predicted, *(cell for pair in pairs for cell in pair)]


def _check_complete(videos: Set[str], views: Sequence[tuple[str, int]], parts: ResumableTable) -> None:
    """Raises ValueError unless all `videos` have rows, and no view of a video is there twice."""
    missing, repeated = (
        videos - {video for video, _ in views},
        [view for view, count in Counter(views).items() if count > 1],
    )
    if missing or repeated:
        video = min(missing) if missing else repeated[0][0]
        raise ValueError(
            f"the parts of {parts.path.name} in {parts.folder} do not hold every video once: "
            f"{format_count(len(missing), 'video', 'is')} "
            f"missing and {format_count(len(repeated), 'row', 'is')} there twice, such as of {video}; "
            f"delete that folder and run the same command again"
        )


def _has_parts_of_version_0_1(folder: Path) -> bool:
    """Whether the parts of a features file have no settings of `ResumableTable`; they cannot be resumed."""
    return any(read_part_settings(part) is None for part in folder.glob("[0-9]*.parquet"))
