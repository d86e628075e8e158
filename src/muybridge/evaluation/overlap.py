"""Which evaluated videos a run was trained on, or chose its best weights by.

A split is only worth something where the run has not seen it. Under the run's own address the splits see to that; under another
one, a list beside a folder or a copy elsewhere, nothing does. Videos are the same if their segments share time and they are the
same file, files of the same size whose first and last MiB are equal, or folders of as many pictures whose first and last are
equal. Prepared data, since format 2, holds sizes and hashes of the files that it was made of; two of its videos are also the
same if they are stored as the same bytes. Groups are names within one data set, and tell nothing about another. A run that
starts from another one's weights has seen the training videos of both.

Input: a run folder and the evaluated videos. Output: an `Overlap`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muybridge.datasets.manifest import Manifest
from muybridge.datasets.run_videos import read_run_videos
from muybridge.files.hashing import hash_ends
from muybridge.files.run_folder import read_settings
from muybridge.loading.open_data import open_data, read_data_options
from muybridge.prepared.dataset import SOURCE_COLUMNS
from muybridge.records import Checkpoint
from muybridge.text import format_count
from muybridge.weights.address import find_run_folder

Bounds = tuple[float, float]
SourceFile = str | tuple[int, str]  # a real path, or size and `hash_ends` of a file that was prepared
Size = int | tuple[str, int]  # of a file in bytes; of a folder, "pictures" and their number


NO_TEST_RESULT, NOT_CHOSEN = "not a test result", "not chosen"  # in sentences, by which a report knows them


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

    def format_sentences(self, checkpoint: Checkpoint | None) -> list[str]:
        """What belongs beside the accuracy; `checkpoint` says which weights of the run were scored, None: not known."""
        sentences = []
        if self.num_training:
            sentences.append(f"training videos included: {self.num_training}")
        if self.num_validation and checkpoint == "last":
            sentences.append(
                f"validation videos included: {self.num_validation}, by which these weights were {NOT_CHOSEN}"
            )
        elif self.num_validation:
            were_chosen = "were chosen" if checkpoint == "best" else "may have been chosen"
            sentences.append(
                f"{NO_TEST_RESULT}: {format_count(self.num_validation, 'video')} of the validation split by which these "
                f"weights {were_chosen} (--checkpoint last for weights that were not)"
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
    """Compare the evaluated videos with those of a run folder. Data of the run that cannot be opened is a `problem`.

    Training videos are those of the run, of the run whose weights it starts from, and so on; a run folder that is not there any
    more, and other weights to start from, are not looked into.
    """
    videos = list(_iterate_videos(evaluated, range(len(evaluated))))
    in_training, in_validation = np.zeros((2, len(videos)), np.bool_)
    problems: list[str] = []
    for number, folder in enumerate(_list_start_chain(run)):
        splits, problem = _compare(folder, videos, is_stored=_is_stored(evaluated))
        in_training |= splits["train"]
        in_validation |= splits["validation"] & (number == 0)
        problems += [f"{problem}{f', of {folder}, from which the run starts' if number else ''}"] if problem else []
    return Overlap(int(in_training.sum()), int(in_validation.sum()), "; ".join(problems))


def _list_start_chain(run: Path) -> list[Path]:
    """The run folder, that whose weights it starts from, and so on."""
    chain: list[Path] = []
    folder: Path | None = run
    while folder is not None and folder.resolve() not in [each.resolve() for each in chain]:
        chain.append(folder)
        init = read_settings(folder / "settings.yaml").get("init")
        folder = find_run_folder(init) if isinstance(init, str) and init else None
    return chain


def _compare(run: Path, videos: Sequence[_Video], *, is_stored: bool) -> tuple[dict[str, NDArray[np.bool_]], str]:
    """Which of the videos are in the splits train and validation of a run, bool (V,) each, and what could not be compared."""
    masks = {name: np.zeros(len(videos), np.bool_) for name in ("train", "validation")}
    saved = read_settings(run / "settings.yaml")
    if not isinstance(saved.get("data"), str):
        return masks, f"{run / 'settings.yaml'} does not say what the run was trained on"
    try:
        own = open_data(saved["data"], **read_data_options(saved))
    except (ValueError, OSError) as error:
        return masks, f"the data of the run cannot be opened ({error})"
    recorded = read_run_videos(run)
    splits = own.table if recorded is None else recorded.table
    names = dict(zip(splits["video"].to_pylist(), splits["split"].to_pylist(), strict=True))
    rows_by_split: dict[str, list[int]] = {name: [] for name in masks}
    own_names = own.table["video"].to_pylist()
    for row, name in enumerate(own_names):
        if names.get(name) in rows_by_split:
            rows_by_split[names[name]].append(row)
    own_videos = {name: list(_iterate_videos(own, rows)) for name, rows in rows_by_split.items()}
    all_own = [video for split in own_videos.values() for video in split]
    num_videos = sum(split in masks for split in names.values())
    sizes = {video.file: _read_size(video.file) for video in all_own if video.file is not None}
    num_lost = sum(video.file is not None and sizes[video.file] is None for video in all_own)
    num_gone = num_videos - sum(map(len, rows_by_split.values())) + num_lost
    problems = (
        [f"{num_gone} of {format_count(num_videos, 'video')} of the run cannot be found any more"] if num_gone else []
    )
    if _is_stored(own) != is_stored and (unknown := _describe_unknown_files([*videos, *all_own])):
        problems.append(unknown)
    for name, split in own_videos.items():
        masks[name] = _find_common(split, videos, sizes)
    return masks, "; ".join(problems)


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


def _find_common(
    own: Sequence[_Video], evaluated: Sequence[_Video], sizes: Mapping[SourceFile, Size | None]
) -> NDArray[np.bool_]:
    """Which of the evaluated videos share time with one of the run's own, or are stored as the same bytes: bool (V,)."""
    checksums = {video.checksum for video in own if video.checksum}
    bounds_by_file: dict[SourceFile, list[Bounds]] = {}
    for video in own:
        if video.file is not None:
            bounds_by_file.setdefault(video.file, []).append(video.bounds)
    files_by_size: dict[Size, list[SourceFile]] = {}
    if any(video.file not in bounds_by_file for video in evaluated if video.file is not None):
        for file in bounds_by_file:
            if (size := sizes[file]) is not None:
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

    return np.array(
        [
            video.checksum in checksums
            or any(
                _share_time(video.bounds, other) for file in find_copies(video.file) for other in bounds_by_file[file]
            )
            for video in evaluated
        ],
        np.bool_,
    )


def _share_time(first: Bounds, second: Bounds) -> bool:
    return max(first[0], second[0]) < min(first[1], second[1])


def _read_size(file: SourceFile) -> Size | None:
    """The size of a file, the number of pictures in a folder; None for what is not there."""
    if isinstance(file, tuple):
        return file[0]
    path = Path(file)
    if path.is_dir():
        return "pictures", len(_list_pictures(path))
    return path.stat().st_size if path.is_file() else None


def _read_hash(file: SourceFile) -> str:
    if isinstance(file, tuple):
        return file[1]
    path = Path(file)
    if not path.is_dir():
        return hash_ends(path)
    names = _list_pictures(path)
    return " ".join(hash_ends(path / name) for name in (names[0], names[-1])) if names else ""


def _list_pictures(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
