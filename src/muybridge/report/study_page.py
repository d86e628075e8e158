"""The report of a study: the claim it tests, the verdict of its runs, tables, figures and pictures.

Input: study.json, format 1, as read by `sources`. Output: a `Page`. A study may be unfinished: the page lists the missing runs.
A part of the wrong type raises a ValueError that names it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muybridge.report.charts import LineChart, Series
from muybridge.report.clip_images import encode_png
from muybridge.report.document import Block, Gallery, GalleryItem, Page, Paragraph, Section
from muybridge.report.sections.training import build_settings_table, flatten_mapping
from muybridge.report.sources import StudyRecord
from muybridge.report.tables import Cell, Column, Table, make_columns
from muybridge.text import format_count, join_names

VERDICT_SENTENCES = {
    True: "The runs support the claim.",
    False: "The runs do not support the claim.",
    None: "The runs do not decide.",
}
WIDE_IMAGE_RATIO, WIDE_IMAGE_PIXELS = 3, 128  # pictures of a larger width / height, or wider, fill a row
MAX_MISSING_SHOWN = 6
UNUSED_RUNS = {
    "missing": "Not run",
    "stale": "Run at another version of the code or on another kind of machine, so neither shown nor judged, run again",
}
REWRITE = "run `muybridge study` again to rewrite it"


def build_study_page(study: StudyRecord) -> Page:
    """Build the page of a study: claim, verdict, missing runs, tables, figures, pictures, runs, environment."""
    values = study.values
    verdict = _check_mapping(values["verdict"], "verdict")
    supported = verdict.get("supported")
    verdict_sentence = VERDICT_SENTENCES[supported if isinstance(supported, bool) else None]
    sections = [
        Section("runs-made", "Scope", tuple(_build_scope_blocks(values))),
        _build_section(
            "tables", "Tables", [_build_table(part, number) for number, part in _parse_parts(values, "tables")]
        ),
        _build_section(
            "figures", "Figures", [_build_figure(part, number) for number, part in _parse_parts(values, "figures")]
        ),
        _build_section("pictures", "Pictures", _build_galleries([part for _, part in _parse_parts(values, "images")])),
        _build_section("runs", "Runs", _build_run_blocks([part for _, part in _parse_parts(values, "rows")])),
    ]
    environment = values.get("environment")
    if isinstance(environment, Mapping) and environment:
        table = build_settings_table("environment", "Environment of the runs", environment)
        sections.append(Section("environment", "Environment", (table,)))
    summary: dict[str, object] = {
        "study": values["name"],
        "verdict": dict(verdict),
        "missing": _list_runs(values, "missing"),
    }
    lead = [
        Paragraph(f"Claim: {values['claim']}"),
        Paragraph(verdict_sentence, "plain" if supported is True else "warning"),
    ]
    if verdict.get("text"):
        lead.append(Paragraph(str(verdict["text"])))
    return Page(str(values["title"]), tuple(lead), tuple(section for section in sections if section), summary)


def _build_scope_blocks(values: Mapping[str, Any]) -> list[Block]:
    blocks: list[Block] = [Paragraph(f"Scale: {values.get('scale') or 'not given'}.")]
    unused = {name: _list_runs(values, name) for name in UNUSED_RUNS}
    for name, names in unused.items():
        if names:
            text = f"{UNUSED_RUNS[name]}, {len(names)}: {join_names(names, '; ', max_names=MAX_MISSING_SHOWN)}."
            blocks.append(Paragraph(text, "warning"))
    if not any(unused.values()):
        blocks.append(Paragraph("All planned runs are included."))
    noise = _check_mapping(values.get("noise") or {}, "the noise floor")
    version = values.get("version")  # a clause, without the full stop
    sentences = [f"{version}." if version else "", str(noise.get("sentence") or "")]
    return blocks + [Paragraph(sentence[0].upper() + sentence[1:]) for sentence in sentences if sentence]


def _list_runs(values: Mapping[str, Any], name: str) -> list[str]:
    return [str(run) for run in _check_list(values.get(name) or [], f"the study's {name} runs")]


def _build_section(name: str, title: str, blocks: Sequence[Block]) -> Section | None:
    return Section(name, title, tuple(blocks)) if blocks else None


def _build_table(part: Mapping[str, Any], number: int) -> Table:
    title = str(part.get("title") or f"Table {number}")
    columns = [str(name) for name in _check_list(part.get("columns"), f"the columns of {title!r}")]
    rows = tuple(
        tuple(_convert_cell(cell, title) for cell in _check_list(row, f"a row of {title!r}"))
        for row in _check_list(part.get("rows"), f"the rows of {title!r}")
    )
    table_columns = tuple(
        Column(name, _choose_decimals([row[column_index] for row in rows if column_index < len(row)]))
        for column_index, name in enumerate(columns)
    )
    return Table(_make_file_name(title, number), title, table_columns, rows, note=str(part.get("note") or ""))


def _choose_decimals(cells: Sequence[Cell]) -> int | None:
    """Number of decimals of a column's longest number, between 1 and 3; None for a column of integers."""
    fractions = [repr(cell).partition(".")[2] for cell in cells if isinstance(cell, float)]
    return max(1, min(3, max(map(len, fractions)))) if fractions else None


