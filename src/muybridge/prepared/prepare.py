"""A source of videos to a prepared folder: indexed, transcoded, packed, told (design decision 6; docs/data.md).

What enters is a source and options, what leaves is dataset.json, manifest.parquet, coverage.json and shards. Every row of the
source has its place in a shard before any video is opened, and a shard is written when all of its videos are done; so the
result does not depend on who did what when, nor on how often the work was stopped. Until then finished videos wait in
DATA/work/, with a line each in results.jsonl.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from muybridge.datasets.folders import check_classes, check_file_names, format_segment_name, read_video_rows
from muybridge.datasets.manifest import SCHEMA, Manifest, find_ambiguous_names
from muybridge.datasets.official import assign_fold_splits, read_hmdb51, read_kinetics, read_sports1m, read_ucf101
from muybridge.datasets.splits import VideoRow
from muybridge.distributed.stop import StopFlag, StopRequested, stop_on_signals
from muybridge.files.atomic import atomic_write, is_partial, remove_partial_files, write_json
from muybridge.files.hashing import hash_file
from muybridge.files.run_folder import append_json_line, read_json_lines
from muybridge.prepared.coverage import Coverage, compute_coverage
from muybridge.prepared.dataset import COVERAGE, DESCRIPTION, FLOW_COLUMNS, MANIFEST, STORED_COLUMNS, DatasetDescription
from muybridge.prepared.shards import format_shard_path
from muybridge.prepared.stored_flow import FLOW_BOUND
from muybridge.prepared.tar_shards import write_shard
from muybridge.prepared.transcode import StoredVideo, TranscodeJob
from muybridge.prepared.worker_pool import TranscodeResult
from muybridge.records import VideoError

VIDEOS_PER_SHARD = 256
SOURCE_FORMATS = ("folder", "csv", "kinetics", "ucf101", "hmdb51", "sports1m")
_DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)

Transcoder: TypeAlias = Callable[[Iterable[tuple[int, TranscodeJob]]], Iterator[tuple[int, TranscodeResult]]]


@dataclass(frozen=True)
class PreparationOptions:
    """What every video is made into."""

    frames_per_second: float | None = None
    scale_height: int = 128
    scale_width: int = 171
    flow: bool = False
    videos_per_shard: int = VIDEOS_PER_SHARD


@dataclass(frozen=True)
class SourceListing:
    """The rows of a source in the order of the manifest, each with a name of its own."""

    root: str
    rows: tuple[VideoRow, ...]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]

    def compute_sha256(self, options: PreparationOptions) -> str:
        """Of all that decides the result, apart from the videos' content."""
        identity = [asdict(options), self.classes, self.names, [asdict(row) for row in self.rows]]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


@dataclass(frozen=True)
class PreparationProgress:
    """How far it is: videos done of all, those of them that failed, and bytes stored."""

    num_done: int
    num_videos: int
    num_failed: int
    num_bytes: int


def read_source(address: str, source_format: str) -> SourceListing:
    """The rows of a source of one of FORMATS. Raises ValueError with a sentence for everything that is wrong with it."""
    if source_format not in SOURCE_FORMATS:
        raise ValueError(f"there is no format {source_format!r}; the formats are {', '.join(SOURCE_FORMATS)}")
    path = Path(address).absolute()
    if source_format in ("folder", "csv"):
        root, rows, notes = read_video_rows(address)
    else:
        if not path.is_dir():
            raise ValueError(f"{address} is no folder; {source_format} is read from a folder with its lists and videos")
        readers = {"kinetics": read_kinetics, "ucf101": read_ucf101, "hmdb51": read_hmdb51, "sports1m": read_sports1m}
        root, (rows, notes) = address, readers[source_format](path)
    check_file_names(address, rows)
    rows, fold_notes = assign_fold_splits(rows)
    classes = sorted({label for row in rows for label in row.labels})
    if source_format in ("folder", "csv"):
        check_classes(address, rows, classes)
    elif find_ambiguous_names(classes):
        raise ValueError(f"{address} has classes that cannot be told apart: {'; '.join(find_ambiguous_names(classes))}")
    return SourceListing(
        str(Path(root).absolute()), tuple(rows), make_unique_names(rows), tuple(classes), (*notes, *fold_notes)
    )


