"""Class folders, optionally below split folders, as rows; and the choice between a folder and a list (docs/data.md).

    DATA/handshake/a.mp4          DATA/train/handshake/a.mp4
    DATA/hug/b.avi                DATA/test/hug/b.avi

Files are listed but not opened; a file that cannot be read is recorded as such when it is read.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from muybridge.datasets.columns import AS_VERSION_0_1
from muybridge.datasets.rows import SPLIT_ALIASES, VideoRow
from muybridge.datasets.video_files import (
    SkippedFiles,
    has_video_extension,
    is_visible,
    iterate_videos,
)
from muybridge.datasets.video_list import LIST_EXTENSIONS, is_video_list, read_table, read_video_list
from muybridge.records import Split, Task
from muybridge.text import format_count, join_names
from muybridge.video.pictures import is_picture_name

_NUM_CHECKED_FILES = 20
# A file that only the official lists of a data set have, at most one folder deep.
_OFFICIAL_LISTS = {
    "trainlist01.txt": "ucf101",
    "*_test_split1.txt": "hmdb51",
    "train_partition.txt": "sports1m",
    "*something-something-v2-train.json": "something_something_v2",
    "jester-v1-train.csv": "jester",
    "trainingSet.csv": "moments_in_time",
    "activity_net*.json": "activitynet",
    "kinetics*train*.csv": "kinetics",
}


def read_video_rows(
    address: str,
    columns: str | None = None,
    *,
    task: Task | None = "single_label",
    source_fps: float | None = None,
) -> tuple[str, list[VideoRow], list[str]]:
    """The root, the rows and the notes of a folder or a list, with the splits that it gives.

    `columns` says which columns of a list are which (`columns.py`), `task` what is read and `source_fps` the rate of frames
    that are stored without one (`read_video_list`). Raises ValueError for an address that is neither, and for a layout or a
    file with problems.
    """
    path = Path(address)
    if _is_list_address(address):
        return str(path.parent), *_read_list(path, columns, task, source_fps)
    if columns not in (None, AS_VERSION_0_1):
        raise ValueError(f"--columns is for lists, but {address} is a folder; leave it out")
    official = _guess_official_format(path)
    hint = f"`muybridge prepare {address} --format {official} -o DATA`"
    try:
        rows, notes = _read_folder(path, follow_links=columns is None)
    except ValueError as error:
        if official is None:
            raise
        raise ValueError(f"{error}; the lists of {official} in it are read by {hint}") from error
    if official is not None:
        notes.append(f"{address} has lists of {official}, which are not read; {hint} reads them.")
    return str(path), rows, notes


def _is_list_address(address: str) -> bool:
    """Whether an address is a list rather than a folder. Raises ValueError if it is neither."""
    path = Path(address)
    if not address:
        raise ValueError("the address of the data is empty; name a folder or a list")
    if path.is_dir():
        return False
    if not path.exists():
        raise ValueError(f"there is no folder or CSV file {address!r}")
    if not is_video_list(path):
        raise ValueError(
            f"{address} is neither a folder of class folders nor a .csv file, nor another list ({', '.join(LIST_EXTENSIONS)})"
        )
    return True


def resolve_columns(address: str, columns: str | None) -> str | None:
    """`columns` with everything that is guessed for a list; unchanged for a folder, None if the columns have no names."""
    if not _is_list_address(address):
        return columns
    table = read_table(Path(address), columns, task=None)
    return str(table.mapping) if table.has_header else None


def _read_list(
    path: Path, columns: str | None, task: Task | None, source_fps: float | None
) -> tuple[list[VideoRow], list[str]]:
    """The rows and notes of a list. Raises ValueError with all problems of its rows."""
    videos = read_video_list(path, columns=columns, task=task, source_fps=source_fps)
    problems = [f"line {line_number} {problem}" for line_number, problem in videos.problems]
    if not videos.rows and not problems:
        raise ValueError(f"{path} lists no videos: it has a header and no other lines")
    num_without_split = sum(row.split is None for row in videos.rows)
    if 0 < num_without_split < len(videos.rows) and not problems:
        problems.append(f"{format_count(num_without_split, 'row', 'has')} no split, unlike the others")
    segments = Counter((row.path, row.start_seconds, row.end_seconds) for row in videos.rows)
    problems += [f"{name} is in {count} lines" for (name, _, _), count in segments.items() if count > 1]
    if problems:
        hint = (
            " (where videos may have none, the task is multi_label)"
            if any(problem.endswith("has no label") for problem in problems)
            else ""
        )
        raise ValueError(f"{path} cannot be used: {join_names(problems, separator='; ')}{hint}")
    _check_files_exist(path, videos.rows)
    return list(videos.rows), list(videos.notes)


def _check_files_exist(path: Path, rows: Sequence[VideoRow]) -> None:
    """Raise ValueError if none of the first files exists: the paths are then relative to another folder."""
    first_paths = [path.parent / row.path for row in rows[:_NUM_CHECKED_FILES]]
    if not any(video_path.exists() for video_path in first_paths):
        raise ValueError(
            f"no video of {path} was found among {format_count(len(first_paths), 'path')} looked at, such as {first_paths[0]}; "
            "paths in a list are relative to the folder of the list"
        )


def _read_folder(root: Path, *, follow_links: bool) -> tuple[list[VideoRow], list[str]]:
    """Rows and notes of a folder of class folders, or of split folders that contain class folders."""
    folders = _list_subfolders(root)
    if not folders:
        raise ValueError(f"{root} has no class folders; put the videos of each class into a folder named after it")
    splits = {name: SPLIT_ALIASES.get(name.lower()) for name in folders}
    notes = _describe_loose_videos(root)
    class_folders: list[tuple[str, str, Split | None]] = [(name, name, None) for name in folders]  # path, label, split
    _check_folders_agree(root, splits)
    is_without_train = None not in splits.values() and "train" not in splits.values()
    if is_without_train and (with_classes := [name for name in folders if _list_subfolders(root / name)]):
        raise ValueError(
            f"{root} has split folders ({join_names(folders)}) and no train; add {root}/train/CLASS/video.mp4, or name the "
            f"folder of the classes, {root}/{with_classes[0]}"
        )
    if "train" in splits.values() and None not in splits.values():
        class_folders = [
            (f"{name}/{label}", label, split)
            for name, split in splits.items()
            for label in _list_subfolders(root / name)
        ]
        notes += [note for name in splits for note in _describe_loose_videos(root / name)]
    rows: list[VideoRow] = []
    empty_folders = []
    skipped = SkippedFiles()
    for folder, label, split in class_folders:
        paths = iterate_videos(root, folder, skipped, follow_links=follow_links)
        class_rows = [VideoRow(path, (label,), split) for path in paths]
        rows += class_rows
        if not class_rows:
            empty_folders.append(folder)
    if empty_folders:
        with_pictures = [folder for folder in empty_folders if _has_pictures(root / folder)]
        if with_pictures:
            raise ValueError(
                f"{root} has class folders that hold pictures and no videos: {join_names(with_pictures)}; put the frames of "
                "each video into a folder of their own below its class"
            )
        raise ValueError(f"{root} has class folders without videos: {join_names(empty_folders)}; fill or remove them")
    if not rows:
        raise ValueError(f"{root} has split folders without class folders; expected {root}/train/CLASS/video.mp4")
    return rows, [*notes, *skipped.describe(root)]


def _check_folders_agree(root: Path, splits: Mapping[str, Split | None]) -> None:
    """Raise ValueError where folders of classes lie beside split folders that contain class folders."""
    of_splits = [name for name, split in splits.items() if split]
    others = [name for name, split in splits.items() if not split]
    if (
        others
        and len({splits[name] for name in of_splits}) > 1
        and "train" in splits.values()
        and all(_list_subfolders(root / name) for name in of_splits)
    ):
        raise ValueError(
            f"{root} has split folders ({join_names(of_splits)}) and others ({join_names(others)}); move the others elsewhere, "
            "or rename the split folders if they are classes"
        )


def _guess_official_format(root: Path) -> str | None:
    """The format of `muybridge prepare` for the official lists in a folder or one below it; None if there are none."""
    for pattern, official in _OFFICIAL_LISTS.items():
        if any(next(root.glob(depth + pattern), None) for depth in ("", "*/")):
            return official
    return None


def _list_subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and is_visible(entry.name))


def _has_pictures(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(is_visible(entry.name) and is_picture_name(entry.name) for entry in entries)


def _describe_loose_videos(folder: Path) -> list[str]:
    """A note on the videos directly in `folder`, outside any class folder, if there are any."""
    with os.scandir(folder) as entries:
        num_loose = sum(
            is_visible(entry.name) and has_video_extension(entry.name) and entry.is_file() for entry in entries
        )
    if not num_loose:
        return []
    rest = "has no class folder and is left out" if num_loose == 1 else "have no class folder and are left out"
    return [f"{format_count(num_loose, 'video')} directly in {folder} {rest}."]
