"""The files of annotations beside the videos: `annotations.csv`, `events.csv`, `reviewed.csv`, `rejected.csv`.

`annotations.csv` is a data address for `muybridge train` as it is. Marks of equal bounds share a row: their classes are joined
by `|`, and where annotator, time or origin differ, so are these, in the same order. A path that begins like a spreadsheet's
formula is written with `./` before it, which means the same file.
"""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from muybridge.parsing import check_text_size
from muybridge.studio.annotation_records import EventMark, RejectedMark, ReviewedRange, SegmentMark, VideoMarks
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
Row = dict[str, str]
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
    rows: dict[str, list[Row]] = {name: [] for name in COLUMNS}
    for path in sorted(marks_by_path):
        marks = marks_by_path[path]
        rows["annotations.csv"] += _join_segments(path, marks.segments)
        rows["events.csv"] += [_make_row(path, event) for event in sorted(marks.events, key=_sort_key)]
        rows["reviewed.csv"] += [_make_row(path, part) for part in sorted(marks.reviewed, key=_sort_key)]
        rows["rejected.csv"] += [_make_row(path, mark) for mark in sorted(marks.rejected, key=_sort_key)]
    return {name: _format_rows(COLUMNS[name], rows[name]) for name in COLUMNS}


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
    marks: dict[str, list[Mark]] = {}
    problems: list[str] = []
    try:
        for row in reader:
            try:
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
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"]))
        return f"{field} {first['input']!r}: {first['msg']}" if field else first["msg"]
    return str(error)


def _join_segments(path: str, segments: Iterable[SegmentMark]) -> list[Row]:
    """A row for each pair of bounds."""
    groups: dict[tuple[float, float], list[SegmentMark]] = {}
    for segment in sorted(segments, key=_sort_key):
        groups.setdefault((segment.start_seconds, segment.end_seconds), []).append(segment)
    rows = []
    for group in groups.values():
        parts = [_make_row(path, segment) for segment in group]
        row = dict(parts[0])
        for name in _PARALLEL:
            values = [part[name] for part in parts]
            row[name] = values[0] if name != "label" and len(set(values)) == 1 else "|".join(values)
        rows.append(row)
    return rows


def _sort_key(mark: Any) -> tuple[float, float, str, str, str]:
    return *mark.bounds, getattr(mark, "label", ""), mark.annotator, _format_cell(getattr(mark, "created", None))


def _make_row(path: str, mark: _AnyMark) -> Row:
    safe_path = path if escape_csv_cell(path) == path else f"./{path}"
    return {"path": safe_path, **{name: _format_cell(value) for name, value in mark}}


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


def _format_time(time: datetime) -> str:
    """ISO 8601 in UTC, such as 2026-11-27T09:15:00Z."""
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _format_rows(columns: Sequence[str], rows: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
