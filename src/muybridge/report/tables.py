"""Tables as records, and as Markdown, LaTeX and CSV; the page's template renders them as HTML.

Input: columns and rows of text and numbers. Output: text. CSV has numbers in full precision, the other formats as displayed.
Each output format sanitizes and escapes text from outside.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from muybridge.text import escape_csv_cell, format_number, sanitize_text

Cell: TypeAlias = str | int | float | None
"""None: no value."""

_LATEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


@dataclass(frozen=True)
class Column:
    """A column's heading and the `decimals` of its numbers; None: integers, or four significant digits."""

    title: str
    decimals: int | None = None


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns. `name` is the stem of its file names.

    A page shows the first `num_shown` rows, and no table if that is 0; files contain all rows.
    """

    kind: ClassVar[str] = "table"
    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    num_shown: int | None = None

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"the table {self.title!r} has a row of {len(row)} cells under {len(self.columns)} columns"
                )

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns contain only numbers, and at least one."""
        cells = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.columns)
        return tuple(
            any(cell is not None for cell in column) and not any(isinstance(cell, str) for cell in column)
            for column in cells
        )

    def format_rows(self, num_rows: int | None = None) -> list[list[str]]:
        """The first `num_rows` rows (None: all) as text, neither sanitized nor escaped."""
        return [
            [_format_cell(cell, column.decimals) for cell, column in zip(row, self.columns, strict=True)]
            for row in self.rows[:num_rows]
        ]


def make_columns(*names: str, decimals: int | None = None) -> tuple[Column, ...]:
    """Columns with the same number of decimals."""
    return tuple(Column(name, decimals) for name in names)


def format_markdown(table: Table) -> str:
    """The table in GitHub's Markdown, its title above and its note below."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    rule = line(["---:" if numeric else "---" for numeric in table.numeric])
    rows = [line([_escape_markdown(cell) for cell in row]) for row in table.format_rows()]
    parts = [f"**{_escape_markdown(table.title)}**", ""]
    parts += [line([_escape_markdown(column.title) for column in table.columns]), rule, *rows]
    return "\n".join([*parts, *(["", _escape_markdown(table.note)] if table.note else [])]) + "\n"


def format_latex(table: Table) -> str:
    """The table as a LaTeX `table` environment; needs the package booktabs and UTF-8 input."""
    alignment = "".join("r" if numeric else "l" for numeric in table.numeric)
    rows = [[column.title for column in table.columns], *table.format_rows()]
    lines = [" & ".join(_escape_latex(cell) for cell in row) + r" \\" for row in rows]
    caption = f"{table.title}. {table.note}" if table.note else table.title
    return "\n".join(
        [
            r"\begin{table}",
            rf"  \caption{{{_escape_latex(caption)}}}",
            rf"  \label{{tab:{table.name}}}",
            r"  \centering",
            rf"  \begin{{tabular}}{{{alignment}}}",
            r"    \toprule",
            f"    {lines[0]}",
            r"    \midrule",
            *(f"    {line}" for line in lines[1:]),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def format_csv(table: Table) -> str:
    """The table as CSV with a header; numbers in full precision, an empty field for no value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rows: list[Sequence[Cell]] = [[column.title for column in table.columns], *table.rows]
    writer.writerows([escape_csv_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return text.getvalue()


def _format_cell(cell: Cell, decimals: int | None) -> str:
    if cell is None:
        return "-"
    return cell if isinstance(cell, str) else format_number(cell, decimals)


def _escape_markdown(text: str) -> str:
    plain = sanitize_text(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", plain)


def _escape_latex(text: str) -> str:
    return "".join(_LATEX_ESCAPES.get(character, character) for character in sanitize_text(text))
