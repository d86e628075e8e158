"""Timelines as files: their text in each format, and their paths."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from muybridge.prediction.recognizer import Prediction
from muybridge.prediction.timeline import timeline_to_json, to_csv, to_srt


def format_timeline(prediction: Prediction, classes: Sequence[str], timeline_format: str) -> str:
    """The timeline of a video as the text of a json, csv or srt file."""
    match timeline_format:
        case "json":
            values = timeline_to_json(prediction.windows, prediction.segments, classes)
            return json.dumps({"video": prediction.video, **values}, indent=2) + "\n"
        case "csv":
            return to_csv(prediction.segments)
        case _:
            return to_srt(prediction.segments)


def resolve_timeline_path(video: str, videos: Sequence[str], timeline_format: str, output: Path) -> Path:
    """The path of a video's timeline: `output` itself for a single video, else a file in the folder `output`.

    In the folder, videos keep their paths below their common folder, so that videos of one name do not overwrite each other.
    """
    if len(videos) == 1 and not output.is_dir():
        return output
    common_folder = os.path.commonpath([Path(name).absolute().parent for name in videos])
    relative = Path(video).absolute().relative_to(common_folder)
    return output / relative.with_name(f"{relative.name}.{timeline_format}")
