"""The files of annotations beside the videos: `annotations.csv`, `events.csv`, `reviewed.csv`, `rejected.csv`.

`annotations.csv` is a data address for `muybridge train` as it is. Marks of equal bounds share a row: their classes are joined
by `|`, and where annotator, time or origin differ, so are these, in the same order; those of another split or group have a row
of their own. A path that begins like a spreadsheet's formula or with a blank is written with `./` before it, and one that ends
with a blank with `/.` after it, which mean the same file: blanks around a cell are dropped by all who read it.
"""

from __future__ import annotations

import csv
import io
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from muybridge.parsing import check_text_size
from muybridge.studio.annotation_records import EventMark, RejectedMark, ReviewedRange, SegmentMark, VideoMarks
from muybridge.studio.errors import describe_field
from muybridge.text import escape_csv_cell, join_names

# fmt: off
COLUMNS = {
    "annotations.csv": (
        "path", "label", "split", "group", "start_seconds", "end_seconds", "annotator", "created", "origin"
    ),
    "events.csv": ("path", "label", "time_seconds", "annotator", "created"),
    "reviewed.csv": ("path", "start_seconds", "end_seconds", "annotator"),
    "rejected.csv": ("path", "label", "start_seconds", "end_seconds", "annotator", "created"),
}
# fmt: on
UNKNOWN_ANNOTATOR = "unknown"
_OPTIONAL = ("split", "group", "annotator", "created", "origin")
_PARALLEL = ("label", "annotator", "created", "origin")
_MARK_COLUMNS = {
    mark_type: COLUMNS[name][1:]
    for mark_type, name in (
        (SegmentMark, "annotations.csv"),
        (EventMark, "events.csv"),
        (ReviewedRange, "reviewed.csv"),
        (RejectedMark, "rejected.csv"),
    )
}
_MAX_FORMATTED = 1 << 15  # 20 MB
Cells = tuple[str, ...]
_AnyMark = SegmentMark | EventMark | ReviewedRange | RejectedMark
Mark = TypeVar("Mark", SegmentMark, EventMark, ReviewedRange, RejectedMark)


def read_annotation_files(folder: Path) -> dict[str, VideoMarks]:
    """The marks of all videos by path. Raises ValueError for a row that cannot be read, with its file and line."""
    segments = _read_marks(folder / "annotations.csv", SegmentMark)
    events = _read_marks(folder / "events.csv", EventMark)
    reviewed = _read_marks(folder / "reviewed.csv", ReviewedRange)
    rejected = _read_marks(folder / "rejected.csv", RejectedMark)
    paths = sorted({*segments, *events, *reviewed, *rejected})
    return {
        path: VideoMarks(
            segments=tuple(segments.get(path, ())),
            events=tuple(events.get(path, ())),
            reviewed=tuple(reviewed.get(path, ())),
            rejected=tuple(rejected.get(path, ())),
        )
        for path in paths
    }


def format_annotation_files(marks_by_path: Mapping[str, VideoMarks]) -> dict[str, str]:
    """The text of each file, by name; rows are in order of path and time."""
    texts = [format_video(path, marks_by_path[path]) for path in sorted(marks_by_path)]
    return {name: join_file(name, (text[name] for text in texts)) for name in COLUMNS}


def join_file(name: str, texts: Iterable[str]) -> str:
    """A file of the rows of several videos."""
    return "".join([_format_rows([COLUMNS[name]]), *texts])


def format_video(path: str, marks: VideoMarks) -> dict[str, str]:
    """The rows of one video in each file, by name, in order of time."""
    safe_path = _protect_path(path)
    cells: dict[str, Iterable[Cells]] = {
        "annotations.csv": _join_segments(marks.segments),
        "events.csv": map(_format_cells, sorted(marks.events, key=_sort_key)),
        "reviewed.csv": map(_format_cells, sorted(marks.reviewed, key=_sort_key)),
        "rejected.csv": map(_format_cells, sorted(marks.rejected, key=_sort_key)),
    }
    return {name: _format_rows((safe_path, *row) for row in cells[name]) for name in COLUMNS}


def _protect_path(path: str) -> str:
    """A spelling of a path that is the same file after blanks at its ends are dropped, and is no spreadsheet's formula."""
    start = "" if escape_csv_cell(path) == path == path.lstrip() else "./"
    end = "" if path == path.rstrip() else "/."
    return f"{start}{path}{end}"


def check_columns(folder: Path) -> None:
    """Raise ValueError where a file has columns that writing it would lose."""
    for name, columns in COLUMNS.items():
        header = _read_header(folder / name)
        unknown = [column for column in header if column not in columns]
        if unknown:
            raise ValueError(
                f"{folder / name} has columns that the studio would lose ({join_names(unknown)}); "
                "move the file away and import it"
            )


def parse_segment_rows(text: str, name: str) -> dict[str, list[SegmentMark]]:
    """The segments of a CSV in the form of annotations.csv, by path. Raises ValueError as `read_annotation_files`."""
    return _parse_marks(text, name, SegmentMark)