def make_unique_names(rows: Iterable[VideoRow]) -> tuple[str, ...]:
    """A name for each row: its path, with the segment, the split and a number added as far as they are needed."""
    rows = list(rows)
    times_named = Counter(row.path for row in rows)
    names = [row.path if times_named[row.path] == 1 else format_segment_name(row).removesuffix("#-") for row in rows]
    repeated = Counter(names)
    names = [f"{name}#{row.split}" if repeated[name] > 1 else name for row, name in zip(rows, names, strict=True)]
    num_uses: Counter[str] = Counter()
    unique = []
    for name in names:
        num_uses[name] += 1
        unique.append(name if num_uses[name] == 1 else f"{name}#{num_uses[name]}")
    return tuple(unique)


class Preparation:
    """One prepared folder in the making, and what of it is done."""

    def __init__(self, source: SourceListing, output: Path, options: PreparationOptions) -> None:
        self.source, self.output, self.options = source, output, options
        self.work_folder = output / "work"
        self.results: dict[int, dict[str, Any]] = {}
        self.packed_shards: dict[int, dict[str, Any]] = {}
        rows = (row.path for row in source.rows[:1000])
        self._probe_path = next((path for path in rows if Path(source.root, path).is_file()), None)

    def open(self) -> None:
        """Makes the work folder, or takes up what an earlier run left there. ValueError: the folder holds something else."""
        plan = {"sha256": self.source.compute_sha256(self.options), "num_videos": len(self.source.rows)}
        plan_path = self.work_folder / "plan.json"
        if plan_path.exists() or not _has_other_files(self.output):
            remove_partial_files(self.output)
        if (self.output / DESCRIPTION).exists():
            shutil.rmtree(
                self.work_folder, ignore_errors=True
            )  # the last thing of all, which a killed run did not come to
            raise ValueError(
                f"{self.output} is prepared already; check it with --check, or name another folder with -o"
            )
        if plan_path.exists():
            if json.loads(plan_path.read_text(encoding="utf-8")) != plan:
                raise ValueError(
                    f"{self.output} was begun from another source or with other options, or the source has changed "
                    "since; repeat them, or name another folder with -o"
                )
        elif _has_other_files(self.output):
            raise ValueError(f"{self.output} holds something else; name a new folder with -o")
        else:
            write_json(plan_path, plan)
        self.packed_shards = {line["shard"]: line for line in read_json_lines(self.work_folder / "packed.jsonl")}
        for line in read_json_lines(self.work_folder / "results.jsonl"):
            row_index = line["row"]
            staged = line["status"] != "ok" or all(path.exists() for path in self._list_staged_paths(row_index))
            if staged or row_index // self.options.videos_per_shard in self.packed_shards:
                self.results[row_index] = line

    def iterate_pending(self) -> Iterator[tuple[int, TranscodeJob]]:
        """The videos still to be made, in order."""
        for row_index, row in enumerate(self.source.rows):
            if row_index not in self.results:
                options = self.options
                yield (
                    row_index,
                    TranscodeJob(
                        str(Path(self.source.root, row.path)),
                        row.start_seconds,
                        row.end_seconds,
                        options.frames_per_second,
                        options.scale_height,
                        options.scale_width,
                        options.flow,
                    ),
                )

    def record_result(self, row_index: int, result: TranscodeResult) -> None:
        """Writes down what became of a video, and packs its shard when it was the last one missing."""
        line: dict[str, Any] = {"row": row_index, "status": "ok", "reason": ""}
        if isinstance(result, StoredVideo):
            with atomic_write(self._get_staged_path(row_index)) as temporary:
                temporary.write_bytes(result.content)
            contents = ("content", "flow_content")
            facts = {name: value for name, value in result.__dict__.items() if name not in contents}
            line |= {**facts, "num_bytes": len(result.content)}
            if result.flow_content is not None:
                with atomic_write(self._get_staged_flow_path(row_index)) as temporary:
                    temporary.write_bytes(result.flow_content)
                line["flow_num_bytes"] = len(result.flow_content)
        else:
            self._check_source_exists()
            line |= {"status": result.status, "reason": result.reason}
        append_json_line(self.work_folder / "results.jsonl", line)
        self.results[row_index] = line
        self.write_shard_if_complete(row_index // self.options.videos_per_shard)

    def write_shard_if_complete(self, shard_index: int) -> None:
        """Writes the shard when all of its videos are done."""
        rows = self._get_shard_rows(shard_index)
        if shard_index in self.packed_shards or any(row_index not in self.results for row_index in rows):
            return
        stored = [number for number in rows if self.results[number]["status"] == "ok"]
        videos = (
            (
                number,
                self._get_staged_path(number).read_bytes(),
                self._get_staged_flow_path(number).read_bytes() if self.options.flow else None,
                self._make_metadata(number),
            )
            for number in stored
        )
        written = write_shard(self.output / format_shard_path(shard_index), videos)
        line = {
            "shard": shard_index,
            "num_bytes": written.num_bytes,
            "sha256": written.sha256,
            "offsets": [written.offsets[number] for number in stored],
            "flow_offsets": [written.flow_offsets.get(number) for number in stored],
        }
        append_json_line(self.work_folder / "packed.jsonl", line)
        self.packed_shards[shard_index] = line
        for number in stored:
            for path in self._list_staged_paths(number):
                path.unlink()

    def finish(self) -> Coverage:
        """Writes manifest, coverage and description, in this order, and removes the work folder."""
        for shard_index in range(self.num_shards):
            self.write_shard_if_complete(shard_index)  # what an earlier run did not come to
        table = self._build_manifest_table()
        with atomic_write(self.output / MANIFEST) as temporary:
            pq.write_table(table, temporary, compression="zstd", row_group_size=65536)
        manifest = Manifest(table.append_column("path", table["video"]), self.source.classes, str(self.output))
        report = compute_coverage(manifest)
        write_json(self.output / COVERAGE, report.to_json())
        description = DatasetDescription(
            classes=self.source.classes,
            scale_height=self.options.scale_height,
            scale_width=self.options.scale_width,
            frames_per_second=self.options.frames_per_second,
            flow_bound=FLOW_BOUND if self.options.flow else None,
            num_folds=len(self.source.rows[0].folds),
            notes=self.source.notes,
            manifest_sha256=hash_file(self.output / MANIFEST)[1],
            shards=tuple(
                (self.packed_shards[shard]["num_bytes"], self.packed_shards[shard]["sha256"])
                for shard in range(self.num_shards)
            ),
        )
        write_json(self.output / DESCRIPTION, description.to_json())
        shutil.rmtree(self.work_folder)
        return report

    @property
    def num_shards(self) -> int:
        """Shards of the whole source."""
        return -(-len(self.source.rows) // self.options.videos_per_shard)

    def compute_progress(self) -> PreparationProgress:
        """How far it is."""
        num_failed = sum(line["status"] != "ok" for line in self.results.values())
        num_bytes = sum(line.get("num_bytes", 0) for line in self.results.values())
        return PreparationProgress(len(self.results), len(self.source.rows), num_failed, num_bytes)

    def _get_shard_rows(self, shard_index: int) -> range:
        first = shard_index * self.options.videos_per_shard
        return range(first, min(first + self.options.videos_per_shard, len(self.source.rows)))

    def _get_staged_path(self, row_index: int) -> Path:
        return self.work_folder / "videos" / f"{row_index:09d}.mp4"

    def _get_staged_flow_path(self, row_index: int) -> Path:
        return self.work_folder / "videos" / f"{row_index:09d}.flow.mp4"

    def _list_staged_paths(self, row_index: int) -> list[Path]:
        return [
            self._get_staged_path(row_index),
            *([self._get_staged_flow_path(row_index)] if self.options.flow else []),
        ]

    def _make_metadata(self, row_index: int) -> dict[str, Any]:
        row = self.source.rows[row_index]
        return {"video": self.source.names[row_index], "split": row.split, "labels": row.labels}

    def _check_source_exists(self) -> None:
        """RuntimeError where not this video failed, but the disk it lies on is gone."""
        if self._probe_path and not Path(self.source.root, self._probe_path).is_file():
            raise RuntimeError(
                f"the source {self.source.root} has gone: {self._probe_path} was there and is not any more; bring it back "
                "and run the same line again, what is done is kept"
            )

    def _build_manifest_table(self) -> pa.Table:
        class_indices = {label: class_index for class_index, label in enumerate(self.source.classes)}
        lines = [self.results[number] for number in range(len(self.source.rows))]
        copied_columns = {name for name in SCHEMA.names if name not in ("path", "start_seconds", "end_seconds")}
        columns: dict[str, list[Any]] = {name: [line.get(name) for line in lines] for name in sorted(copied_columns)}
        columns["video"] = list(self.source.names)
        columns["labels"] = [[class_indices[label] for label in row.labels] for row in self.source.rows]
        columns["split"] = [row.split for row in self.source.rows]
        columns["group"] = [row.group for row in self.source.rows]
        columns["start_seconds"] = columns["end_seconds"] = [None] * len(lines)  # what is stored is the segment itself
        flow_columns = FLOW_COLUMNS if self.options.flow else pa.schema([])
        columns |= {name: [None] * len(lines) for name in (*STORED_COLUMNS.names, *flow_columns.names)}
        for shard_index, packed in self.packed_shards.items():
            stored = (number for number in self._get_shard_rows(shard_index) if lines[number]["status"] == "ok")
            for row_index, offset, flow_offset in zip(stored, packed["offsets"], packed["flow_offsets"], strict=True):
                columns["shard"][row_index], columns["offset"][row_index] = shard_index, offset
                columns["num_bytes"][row_index] = lines[row_index]["num_bytes"]
                if self.options.flow:
                    columns["flow_offset"][row_index] = flow_offset
                    columns["flow_num_bytes"][row_index] = lines[row_index]["flow_num_bytes"]
                    columns["flow_sha256"][row_index] = lines[row_index]["flow_sha256"]
        for fold in range(len(self.source.rows[0].folds)):
            columns[f"fold_{fold + 1}"] = [row.folds[fold] for row in self.source.rows]
        fold_fields = [pa.field(name, pa.string()) for name in columns if name.startswith("fold_")]
        fields = [field for field in (*SCHEMA, *STORED_COLUMNS, *flow_columns, *fold_fields) if field.name != "path"]
        return pa.table({field.name: columns[field.name] for field in fields}, schema=pa.schema(fields))


def _has_other_files(output: Path) -> bool:
    """Whether there is more at `output` than a run leaves that was killed before it had written its plan."""
    if output.is_dir():
        return any(
            not (path.name == "work" or is_partial(path)) for path in (*output.iterdir(), *output.glob("work/*"))
        )
    return output.exists()


def prepare(
    preparation: Preparation,
    transcoder: Transcoder,
    *,
    on_progress: Callable[[PreparationProgress], None] | None = None,
) -> Coverage:
    """Makes what is still to be made, and finishes the folder.

    Raises StopRequested after a signal and RuntimeError for a full disk or a vanished source, with everything that was done
    kept for the next run.
    """
    try:
        preparation.open()
        if on_progress:
            on_progress(preparation.compute_progress())
        with stop_on_signals() as stop:
            _process_pending(preparation, transcoder, stop, on_progress)
        return preparation.finish()
    except OSError as error:
        if error.errno not in _DISK_FULL_ERRNOS:
            raise
        done = preparation.compute_progress()
        raise RuntimeError(
            f"no space is left on the disk of {preparation.output} after {done.num_done} of {done.num_videos} videos; "
            "free some and run the same line again, what is done is kept"
        ) from error


def _process_pending(
    preparation: Preparation,
    transcoder: Transcoder,
    stop: StopFlag,
    on_progress: Callable[[PreparationProgress], None] | None,
) -> None:
    progress = preparation.compute_progress()
    results = transcoder(preparation.iterate_pending())
    for row_index, result in results:
        preparation.record_result(row_index, result)
        stored = len(result.content) if isinstance(result, StoredVideo) else 0
        progress = PreparationProgress(
            progress.num_done + 1,
            progress.num_videos,
            progress.num_failed + isinstance(result, VideoError),
            progress.num_bytes + stored,
        )
        if on_progress:
            on_progress(progress)
        if stop.signal_number is not None:
            raise StopRequested(stop.signal_number)
