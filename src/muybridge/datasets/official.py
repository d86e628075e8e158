"""The official lists of Kinetics, UCF101, HMDB51 and Sports-1M as rows.

Input: a folder with the lists as they were published and, anywhere below it, the videos. Output: `VideoRow`s with their
official splits. Every line becomes a row, even if its file does not exist. Files are found by name alone, so their
arrangement in folders does not matter.
"""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

from muybridge.bounds import show_value
from muybridge.datasets.rows import SPLIT_ALIASES, VideoRow
from muybridge.datasets.text_table import parse_number
from muybridge.datasets.video_files import iterate_videos
from muybridge.records import Split

_KINETICS_NAME = re.compile(r"(.{11})_(\d+)_(\d+)")
_KINETICS_COLUMNS = ("youtube_id", "time_start", "time_end")
_YOUTUBE_ID = re.compile(r"(?:[?&]v=|youtu\.be/|^)([\w-]{11})(?:\W|$)")
_HMDB_SPLITS: dict[str, Split] = {"0": "unused", "1": "train", "2": "test"}
_NUM_FOLDS = 3


def read_kinetics(root: Path) -> list[VideoRow]:
    """The CSVs of Kinetics-400, -600 or -700 (label, youtube_id, time_start, time_end, split) and `<id>_<start>_<end>.*`.

    Rows of a list without a label column, such as a test list, have no labels. The times refer to the YouTube video; the
    files are already trimmed.
    """
    files: dict[tuple[str, int, int], str] = {}
    for path in iterate_videos(root):
        if match := _KINETICS_NAME.fullmatch(Path(path).stem):
            files.setdefault((match[1], int(match[2]), int(match[3])), path)
    rows_by_key: dict[tuple[str, int, int, str], VideoRow] = {}
    for listing in _find_list_files(root, ".csv"):
        for line in _read_kinetics_lines(listing):
            start, end = (parse_number(line[name] or "") for name in ("time_start", "time_end"))
            if start is None or end is None:
                bounds = f"{show_value(line['time_start'])} to {show_value(line['time_end'])}"
                raise ValueError(f"{listing} has the video {line['youtube_id']} from {bounds}, expected seconds")
            key = line["youtube_id"], round(start), round(end)
            split = SPLIT_ALIASES.get((line.get("split") or listing.stem.split("_")[-1]).strip().lower())
            if split is None:
                raise ValueError(f"{listing} names the split {line.get('split')!r}, expected train, validate or test")
            path = files.get(key, f"{key[0]}_{key[1]:06d}_{key[2]:06d}.mp4")
            labels = (line["label"].strip(),) if (line.get("label") or "").strip() else ()
            rows_by_key.setdefault((*key, split), VideoRow(path, labels, split, key[0]))
    if not rows_by_key:
        raise ValueError(
            f"{root} has no list of Kinetics, expected a CSV file with {', '.join(_KINETICS_COLUMNS)} in its first line"
        )
    return list(rows_by_key.values())


def read_ucf101(root: Path) -> list[VideoRow]:
    """trainlist01.txt to testlist03.txt, and the videos `v_<class>_g<group>_c<clip>.avi`.

    The class of a line is the folder in its path. Names are compared without case, since the files of HandstandPushups are
    called v_HandStandPushups_*.
    """
    files = {Path(path).name.casefold(): path for path in iterate_videos(root)}
    folds_by_key: dict[str, list[Split]] = {}
    names: dict[str, str] = {}
    for fold in range(_NUM_FOLDS):
        for list_prefix, split in (("train", SPLIT_ALIASES["train"]), ("test", SPLIT_ALIASES["test"])):
            for line in _read_text_lines(_find_official_list(root, f"{list_prefix}list{fold + 1:02d}.txt")):
                name = line.split()[0]
                names.setdefault(name.casefold(), name)
                folds_by_key.setdefault(name.casefold(), ["unused"] * _NUM_FOLDS)[fold] = split
    rows = []
    for key, folds in folds_by_key.items():
        label, _, file = names[key].partition("/")
        group = re.sub(r"_c\d+\.\w+$", "", file)
        rows.append(VideoRow(files.get(file.casefold(), names[key]), (label,), folds[0], group, folds=tuple(folds)))
    labels = {label.casefold(): label for row in rows for label in row.labels}  # one spelling per class
    return [replace(row, labels=(labels[row.labels[0].casefold()],)) for row in rows]


