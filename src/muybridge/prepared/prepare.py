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

from muybridge.datasets.folders import check_classes, check_names, read_address, segment_name
from muybridge.datasets.manifest import SCHEMA, Manifest, ambiguous_names
from muybridge.datasets.official import read_hmdb51, read_kinetics, read_sports1m, read_ucf101, with_folds
from muybridge.datasets.splits import VideoRow
from muybridge.distributed.stop import StopFlag, StopRequested, stop_on_signals
from muybridge.files.atomic import atomic_write, is_partial, remove_partial, write_json
from muybridge.files.hashing import file_sha256
from muybridge.files.run_folder import append_json_line, read_json_lines
from muybridge.prepared.coverage import Coverage, coverage
from muybridge.prepared.dataset import COVERAGE, DESCRIPTION, FLOW_COLUMNS, MANIFEST, STORED_COLUMNS, Description
from muybridge.prepared.shards import shard_name
from muybridge.prepared.stored_flow import BOUND
from muybridge.prepared.tar_shards import pack
from muybridge.prepared.transcode import StoredVideo, Transcoding
from muybridge.prepared.worker_pool import Outcome
from muybridge.records import VideoError

VIDEOS_PER_SHARD = 256
FORMATS = ("folder", "csv", "kinetics", "ucf101", "hmdb51", "sports1m")
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)

Transcoder: TypeAlias = Callable[[Iterable[tuple[int, Transcoding]]], Iterator[tuple[int, Outcome]]]


@dataclass(frozen=True)
class Recipe:
    """What every video is made into."""

    frames_per_second: float | None = None
    scale_height: int = 128
    scale_width: int = 171
    flow: bool = False
    videos_per_shard: int = VIDEOS_PER_SHARD


@dataclass(frozen=True)
class Source:
    """The rows of a source in the order of the manifest, each with a name of its own."""

    root: str
    rows: tuple[VideoRow, ...]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]

    def sha256(self, recipe: Recipe) -> str:
        """Of all that decides the result, apart from the videos' content."""
        told = [asdict(recipe), self.classes, self.names, [asdict(row) for row in self.rows]]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


@dataclass(frozen=True)
class Progress:
    """How far it is: videos done of all, those of them that failed, and bytes stored."""

    num_done: int
    num_videos: int
    num_failed: int
    num_bytes: int


def read_source(address: str, kind: str) -> Source:
    """The rows of a source of one of FORMATS. Raises ValueError with a sentence for everything that is wrong with it."""
    if kind not in FORMATS:
        raise ValueError(f"there is no format {kind!r}; the formats are {', '.join(FORMATS)}")
    path = Path(address).absolute()
    if kind in ("folder", "csv"):
        root, rows, notes = read_address(address)
    else:
        if not path.is_dir():
            raise ValueError(f"{address} is no folder; {kind} is read from a folder with its lists and videos")
        readers = {"kinetics": read_kinetics, "ucf101": read_ucf101, "hmdb51": read_hmdb51, "sports1m": read_sports1m}
        root, (rows, notes) = address, readers[kind](path)
    check_names(address, rows)
    rows, drawn = with_folds(rows)
    classes = sorted({label for row in rows for label in row.labels})
    if kind in ("folder", "csv"):
        check_classes(address, rows, classes)
    elif ambiguous_names(classes):
        raise ValueError(f"{address} has classes that cannot be told apart: {'; '.join(ambiguous_names(classes))}")
    return Source(str(Path(root).absolute()), tuple(rows), unique_names(rows), tuple(classes), (*notes, *drawn))


def unique_names(rows: Iterable[VideoRow]) -> tuple[str, ...]:
    """A name for each row: its path, with the segment, the split and a number added as far as they are needed."""
    rows = list(rows)
    times_named = Counter(row.path for row in rows)
    names = [row.path if times_named[row.path] == 1 else segment_name(row).removesuffix("#-") for row in rows]
    repeated = Counter(names)
    names = [f"{name}#{row.split}" if repeated[name] > 1 else name for row, name in zip(rows, names, strict=True)]
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(unique)


