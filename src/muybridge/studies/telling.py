"""A study told: written whole into study.json after every finished run, and printed as text."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from muybridge.files.atomic import write_json
from muybridge.studies.study import Results, Row, Setting, Study, to_json

MAX_MISSING_PRINTED = 5
WIDTH = 110
OPENINGS = {
    True: "The runs support the claim.",
    False: "The runs do not support the claim.",
    None: "The runs do not decide.",
}


def write_study(study: Study, setting: Setting, rows: Mapping[tuple[str, str], Row], folder: Path) -> dict[str, Any]:
    """Writes folder/<study>/study.json from the rows that are there; also what it holds."""
    wanted = study.wanted(setting)
    own = [rows[key] for key in wanted if key in rows]
    told = to_json(
        study,
        setting,
        study.tell(setting, Results(rows, folder / "runs")),
        rows=own,
        missing=[f"{run} {test}" for run, test in wanted if (run, test) not in rows],
        environment=machines(own),
    )
    write_json(folder / study.name / "study.json", told)
    return told


def machines(rows: Sequence[Row]) -> dict[str, Any]:
    """Where the rows are from, whoever tells of them now: one machine as it is, several by number."""
    found: list[Any] = []
    for row in rows:
        if row["machine"] not in found:
            found.append(row["machine"])
    return dict(found[0]) if len(found) == 1 else {f"machine {number}": one for number, one in enumerate(found, 1)}


def printed(told: Mapping[str, Any]) -> str:
    """Claim, tables and verdict as text."""
    parts = [told["title"], filled(f"Claim: {told['claim']}")]
    for table in told["tables"]:
        lines = [table["title"], *aligned([table["columns"], *table["rows"]])]
        parts.append("\n".join([*lines, filled(table["note"])] if table["note"] else lines))
    missing = told["missing"]
    if missing:
        more = f" and {len(missing) - MAX_MISSING_PRINTED} more" if len(missing) > MAX_MISSING_PRINTED else ""
        parts.append(filled(f"Not run: {', '.join(missing[:MAX_MISSING_PRINTED])}{more}"))
    verdict = told["verdict"]
    return "\n\n".join([*parts, filled(f"{OPENINGS[verdict['supported']]} {verdict['text']}")])


def filled(text: str) -> str:
    """Prose in lines."""
    return textwrap.fill(text, WIDTH, break_on_hyphens=False)


def aligned(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Rows of cells as lines with columns below each other; the first to the left, the others to the right."""
    texts = [["-" if value is None else str(value) for value in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    return ["  ".join(padded(text, widths[place], place) for place, text in enumerate(row)) for row in texts]


def padded(text: str, width: int, place: int) -> str:
    """A cell of an aligned table."""
    return text.rjust(width) if place else text.ljust(width)
