"""A source of videos to a prepared folder, in four stages: plan, transcode, pack, finish (docs/data.md).

Input: a `SourceListing` and options. Output: dataset.json, manifest.parquet, coverage.json and shards/. Every row of the
source is assigned to a shard before any video is opened, and a shard is written when all of its videos are done. The result
therefore depends neither on the order in which workers finish nor on interruptions. Finished videos wait in DATA/work/.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from annotated_types import Interval

from muybridge.bounds import FramesPerSecond, check_fields
from muybridge.datasets.manifest import SCHEMA, Manifest, append_target_columns
from muybridge.datasets.rows import VideoRow
from muybridge.distributed.stop import StopFlag, stop_on_signals
from muybridge.files.atomic import atomic_write, is_partial, remove_partial_files, write_json
from muybridge.files.hashing import hash_file
from muybridge.files.lock import LOCK_NAME, lock_folder
from muybridge.parsing import read_json_object
from muybridge.prepared.coverage import Coverage, compute_coverage
from muybridge.prepared.dataset import (
    COVERAGE,
    DESCRIPTION,
    FLOW_COLUMNS,
    MANIFEST,
    SOURCE_COLUMNS,
    STORED_COLUMNS,
    DatasetDescription,
)
from muybridge.prepared.shards import format_shard_path
from muybridge.prepared.source_listing import SourceListing
from muybridge.prepared.stored_flow import FLOW_BOUND
from muybridge.prepared.tar_shards import write_shard
from muybridge.prepared.transcode import TranscodeJob
from muybridge.prepared.work_folder import WorkFolder
from muybridge.prepared.worker_pool import TranscodeResult
from muybridge.records import TimeOrigin, VideoError
from muybridge.text import format_count

_DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
_MAX_PROBED_ROWS = 1000

Transcoder: TypeAlias = Callable[[Iterable[tuple[int, TranscodeJob]]], Iterator[tuple[int, TranscodeResult]]]


@dataclass(frozen=True)
class PreparationOptions:
    """Rate, size and flow of the stored videos. Field names are part of the plan's hash."""

    frames_per_second: FramesPerSecond | None = None  # None: that of the source
    scale_height: Annotated[int, Interval(ge=16, le=8192)] = 128
    scale_width: Annotated[int, Interval(ge=16, le=8192)] = 171
    flow: bool = False
    videos_per_shard: Annotated[int, Interval(ge=1, le=1_000_000)] = 256
    time_origin: TimeOrigin = "picture"  # of the bounds of segments

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class PreparationProgress:
    """Counts of finished (stored or failed), all and failed videos, and the bytes stored."""

    num_done: int
    num_videos: int
    num_failed: int
    num_bytes: int


def prepare(
    preparation: Preparation,
    transcoder: Transcoder,
    *,
    on_progress: Callable[[PreparationProgress], None] | None = None,
) -> Coverage:
    """Transcode the remaining videos and finish the folder.

    Raises StopRequested after a signal, and RuntimeError if the disk is full or the source folder disappears. In each case
    finished work is kept, and the next call resumes. Raises ValueError if another process is writing the folder.
    """
    try:
        with lock_folder(preparation.output), stop_on_signals("video") as stop:
            return _transcode_and_finish(preparation, transcoder, stop, on_progress or (lambda progress: None))
    except OSError as error:
        if error.errno not in _DISK_FULL_ERRNOS:
            raise
        progress = preparation.progress
        raise RuntimeError(
            f"no space is left on the disk of {preparation.output} after {progress.num_done} of {progress.num_videos} "
            "videos; free some space and run the same command again to resume"
        ) from error


def _transcode_and_finish(
    preparation: Preparation, transcoder: Transcoder, stop: StopFlag, report: Callable[[PreparationProgress], None]
) -> Coverage:
    preparation.open()
    report(preparation.progress)
    for row_index, result in transcoder(preparation.iterate_jobs()):
        preparation.record_result(row_index, result)
        report(preparation.progress)
        stop.raise_if_requested()
    stop.raise_if_requested()
    return preparation.finish()