class Preparation:
    """One prepared folder in the making, and what of it is done."""

    def __init__(self, source: Source, output: Path, recipe: Recipe) -> None:
        self.source, self.output, self.recipe = source, output, recipe
        self.work = output / "work"
        self.results: dict[int, dict[str, Any]] = {}
        self.packed: dict[int, dict[str, Any]] = {}
        rows = (row.path for row in source.rows[:1000])
        self._canary = next((path for path in rows if Path(source.root, path).is_file()), None)

    def open(self) -> None:
        """Makes the work folder, or takes up what an earlier run left there. ValueError: the folder holds something else."""
        plan = {"sha256": self.source.sha256(self.recipe), "num_videos": len(self.source.rows)}
        saved = self.work / "plan.json"
        if saved.exists() or not _holds_anything_else(self.output):
            remove_partial(self.output)
        if (self.output / DESCRIPTION).exists():
            shutil.rmtree(self.work, ignore_errors=True)  # the last thing of all, which a killed run did not come to
            raise ValueError(
                f"{self.output} is prepared already; check it with --check, or name another folder with -o"
            )
        if saved.exists():
            if json.loads(saved.read_text(encoding="utf-8")) != plan:
                raise ValueError(
                    f"{self.output} was begun from another source or with other options, or the source has changed "
                    "since; repeat them, or name another folder with -o"
                )
        elif _holds_anything_else(self.output):
            raise ValueError(f"{self.output} holds something else; name a new folder with -o")
        else:
            write_json(saved, plan)
        self.packed = {line["shard"]: line for line in read_json_lines(self.work / "packed.jsonl")}
        for line in read_json_lines(self.work / "results.jsonl"):
            number = line["row"]
            staged = line["status"] != "ok" or all(path.exists() for path in self._all_staged(number))
            if staged or number // self.recipe.videos_per_shard in self.packed:
                self.results[number] = line

    def pending(self) -> Iterator[tuple[int, Transcoding]]:
        """The videos still to be made, in order."""
        for number, row in enumerate(self.source.rows):
            if number not in self.results:
                recipe = self.recipe
                yield (
                    number,
                    Transcoding(
                        str(Path(self.source.root, row.path)),
                        row.start_seconds,
                        row.end_seconds,
                        recipe.frames_per_second,
                        recipe.scale_height,
                        recipe.scale_width,
                        recipe.flow,
                    ),
                )

    def keep(self, number: int, outcome: Outcome) -> None:
        """Writes down what became of a video, and packs its shard when it was the last one missing."""
        line: dict[str, Any] = {"row": number, "status": "ok", "reason": ""}
        if isinstance(outcome, StoredVideo):
            with atomic_write(self._staged(number)) as temporary:
                temporary.write_bytes(outcome.content)
            contents = ("content", "flow_content")
            facts = {name: value for name, value in outcome.__dict__.items() if name not in contents}
            line |= {**facts, "num_bytes": len(outcome.content)}
            if outcome.flow_content is not None:
                with atomic_write(self._staged_flow(number)) as temporary:
                    temporary.write_bytes(outcome.flow_content)
                line["flow_num_bytes"] = len(outcome.flow_content)
        else:
            self._require_source()
            line |= {"status": outcome.status, "reason": outcome.reason}
        append_json_line(self.work / "results.jsonl", line)
        self.results[number] = line
        self.pack_if_complete(number // self.recipe.videos_per_shard)

    def pack_if_complete(self, shard: int) -> None:
        """Writes the shard when all of its videos are done."""
        rows = self._rows_of(shard)
        if shard in self.packed or any(number not in self.results for number in rows):
            return
        stored = [number for number in rows if self.results[number]["status"] == "ok"]
        videos = (
            (
                number,
                self._staged(number).read_bytes(),
                self._staged_flow(number).read_bytes() if self.recipe.flow else None,
                self._known(number),
            )
            for number in stored
        )
        written = pack(self.output / shard_name(shard), videos)
        line = {
            "shard": shard,
            "num_bytes": written.num_bytes,
            "sha256": written.sha256,
            "offsets": [written.offsets[number] for number in stored],
            "flow_offsets": [written.flow_offsets.get(number) for number in stored],
        }
        append_json_line(self.work / "packed.jsonl", line)
        self.packed[shard] = line
        for number in stored:
            for path in self._all_staged(number):
                path.unlink()

    def finish(self) -> Coverage:
        """Writes manifest, coverage and description, in this order, and removes the work folder."""
        for shard in range(self.num_shards):
            self.pack_if_complete(shard)  # what an earlier run did not come to
        table = self._table()
        with atomic_write(self.output / MANIFEST) as temporary:
            pq.write_table(table, temporary, compression="zstd", row_group_size=65536)
        manifest = Manifest(table.append_column("path", table["video"]), self.source.classes, str(self.output))
        told = coverage(manifest)
        write_json(self.output / COVERAGE, told.to_json())
        described = Description(
            classes=self.source.classes,
            scale_height=self.recipe.scale_height,
            scale_width=self.recipe.scale_width,
            frames_per_second=self.recipe.frames_per_second,
            flow_bound=BOUND if self.recipe.flow else None,
            num_folds=len(self.source.rows[0].folds),
            notes=self.source.notes,
            manifest_sha256=file_sha256(self.output / MANIFEST)[1],
            shards=tuple(
                (self.packed[shard]["num_bytes"], self.packed[shard]["sha256"]) for shard in range(self.num_shards)
            ),
        )
        write_json(self.output / DESCRIPTION, described.to_json())
        shutil.rmtree(self.work)
        return told

    @property
    def num_shards(self) -> int:
        """Shards of the whole source."""
        return -(-len(self.source.rows) // self.recipe.videos_per_shard)

    def progress(self) -> Progress:
        """How far it is."""
        num_failed = sum(line["status"] != "ok" for line in self.results.values())
        num_bytes = sum(line.get("num_bytes", 0) for line in self.results.values())
        return Progress(len(self.results), len(self.source.rows), num_failed, num_bytes)

    def _rows_of(self, shard: int) -> range:
        first = shard * self.recipe.videos_per_shard
        return range(first, min(first + self.recipe.videos_per_shard, len(self.source.rows)))

    def _staged(self, number: int) -> Path:
        return self.work / "videos" / f"{number:09d}.mp4"

    def _staged_flow(self, number: int) -> Path:
        return self.work / "videos" / f"{number:09d}.flow.mp4"

    def _all_staged(self, number: int) -> list[Path]:
        return [self._staged(number), *([self._staged_flow(number)] if self.recipe.flow else [])]

    def _known(self, number: int) -> dict[str, Any]:
        row = self.source.rows[number]
        return {"video": self.source.names[number], "split": row.split, "labels": row.labels}

    def _require_source(self) -> None:
        """RuntimeError where not this video failed, but the disk it lies on is gone."""
        if self._canary and not Path(self.source.root, self._canary).is_file():
            raise RuntimeError(
                f"the source {self.source.root} has gone: {self._canary} was there and is not any more; bring it back "
                "and run the same line again, what is done is kept"
            )

    def _table(self) -> pa.Table:
        places = {label: place for place, label in enumerate(self.source.classes)}
        lines = [self.results[number] for number in range(len(self.source.rows))]
        taken = {name for name in SCHEMA.names if name not in ("path", "start_seconds", "end_seconds")}
        columns: dict[str, list[Any]] = {name: [line.get(name) for line in lines] for name in sorted(taken)}
        columns["video"] = list(self.source.names)
        columns["labels"] = [[places[label] for label in row.labels] for row in self.source.rows]
        columns["split"] = [row.split for row in self.source.rows]
        columns["group"] = [row.group for row in self.source.rows]
        columns["start_seconds"] = columns["end_seconds"] = [None] * len(lines)  # what is stored is the segment itself
        of_flow = FLOW_COLUMNS if self.recipe.flow else pa.schema([])
        columns |= {name: [None] * len(lines) for name in (*STORED_COLUMNS.names, *of_flow.names)}
        for shard, packed in self.packed.items():
            stored = (number for number in self._rows_of(shard) if lines[number]["status"] == "ok")
            for number, offset, flow_offset in zip(stored, packed["offsets"], packed["flow_offsets"], strict=True):
                columns["shard"][number], columns["offset"][number] = shard, offset
                columns["num_bytes"][number] = lines[number]["num_bytes"]
                if self.recipe.flow:
                    columns["flow_offset"][number] = flow_offset
                    columns["flow_num_bytes"][number] = lines[number]["flow_num_bytes"]
                    columns["flow_sha256"][number] = lines[number]["flow_sha256"]
        for fold in range(len(self.source.rows[0].folds)):
            columns[f"fold_{fold + 1}"] = [row.folds[fold] for row in self.source.rows]
        folds = [pa.field(name, pa.string()) for name in columns if name.startswith("fold_")]
        fields = [field for field in (*SCHEMA, *STORED_COLUMNS, *of_flow, *folds) if field.name != "path"]
        return pa.table({field.name: columns[field.name] for field in fields}, schema=pa.schema(fields))


def _holds_anything_else(output: Path) -> bool:
    """Whether there is more at `output` than a run leaves that was killed before it had written its plan."""
    if output.is_dir():
        return any(
            not (path.name == "work" or is_partial(path)) for path in (*output.iterdir(), *output.glob("work/*"))
        )
    return output.exists()


def prepare(
    preparation: Preparation, transcoder: Transcoder, *, finished: Callable[[Progress], None] | None = None
) -> Coverage:
    """Makes what is still to be made, and finishes the folder.

    Raises StopRequested after a signal and RuntimeError for a full disk or a vanished source, with everything that was done
    kept for the next run.
    """
    try:
        preparation.open()
        if finished:
            finished(preparation.progress())
        with stop_on_signals() as stop:
            _work(preparation, transcoder, stop, finished)
        return preparation.finish()
    except OSError as error:
        if error.errno not in _FULL_DISK:
            raise
        done = preparation.progress()
        raise RuntimeError(
            f"no space is left on the disk of {preparation.output} after {done.num_done} of {done.num_videos} videos; "
            "free some and run the same line again, what is done is kept"
        ) from error


def _work(
    preparation: Preparation, transcoder: Transcoder, stop: StopFlag, finished: Callable[[Progress], None] | None
) -> None:
    at = preparation.progress()
    outcomes = transcoder(preparation.pending())
    for number, outcome in outcomes:
        preparation.keep(number, outcome)
        stored = len(outcome.content) if isinstance(outcome, StoredVideo) else 0
        at = Progress(
            at.num_done + 1, at.num_videos, at.num_failed + isinstance(outcome, VideoError), at.num_bytes + stored
        )
        if finished:
            finished(at)
        if stop.signal_number is not None:
            raise StopRequested(stop.signal_number)
