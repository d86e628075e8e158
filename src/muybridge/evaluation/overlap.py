"""Which evaluated videos a run was trained on, or chose its best weights by.

A split is only worth something where the run has not seen it. Under the run's own address the splits see to that; under another
one, a list beside a folder or a copy elsewhere, nothing does. Videos are the same if they are the same file, or files of the
same size whose first and last MiB are equal, and their segments share time. Stored videos of prepared data are compared by the
checksum of their header. Groups are names within one data set, and tell nothing about another.

Input: a run folder and the evaluated videos. Output: an `Overlap`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from muybridge.datasets.manifest import Manifest
from muybridge.datasets.run_videos import read_run_videos
from muybridge.files.run_folder import read_settings
from muybridge.loading.open_data import open_data, read_data_options
from muybridge.text import format_count

_HASHED_BYTES = 1_048_576  # at each end of a file
Bounds = tuple[float, float]


class OverlapError(RuntimeError):
    """Training videos would be scored, or it cannot be told, and that was refused."""


@dataclass(frozen=True)
class Overlap:
    """How many of the evaluated videos are among the training and the validation videos of the run.

    `problem` says why videos could not be compared; it is empty where they were.
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
        if self.problem:
            sentences.append(f"not compared with the training videos: {self.problem}")
        return sentences


@dataclass(frozen=True)
class _Video:
    """Where a video is stored, and the time of its segment."""

    file: str  # a real path, or the checksum of a stored video
    bounds: Bounds


def find_overlap(run: Path, evaluated: Manifest) -> Overlap:
    """Compare the evaluated videos with those of a run folder. Data of the run that cannot be opened is a `problem`."""
    saved = read_settings(run / "settings.yaml")
    try:
        own = open_data(str(saved["data"]), **read_data_options(saved))
    except (ValueError, OSError) as error:
        return Overlap(problem=f"the data of the run cannot be opened ({error})")
    if _is_stored(own) != _is_stored(evaluated):
        return Overlap(problem="one is prepared data, the other is not")
    recorded = read_run_videos(run)
    splits = own.table if recorded is None else recorded.table
    names = dict(zip(splits["video"].to_pylist(), splits["split"].to_pylist(), strict=True))
    rows_by_split: dict[str, list[int]] = {"train": [], "validation": []}
    for row, name in enumerate(own.table["video"].to_pylist()):
        if names.get(name) in rows_by_split:
            rows_by_split[names[name]].append(row)
    videos = list(_iterate_videos(evaluated, range(len(evaluated))))
    counts = [_count_common(list(_iterate_videos(own, rows)), videos) for rows in rows_by_split.values()]
    return Overlap(counts[0], counts[1])


def _is_stored(manifest: Manifest) -> bool:
    return "shard" in manifest.table.column_names


def _iterate_videos(manifest: Manifest, rows: Sequence[int]) -> Iterator[_Video]:
    """The videos of some rows. A stored video is its segment, so its bounds are those of any time."""
    table, always = manifest.table, (-float("inf"), float("inf"))
    if _is_stored(manifest):
        for row in rows:
            if (sha256 := table["sha256"][row].as_py()) is not None:
                yield _Video(f"{sha256} {table['num_bytes'][row].as_py()}", always)
        return
    root = Path(manifest.root)
    for row in rows:
        start, end = manifest.get_bounds(row)
        bounds = (always[0] if start is None else start, always[1] if end is None else end)
        yield _Video(os.path.realpath(root / manifest.get_path(row)), bounds)


def _count_common(own: Sequence[_Video], evaluated: Sequence[_Video]) -> int:
    """How many of the evaluated videos share time with one of the run's own."""
    bounds_by_file: dict[str, list[Bounds]] = {}
    for video in own:
        bounds_by_file.setdefault(video.file, []).append(video.bounds)
    files_by_size: dict[int, list[str]] = {}
    if any(video.file not in bounds_by_file for video in evaluated):
        for file in bounds_by_file:
            if (size := _read_size(file)) is not None:
                files_by_size.setdefault(size, []).append(file)

    hash_ends = cache(_hash_ends)

    @cache
    def find_copies(file: str) -> list[str]:
        if file in bounds_by_file:
            return [file]
        size = _read_size(file)
        candidates = files_by_size.get(size, []) if size is not None else []
        return [other for other in candidates if hash_ends(other) == hash_ends(file)]

    return sum(
        any(_share_time(video.bounds, bounds) for file in find_copies(video.file) for bounds in bounds_by_file[file])
        for video in evaluated
    )


def _share_time(first: Bounds, second: Bounds) -> bool:
    return max(first[0], second[0]) < min(first[1], second[1])


def _read_size(file: str) -> int | None:
    """The size of a file; None for folders of frames, members of archives and what is not there."""
    path = Path(file)
    return path.stat().st_size if path.is_file() else None


def _hash_ends(file: str) -> str:
    """SHA-256 of the first and the last MiB of a file."""
    path = Path(file)
    with path.open("rb") as opened:
        digest = hashlib.sha256(opened.read(_HASHED_BYTES))
        opened.seek(max(0, path.stat().st_size - _HASHED_BYTES))
        digest.update(opened.read(_HASHED_BYTES))
    return digest.hexdigest()
