"""A CSV file of videos as rows (docs/data.md).

path,label,split,group,start_seconds,end_seconds,source_fps
clips/a.mp4,hug|push,train,seq01,1.5,4,
frames/b,hug,train,seq02,,,30
"""

from __future__ import annotations

import csv
import math
import posixpath
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from muybridge.datasets.rows import SPLIT_ALIASES, VideoRow
from muybridge.text import join_names

_NUM_CHECKED_FILES = 20


def read_csv(path: Path) -> list[VideoRow]:
    """The rows of a CSV file. Raises ValueError with all problems of the file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            columns = [(name or "").strip().lower() for name in reader.fieldnames or []]
            missing_columns = [name for name in ("path", "label") if name not in columns]
            if missing_columns:
                raise ValueError(
                    f"{path} lacks the columns {', '.join(missing_columns)}; "
                    f"its first line names {', '.join(columns) or 'nothing'}"
                )
            reader.fieldnames = columns
            problems: list[str] = []
            rows = [_parse_row(values, reader.line_num, problems) for values in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error
    if not rows:
        raise ValueError(f"{path} lists no videos: it has a header and no other lines")
    num_without_split = sum(row.split is None for row in rows)
    if 0 < num_without_split < len(rows) and not problems:
        problems.append(f"{num_without_split} rows have no split, the others do")
    segments = Counter((row.path, row.start_seconds, row.end_seconds) for row in rows)
    problems += [f"{name} is in {count} lines" for (name, _, _), count in segments.items() if count > 1]
    if problems:
        raise ValueError(f"{path} cannot be used: {join_names(problems, separator='; ')}")
    _check_files_exist(path, rows)
    return rows


def _parse_row(values: dict[str, str], line_number: int, problems: list[str]) -> VideoRow:
    """One line of the CSV; its problems are appended to `problems`."""
    path, group, split = (str(values.get(name) or "").strip() for name in ("path", "group", "split"))
    labels = tuple(dict.fromkeys(label.strip() for label in values["label"].split("|") if label.strip()))
    if not path:
        problems.append(f"line {line_number} has no path")
    if not labels:
        problems.append(f"line {line_number} has no label")
    if split and split.lower() not in SPLIT_ALIASES:
        problems.append(f"line {line_number} has the split {split!r}, expected one of {', '.join(SPLIT_ALIASES)}")
    start, end = (
        _parse_number(values.get(name) or "", name, line_number, problems) for name in ("start_seconds", "end_seconds")
    )
    if end is not None and end <= (start or 0.0):
        problems.append(f"line {line_number} ends at {end:g} s, not after its start")
    rate = _parse_number(values.get("source_fps") or "", "source_fps", line_number, problems)
    if rate == 0:
        problems.append(f"line {line_number} has the source_fps 0, expected frames a second")
    return VideoRow(posixpath.normpath(path), labels, SPLIT_ALIASES.get(split.lower()), group or None, start, end, rate)


def _parse_number(text: str, column: str, line_number: int, problems: list[str]) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        unit = "frames a second" if column == "source_fps" else "seconds"
        problems.append(f"line {line_number} has the {column} {text!r}, expected {unit}")
    return value


def _check_files_exist(path: Path, rows: Sequence[VideoRow]) -> None:
    """Raise ValueError if none of the first files exists: the paths are then relative to another folder."""
    first_paths = [path.parent / row.path for row in rows[:_NUM_CHECKED_FILES]]
    if not any(video_path.exists() for video_path in first_paths):
        raise ValueError(
            f"none of the first {len(first_paths)} videos of {path} exists, such as {first_paths[0]}; "
            "paths in a CSV file are relative to the folder of the file"
        )
