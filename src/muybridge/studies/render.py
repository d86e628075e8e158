"""Renders a study from finished rows: study.json, and text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from muybridge.files.atomic import write_json
from muybridge.studies.plan import RowKey
from muybridge.studies.study import Row, Study, StudyConfig, result_to_json

MAX_MISSING_PRINTED = 5
TEXT_WIDTH = 110
VERDICT_SENTENCES = {
    True: "The runs support the claim.",
    False: "The runs do not support the claim.",
    None: "The runs do not decide.",
}


def write_study(study: Study, config: StudyConfig, rows: Mapping[RowKey, Row], folder: Path) -> dict[str, Any]:
    """Writes folder/<study>/study.json atomically from the rows that exist, and returns its contents."""
    keys = study.row_keys(config)
    finished = [rows[key] for key in keys if key in rows]
    values = result_to_json(
        study,
        config,
        study.summarize(config, rows, folder / "runs"),
        rows=finished,
        missing=[" ".join(key) for key in keys if key not in rows],
        environment=merge_machines(finished),
    )
    write_json(folder / study.name / "study.json", values)
    return values


def merge_machines(rows: Sequence[Row]) -> dict[str, Any]:
    """The machines that the rows are from: a single one as it is, several by number."""
    machines: list[Any] = []
    for row in rows:
        if row["machine"] not in machines:
            machines.append(row["machine"])
    if len(machines) == 1:
        return dict(machines[0])
    return {f"machine {number}": machine for number, machine in enumerate(machines, 1)}


def format_study(values: Mapping[str, Any]) -> str:
    """Claim, tables and verdict of the contents of a study.json as text."""
    parts = [values["title"], _wrap(f"Claim: {values['claim']}")]
    for table in values["tables"]:
        lines = [table["title"], *_align_columns([table["columns"], *table["rows"]])]
        parts.append("\n".join([*lines, _wrap(table["note"])] if table["note"] else lines))
    missing = values["missing"]
    if missing:
        more = f" and {len(missing) - MAX_MISSING_PRINTED} more" if len(missing) > MAX_MISSING_PRINTED else ""
        parts.append(_wrap(f"Not run: {', '.join(missing[:MAX_MISSING_PRINTED])}{more}"))
    verdict = values["verdict"]
    return "\n\n".join([*parts, _wrap(f"{VERDICT_SENTENCES[verdict['supported']]} {verdict['text']}")])


def _wrap(text: str) -> str:
    """Prose wrapped to lines."""
    return textwrap.fill(text, TEXT_WIDTH, break_on_hyphens=False)


def _align_columns(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Rows of cells as lines of aligned columns, the first left-justified, the others right-justified."""
    texts = [["-" if value is None else str(value) for value in row] for row in rows]
    first, *others = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return [
        "  ".join([row[0].ljust(first), *(text.rjust(width) for text, width in zip(row[1:], others, strict=True))])
        for row in texts
    ]
