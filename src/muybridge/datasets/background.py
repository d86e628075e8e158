"""The class `background`: reviewed time in which nothing is labelled (`--background`, docs/data.md).

    labelled        |--groom--|        |--rear--|
    reviewed     |------------------------------------|
    background   |--|         |--------|        |-----|      cut into windows as long as a labelled segment

Input: the rows of a list of segments, and reviewed.csv beside it, which says from when to when somebody has watched. Output:
rows of background. Time that nobody has watched is not background. Pure functions but for `read_reviewed`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Literal, TypeAlias

from muybridge.datasets.rows import VideoRow
from muybridge.datasets.video_list import read_video_list
from muybridge.randomness import hash_to_fraction
from muybridge.text import format_count, join_names

BACKGROUND = "background"
FILE_NAME = "reviewed.csv"
_MIN_SECONDS = 0.5  # shorter gaps are the imprecision of people's marks
BackgroundMode: TypeAlias = Literal["none", "drawn", "all"]
"""No background; as many windows as the largest class has segments, for training; all of it, for scores of timelines."""


def read_reviewed(address: str, source_fps: float | None = None) -> dict[str, list[tuple[float, float]]]:
    """The reviewed ranges of each path, in seconds, from reviewed.csv beside a list. Raises ValueError where there is none."""
    path = Path(address).with_name(FILE_NAME)
    if Path(address).is_dir() or not path.is_file():
        raise ValueError(
            f"--background needs {FILE_NAME} beside a list of segments ({path} is not there): time that nobody has watched is "
            "not background; write the ranges that were watched into it, with the columns path, start_seconds, end_seconds"
        )
    marks = read_video_list(path, needs_labels=False, source_fps=source_fps)
    if marks.problems:
        line_number, problem = marks.problems[0]
        raise ValueError(f"line {line_number} of {path} {problem}")
    ranges: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in marks.rows:
        if row.end_seconds is None:
            raise ValueError(f"{path} has no end_seconds for {row.path}; say until when it was watched")
        ranges[row.path].append((row.start_seconds or 0.0, row.end_seconds))
    return dict(ranges)


def add_background(
    rows: Sequence[VideoRow], reviewed: Mapping[str, Sequence[tuple[float, float]]], mode: BackgroundMode
) -> tuple[list[VideoRow], list[str]]:
    """The rows and those of background, and a note on how many there are.

    Windows are as long as the median labelled segment and inherit split and group of their file. Mode drawn keeps, of each
    split, as many as its largest class has rows, chosen by a hash of their names; mode all keeps every one. Raises ValueError
    where a row has no end, and where the reviewed ranges leave no background. Of rows with splits, files without one are left
    out.
    """
    open_rows = [row for row in rows if row.end_seconds is None]
    if open_rows:
        raise ValueError(
            f"--background needs the start and the end of every segment, but {open_rows[0].segment_name} has no end_seconds"
        )
    lengths = [_get_end(row) - (row.start_seconds or 0.0) for row in rows]
    window_seconds = max(_MIN_SECONDS, median(lengths))
    rows_by_path: dict[str, list[VideoRow]] = defaultdict(list)
    for row in rows:
        rows_by_path[row.path].append(row)
    has_splits = any(row.split for row in rows)
    unlabeled = [path for path in sorted(reviewed) if has_splits and path not in rows_by_path]
    windows = [
        _make_row(rows_by_path.get(path, []), path, start, end)
        for path, ranges in sorted(reviewed.items())
        if path not in unlabeled
        for gap in find_gaps(ranges, rows_by_path.get(path, []))
        for start, end in _cut(gap, window_seconds)
    ]
    if not windows:
        raise ValueError(
            f"--background finds none: {FILE_NAME} has no time of at least {_MIN_SECONDS} s outside of the labelled segments"
        )
    kept = windows if mode == "all" else _draw(windows, rows)
    drawn = f", drawn from {len(windows)}" if len(kept) < len(windows) else ""
    verb = "is" if len(kept) == 1 else "are"
    notes = [
        f"{format_count(len(kept), 'window')} of reviewed time without a label {verb} the class {BACKGROUND}{drawn}."
    ]
    if unlabeled:
        notes.append(f"{FILE_NAME} names files that are in no split, left out: {join_names(unlabeled)}.")
    return [*rows, *kept], notes


def find_gaps(ranges: Iterable[tuple[float, float]], rows: Sequence[VideoRow]) -> Iterator[tuple[float, float]]:
    """Stretches of the ranges that no row covers, in order."""
    borders = [(time, change) for start, end in ranges for time, change in ((start, (1, 0)), (end, (-1, 0)))]
    borders += [
        (time, change)
        for row in rows
        for time, change in ((row.start_seconds or 0.0, (0, 1)), (_get_end(row), (0, -1)))
    ]
    num_reviewed = num_labeled = 0
    start: float | None = None
    for time, (reviewed, labeled) in sorted(borders):
        num_reviewed, num_labeled = num_reviewed + reviewed, num_labeled + labeled
        is_gap = num_reviewed > 0 and num_labeled == 0
        if is_gap and start is None:
            start = time
        elif not is_gap and start is not None:
            if time - start >= _MIN_SECONDS:
                yield start, time
            start = None


def _cut(gap: tuple[float, float], window_seconds: float) -> list[tuple[float, float]]:
    """A gap as windows of equal length, as near to `window_seconds` as fits; a short gap is one window."""
    start, end = gap
    num_windows = max(1, round((end - start) / window_seconds))
    edges = [start + (end - start) * index / num_windows for index in range(num_windows + 1)]
    return list(pairwise(edges))


def _make_row(rows: Sequence[VideoRow], path: str, start: float, end: float) -> VideoRow:
    row = rows[0] if rows else VideoRow(path, ())
    return replace(row, labels=(BACKGROUND,), start_seconds=round(start, 6), end_seconds=round(end, 6))


def _draw(windows: Sequence[VideoRow], rows: Sequence[VideoRow]) -> list[VideoRow]:
    kept: set[str] = set()
    for split in {row.split for row in (*windows, *rows)}:
        counts = Counter(label for row in rows if row.split == split for label in row.labels)
        names = [row.segment_name for row in windows if row.split == split]
        names.sort(key=lambda name: hash_to_fraction(0, BACKGROUND, name))
        kept.update(names[: max(counts.values(), default=0)])
    return [row for row in windows if row.segment_name in kept]


def _get_end(row: VideoRow) -> float:
    assert row.end_seconds is not None
    return row.end_seconds
