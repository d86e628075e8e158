"""A study told: written whole into study.json after every finished run, and printed as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from muybridge.journal import environment, write_json
from muybridge.studies.study import Results, Row, Setting, Study, to_json

MAX_MISSING_PRINTED = 5
OPENINGS = {
    True: "The runs support the claim.",
    False: "The runs do not support the claim.",
    None: "The runs do not decide.",
}


def write_study(study: Study, setting: Setting, rows: Mapping[tuple[str, str], Row], folder: Path) -> dict[str, Any]:
    """Writes folder/<study>/study.json from the rows that are there; also what it holds."""
    wanted = study.wanted(setting)
    told = to_json(
        study,
        setting,
        study.tell(setting, Results(rows, folder / "runs")),
        rows=[rows[key] for key in wanted if key in rows],
        missing=[f"{run} {test}" for run, test in wanted if (run, test) not in rows],
        environment=environment(),
    )
    write_json(folder / study.name / "study.json", told)
    return told


def printed(told: Mapping[str, Any]) -> str:
    """Claim, tables and verdict as text."""
    lines = [told["title"], "", f"Claim: {told['claim']}", ""]
    for table in told["tables"]:
        lines += [table["title"], *aligned([table["columns"], *table["rows"]])]
        lines += [table["note"], ""] if table["note"] else [""]
    missing = told["missing"]
    if missing:
        more = f" and {len(missing) - MAX_MISSING_PRINTED} more" if len(missing) > MAX_MISSING_PRINTED else ""
        lines += [f"Not run: {', '.join(missing[:MAX_MISSING_PRINTED])}{more}", ""]
    verdict = told["verdict"]
    return "\n".join([*lines, f"{OPENINGS[verdict['supported']]} {verdict['text']}"])


def aligned(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Rows of cells as lines with columns below each other; the first to the left, the others to the right."""
    texts = [["-" if value is None else str(value) for value in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    return ["  ".join(padded(text, widths[place], place) for place, text in enumerate(row)) for row in texts]


def padded(text: str, width: int, place: int) -> str:
    """A cell of an aligned table."""
    return text.rjust(width) if place else text.ljust(width)
