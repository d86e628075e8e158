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

from muybridge.datasets.lists import SPLIT_NAMES, read_csv
from muybridge.datasets.manifest import Manifest, ambiguous_names
from muybridge.datasets.splits import VideoRow
from muybridge.text import join_names

# fmt: off
VIDEO_EXTENSIONS = frozenset((
    "3g2", "3gp", "amv", "asf", "avi", "divx", "dv", "f4v", "flv", "gif", "h264", "h265", "hevc", "ivf", "m1v", "m2t",
    "m2ts", "m2v", "m4v", "mj2", "mjpeg", "mjpg", "mkv", "mov", "mp4", "mpe", "mpeg", "mpg", "mpv", "mts", "mxf", "nut",
    "ogm", "ogv", "qt", "rm", "rmvb", "ts", "vob", "webm", "wmv", "xvid", "y4m",
))




def read_address(address: str) -> tuple[str, list[VideoRow], list[str]]:
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
    folders = _subfolders(root)
    if not folders:
        raise ValueError(f"{root} has no class folders; put the videos of each class into a folder named after it")
    splits = {name: SPLIT_NAMES.get(name.lower()) for name in folders}
    notes = _loose_videos(root)
    rows, empty = [], []
    if "train" in splits.values() and None not in splits.values():
        for name, split in splits.items():
            for label in _subfolders(root / name):
                found = [VideoRow(path, (label,), split) for path in _videos(root, f"{name}/{label}")]
                rows += found
                empty += [] if found else [f"{name}/{label}"]
            notes += _loose_videos(root / name)
    else:
        for label in folders:
            found = [VideoRow(path, (label,)) for path in _videos(root, label)]
            rows += found
            empty += [] if found else [label]
    if empty:
        raise ValueError(f"{root} has class folders without videos: {join_names(empty)}; fill or remove them")
    if not rows:
        raise ValueError(f"{root} has split folders without class folders; expected {root}/train/CLASS/video.mp4")
    return rows, notes


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and is_visible(entry.name))


def _videos(root: Path, folder: str) -> Iterator[str]:
    """Paths of the videos under root/folder, relative to root, in sorted order."""
    with os.scandir(root / folder) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries if is_visible(entry.name))
    for name, is_folder in found:
        if is_folder:
            yield from _videos(root, f"{folder}/{name}")
        elif is_video(name):
            yield f"{folder}/{name}"


def _loose_videos(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        number = sum(is_visible(entry.name) and is_video(entry.name) and entry.is_file() for entry in entries)
    return [f"{number} videos directly in {folder} have no class folder and are left out."] if number else []


def is_visible(name: str) -> bool:
    """Not hidden, and no leftover of an archive."""
    return not name.startswith(".") and name != "__MACOSX"


def is_video(name: str) -> bool:
    """Whether a file's name ends like a video's."""
    _, dot, suffix = name.rpartition(".")
    return bool(dot) and suffix.lower() in VIDEO_EXTENSIONS










def check_names(address: str, rows: Sequence[VideoRow]) -> None:
    """ValueError for file names that no table can hold."""
    # Names in another encoding come from the file system with surrogates in place of the bytes that are not UTF-8.
    wrong = [
        row.path
        for row in rows
        if not row.path.isprintable() and any("\ud800" <= sign <= "\udfff" for sign in row.path)
    ]
    if wrong:
        shown = join_names([ascii(path) for path in wrong])
        raise ValueError(f"{address} has file names that are not UTF-8: {shown}; rename them")


def check_classes(address: str, rows: Sequence[VideoRow], classes: Sequence[str]) -> None:
    """What makes training senseless. Data without any training videos, for evaluation alone, may have what classes it has."""
    ambiguous = ambiguous_names(classes)
    if ambiguous:
        raise ValueError(
            f"{address} has classes that cannot be told apart by name: {'; '.join(ambiguous)}; rename one of each"
        )
    seen = {label for row in rows if row.split == "train" for label in row.labels}
    if not seen:
        return
    if len(classes) == 1:
        raise ValueError(f"{address} has one class only, {classes[0]!r}; training needs at least two")
    unseen = sorted({label for row in rows if row.split in ("validation", "test") for label in row.labels} - seen)
    if unseen:
        raise ValueError(
            f"{address} has labels for validation or test that no training video has: {join_names(unseen)}; "
            "add training videos of them or mark theirs as unused"
        )


def build_manifest(rows: Sequence[VideoRow], classes: Sequence[str], root: str, notes: Sequence[str]) -> Manifest:
    """The manifest of rows that all have a split; labels become places in `classes`."""
    places = {label: place for place, label in enumerate(classes)}
    times_named = Counter(row.path for row in rows)
    return Manifest.from_rows(
        (
            {
                "video": row.path if times_named[row.path] == 1 else segment_name(row),
                "path": row.path,
                "labels": [places[label] for label in row.labels],
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


def segment_name(row: VideoRow) -> str:
    """The name of one of several segments of a file: `clips/a.mp4#1.5-4`, without a bound where it has none."""
    start, end = ("" if bound is None else f"{bound:.12g}" for bound in (row.start_seconds, row.end_seconds))
    return f"{row.path}#{start}-{end}"