class Preparation:
    """A prepared folder that is being written. `open` plans or resumes; `finish` needs the results of all videos."""

    def __init__(self, source: SourceListing, output: Path, options: PreparationOptions) -> None:
        self.source, self.output, self.options = source, output, options
        self.progress = PreparationProgress(0, len(source.rows), 0, 0)
        self._work = WorkFolder(output / "work")
        paths = (row.path for row in source.rows[:_MAX_PROBED_ROWS])
        self._probe_path = next((path for path in paths if Path(source.root, path).exists()), None)

    def open(self) -> None:
        """Create the work folder, or resume from it. Raises ValueError if the output folder holds anything else."""
        plan_path = self._work.plan_path
        if plan_path.exists() or not _has_other_files(self.output):
            remove_partial_files(self.output)
        if (self.output / DESCRIPTION).exists():
            shutil.rmtree(self._work.path, ignore_errors=True)  # left by a run that was killed at its very end
            raise ValueError(
                f"{self.output} is prepared already; check it with --check, or name another folder with -o"
            )
        plan = {"sha256": _hash_plan(self.source, self.options), "num_videos": len(self.source.rows)}
        if not plan_path.exists():
            if _has_other_files(self.output):
                raise ValueError(f"{self.output} contains other files; name a new folder with -o")
            write_json(plan_path, plan)
        elif read_json_object(plan_path) != plan:
            raise ValueError(
                f"{self.output} was started from another source or with other options, or the source has changed "
                "since; use the same source and options, or name another folder with -o"
            )
        self._work.load(self.options.videos_per_shard)
        self._check_same_files()
        for line in self._work.results.values():
            self._count(line)

    def iterate_jobs(self) -> Iterator[tuple[int, TranscodeJob]]:
        """The row index and the job of each video without a result, in order."""
        options = self.options
        for row_index, row in enumerate(self.source.rows):
            if row_index not in self._work.results:
                job = TranscodeJob(
                    path=str(Path(self.source.root, row.path)),
                    start_seconds=row.start_seconds,
                    end_seconds=row.end_seconds,
                    frames_per_second=options.frames_per_second,
                    scale_height=options.scale_height,
                    scale_width=options.scale_width,
                    flow=options.flow,
                    source_fps=row.source_fps,
                    time_origin=options.time_origin,
                )
                yield row_index, job

    def record_result(self, row_index: int, result: TranscodeResult) -> None:
        """Store the result of a video, and write its shard if it was the last one missing."""
        if isinstance(result, VideoError):
            self._check_source_exists()
        self._work.record_result(row_index, result)
        self._count(self._work.results[row_index])
        self._pack_if_complete(row_index // self.options.videos_per_shard)

    def finish(self) -> Coverage:
        """Write manifest, coverage and description, in this order, and delete the work folder."""
        num_shards = -(-len(self.source.rows) // self.options.videos_per_shard)
        for shard_index in range(num_shards):
            self._pack_if_complete(shard_index)  # a run killed between its last result and its shard left this undone
        self._check_complete()
        table = self._build_manifest_table()
        with atomic_write(self.output / MANIFEST) as temporary:
            pq.write_table(table, temporary, compression="zstd", row_group_size=65536)
        manifest = Manifest(table.append_column("path", table["video"]), self.source.classes, str(self.output))
        coverage = compute_coverage(manifest)
        write_json(self.output / COVERAGE, coverage.to_json())
        shards = [self._work.packed_shards[shard_index] for shard_index in range(num_shards)]
        description = DatasetDescription(
            classes=self.source.classes,
            scale_height=self.options.scale_height,
            scale_width=self.options.scale_width,
            frames_per_second=self.options.frames_per_second,
            flow_bound=FLOW_BOUND if self.options.flow else None,
            num_folds=len(self.source.rows[0].folds),
            notes=self.source.notes,
            manifest_sha256=hash_file(self.output / MANIFEST)[1],
            shards=tuple((shard["num_bytes"], shard["sha256"]) for shard in shards),
            has_frames=_has_frames(table),
        )
        write_json(self.output / DESCRIPTION, description.to_json())
        self._work.remove()
        return coverage

    def _check_complete(self) -> None:
        """Raise RuntimeError unless every video has one result and every stored one a place in a shard."""
        missing = set(range(len(self.source.rows))) - set(self._work.results)
        stored = [row_index for row_index, line in self._work.results.items() if line["status"] == "ok"]
        located = [row_index for row_index, *_ in self._work.iterate_locations(self.options.videos_per_shard)]
        if missing or sorted(stored) != sorted(located):
            raise RuntimeError(
                f"{self._work.path} does not hold every video once: {len(missing)} have no result, {len(stored)} are stored "
                f"and {len(located)} packed; delete {self.output} and prepare it again"
            )

    def _count(self, line: dict[str, Any]) -> None:
        self.progress = PreparationProgress(
            self.progress.num_done + 1,
            self.progress.num_videos,
            self.progress.num_failed + (line["status"] != "ok"),
            self.progress.num_bytes + line.get("num_bytes", 0) + line.get("flow_num_bytes", 0),
        )

    def _check_same_files(self) -> None:
        """Raise ValueError where files that are stored already have another size now."""
        num_changed = 0
        for row_index, line in self._work.results.items():
            path, num_bytes = Path(self.source.root, self.source.rows[row_index].path), line.get("source_num_bytes")
            num_changed += bool(num_bytes is not None and path.is_file() and path.stat().st_size != num_bytes)
        if num_changed:
            raise ValueError(
                f"{self.output} was started from other files: {format_count(num_changed, 'file', 'has')} another size now "
                f"under {self.source.root}; name another folder with -o"
            )

    def _check_source_exists(self) -> None:
        """Raise RuntimeError if a file that existed at the start is gone: then it is the disk that failed, not the video."""
        if self._probe_path and not Path(self.source.root, self._probe_path).exists():
            raise RuntimeError(
                f"the source folder {self.source.root} is no longer available: {self._probe_path} existed at the start; "
                "restore it and run the same command again to resume"
            )

    def _pack_if_complete(self, shard_index: int) -> None:
        """Write a shard if it is not written yet and all of its videos have results."""
        first = shard_index * self.options.videos_per_shard
        row_indices = range(first, min(first + self.options.videos_per_shard, len(self.source.rows)))
        results = self._work.results
        if shard_index in self._work.packed_shards or any(row_index not in results for row_index in row_indices):
            return
        stored = [row_index for row_index in row_indices if results[row_index]["status"] == "ok"]
        videos = (
            (row_index, *self._work.read_video(row_index), self._make_tar_metadata(row_index)) for row_index in stored
        )
        shard = write_shard(self.output / format_shard_path(shard_index), videos)
        self._work.record_shard(shard_index, shard, stored)

    def _make_tar_metadata(self, row_index: int) -> dict[str, Any]:
        row = self.source.rows[row_index]
        return {"video": self.source.names[row_index], "split": row.split, "labels": row.labels}

    def _build_manifest_table(self) -> pa.Table:
        rows, flow = self.source.rows, self.options.flow
        fold_names = [f"fold_{fold + 1}" for fold in range(len(rows[0].folds))]
        fields = [field for field in SCHEMA if field.name != "path"]
        fields += [
            *STORED_COLUMNS,
            *SOURCE_COLUMNS,
            *(FLOW_COLUMNS if flow else ()),
            *(pa.field(name, pa.string()) for name in fold_names),
        ]
        results = [self._work.results[row_index] for row_index in range(len(rows))]
        # Results have values for some of the columns. start_seconds and end_seconds stay null: the segment is what is stored.
        columns = {field.name: [result.get(field.name) for result in results] for field in fields}
        class_indices = {label: class_index for class_index, label in enumerate(self.source.classes)}
        columns["video"] = list(self.source.names)
        columns["labels"] = [[class_indices[label] for label in row.labels] for row in rows]
        columns["split"] = [row.split for row in rows]
        columns["group"] = [row.group for row in rows]
        columns["source_start_seconds"] = [row.start_seconds for row in rows]
        columns["source_end_seconds"] = [row.end_seconds for row in rows]
        for fold, name in enumerate(fold_names):
            columns[name] = [row.folds[fold] for row in rows]
        for row_index, shard, offset, flow_offset in self._work.iterate_locations(self.options.videos_per_shard):
            columns["shard"][row_index], columns["offset"][row_index] = shard, offset
            if flow:
                columns["flow_offset"][row_index] = flow_offset
        return append_target_columns(pa.table(columns, schema=pa.schema(fields)), rows)


def _has_frames(table: pa.Table) -> bool:
    """False where videos are stored and all of them without frames."""
    return bool(table["shard"].null_count == len(table) or table["offset"].null_count < len(table))


def _hash_plan(source: SourceListing, options: PreparationOptions) -> str:
    """SHA-256 of everything that decides the result, apart from the content of the videos."""
    recorded = asdict(options)
    if options.time_origin == "picture":
        del recorded["time_origin"]  # folders that were begun before there was a choice can be resumed
    values = [recorded, source.classes, source.names, [_describe_row(row) for row in source.rows]]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _describe_row(row: VideoRow) -> dict[str, Any]:
    values = asdict(row)
    if row.source_fps is None:
        del values["source_fps"]  # plans of version 0.1 have no such key
    if not row.targets:
        del values["targets"]
    return values


def _has_other_files(output: Path) -> bool:
    """Whether `output` has more than what a run leaves that was killed before it wrote its plan."""
    if output.is_dir():
        return any(
            not (path.name in ("work", LOCK_NAME) or is_partial(path))
            for path in (*output.iterdir(), *output.glob("work/*"))
        )
    return output.exists()
