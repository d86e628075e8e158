"""How a text file lists videos: with a header or without, and by what its columns are separated.

Without a header, three layouts are known: `path`, `path label`, and TSN's `path num_frames label`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from muybridge.datasets.columns import ColumnMapping, is_header, map_columns
from muybridge.datasets.text_table import Delimiter, TextRow, parse_rows, read_text_lines, split_line
from muybridge.datasets.video_files import VideoFinder, has_video_extension

_EXCEL_DELIMITER = re.compile(r'"?sep=."?', re.IGNORECASE)  # tells Excel how a CSV file is separated
_DELIMITERS: tuple[Delimiter, ...] = (",", "\t", ";", " ")


@dataclass(frozen=True)
class ListTable:
    """The rows of a list, without its header."""

    mapping: ColumnMapping
    rows: Iterable[TextRow]
    has_header: bool
    notes: tuple[str, ...] = ()


def read_text_table(path: Path, columns: str | None, root: Path, *, needs_labels: bool = True) -> ListTable:
    """The rows of a text file. Raises ValueError where the first line is neither a header nor a video."""
    lines = read_text_lines(path)
    if lines and _EXCEL_DELIMITER.fullmatch(lines[0].rstrip("\r\n")):
        lines[0] = "\n"  # an empty line, so that the others keep their numbers
    first = next((line for line in lines if line.strip()), "")
    for delimiter in _DELIMITERS:
        cells = split_line(first, delimiter)
        if is_header(cells, columns) and not any(map(has_video_extension, cells)):
            mapping = map_named_columns(path, cells, columns, needs_labels=needs_labels)
            return _read_with_header(path, lines, mapping, delimiter)
    layout = _find_headerless_layout(first, VideoFinder(root)) if columns is None else None
    if layout is None:  # no column is the path: the caller says which are there
        names = max((split_line(first, delimiter) for delimiter in _DELIMITERS[:3]), key=len, default=())
        return ListTable(map_named_columns(path, names, columns), (), True)
    delimiter, names = layout
    mapping = ColumnMapping(names, {role: names.index(role) for role in ("path", "label") if role in names})
    rows = parse_rows(lines, delimiter, num_columns=len(names))
    return ListTable(mapping, rows, False, (f"{path} has no header; its columns are taken as {', '.join(names)}.",))


def _read_with_header(path: Path, lines: Sequence[str], mapping: ColumnMapping, delimiter: Delimiter) -> ListTable:
    rows = parse_rows(lines, delimiter, num_columns=len(mapping.names))
    next(rows)  # the header
    return ListTable(mapping, rows, True)


def map_named_columns(
    path: Path, names: Sequence[str], columns: str | None, *, needs_labels: bool = True
) -> ColumnMapping:
    """`map_columns`, with the name of the list in what it raises."""
    try:
        return map_columns(names, columns, needs_labels=needs_labels)
    except ValueError as error:
        raise ValueError(f"the columns of {path} are not clear: {error}") from error


def _find_headerless_layout(first: str, finder: VideoFinder) -> tuple[Delimiter, tuple[str, ...]] | None:
    """The delimiter and the columns' names of a list whose first line is a video; None if it is not."""

    def is_video(text: str) -> bool:
        return has_video_extension(text) or finder.find(text) is not None

    for delimiter in _DELIMITERS[:3]:
        cells = split_line(first, delimiter)
        is_jester_id = delimiter == ";" and len(cells) == 2 and cells[0].isdigit()
        if len(cells) > 1 and (is_video(cells[0]) or is_jester_id):
            return delimiter, _name_columns(cells[1:])
    parts = first.split()
    if len(parts) > 2 and parts[-2].isdigit() and not has_video_extension(first.rsplit(maxsplit=1)[0]):
        return " ", ("path", "num_frames", "label")
    if len(parts) > 1 and is_video(first.rsplit(maxsplit=1)[0].strip()):
        return " ", ("path", "label")
    return (",", ("path",)) if is_video(first.strip()) else None


def _name_columns(others: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns after the path."""
    if len(others) == 2 and others[0].isdigit():
        return ("path", "num_frames", "label")
    return ("path", "label", *(f"column {index}" for index in range(3, len(others) + 2)))
