"""The scores of videos as CSV or JSON, for people and other programs (`evaluate -o x.csv`, `fuse -o x.json`).

Output: a row a video with its labels, the most probable class, and the probability of every class. Only Parquet files are read
back by `fuse` and `report`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muybridge.evaluation.aggregate import VideoScores
from muybridge.files.atomic import write_text
from muybridge.text import escape_csv_cell, sanitize_text

TEXT_EXTENSIONS = (".csv", ".json")


def write_scores_text(path: Path, scores: VideoScores, summary: Mapping[str, Any]) -> None:
    """Writes .csv, or .json with the keys of `summary` and `videos`."""
    rows = _make_rows(scores)
    if path.suffix.lower() == ".json":
        write_text(path, json.dumps({**summary, "videos": rows}, indent=2) + "\n")
    else:
        write_text(path, _format_csv(rows, scores.header.classes))


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
                "probabilities": dict(zip(classes, probabilities, strict=True)) if readable else None,
            }
        )
    return rows


def _format_csv(rows: list[dict[str, Any]], classes: tuple[str, ...]) -> str:
    """Several labels of a video are separated by `|`; a video that could not be read has no prediction."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ["video", "labels", "predicted", "is_right", "num_views", "num_failed_views"]
    writer.writerow([*columns, *(f"probability_{sanitize_text(name)}" for name in classes)])
    for row in rows:
        names = [escape_csv_cell(name) for name in (row["video"], "|".join(row["labels"]), row["predicted"] or "")]
        is_right = "" if row["is_right"] is None else int(row["is_right"])
        probabilities = [""] * len(classes) if row["probabilities"] is None else row["probabilities"].values()
        writer.writerow([*names, is_right, row["num_views"], row["num_failed_views"], *probabilities])
    return text.getvalue()
