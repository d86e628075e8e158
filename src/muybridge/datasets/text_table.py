"""Text files of rows: CSV with any usual delimiter, TSV, and lines of words.

Input: the bytes of a file. Output: its rows as cells, each with its line number and, where it cannot be read, the reason. A row
that cannot be read does not affect the others: reading goes on with the line after the one that it begins in.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Delimiter = Literal[",", "\t", ";", " "]

_UNDECODABLE = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of bytes that are not UTF-8
_UNBALANCED_QUOTES = "has a quotation mark too few or too many"
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class TextRow:
    """The cells of one row, stripped of surrounding white space; `problem` says why it cannot be read, else it is empty."""

    line_number: int
    cells: tuple[str, ...]
    problem: str = ""
    num_lines: int = 1  # more than one where quotation marks enclose line breaks


def read_text_lines(path: Path) -> list[str]:
    """The lines of a file in UTF-8, or in UTF-16 with a byte-order mark, with their line breaks.

    Bytes that are not UTF-8 become lone surrogates, so that `parse_rows` can name the rows that contain them. Raises
    ValueError if there is no such file, or if it is not a text.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    content = path.read_bytes()
    if content.startswith(_UTF16_MARKS):
        try:
            text = content.decode("utf-16")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} begins like UTF-16 but is not ({error.reason}); save it as UTF-8") from error
    else:
        text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors="surrogateescape")
        if text.count("\0") > len(text) // 4:
            raise ValueError(f"{path} is not a text in UTF-8 (UTF-16 without a byte-order mark?); save it as UTF-8")
    return list(io.StringIO(text, newline=""))


def split_line(line: str, delimiter: Delimiter) -> tuple[str, ...]:
    """The cells of a line that stands alone; empty if it is not valid with this delimiter."""
    row = next(parse_rows([line], delimiter), None)
    return () if row is None or row.problem else row.cells


def parse_rows(lines: Sequence[str], delimiter: Delimiter, *, num_columns: int = 0) -> Iterator[TextRow]:
    """The rows of a text, without empty ones.

    With the delimiter " " and `num_columns`, white space in excess belongs to the first column: `my clip.mp4 kick`. With
    another delimiter and `num_columns`, a row over several lines is a problem where one of the later lines has all columns
    by itself: then a quotation mark is missing, and the other lines would be lost in a cell.
    """
    if delimiter == " ":
        yield from _parse_words(lines, num_columns)
        return
    start = 0
    while start < len(lines):
        reader = csv.reader((lines[index] for index in range(start, len(lines))), delimiter=delimiter, strict=True)
        num_read = 0
        try:
            for cells in reader:
                first, num_read = start + num_read, reader.line_num
                row = _make_row(first, cells, lines[first : start + num_read], delimiter, num_columns)
                if row is not None:
                    yield row
                if row is not None and row.problem and row.num_lines > 1:
                    num_read = first + 1 - start
                    break
            start += num_read
        except csv.Error as error:
            yield TextRow(start + num_read + 1, (), _describe_error(error))
            start += num_read + 1


def _parse_words(lines: Sequence[str], num_columns: int) -> Iterator[TextRow]:
    for index, line in enumerate(lines):
        if cells := tuple(line.rsplit(maxsplit=num_columns - 1)):  # -1: no maximum
            yield TextRow(index + 1, tuple(cell.strip() for cell in cells), _find_character_problem(line))


def _make_row(
    first: int, cells: Sequence[str], lines: Sequence[str], delimiter: Delimiter, num_columns: int
) -> TextRow | None:
    """The row of some lines, None if they are empty."""
    stripped = tuple(cell.strip() for cell in cells)
    if not any(stripped):
        return None
    problem = next(filter(None, map(_find_character_problem, cells)), "")
    if num_columns and any(len(_split_loosely(line, delimiter)) == num_columns for line in lines[1:]):
        problem = _UNBALANCED_QUOTES
    return TextRow(first + 1, stripped, problem, len(lines))


def _split_loosely(line: str, delimiter: Delimiter) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def parse_number(text: str) -> float | None:
    """The finite number in a cell, else None; also for what only Python takes for one: `1_0`, and digits of other scripts."""
    if not text.isascii() or "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _find_character_problem(text: str) -> str:
    if "\0" in text:
        return "contains a NUL character"
    if not text.isascii() and (match := _UNDECODABLE.search(text)):
        return f"is not UTF-8: it has the byte 0x{ord(match[0]) - 0xDC00:02x}; save the file as UTF-8"
    return ""


def _describe_error(error: csv.Error) -> str:
    text = str(error)
    if "field larger than field limit" in text:
        return f"has a field of more than {csv.field_size_limit():,} characters"
    if "unexpected end of data" in text or "expected after" in text:
        return _UNBALANCED_QUOTES
    return f"cannot be read ({text})"
