"""A data address to a manifest: a folder of class folders, or a CSV file (docs/data.md).

    DATA/handshake/a.mp4          DATA/train/handshake/a.mp4         path,label,split,group,start_seconds,end_seconds
    DATA/hug/b.avi                DATA/test/hug/b.avi                clips/a.mp4,hug|push,train,seq01,1.5,4

What enters is the address, what leaves is a `Manifest` with every video in a split; splits that are not given are drawn
(`splits.py`). Files are listed, not opened: what is wrong with one is recorded when it is read.
"""

from __future__ import annotations

import csv
import math
import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from muybridge.data.manifest import Manifest, ambiguous_names
from muybridge.data.prepared import is_prepared, open_prepared
from muybridge.data.splits import VideoRow, with_splits
from muybridge.records import Split

# fmt: off
VIDEO_EXTENSIONS = frozenset((
    "3g2", "3gp", "amv", "asf", "avi", "divx", "dv", "f4v", "flv", "gif", "h264", "h265", "hevc", "ivf", "m1v", "m2t",
    "m2ts", "m2v", "m4v", "mj2", "mjpeg", "mjpg", "mkv", "mov", "mp4", "mpe", "mpeg", "mpg", "mpv", "mts", "mxf", "nut",
    "ogm", "ogv", "qt", "rm", "rmvb", "ts", "vob", "webm", "wmv", "xvid", "y4m",
))
# fmt: on
SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
    "unused": "unused",
}
_NUM_LOOKED_FOR = 20
_NAMED = 5


def open_data(address: str, *, fold: int | None = None, seed: int = 0) -> Manifest:
    """The manifest of a data address; `seed` draws the validation split where none is given.

    Raises ValueError with a sentence for people for everything that is wrong with the address, the classes or the splits.
    """
    if is_prepared(address):
        return open_prepared(address, fold=fold)
    root, rows, notes = read_address(address)
    if fold is not None:
        raise ValueError(f"{address} has no official folds; leave --fold out, or give the split in a CSV column")
    check_names(address, rows)
    rows, drawn = with_splits(rows, seed)
    classes = sorted({label for row in rows for label in row.labels})
    check_classes(address, rows, classes)
    return _manifest(rows, classes, root, (*notes, *drawn))


def read_address(address: str) -> tuple[str, list[VideoRow], list[str]]:
    """The root, the rows and notes of a folder or a CSV file, splits as they are given."""
    path = Path(address)
    if path.is_dir():
        return str(path), *_read_folder(path)
    if not path.exists():
        raise ValueError(f"there is no folder or CSV file {address!r}")
    if path.suffix.lower() != ".csv":
        raise ValueError(f"{address} is neither a folder of class folders nor a .csv file")
    return str(path.parent), *_read_csv(path)


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
        raise ValueError(f"{root} has class folders without videos: {_listed(empty)}; fill or remove them")
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


def _read_csv(path: Path) -> tuple[list[VideoRow], list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            names = [(name or "").strip().lower() for name in reader.fieldnames or []]
            lacking = [name for name in ("path", "label") if name not in names]
            if lacking:
                found = ", ".join(names) or "nothing"
                raise ValueError(f"{path} lacks the columns {', '.join(lacking)}; its first line names {found}")
            reader.fieldnames = names
            problems: list[str] = []
            rows = [_csv_row(line, reader.line_num, problems) for line in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8: {error}") from error
    if not rows:
        raise ValueError(f"{path} names no videos: it has a header and nothing below")
    given = [row.split for row in rows if row.split]
    if given and len(given) < len(rows) and not problems:
        problems.append(f"{len(rows) - len(given)} rows have no split, the others do")
    segments = Counter((row.path, row.start_seconds, row.end_seconds) for row in rows)
    problems += [f"{name} stands in {number} lines" for (name, _, _), number in segments.items() if number > 1]
    if problems:
        raise ValueError(f"{path} cannot be used: {_listed(problems, separator='; ')}")
    _look_for_files(path, rows)
    return rows, []


def _csv_row(line: dict[str, str], number: int, problems: list[str]) -> VideoRow:
    """One line of the CSV; what is wrong with it joins `problems`."""
    path, group, split = (str(line.get(name) or "").strip() for name in ("path", "group", "split"))
    labels = tuple(dict.fromkeys(label.strip() for label in line["label"].split("|") if label.strip()))
    if not path:
        problems.append(f"line {number} has no path")
    if not labels:
        problems.append(f"line {number} has no label")
    if split and split.lower() not in SPLIT_NAMES:
        problems.append(f"line {number} has the split {split!r}, expected one of {', '.join(SPLIT_NAMES)}")
    start, end = (_seconds(line.get(name) or "", name, number, problems) for name in ("start_seconds", "end_seconds"))
    if end is not None and end <= (start or 0.0):
        problems.append(f"line {number} ends at {end:g} s, not after its start")
    return VideoRow(posixpath.normpath(path), labels, SPLIT_NAMES.get(split.lower()), group or None, start, end)


def _seconds(text: str, name: str, number: int, problems: list[str]) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        problems.append(f"line {number} has the {name} {text!r}, expected seconds")
    return value


def _look_for_files(path: Path, rows: Sequence[VideoRow]) -> None:
    looked_for = rows[:_NUM_LOOKED_FOR]
    if not any((path.parent / row.path).exists() for row in looked_for):
        raise ValueError(
            f"none of the first {len(looked_for)} videos of {path} is there, such as {path.parent / looked_for[0].path}; "
            "paths in the file are relative to the folder it lies in"
        )


def check_names(address: str, rows: Sequence[VideoRow]) -> None:
    """ValueError for file names that no table can hold."""
    # Names in another encoding come from the file system with surrogates in place of the bytes that are not UTF-8.
    wrong = [
        row.path
        for row in rows
        if not row.path.isprintable() and any("\ud800" <= sign <= "\udfff" for sign in row.path)
    ]
    if wrong:
        shown = _listed([ascii(path) for path in wrong])
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
            f"{address} has labels for validation or test that no training video has: {_listed(unseen)}; "
            "add training videos of them or mark theirs as unused"
        )


def _manifest(rows: Sequence[VideoRow], classes: Sequence[str], root: str, notes: Sequence[str]) -> Manifest:
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


def _listed(names: Sequence[str], separator: str = ", ") -> str:
    shown = separator.join(names[:_NAMED])
    return f"{shown}{separator}and {len(names) - _NAMED} more" if len(names) > _NAMED else shown
