"""A CSV file of videos to rows (docs/data.md)."""

from __future__ import annotations

import csv
import math
import posixpath
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from muybridge.datasets.splits import VideoRow
from muybridge.records import Split
from muybridge.text import join_names

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


def read_csv(path: Path) -> tuple[list[VideoRow], list[str]]:
    """The rows of a CSV file and notes. Raises ValueError with everything that is wrong with the file."""
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
        raise ValueError(f"{path} cannot be used: {join_names(problems, separator='; ')}")
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
