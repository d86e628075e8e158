"""A data address to a manifest: a folder of class folders, or a CSV file (docs/data.md).

    DATA/handshake/a.mp4          DATA/train/handshake/a.mp4         path,label,split,group,start_seconds,end_seconds
    DATA/hug/b.avi                DATA/test/hug/b.avi                clips/a.mp4,hug|push,train,seq01,1.5,4

What enters is the address, what leaves is a `Manifest` with every video in a split; splits that are not given are drawn
(`splits.py`). Files are listed, not opened: what is wrong with one is recorded when it is read.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from muybridge.datasets.lists import SPLIT_ALIASES, read_csv
from muybridge.datasets.manifest import Manifest, find_ambiguous_names
from muybridge.datasets.splits import VideoRow
from muybridge.text import join_names

# fmt: off
VIDEO_EXTENSIONS = frozenset((
    "3g2", "3gp", "amv", "asf", "avi", "divx", "dv", "f4v", "flv", "gif", "h264", "h265", "hevc", "ivf", "m1v", "m2t",
    "m2ts", "m2v", "m4v", "mj2", "mjpeg", "mjpg", "mkv", "mov", "mp4", "mpe", "mpeg", "mpg", "mpv", "mts", "mxf", "nut",
    "ogm", "ogv", "qt", "rm", "rmvb", "ts", "vob", "webm", "wmv", "xvid", "y4m",
))




def read_video_rows(address: str) -> tuple[str, list[VideoRow], list[str]]:
    """The root, the rows and notes of a folder or a CSV file, splits as they are given."""
    path = Path(address)
    if path.is_dir():
        return str(path), *_read_folder(path)
    if not path.exists():
        raise ValueError(f"there is no folder or CSV file {address!r}")
    if path.suffix.lower() != ".csv":
        raise ValueError(f"{address} is neither a folder of class folders nor a .csv file")
    return str(path.parent), *read_csv(path)


def _read_folder(root: Path) -> tuple[list[VideoRow], list[str]]:
    """Rows of a folder of class folders, or of split folders that hold class folders."""
    folders = _list_subfolders(root)
    if not folders:
        raise ValueError(f"{root} has no class folders; put the videos of each class into a folder named after it")
    splits = {name: SPLIT_ALIASES.get(name.lower()) for name in folders}
    notes = _make_loose_video_notes(root)
    rows, empty_folders = [], []
    if "train" in splits.values() and None not in splits.values():
        for name, split in splits.items():
            for label in _list_subfolders(root / name):
                class_rows = [VideoRow(path, (label,), split) for path in _iterate_videos(root, f"{name}/{label}")]
                rows += class_rows
                empty_folders += [] if class_rows else [f"{name}/{label}"]
            notes += _make_loose_video_notes(root / name)
    else:
        for label in folders:
            class_rows = [VideoRow(path, (label,)) for path in _iterate_videos(root, label)]
            rows += class_rows
            empty_folders += [] if class_rows else [label]
    if empty_folders:
        raise ValueError(f"{root} has class folders without videos: {join_names(empty_folders)}; fill or remove them")
    if not rows:
        raise ValueError(f"{root} has split folders without class folders; expected {root}/train/CLASS/video.mp4")
    return rows, notes


def _list_subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and is_visible(entry.name))


def _iterate_videos(root: Path, folder: str) -> Iterator[str]:
    """Paths of the videos under root/folder, relative to root, in sorted order."""
    with os.scandir(root / folder) as entries:
        visible = [entry for entry in entries if is_visible(entry.name)]
        sorted_entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in visible)
    for name, is_folder in sorted_entries:
        if is_folder:
            yield from _iterate_videos(root, f"{folder}/{name}")
        elif has_video_extension(name):
            yield f"{folder}/{name}"


def _make_loose_video_notes(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        num_loose = sum(is_visible(entry.name) and has_video_extension(entry.name) and entry.is_file() for entry in entries)
    return [f"{num_loose} videos directly in {folder} have no class folder and are left out."] if num_loose else []


def is_visible(name: str) -> bool:
    """Not hidden, and no leftover of an archive."""
    return not name.startswith(".") and name != "__MACOSX"


def has_video_extension(name: str) -> bool:
    """Whether a file's name ends like a video's."""
    _, dot, suffix = name.rpartition(".")
    return bool(dot) and suffix.lower() in VIDEO_EXTENSIONS










def check_file_names(address: str, rows: Sequence[VideoRow]) -> None:
    """ValueError for file names that no table can hold."""
    # Names in another encoding come from the file system with surrogates in place of the bytes that are not UTF-8.
    undecodable_paths = [
        row.path
        for row in rows
        if not row.path.isprintable() and any("\ud800" <= character <= "\udfff" for character in row.path)
    ]
    if undecodable_paths:
        shown = join_names([ascii(path) for path in undecodable_paths])
        raise ValueError(f"{address} has file names that are not UTF-8: {shown}; rename them")


def check_classes(address: str, rows: Sequence[VideoRow], classes: Sequence[str]) -> None:
    """What makes training senseless. Data without any training videos, for evaluation alone, may have what classes it has."""
    ambiguous = find_ambiguous_names(classes)
    if ambiguous:
        raise ValueError(
            f"{address} has classes that cannot be told apart by name: {'; '.join(ambiguous)}; rename one of each"
        )
    training_labels = {label for row in rows if row.split == "train" for label in row.labels}
    if not training_labels:
        return
    if len(classes) == 1:
        raise ValueError(f"{address} has one class only, {classes[0]!r}; training needs at least two")
    held_out = [row for row in rows if row.split in ("validation", "test")]
    unknown_labels = sorted({label for row in held_out for label in row.labels} - training_labels)
    if unknown_labels:
        raise ValueError(
            f"{address} has labels for validation or test that no training video has: {join_names(unknown_labels)}; "
            "add training videos of them or mark theirs as unused"
        )


def build_manifest(rows: Sequence[VideoRow], classes: Sequence[str], root: str, notes: Sequence[str]) -> Manifest:
    """The manifest of rows that all have a split; labels become places in `classes`."""
    class_indices = {label: place for place, label in enumerate(classes)}
    num_rows_by_path = Counter(row.path for row in rows)
    return Manifest.from_rows(
        (
            {
                "video": row.path if num_rows_by_path[row.path] == 1 else format_segment_name(row),
                "path": row.path,
                "labels": [class_indices[label] for label in row.labels],
                "split": row.split,
                "group": row.group,
                "start_seconds": row.start_seconds,
                "end_seconds": row.end_seconds,
            }
            for row in rows
        ),
        classes=classes,
        root=root,
        notes=notes,
    )


def format_segment_name(row: VideoRow) -> str:
    """The name of one of several segments of a file: `clips/a.mp4#1.5-4`, without a bound where it has none."""
    start, end = ("" if bound is None else f"{bound:.12g}" for bound in (row.start_seconds, row.end_seconds))
    return f"{row.path}#{start}-{end}"
