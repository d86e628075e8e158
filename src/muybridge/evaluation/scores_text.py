"""The scores of videos as CSV or JSON, for people and other programs (`evaluate -o x.csv`, `fuse -o x.json`).

Output: a row a video.

    single_label, multi_label, ordinal   its labels or level, the predicted ones, and the probability of every class
    regression                           target and predicted value of each output, in the unit of the target

Only Parquet files are read back by `fuse` and `report`.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.evaluation.aggregate import VideoScores
from muybridge.evaluation.outputs import VideoOutputs
from muybridge.files.atomic import write_text
from muybridge.models.heads import choose_levels, compute_level_probabilities
from muybridge.text import escape_csv_cell, sanitize_text

TEXT_EXTENSIONS = (".csv", ".json")


def write_scores_text(path: Path, scores: VideoScores | VideoOutputs, summary: Mapping[str, Any]) -> None:
    """Writes .csv, or .json with the keys of `summary` and `videos`."""
    rows = _make_output_rows(scores) if isinstance(scores, VideoOutputs) else _make_rows(scores)
    if path.suffix.lower() == ".json":
        values = [{name: _drop_unknown(value) for name, value in row.items()} for row in rows]
        write_text(path, json.dumps({**summary, "videos": values}, indent=2) + "\n")
    else:
        write_text(path, _format_csv(rows))


def _make_rows(scores: VideoScores) -> list[dict[str, Any]]:
    classes = scores.header.classes
    rows = []
    for index, video in enumerate(scores.videos):
        labels, readable = scores.labels[index], bool(scores.readable_mask[index])
        probabilities = scores.probabilities[index].tolist()
        top = probabilities.index(max(probabilities)) if readable else None
        rows.append(
            {
                "video": video,
                "labels": [classes[label] for label in labels],
                "predicted": None if top is None else classes[top],
                "is_right": top in labels if labels else None,
                "num_views": int(scores.num_views[index]),
                "num_failed_views": int(scores.num_failed_views[index]),
                "probabilities": _name_values(classes, probabilities),
            }
        )
    return rows


def _make_output_rows(outputs: VideoOutputs) -> list[dict[str, Any]]:
    if outputs.head.task == "regression":
        names = outputs.head.outputs
        details = [
            {"targets": _name_values(names, targets), "values": _name_values(names, values)}
            for targets, values in zip(outputs.targets.tolist(), outputs.values.tolist(), strict=True)
        ]
    else:
        details = _describe_decisions(outputs)
    counts = zip(outputs.num_views.tolist(), outputs.num_failed_views.tolist(), strict=True)
    return [
        {"video": video, **row, "num_views": num_views, "num_failed_views": num_failed_views}
        for video, row, (num_views, num_failed_views) in zip(outputs.videos, details, counts, strict=True)
    ]


def _describe_decisions(outputs: VideoOutputs) -> list[dict[str, Any]]:
    """Labels, predicted classes or level, and probabilities of each video."""
    head, classes = outputs.head, outputs.header.classes
    if head.task == "ordinal":
        probabilities = compute_level_probabilities(outputs.values)
        is_predicted = choose_levels(outputs.values)[:, None] == np.arange(len(classes))
        is_label = outputs.targets == np.arange(len(classes))
    else:
        probabilities = outputs.values
        is_predicted = probabilities >= np.array(head.resolved_thresholds)
        is_label = outputs.targets > 0.5
    readable, labeled = outputs.readable_mask.tolist(), outputs.labeled_mask.tolist()
    return [
        {
            "labels": _select_names(classes, is_label[index].tolist()),
            "predicted": _select_names(classes, is_predicted[index].tolist()) if readable[index] else None,
            "is_right": bool((is_label[index] == is_predicted[index]).all())
            if readable[index] and labeled[index]
            else None,
            "probabilities": _name_values(classes, probabilities[index].tolist()),
        }
        for index in range(len(outputs.videos))
    ]


def _select_names(names: Sequence[str], mask: Sequence[bool]) -> list[str]:
    return [name for name, is_selected in zip(names, mask, strict=True) if is_selected]


def _name_values(names: Sequence[str], values: Sequence[float]) -> dict[str, float | None]:
    """Values by name, None for NaN: unknown, or of a video that could not be read."""
    return {name: None if math.isnan(value) else value for name, value in zip(names, values, strict=True)}


def _drop_unknown(value: Any) -> Any:
    """None for values by name that are all unknown: the probabilities of a video that could not be read."""
    return None if isinstance(value, Mapping) and set(value.values()) == {None} else value


def _format_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Several names in a cell are separated by `|`; `probabilities` and the like have a column for each name."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row_index, row in enumerate(rows):
        cells: dict[str, Any] = {}
        for name, value in sorted(row.items(), key=lambda item: isinstance(item[1], Mapping)):
            if isinstance(value, Mapping):
                prefix = {"probabilities": "probability", "targets": "target", "values": "value"}[name]
                cells |= {f"{prefix}_{sanitize_text(inner)}": number for inner, number in value.items()}
            else:
                cells[name] = _format_cell(value)
        if row_index == 0:
            writer.writerow(cells)
        writer.writerow(cells.values())
    return text.getvalue()


def _format_cell(value: Any) -> Any:
    match value:
        case list():
            return escape_csv_cell("|".join(value))
        case bool():
            return int(value)
        case str():
            return escape_csv_cell(value)
        case _:
            return value
