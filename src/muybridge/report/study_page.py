"""The report of a study: the claim it tests, what its runs say of it, tables, figures and pictures.

Enters: study.json as read by `sources`. Leaves: a `Page`. The file is of format 1, but its parts may be unfinished: what is
missing is said. A part of the wrong shape is a ValueError that names it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muybridge.report.charts import LineChart
from muybridge.report.document import Block, Gallery, Page, Picture, Section, Text
from muybridge.report.pictures import plain_picture
from muybridge.report.sections.training import flattened, settings_table
from muybridge.report.series import Series
from muybridge.report.sources import Study
from muybridge.report.tables import Cell, Column, Table, titles
from muybridge.text import counted

VERDICTS = {
    True: "The runs support the claim.",
    False: "The runs do not support the claim.",
    None: "The runs do not decide.",
}
BROAD_RATIO, BROAD_PIXELS = 3, 128  # as many times as wide as high, or so wide: a picture that needs a row for itself
NUM_MISSING = 6  # runs named in a sentence


def study_page(study: Study) -> Page:
    """Claim, verdict, tables, figures, pictures, runs, what is missing, environment."""
    values = study.values
    verdict = _mapping(values["verdict"], "verdict")
    supported = verdict.get("supported")
    judged = VERDICTS[supported if isinstance(supported, bool) else None]
    sections = [
        Section("runs-made", "What was run", tuple(_extent_blocks(values))),
        _section("tables", "Tables", [_table(part, number) for number, part in _parts(values, "tables")]),
        _section("figures", "Figures", [_figure(part, number) for number, part in _parts(values, "figures")]),
        _section("pictures", "Pictures", _galleries([part for _, part in _parts(values, "images")])),
        _section("runs", "Runs", _run_blocks([part for _, part in _parts(values, "rows")])),
    ]
    environment = values.get("environment")
    if isinstance(environment, Mapping) and environment:
        table = settings_table("environment", "Where it was run", environment)
        sections.append(Section("environment", "Environment", (table,)))
    facts: dict[str, object] = {"study": values["name"], "verdict": dict(verdict), "missing": _missing(values)}
    lead = [Text(f"Claim: {values['claim']}"), Text(judged, "plain" if supported is True else "warning")]
    if verdict.get("text"):
        lead.append(Text(str(verdict["text"])))
    return Page(str(values["title"]), tuple(lead), tuple(section for section in sections if section), facts)


def _extent_blocks(values: Mapping[str, Any]) -> list[Block]:
    scale = Text(f"Scale: {values.get('scale') or 'not said'}.")
    missing = _missing(values)
    if not missing:
        return [scale, Text("Every planned run is in it.")]
    more = f"; and {len(missing) - NUM_MISSING} more" if len(missing) > NUM_MISSING else ""
    return [scale, Text(f"Not run, {len(missing)}: {'; '.join(missing[:NUM_MISSING])}{more}.", "warning")]


def _missing(values: Mapping[str, Any]) -> list[str]:
    found = values.get("missing") or []
    if not isinstance(found, list):
        raise ValueError("the study's missing is no list; let `muybridge study` write it again")
    return [str(one) for one in found]


def _section(name: str, title: str, blocks: Sequence[Block]) -> Section | None:
    return Section(name, title, tuple(blocks)) if blocks else None


def _table(part: Mapping[str, Any], number: int) -> Table:
    title = str(part.get("title") or f"Table {number}")
    columns = [str(name) for name in _list(part.get("columns"), f"the columns of {title!r}")]
    rows = tuple(
        tuple(_cell(cell, title) for cell in _list(row, f"a row of {title!r}"))
        for row in _list(part.get("rows"), f"the rows of {title!r}")
    )
    shown = tuple(
        Column(name, _decimals([row[place] for row in rows if place < len(row)])) for place, name in enumerate(columns)
    )
    return Table(_file_name(title, number), title, shown, rows, note=str(part.get("note") or ""))


def _decimals(cells: Sequence[Cell]) -> int | None:
    """As many decimals for a column as its longest number has, up to 3; None for whole numbers."""
    fractions = [repr(cell).partition(".")[2] for cell in cells if isinstance(cell, float)]
    return max(1, min(3, max(map(len, fractions)))) if fractions else None


def _cell(value: Any, title: str) -> Cell:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(f"the table {title!r} has a cell that is neither text nor a number: {value!r}")


def _figure(part: Mapping[str, Any], number: int) -> LineChart | Text:
    """A chart, or a sentence where nothing of it has been run."""
    title = str(part.get("title") or f"Figure {number}")
    series = tuple(
        _series(_mapping(one, title), title) for one in _list(part.get("series"), f"the series of {title!r}")
    )
    if not any(one.x for one in series):
        return Text(f"{title}: nothing of it has been run.", "warning")
    labels = (str(part.get("x_label") or ""), str(part.get("y_label") or ""))
    return LineChart(_file_name(title, number), title, *labels, series, str(part.get("alt") or ""))


def _series(part: Mapping[str, Any], title: str) -> Series:
    x, y = (_numbers(part.get(name), title) for name in ("x", "y"))
    low, high = (_numbers(part[name], title) if part.get(name) is not None else None for name in ("low", "high"))
    return Series(str(part.get("label") or ""), x, y, low, high, "points" if part.get("style") == "points" else "line")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(values: Any, title: str) -> tuple[float, ...]:
    found = _list(values, f"the values of {title!r}")
    if not all(value is None or _is_number(value) for value in found):
        raise ValueError(f"the figure {title!r} has values that are no numbers")
    return tuple(float("nan") if value is None else float(value) for value in found)


def _galleries(parts: Sequence[Mapping[str, Any]]) -> list[Block]:
    if not parts:
        return []
    pictures = []
    for part in parts:
        pixels = _pixels(part)
        height, width = pixels.shape[:2]
        broad = width > BROAD_RATIO * height or width > BROAD_PIXELS
        words = str(part.get("alt") or ""), str(part.get("title") or "")
        pictures.append(Picture(plain_picture(pixels), *words, broad=broad))
    return [Gallery("Pictures", tuple(pictures), pixelated=True)]


def _pixels(part: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Gray or RGB, whole numbers from 0 to 255."""
    refused = f"the picture {part.get('title')!r} is not of rows of gray or of red, green and blue from 0 to 255"
    try:
        found = np.array(part.get("pixels"), np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError(refused) from error
    if found.ndim not in (2, 3) or found.size == 0 or (found.ndim == 3 and found.shape[2] != 3):
        raise ValueError(refused)
    if not np.isfinite(found).all() or found.min() < 0 or found.max() > 255:
        raise ValueError(refused)
    return found.round().astype(np.uint8)


def _run_blocks(rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Every run that the study is made of, a row each, whatever its fields are."""
    if not rows:
        return []
    flat = [{**flattened(row), **{name: value for name, value in row.items() if _is_number(value)}} for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    cells = tuple(tuple(row.get(name) for name in names) for row in flat)
    return [Table("runs", f"{counted(len(rows), 'run')}", titles(*names), cells)]


def _parts(values: Mapping[str, Any], name: str) -> list[tuple[int, Mapping[str, Any]]]:
    found = _list(values.get(name) or [], f"the study's {name}")
    return [(number, _mapping(part, f"{name} {number}")) for number, part in enumerate(found, 1)]


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{what} are no list; let `muybridge study` write it again")
    return value


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} of the study is no object; let `muybridge study` write it again")
    return value


def _file_name(title: str, number: int) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40]
    return f"{number}-{words}" if words else str(number)
