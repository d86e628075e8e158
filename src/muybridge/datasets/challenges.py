"""The official lists of Something-Something V2, Jester, Moments in Time and ActivityNet as rows.

Input: a folder with the lists as they were published and, anywhere below it, the videos. Output: `VideoRow`s with their
official splits. The lists are read by `read_video_list`, so each also serves as a data address by itself.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from muybridge.datasets.rows import VideoRow
from muybridge.datasets.video_list import read_video_list
from muybridge.records import Split
from muybridge.text import join_names

_LIST_DEPTHS = ("*", "*/*", "*/*/*")  # deeper folders hold only videos
_SPLITS_BY_WORD: dict[str, Split] = {"train": "train", "validation": "validation"}


def read_something_something(root: Path) -> list[VideoRow]:
    """`something-something-v2-train.json` and `-validation.json`, and `<id>.webm`; test lists have no labels and are left out.

    The class is the template without the brackets around its placeholders.
    """
    return _read_split_lists(root, "*{}*.json", "Something-Something V2, such as something-something-v2-train.json")


def read_jester(root: Path) -> list[VideoRow]:
    """`jester-v1-train.csv` and `-validation.csv` (id;label), and a video or a folder of pictures `<id>`."""
    return _read_split_lists(root, "jester*{}*.csv", "Jester, such as jester-v1-train.csv")


def read_moments(root: Path) -> list[VideoRow]:
    """`trainingSet.csv` and `validationSet.csv` (path, class, votes), and the folders `training` and `validation`."""
    return _read_split_lists(root, "{}*Set.csv", "Moments in Time, such as trainingSet.csv")


def read_activitynet(root: Path) -> list[VideoRow]:
    """`activity_net.v1-3.min.json` and the videos `v_<id>.*`; a row for each annotated segment."""
    lists = [
        path for path in _glob(root, "*.json") if '"database"' in path.read_text(encoding="utf-8", errors="replace")
    ]
    if len(lists) != 1:
        names = join_names([path.name for path in lists]) or "none"
        raise ValueError(
            f"{root} should have one list of ActivityNet, such as activity_net.v1-3.min.json; it has {names}"
        )
    return _read_rows(lists[0], root)


def _read_split_lists(root: Path, pattern: str, expected: str) -> list[VideoRow]:
    """The rows of the lists of the two splits; `pattern` has `{}` for the name of the split."""
    rows: list[VideoRow] = []
    for word, split in _SPLITS_BY_WORD.items():
        for path in _glob(root, pattern.format(word)):
            rows += [replace(row, split=split) for row in _read_rows(path, root)]
    if not rows:
        raise ValueError(f"{root} has no list of {expected}")
    return rows


def _glob(root: Path, pattern: str) -> list[Path]:
    folders = (depth.removesuffix("*") for depth in _LIST_DEPTHS)
    return sorted(path for folder in folders for path in root.glob(folder + pattern) if path.is_file())


def _read_rows(path: Path, root: Path) -> list[VideoRow]:
    videos = read_video_list(path, root=root)
    if videos.problems:
        lines = [f"line {line_number} {problem}" for line_number, problem in videos.problems]
        raise ValueError(f"{path} cannot be used: {join_names(lines, separator='; ')}")
    return list(videos.rows)