def _read_header(path: Path) -> list[str]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file), [])


def _read_marks(path: Path, mark_type: type[Mark]) -> dict[str, list[Mark]]:
    if not path.exists():
        return {}
    check_text_size(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text; save it as CSV in UTF-8") from error
    return _parse_marks(text, str(path), mark_type)


def _parse_marks(text: str, name: str, mark_type: type[Mark]) -> dict[str, list[Mark]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    known = set(mark_type.model_fields)
    needed = {"path"} | {column for column in known if column not in _OPTIONAL}
    missing = sorted(needed - set(reader.fieldnames or ()))
    if missing and reader.fieldnames:
        raise ValueError(
            f"{name} lacks the columns {join_names(missing)}; its first line names {join_names(reader.fieldnames)}"
        )
    repeated = [column for column, count in Counter(reader.fieldnames or ()).items() if count > 1 and column]
    if repeated:
        raise ValueError(f"{name} has the column {repeated[0]} twice; remove one of them")
    marks: dict[str, list[Mark]] = {}
    problems: list[str] = []
    try:
        for row in reader:
            try:
                if any(row.get(None) or ()):  # where the csv module puts what is too much
                    raise ValueError("it has more cells than the first line; times have a decimal point, no comma")
                path = _parse_path(row)
                marks.setdefault(path, []).extend(mark_type.model_validate(values) for values in _split_row(row, known))
            except (ValidationError, ValueError) as error:
                problems.append(f"line {reader.line_num}: {_describe(error)}")
    except csv.Error as error:
        problems.append(f"line {reader.line_num}: {error}")
    if problems:
        raise ValueError(f"{name} cannot be read: {join_names(problems, '; ')}; mend or remove these rows")
    return marks


def _parse_path(row: Mapping[str, str | None]) -> str:
    path = (row.get("path") or "").strip()
    if not path:
        raise ValueError("it has no path")
    return posixpath.normpath(path)


def _split_row(row: Mapping[str, str | None], known: set[str]) -> list[dict[str, Any]]:
    """The marks that share a row, a dictionary of fields each."""
    cells = {name: (row.get(name) or "").strip() for name in known}
    labels = cells["label"].split("|") if "label" in known else [""]
    split = []
    for number, label in enumerate(labels):
        values: dict[str, Any] = {name: cell or None for name, cell in cells.items()}
        for name in _PARALLEL:
            parts = cells.get(name, "").split("|")
            if name in known and len(parts) == len(labels):
                values[name] = parts[number] or None
        if "label" in known:
            values["label"] = label.strip()
        values["annotator"] = values.get("annotator") or UNKNOWN_ANNOTATOR
        if "origin" in known:
            values["origin"] = values["origin"] or "manual"
        if values.get("created"):
            values["created"] = _parse_time(values["created"])
        split.append(values)
    return split


def _parse_time(text: str) -> datetime:
    """An ISO 8601 time; UTC where it names no zone. Raises ValueError for another text."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _describe(error: ValidationError | ValueError) -> str:
    return describe_field(error.errors()[0]) if isinstance(error, ValidationError) else str(error)


def _join_segments(segments: Iterable[SegmentMark]) -> Iterator[Cells]:
    """A row for each pair of bounds, and for each split and group that its segments have."""
    for _, same in groupby(sorted(segments, key=_segment_sort_key), key=_row_key):
        parts = [_format_cells(segment) for segment in same]
        yield tuple(
            "|".join(values) if name in _PARALLEL and (name == "label" or len(set(values)) > 1) else values[0]
            for name, values in zip(_MARK_COLUMNS[SegmentMark], zip(*parts, strict=True), strict=True)
        )


def _row_key(segment: SegmentMark) -> tuple[float, float, str, str]:
    return *segment.bounds, segment.split or "", segment.group or ""


def _segment_sort_key(segment: SegmentMark) -> tuple[Any, ...]:
    return *_row_key(segment), *_sort_key(segment)


def _sort_key(mark: Any) -> tuple[float, float, str, str, str]:
    created = getattr(mark, "created", None)
    return *mark.bounds, getattr(mark, "label", ""), mark.annotator, _format_time(created) if created else ""


@lru_cache(maxsize=_MAX_FORMATTED)
def _format_cells(mark: _AnyMark) -> Cells:
    """The cells of a mark after the path. Marks are kept: of a video with thousands, a change is of one."""
    return tuple(_format_cell(getattr(mark, name)) for name in _MARK_COLUMNS[type(mark)])


def _format_cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.6f}".rstrip("0").rstrip(".")
        case datetime():
            return _format_time(value)
        case _:
            return str(value)


@lru_cache(maxsize=_MAX_FORMATTED)
def _format_time(time: datetime) -> str:
    """ISO 8601 in UTC, such as 2026-11-27T09:15:00Z."""
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _format_rows(rows: Iterable[Cells]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