def read_hmdb51(root: Path) -> list[VideoRow]:
    """`<class>_test_split<1-3>.txt` (0 unused, 1 train, 2 test), and the videos by name, special characters included.

    The group is the film that a clip was cut from: the part of its name before the class.
    """
    files: dict[tuple[str, str], str] = {}
    for path in iterate_videos(root):
        files[Path(path).parent.name.casefold(), Path(path).name] = path
        files.setdefault(("", Path(path).name), path)
    folds_by_clip: dict[tuple[str, str], list[Split]] = {}
    for listing in _find_list_files(root, ".txt"):
        match = re.fullmatch(r"(.+)_test_split([123])", listing.stem)
        if match is None:
            continue
        for line in _read_text_lines(listing):
            name, _, split_code = line.rpartition(" ")
            if split_code not in _HMDB_SPLITS:
                raise ValueError(f"{listing} has the line {line!r}, expected a file name and 0, 1 or 2")
            folds = folds_by_clip.setdefault((match[1], name.strip()), ["unused"] * _NUM_FOLDS)
            folds[int(match[2]) - 1] = _HMDB_SPLITS[split_code]
    if not folds_by_clip:
        raise ValueError(f"{root} has no lists of HMDB51, such as brush_hair_test_split1.txt")
    rows = []
    for (label, name), folds in folds_by_clip.items():
        path = files.get((label.casefold(), name)) or files.get(("", name), f"{label}/{name}")
        rows.append(VideoRow(path, (label,), folds[0], name.split(f"_{label}_")[0], folds=tuple(folds)))
    return rows


def read_sports1m(root: Path) -> list[VideoRow]:
    """labels.txt, train_partition.txt and test_partition.txt (URL, comma-separated label indices), and `<YouTube id>.*`."""
    classes = _read_text_lines(_find_official_list(root, "labels.txt"))
    files: dict[str, str] = {}
    for path in iterate_videos(root):
        files.setdefault(Path(path).stem, path)
    rows = []
    for split in (SPLIT_ALIASES["train"], SPLIT_ALIASES["test"]):
        listing = _find_official_list(root, f"{split}_partition.txt")
        for line in _read_text_lines(listing):
            url, _, indices = line.rpartition(" ")
            match = _YOUTUBE_ID.search(url)
            label_indices = [int(index) for index in indices.split(",") if index.strip().isdecimal()]
            if match is None or not label_indices or max(label_indices) >= len(classes):
                raise ValueError(
                    f"{listing} has the line {line!r}, expected a YouTube URL and label indices below {len(classes)}"
                )
            labels = tuple(dict.fromkeys(classes[class_index] for class_index in label_indices))
            rows.append(VideoRow(files.get(match[1], f"{match[1]}.mp4"), labels, split, match[1]))
    return rows


def _find_list_files(root: Path, suffix: str) -> list[Path]:
    """The list files at most two folders below root; deeper folders hold only videos."""
    return sorted(path for depth in ("*", "*/*", "*/*/*") for path in root.glob(f"{depth}{suffix}") if path.is_file())


def _find_official_list(root: Path, name: str) -> Path:
    for path in _find_list_files(root, ".txt"):
        if path.name == name:
            return path
    raise ValueError(f"{root} lacks the official list {name}; put it into that folder or one below it")


def _read_text_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def _read_kinetics_lines(path: Path) -> list[dict[str, str]]:
    """The lines of a list of Kinetics; an empty list for any other CSV file."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, restval="")
        if not set(_KINETICS_COLUMNS) <= set(reader.fieldnames or ()):
            return []
        lines = list(reader)
    try:
        "".join(cell for line in lines for cell in map(str, line.values())).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8") from error
    return lines
