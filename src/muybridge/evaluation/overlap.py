"""Which evaluated videos a run was trained on, or chose its best weights by.

A split is only worth something where the run has not seen it. Under the run's own address the splits see to that; under another
one, a list beside a folder or a copy elsewhere, nothing does. Videos are the same if they are the same file, or files of the
same size whose first and last MiB are equal, and their segments share time. Prepared data, since format 2, holds sizes and
hashes of the files that it was made of; two of its videos are also the same if they are stored as the same bytes. Groups are
names within one data set, and tell nothing about another.

Input: a run folder and the evaluated videos. Output: an `Overlap`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from muybridge.datasets.manifest import Manifest
from muybridge.datasets.run_videos import read_run_videos
from muybridge.files.hashing import hash_ends
from muybridge.files.run_folder import read_settings
from muybridge.loading.open_data import open_data, read_data_options
from muybridge.prepared.dataset import SOURCE_COLUMNS
from muybridge.text import format_count

Bounds = tuple[float, float]
SourceFile = str | tuple[int, str]  # a real path, or size and `hash_ends` of a file that was prepared


class OverlapError(RuntimeError):
    """Training videos would be scored, or it cannot be told, and that was refused."""


@dataclass(frozen=True)
class Overlap:
    """How many of the evaluated videos are among the training and the validation videos of the run.

    `problem` says why videos could not be compared, some or all; it is empty where they were.
    """

    num_training: int = 0
    num_validation: int = 0
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return asdict(self)

    def format_sentences(self, *, chosen_by_validation: bool) -> list[str]:
        """What a reader has to know beside the accuracy; `chosen_by_validation`: the weights are the best ones of the run."""
        sentences = []
        if self.num_training:
            sentences.append(f"training videos included: {self.num_training}")
        if self.num_validation and chosen_by_validation:
            sentences.append(
                f"not a test result: {format_count(self.num_validation, 'video')} of the validation split by which these "
                "weights were chosen (--checkpoint last for weights that were not)"
            )
        elif self.num_validation:
            sentences.append(
                f"validation videos included: {self.num_validation}, by which these weights were not chosen"
            )
        if self.problem:
            sentences.append(f"not compared with the training videos: {self.problem}")
        return sentences


@dataclass(frozen=True)
class _Video:
    """The file of a video, the time of its segment, and for a stored video its checksum."""

    file: SourceFile | None  # None: not known
    bounds: Bounds
    checksum: str | None = None


def find_overlap(run: Path, evaluated: Manifest) -> Overlap:
    """Compare the evaluated videos with those of a run folder. Data of the run that cannot be opened is a `problem`."""
    saved = read_settings(run / "settings.yaml")
    try:
        own = open_data(str(saved["data"]), **read_data_options(saved))
    except (ValueError, OSError) as error:
        return Overlap(problem=f"the data of the run cannot be opened ({error})")
    recorded = read_run_videos(run)
    splits = own.table if recorded is None else recorded.table
    names = dict(zip(splits["video"].to_pylist(), splits["split"].to_pylist(), strict=True))
    rows_by_split: dict[str, list[int]] = {"train": [], "validation": []}
    for row, name in enumerate(own.table["video"].to_pylist()):
        if names.get(name) in rows_by_split:
            rows_by_split[names[name]].append(row)
    videos = list(_iterate_videos(evaluated, range(len(evaluated))))
    own_videos = [list(_iterate_videos(own, rows)) for rows in rows_by_split.values()]
    problem = ""
    if _is_stored(own) != _is_stored(evaluated):
        problem = _describe_unknown_files([*videos, *(video for split in own_videos for video in split)])
    counts = [_count_common(split, videos) for split in own_videos]
    return Overlap(counts[0], counts[1], problem)


def _describe_unknown_files(videos: Sequence[_Video]) -> str:
    num_unknown = sum(video.file is None for video in videos)
    if not num_unknown:
        return ""
    return (
        f"{format_count(num_unknown, 'prepared video')} without a hash of the file (folders of frames have none, nor has data "
        "prepared before format 2)"
    )


def _is_stored(manifest: Manifest) -> bool:
    return "shard" in manifest.table.column_names


def _iterate_videos(manifest: Manifest, rows: Sequence[int]) -> Iterator[_Video]:
    """The videos of some rows, of prepared data those that are stored."""
    columns, root = manifest.table.column_names, Path(manifest.root)
    if not _is_stored(manifest):
        for row in rows:
            yield _Video(os.path.realpath(root / manifest.get_path(row)), _make_bounds(*manifest.get_bounds(row)))
        return
    names = ("status", "sha256", "flow_sha256", *SOURCE_COLUMNS.names)
    for row in rows:
        values = {name: manifest.table[name][row].as_py() if name in columns else None for name in names}
        if values["status"] == "ok":
            size, sha256, start, end = (values[name] for name in SOURCE_COLUMNS.names)
            file = None if size is None or sha256 is None else (int(size), str(sha256))
            yield _Video(file, _make_bounds(start, end), values["sha256"] or values["flow_sha256"])


def _make_bounds(start: float | None, end: float | None) -> Bounds:
    return -math.inf if start is None else start, math.inf if end is None else end


def _count_common(own: Sequence[_Video], evaluated: Sequence[_Video]) -> int:
    """How many of the evaluated videos share time with one of the run's own, or are stored as the same bytes."""
    checksums = {video.checksum for video in own if video.checksum}
    bounds_by_file: dict[SourceFile, list[Bounds]] = {}
    for video in own:
        if video.file is not None:
            bounds_by_file.setdefault(video.file, []).append(video.bounds)
    files_by_size: dict[int, list[SourceFile]] = {}
    if any(video.file not in bounds_by_file for video in evaluated if video.file is not None):
        for file in bounds_by_file:
            if (size := _read_size(file)) is not None:
                files_by_size.setdefault(size, []).append(file)

    read_hash = cache(_read_hash)

    @cache
    def find_copies(file: SourceFile | None) -> list[SourceFile]:
        if file is None:
            return []
        if file in bounds_by_file:
            return [file]
        size = _read_size(file)
        candidates = files_by_size.get(size, []) if size is not None else []
        return [other for other in candidates if read_hash(other) == read_hash(file)]

    return sum(
        video.checksum in checksums
        or any(_share_time(video.bounds, bounds) for file in find_copies(video.file) for bounds in bounds_by_file[file])
        for video in evaluated
    )


def _share_time(first: Bounds, second: Bounds) -> bool:
    return max(first[0], second[0]) < min(first[1], second[1])


def _read_size(file: SourceFile) -> int | None:
    """The size of a file; None for folders of frames, members of archives and what is not there."""
    if isinstance(file, tuple):
        return file[0]
    path = Path(file)
    return path.stat().st_size if path.is_file() else None


def _read_hash(file: SourceFile) -> str:
    return file[1] if isinstance(file, tuple) else hash_ends(Path(file))
