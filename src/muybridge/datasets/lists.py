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
SPLIT_ALIASES: dict[str, Split] = {
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


_NUM_CHECKED_FILES = 20


def read_csv(path: Path) -> tuple[list[VideoRow], list[str]]:
    """The rows of a CSV file and notes. Raises ValueError with everything that is wrong with the file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            names = [(name or "").strip().lower() for name in reader.fieldnames or []]
            missing_columns = [name for name in ("path", "label") if name not in names]
            if missing_columns:
                found = ", ".join(names) or "nothing"
                raise ValueError(f"{path} lacks the columns {', '.join(missing_columns)}; its first line names {found}")
            reader.fieldnames = names
            problems: list[str] = []
            rows = [_parse_csv_row(line, reader.line_num, problems) for line in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8: {error}") from error
    if not rows:
        raise ValueError(f"{path} names no videos: it has a header and nothing below")
    given_splits = [row.split for row in rows if row.split]
    if given_splits and len(given_splits) < len(rows) and not problems:
        problems.append(f"{len(rows) - len(given_splits)} rows have no split, the others do")
    segments = Counter((row.path, row.start_seconds, row.end_seconds) for row in rows)
    problems += [f"{name} stands in {number} lines" for (name, _, _), number in segments.items() if number > 1]
    if problems:
        raise ValueError(f"{path} cannot be used: {join_names(problems, separator='; ')}")
    _check_files_exist(path, rows)
    return rows, []


def _parse_csv_row(line: dict[str, str], line_number: int, problems: list[str]) -> VideoRow:
    """One line of the CSV; what is wrong with it joins `problems`."""
    path, group, split = (str(line.get(name) or "").strip() for name in ("path", "group", "split"))
    labels = tuple(dict.fromkeys(label.strip() for label in line["label"].split("|") if label.strip()))
    if not path:
        problems.append(f"line {line_number} has no path")
    if not labels:
        problems.append(f"line {line_number} has no label")
    if split and split.lower() not in SPLIT_ALIASES:
        problems.append(f"line {line_number} has the split {split!r}, expected one of {', '.join(SPLIT_ALIASES)}")
    start, end = (
        _parse_seconds(line.get(name) or "", name, line_number, problems) for name in ("start_seconds", "end_seconds")
    )
    if end is not None and end <= (start or 0.0):
        problems.append(f"line {line_number} ends at {end:g} s, not after its start")
    return VideoRow(posixpath.normpath(path), labels, SPLIT_ALIASES.get(split.lower()), group or None, start, end)


def _parse_seconds(text: str, column: str, line_number: int, problems: list[str]) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        problems.append(f"line {line_number} has the {column} {text!r}, expected seconds")
    return value


def _check_files_exist(path: Path, rows: Sequence[VideoRow]) -> None:
    checked_rows = rows[:_NUM_CHECKED_FILES]
    if not any((path.parent / row.path).exists() for row in checked_rows):
        raise ValueError(
            f"none of the first {len(checked_rows)} videos of {path} is there, such as {path.parent / checked_rows[0].path}; "
            "paths in the file are relative to the folder it lies in"
        )