def _convert_cell(value: Any, title: str) -> Cell:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(f"the table {title!r} has a cell that is neither text nor a number ({value!r}); {REWRITE}")


def _build_figure(part: Mapping[str, Any], number: int) -> LineChart | Paragraph:
    """A chart, or a warning if none of its runs exist."""
    title = str(part.get("title") or f"Figure {number}")
    series = tuple(
        _build_series(_check_mapping(values, title), title)
        for values in _check_list(part.get("series"), f"the series of {title!r}")
    )
    if not any(line.x for line in series):
        return Paragraph(f"{title}: none of its runs exist yet.", "warning")
    labels = (str(part.get("x_label") or ""), str(part.get("y_label") or ""))
    return LineChart(_make_file_name(title, number), title, *labels, series, str(part.get("alt") or ""))


def _build_series(part: Mapping[str, Any], title: str) -> Series:
    x, y = (_parse_numbers(part.get(name), title) for name in ("x", "y"))
    low, high = (_parse_numbers(part[name], title) if part.get(name) is not None else None for name in ("low", "high"))
    return Series(str(part.get("label") or ""), x, y, low, high, "points" if part.get("style") == "points" else "line")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parse_numbers(values: Any, title: str) -> tuple[float, ...]:
    numbers = _check_list(values, f"the values of {title!r}")
    if not all(value is None or _is_number(value) for value in numbers):
        raise ValueError(f"the figure {title!r} has values that are not numbers; {REWRITE}")
    return tuple(float("nan") if value is None else float(value) for value in numbers)


def _build_galleries(parts: Sequence[Mapping[str, Any]]) -> list[Block]:
    if not parts:
        return []
    items = []
    for part in parts:
        pixels = _parse_pixels(part)
        height, width = pixels.shape[:2]
        is_wide = width > WIDE_IMAGE_RATIO * height or width > WIDE_IMAGE_PIXELS
        alt_and_heading = str(part.get("alt") or ""), str(part.get("title") or "")
        items.append(GalleryItem(encode_png(pixels), *alt_and_heading, is_wide=is_wide))
    return [Gallery("Pictures", tuple(items), pixelated=True)]


def _parse_pixels(part: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Convert the pixels of a picture to uint8, gray (H, W) or RGB (H, W, 3)."""
    error_message = f"the picture {part.get('title')!r} is not an image of gray or RGB values from 0 to 255; {REWRITE}"
    try:
        pixels = np.array(part.get("pixels"), np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError(error_message) from error
    if pixels.ndim not in (2, 3) or pixels.size == 0 or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ValueError(error_message)
    if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 255:
        raise ValueError(error_message)
    return pixels.round().astype(np.uint8)


def _build_run_blocks(rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    """One row for each test of each run of the study, with all its fields."""
    if not rows:
        return []
    flat = [
        {**flatten_mapping(row), **{name: value for name, value in row.items() if _is_number(value)}} for row in rows
    ]
    names = list(dict.fromkeys(name for row in flat for name in row))
    cells = tuple(tuple(row.get(name) for name in names) for row in flat)
    num_runs = len({str(row.get("run")) for row in rows})
    tests = f", {format_count(len(rows), 'test')}" if num_runs < len(rows) else ""
    return [Table("runs", f"{format_count(num_runs, 'run')}{tests}", make_columns(*names), cells)]


def _parse_parts(values: Mapping[str, Any], name: str) -> list[tuple[int, Mapping[str, Any]]]:
    parts = _check_list(values.get(name) or [], f"the study's {name}")
    return [(number, _check_mapping(part, f"{name} {number}")) for number, part in enumerate(parts, 1)]


def _check_list(value: Any, description: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{description} are not a list; {REWRITE}")
    return value


def _check_mapping(value: Any, description: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{description} of the study is not a JSON object; {REWRITE}")
    return value


def _make_file_name(title: str, number: int) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40]
    return f"{number}-{slug}" if slug else str(number)
