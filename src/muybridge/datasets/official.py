"""The official lists of Kinetics, UCF101, HMDB51 and Sports-1M to rows: every line becomes a row, also where no file is there.

What enters is a folder that holds the lists as they were published and, anywhere below it, the videos; what leaves are
`VideoRow`s with their official splits. Files are found by their names alone, so it does not matter how they were sorted
into folders.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from muybridge.datasets.folders import has_video_extension, is_visible
from muybridge.datasets.lists import SPLIT_ALIASES
from muybridge.datasets.splits import VideoRow, assign_splits
from muybridge.records import Split

_KINETICS_NAME = re.compile(r"(.{11})_(\d+)_(\d+)")
_KINETICS_COLUMNS = ("youtube_id", "time_start", "time_end")
_YOUTUBE_ID = re.compile(r"(?:[?&]v=|youtu\.be/|^)([\w-]{11})(?:\W|$)")
_HMDB_SPLITS: dict[str, Split] = {"0": "unused", "1": "train", "2": "test"}
_NUM_FOLDS = 3

ListReader = Callable[[Path], tuple[list[VideoRow], list[str]]]


def read_kinetics(root: Path) -> tuple[list[VideoRow], list[str]]:
    """The CSVs of Kinetics-400, -600 or -700 (label, youtube_id, time_start, time_end, split) and `<id>_<start>_<end>.*`.

    Where a list has no label column, as in a test list, rows have no label. Times are those of the YouTube video; files are
    cut already.
    """
    files: dict[tuple[str, int, int], str] = {}
    for path in _iterate_video_paths(root):
        name_match = _KINETICS_NAME.fullmatch(Path(path).stem)
        if name_match:
            files.setdefault((name_match[1], int(name_match[2]), int(name_match[3])), path)
    rows_by_key: dict[tuple[str, int, int, str], VideoRow] = {}
    for listing in _find_list_files(root, ".csv"):
        for line in _read_kinetics_lines(listing):
            key = line["youtube_id"], round(float(line["time_start"])), round(float(line["time_end"]))
            split = SPLIT_ALIASES.get((line.get("split") or listing.stem.split("_")[-1]).strip().lower())
            if split is None:
                raise ValueError(f"{listing} names the split {line.get('split')!r}, expected train, validate or test")
            path = files.get(key, f"{key[0]}_{key[1]:06d}_{key[2]:06d}.mp4")
            labels = (line["label"].strip(),) if (line.get("label") or "").strip() else ()
            rows_by_key.setdefault((*key, split), VideoRow(path, labels, split, key[0]))
    if not rows_by_key:
        raise ValueError(
            f"{root} holds no list of Kinetics: a CSV file with {', '.join(_KINETICS_COLUMNS)} in its first line"
        )
    return list(rows_by_key.values()), []


def read_ucf101(root: Path) -> tuple[list[VideoRow], list[str]]:
    """trainlist01.txt to testlist03.txt, and the videos `v_<class>_g<group>_c<clip>.avi`.

    The class of a list's line is its folder. Files are found without regard to case: the class HandstandPushups has files
    called v_HandStandPushups_*.
    """
    files = {Path(path).name.casefold(): path for path in _iterate_video_paths(root)}
    splits: dict[str, list[Split]] = {}
    names: dict[str, str] = {}
    for fold in range(_NUM_FOLDS):
        for list_prefix, split in (("train", SPLIT_ALIASES["train"]), ("test", SPLIT_ALIASES["test"])):
            for line in _read_text_lines(_find_official_list(root, f"{list_prefix}list{fold + 1:02d}.txt")):
                name = line.split()[0]
                names.setdefault(name.casefold(), name)
                splits.setdefault(name.casefold(), ["unused"] * _NUM_FOLDS)[fold] = split
    rows = []
    for key, folds in splits.items():
        label, _, file = names[key].partition("/")
        group = re.sub(r"_c\d+\.\w+$", "", file)
        rows.append(VideoRow(files.get(file.casefold(), names[key]), (label,), folds[0], group, folds=tuple(folds)))
    labels = {label.casefold(): label for row in rows for label in row.labels}  # one spelling a class
    return [replace(row, labels=(labels[row.labels[0].casefold()],)) for row in rows], []


def read_hmdb51(root: Path) -> tuple[list[VideoRow], list[str]]:
    """`<class>_test_split<1-3>.txt` (0 unused, 1 train, 2 test), and the videos by their names, odd characters included.

    The group is the film a clip was cut from: what stands before the class in its name.
    """
    files: dict[tuple[str, str], str] = {}
    for path in _iterate_video_paths(root):
        files[Path(path).parent.name.casefold(), Path(path).name] = path
        files.setdefault(("", Path(path).name), path)
    splits: dict[tuple[str, str], list[Split]] = {}
    for listing in _find_list_files(root, ".txt"):
        name_match = re.fullmatch(r"(.+)_test_split([123])", listing.stem)
        for line in _read_text_lines(listing) if name_match else ():
            name, _, split_code = line.rpartition(" ")
            if name_match is None or split_code not in _HMDB_SPLITS:
                raise ValueError(f"{listing} has the line {line!r}, expected a file name and 0, 1 or 2")
            folds = splits.setdefault((name_match[1], name.strip()), ["unused"] * _NUM_FOLDS)
            folds[int(name_match[2]) - 1] = _HMDB_SPLITS[split_code]
    if not splits:
        raise ValueError(f"{root} holds no lists of HMDB51, such as brush_hair_test_split1.txt")
    rows = []
    for (label, name), given in splits.items():
        path = files.get((label.casefold(), name)) or files.get(("", name), f"{label}/{name}")
        rows.append(VideoRow(path, (label,), given[0], name.split(f"_{label}_")[0], folds=tuple(given)))
    return rows, []


def read_sports1m(root: Path) -> tuple[list[VideoRow], list[str]]:
    """labels.txt, train_partition.txt and test_partition.txt (address, numbers of labels), and `<YouTube id>.*`."""
    classes = _read_text_lines(_find_official_list(root, "labels.txt"))
    files: dict[str, str] = {}
    for path in _iterate_video_paths(root):
        files.setdefault(Path(path).stem, path)
    rows = []
    for split in (SPLIT_ALIASES["train"], SPLIT_ALIASES["test"]):
        listing = _find_official_list(root, f"{split}_partition.txt")
        for line in _read_text_lines(listing):
            address, _, numbers = line.rpartition(" ")
            id_match = _YOUTUBE_ID.search(address)
            label_indices = [int(number) for number in numbers.split(",") if number.strip().isdecimal()]
            if id_match is None or not label_indices or max(label_indices) >= len(classes):
                raise ValueError(
                    f"{listing} has the line {line!r}, expected an address of YouTube and numbers below {len(classes)}"
                )
            labels = tuple(dict.fromkeys(classes[place] for place in label_indices))
            rows.append(VideoRow(files.get(id_match[1], f"{id_match[1]}.mp4"), labels, split, id_match[1]))
    return rows, []


def assign_fold_splits(rows: list[VideoRow]) -> tuple[list[VideoRow], list[str]]:
    """The same with validation videos held out of every fold's training videos, as `assign_splits` does for one split."""
    if not rows or not rows[0].folds:
        return assign_splits(rows, 0)
    folds = []
    notes: list[str] = []
    for fold in range(len(rows[0].folds)):
        drawn, fold_notes = assign_splits([replace(row, split=row.folds[fold]) for row in rows], 0)
        folds.append([row.split for row in drawn])
        notes += [f"Fold {fold + 1}: {line}" for line in fold_notes]
    kept = [
        replace(row, split=row_folds[0], folds=tuple(split for split in row_folds if split))
        for row, row_folds in zip(rows, zip(*folds, strict=True), strict=True)
    ]
    return kept, notes


def _iterate_video_paths(root: Path) -> Iterator[str]:
    """Every video below root, relative to it, in sorted order."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if is_visible(name))
        for name in sorted(names):
            if is_visible(name) and has_video_extension(name):
                yield str(Path(folder, name).relative_to(root))


def _find_list_files(root: Path, suffix: str) -> list[Path]:
    """The list files at most two folders below root; further down there are only videos."""
    return sorted(path for depth in ("*", "*/*", "*/*/*") for path in root.glob(f"{depth}{suffix}") if path.is_file())


def _find_official_list(root: Path, name: str) -> Path:
    found = [path for path in _find_list_files(root, ".txt") if path.name == name]
    if not found:
        raise ValueError(f"{root} lacks the official list {name}; put it into that folder or one below it")
    return found[0]


def _read_text_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def _read_kinetics_lines(path: Path) -> list[dict[str, str]]:
    """The lines of a list of Kinetics; none of any other CSV file."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, restval="")
        if not set(_KINETICS_COLUMNS) <= set(reader.fieldnames or ()):
            return []
        return list(reader)
