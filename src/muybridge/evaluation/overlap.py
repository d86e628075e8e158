"""Which evaluated videos a run was trained on, or chose its best weights by.

A split is only worth something where the run has not seen it. Under the run's own address the splits see to that; under
another one, a list beside a folder or a copy elsewhere, nothing does. Videos are the same if their segments share time and
they are the same file, or files of the same size whose first and last MiB are equal. Folders of pictures are the same, where
the data lies elsewhere, if their pictures have the same sizes and the first, the middle and the last are equal. Prepared data,
since format 2, holds sizes and hashes of the files that it was made of; two of its videos are also the same if they are stored
as the same bytes. Groups are names within one data set, and tell nothing about another. A run that starts from another one's
weights has seen the training videos of both.

Input: a run folder and the evaluated videos. Output: an `Overlap`.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muybridge.datasets.manifest import Manifest
from muybridge.datasets.run_videos import is_run_data, read_run_videos
from muybridge.files.hashing import hash_ends
from muybridge.files.run_folder import find_address, read_json_lines, read_settings
from muybridge.loading.open_data import open_data, read_data_options
from muybridge.prepared.dataset import SOURCE_COLUMNS
from muybridge.records import Checkpoint
from muybridge.text import format_count
from muybridge.video.pictures import is_picture_name
from muybridge.weights.address import find_run_folder
from muybridge.weights.card import load_card
from muybridge.weights.catalogue import find_entry
from muybridge.weights.download import is_public
from muybridge.weights.hub import is_hub_address

Bounds = tuple[float, float]
SourceFile = str | tuple[int, str]  # a real path, or size and `hash_ends` of a file that was prepared
Size = int | tuple[int, ...]  # of a file in bytes; of the pictures in a folder
# In sentences, by which a report knows them.
NO_TEST_RESULT, NOT_CHOSEN, MAYBE_CHOSEN = "not a test result", "not chosen", "may have been chosen"
TRAINING_INCLUDED = "training videos included"
WHILE_TRAINING = f"{NO_TEST_RESULT}: the validation videos, by which the best weights are chosen"


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
            sentences.append(f"{TRAINING_INCLUDED}: {self.num_training}")
        if self.num_validation and checkpoint == "last":
            sentences.append(
                f"validation videos included: {self.num_validation}, by which these weights were {NOT_CHOSEN}"
            )
        elif self.num_validation:
            were_chosen = "were chosen" if checkpoint == "best" else MAYBE_CHOSEN
            sentences.append(
                f"{NO_TEST_RESULT}: {format_count(self.num_validation, 'video')} of the validation split by which these "
                f"weights {were_chosen} (--checkpoint last with the run folder takes weights that were not)"
            )
        if self.problem:
            sentences.append(f"not compared with every training video: {self.problem}")
        return sentences


@dataclass(frozen=True)
class _Video:
    """The file of a video, the time of its segment, and for a stored video its checksum."""

    file: SourceFile | None  # None: not known
    bounds: Bounds
    checksum: str | None = None


def find_overlap(run: Path, evaluated: Manifest) -> Overlap:
    """Compare the evaluated videos with those of a run folder. Data of the run that cannot be opened is a `problem`.

    Training videos are those of the run, of the run whose weights it starts from, and so on. Those of weights that have left
    their run folder, as on the Hub, are not known, which is a `problem`; nor are those of public weights, of
    which nothing is said.
    """
    videos = list(_iterate_videos(evaluated, range(len(evaluated))))
    in_training, in_validation = np.zeros((2, len(videos)), np.bool_)
    problems: list[str] = []
    folders, problem = _list_start_chain(run)
    problems += [problem] if problem else []
    for number, folder in enumerate(folders):
        try:
            splits, problem = _compare(folder, videos, evaluated)
        except (ValueError, OSError) as error:
            splits, problem = {}, str(error)
        none = np.zeros(len(videos), np.bool_)
        in_training |= splits.get("train", none)
        in_validation |= splits.get("validation", none) & (number == 0)
        problems += [f"{problem}{f', of {folder}, from which the run starts' if number else ''}"] if problem else []
    return Overlap(int(in_training.sum()), int(in_validation.sum()), "; ".join(problems))


def _list_start_chain(run: Path) -> tuple[list[Path], str]:
    """The run folder, that whose weights it starts from, and so on; and what of it cannot be found, else an empty text."""
    chain = [run]
    while True:
        try:
            init = read_settings(chain[-1] / "settings.yaml").get("init")
        except (ValueError, OSError):  # said where its data is opened
            return chain, ""
        if not isinstance(init, str) or not init or find_entry(init):
            return chain, ""
        if is_hub_address(init):
            return chain, f"{init}, from which the run starts, is on the Hub: its training videos are not known"
        init = find_address(chain[-1], "init", init)
        if not Path(init).exists():
            return chain, f"{init}, from which the run starts, cannot be found"
        folder = find_run_folder(init)
        if folder is None:
            return chain, _describe_lone_start(init)
        if folder.resolve() in [each.resolve() for each in chain]:
            return chain, ""
        chain.append(folder)


def _describe_lone_start(init: str) -> str:
    """That the training videos of weights outside a run folder are not known; empty for public ones."""
    try:
        card = load_card(init)
    except (ValueError, OSError) as error:
        return f"{init}, from which the run starts, cannot be read ({error})"
    if is_public(init, card):
        return ""
    reason = "was imported: its training videos are not known" if card.is_imported else "is not in its run folder"
    return f"{init}, from which the run starts, {reason}"


def _compare(run: Path, videos: Sequence[_Video], evaluated: Manifest) -> tuple[dict[str, NDArray[np.bool_]], str]:
    """Which of the videos are in the splits train and validation of a run, bool (V,) each, and what could not be compared.

    Raises ValueError or OSError where a file of the run cannot be read.
    """
    saved = read_settings(run / "settings.yaml")
    if not isinstance(saved.get("data"), str):
        return {}, f"{run / 'settings.yaml'} does not say what the run was trained on"
    address = find_address(run, "data", saved["data"])
    if Path(address).exists() and not is_run_data(run, saved["data"], address):
        return {}, f"the data of the run has moved, and {address} has other files"
    try:
        own = open_data(address, **read_data_options(saved))
    except (ValueError, OSError) as error:
        return {}, f"the data of the run cannot be opened ({error})"
    recorded = read_run_videos(run)
    splits = own.table if recorded is None else recorded.table
    names = dict(zip(splits["video"].to_pylist(), splits["split"].to_pylist(), strict=True))
    rows_by_split: dict[str, list[int]] = {"train": [], "validation": []}
    own_names = own.table["video"].to_pylist()
    for row, name in enumerate(own_names):
        if names.get(name) in rows_by_split:
            rows_by_split[names[name]].append(row)
    own_videos = {name: list(_iterate_videos(own, rows)) for name, rows in rows_by_split.items()}
    all_own = [video for split in own_videos.values() for video in split]
    # Under one folder names tell pictures apart; under two, folders are compared by what they hold.
    compares_pictures = os.path.realpath(own.root) != os.path.realpath(evaluated.root)
    measure = cache(partial(_read_size, counts_pictures=compares_pictures))
    wanted = {name for name, split in names.items() if split in rows_by_split}
    gone = wanted - set(own_names)
    if not _is_stored(own):
        gone |= {
            own_names[row]
            for split, rows in rows_by_split.items()
            for row, video in zip(rows, own_videos[split], strict=True)
            if measure(video.file) is None
        }
    gone -= {line.get("video") for line in read_json_lines(run / "failures.jsonl")}  # never read
    problems = []
    if recorded and (num_other := recorded.compare_sizes(own.root).count(False)):
        problems.append(f"{format_count(num_other, 'file')} under {own.root} changed in size since training")
    if gone:
        problems.append(f"{len(gone)} of {format_count(len(wanted), 'video')} of the run can no longer be found")
    if _is_stored(own) != _is_stored(evaluated) and (unknown := _describe_unknown_files([*videos, *all_own])):
        problems.append(unknown)
    return {name: _find_common(split, videos, measure) for name, split in own_videos.items()}, "; ".join(problems)


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
    own: Sequence[_Video], evaluated: Sequence[_Video], measure: Callable[[SourceFile | None], Size | None]
) -> NDArray[np.bool_]:
    """Which of the evaluated videos share time with one of the run's own, or are stored as the same bytes: bool (V,)."""
    checksums = {video.checksum for video in own if video.checksum}
    bounds_by_file: dict[SourceFile, list[Bounds]] = {}
    for video in own:
        if video.file is not None:
            bounds_by_file.setdefault(video.file, []).append(video.bounds)
    files_by_size: dict[Size, list[SourceFile]] = {}
    for file in bounds_by_file:
        if size := measure(file):
            files_by_size.setdefault(size, []).append(file)

    read_hash = cache(_read_hash)

    @cache
    def find_copies(file: SourceFile) -> list[SourceFile]:
        size = measure(file)
        others = [other for other in files_by_size.get(size, []) if other != file] if size else []
        return [other for other in others if read_hash(other) == read_hash(file)]

    def shares_time(bounds: Bounds, files: Sequence[SourceFile]) -> bool:
        return any(_share_time(bounds, other) for file in files for other in bounds_by_file.get(file, []))

    def is_seen(video: _Video) -> bool:
        if video.checksum in checksums or video.file is None:
            return video.checksum in checksums
        return shares_time(video.bounds, [video.file]) or shares_time(video.bounds, find_copies(video.file))

    return np.array([is_seen(video) for video in evaluated], np.bool_)


def _share_time(first: Bounds, second: Bounds) -> bool:
    return max(first[0], second[0]) < min(first[1], second[1])


def _read_size(file: SourceFile | None, *, counts_pictures: bool) -> Size | None:
    """The size of a file or of the pictures in a folder, () where those are not read; None for what is not there."""
    if file is None or isinstance(file, tuple):
        return file[0] if file else None
    path = Path(file)
    try:
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode):
            return status.st_size
        return tuple(picture.stat().st_size for picture in _list_pictures(path)) if counts_pictures else ()
    except OSError:
        return None


def _read_hash(file: SourceFile) -> str:
    if isinstance(file, tuple):
        return file[1]
    path = Path(file)
    if not path.is_dir():
        return hash_ends(path)
    pictures = _list_pictures(path)
    return " ".join(hash_ends(pictures[index]) for index in (0, len(pictures) // 2, -1))


def _list_pictures(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if is_picture_name(entry.name))
