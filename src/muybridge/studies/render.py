"""Renders a study from finished rows: study.json, and text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from muybridge.files.atomic import write_json
from muybridge.studies.fingerprint import Version
from muybridge.studies.intervals import count_seeds
from muybridge.studies.noise import RESOLVED_POINTS
from muybridge.studies.plan import RowKey
from muybridge.studies.rows import check_row
from muybridge.studies.study import Row, Study, StudyConfig, StudyResult
from muybridge.studies.versions import RowSelection, read_versions, select_rows

FORMAT = 1
MAX_MISSING_PRINTED = 5
_LISTED_ROWS = {
    "missing": "Not run",
    "stale": "Run at another version of the code or on another kind of machine, so neither shown nor judged, run again",
}
TEXT_WIDTH = 110
VERDICT_SENTENCES = {
    True: "The runs support the claim.",
    False: "The runs do not support the claim.",
    None: "The runs do not decide.",
}


def write_study(
    study: Study, config: StudyConfig, rows: Mapping[RowKey, Row], folder: Path, current: Version | None = None
) -> dict[str, Any]:
    """Writes folder/<study>/study.json atomically from the rows of one version, and returns its contents.

    `current` is the version of this code on this machine (`versions.select_rows`); None does not compare with it. Raises
    ValueError for a row that contradicts the run it is named for.
    """
    keys = study.row_keys(config)
    runs = study.find_runs(config, rows)
    for key, run in runs.items():
        check_row(run, rows[key])
    usable = {key: rows[key] for key in runs}
    selection = select_rows(usable, read_versions(folder), current)
    selection = replace(selection, stale=tuple(key for key in selection.stale if key in keys))
    result = study.summarize(config, selection.rows, folder / "runs", selection.stale)
    values = result_to_json(study, config, result, selection, [key for key in keys if key not in rows])
    write_json(folder / study.name / "study.json", values)
    return values


def result_to_json(
    study: Study,
    config: StudyConfig,
    result: StudyResult,
    selection: RowSelection,
    missing: Sequence[RowKey],
) -> dict[str, Any]:
    """The contents of study.json: plain values from which pages, tables and figures are made."""
    rows = list(selection.rows.values())
    return {
        "format": FORMAT,
        "name": study.name,
        "title": study.title,
        "claim": study.claim,
        "verdict": asdict(result.verdict),
        "scale": config.scale,
        "seeds": config.seeds,
        "data": config.source.to_json(),
        "environment": merge_machines(rows),
        "tables": [asdict(table) for table in result.tables],
        "figures": [asdict(chart) for chart in result.charts],
        "images": [asdict(image) for image in result.images],
        "rows": [_shorten_row(row) for row in rows],
        "missing": [" ".join(key) for key in missing],
        "stale": [" ".join(key) for key in selection.stale],
        "version": selection.note,
        "noise": _describe_noise(result),
    }


def _describe_noise(result: StudyResult) -> dict[str, Any] | None:
    """The noise floor, and the number of seeds that resolve a difference; None for a study without runs."""
    if result.floor is None:
        return None
    deviation = result.pooled_deviation
    sentence = result.floor.format_sentence()
    if deviation is not None:
        num = count_seeds(deviation, RESOLVED_POINTS)
        sentence += (
            f" Over seeds the deviation is {deviation:.1f} points, pooled over networks: {num or 'over a thousand'} seeds "
            f"decide a difference of {RESOLVED_POINTS:g} points."
        )
    return {"floor": dict(result.floor.deviations), "pooled_deviation": deviation, "sentence": sentence}


def _shorten_row(row: Row) -> dict[str, Any]:
    """A row as study.json stores it; rows.jsonl has its settings and its history too."""
    numbers, machine = row["numbers"], row["machine"]
    names = ("clip_top1", "video_top1", "video_top5", "num_videos", "num_failed_videos")
    return {
        "run": row["run"],
        "test": row["test"]["key"],
        "model": row["model"],
        "seed": row["seed"],
        "data": row["data"]["key"],
        "rerun": row["rerun"]["kind"] if row.get("rerun") else None,  # of its seed, different by rounding alone
        **{name: numbers[name] for name in names},
        "training_seconds": row["training"]["seconds"] if row["training"] else None,
        "commit": row["commit"],
        "date": row["date"],
        "processor": machine["processor"],
        "torch": machine["packages"].get("torch"),
    }


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
    parts += [_wrap(f"{label}: {_shorten(values[key])}") for key, label in _LISTED_ROWS.items() if values.get(key)]
    if values.get("version"):
        parts.append(_wrap(f"Version: {values['version']}."))
    if values.get("noise"):
        parts.append(_wrap(values["noise"]["sentence"]))
    verdict = values["verdict"]
    return "\n\n".join([*parts, _wrap(f"{VERDICT_SENTENCES[verdict['supported']]} {verdict['text']}")])


def _shorten(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - MAX_MISSING_PRINTED} more" if len(names) > MAX_MISSING_PRINTED else ""
    return ", ".join(names[:MAX_MISSING_PRINTED]) + more


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
