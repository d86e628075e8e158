"""Timelines as files: their text in each format, and their paths."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from muybridge.files.atomic import atomic_write, is_stream
from muybridge.prediction.recognizer import Prediction
from muybridge.prediction.timeline import timeline_to_json, to_csv, to_srt
from muybridge.text import sanitize_text

SEGMENTS_SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("start_seconds", pa.float64(), nullable=False),
        pa.field("end_seconds", pa.float64(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("mean_probability", pa.float64(), nullable=False),
    ]
)


def format_timeline(prediction: Prediction, classes: Sequence[str], timeline_format: str) -> str:
    """The timeline of a video as the text of a json, csv, srt or txt file; of these, json says which windows are missing."""
    segments = (*prediction.segments, *([prediction.unscored] if prediction.unscored else []))
    match timeline_format:
        case "json":
            reason = {"reason": prediction.reason} if prediction.reason else {}
            values = {"video": prediction.video, **reason, **make_timeline_json(prediction, classes)}
            return json.dumps(values, indent=2) + "\n"
        case "csv":
            return to_csv(segments)
        case "srt":
            return to_srt(segments)
        case _:
            return "".join(f"{line}\n" for line in list_segment_lines(prediction))


def make_timeline_json(prediction: Prediction, classes: Sequence[str]) -> dict[str, Any]:
    """Classes, windows and segments; `interrupted_at_seconds` where the timeline was ended early."""
    values = timeline_to_json(prediction.windows, prediction.segments, classes)
    return values | ({"interrupted_at_seconds": prediction.unscored.start_seconds} if prediction.unscored else {})


def list_segment_lines(prediction: Prediction) -> list[str]:
    """A line for each segment, as they are printed."""
    lines = [
        f"{segment.start_seconds:7.2f} - {segment.end_seconds:7.2f} s  {sanitize_text(segment.label)} "
        f"({100 * segment.mean_probability:.0f} %)"
        for segment in prediction.segments
    ]
    if rest := prediction.unscored:
        lines.append(f"{rest.start_seconds:7.2f} - {rest.end_seconds:7.2f} s  {rest.label}")
    return lines


def write_segments_table(path: Path, predictions: Iterable[Prediction]) -> None:
    """Writes the segments of all videos as Parquet: video, start_seconds, end_seconds, label, mean_probability.

    The rest of a timeline that was ended early is a row with the label `INTERRUPTED`.
    """
    rows = [
        {"video": prediction.video, **asdict(segment)}
        for prediction in predictions
        for segment in (*prediction.segments, *([prediction.unscored] if prediction.unscored else []))
    ]
    with atomic_write(path) as partial:
        pq.write_table(pa.Table.from_pylist(rows, SEGMENTS_SCHEMA), partial)


def resolve_timeline_path(video: str, videos: Sequence[str], timeline_format: str, output: Path) -> Path:
    """The path of a video's timeline: `output` itself for a single video if it has an extension, else a file in this folder.

    In the folder, videos keep their paths below their common folder, so that videos of one name do not overwrite each other. A
    `..` in them is resolved, so that no path leaves the folder.
    """
    if len(videos) == 1 and not output.is_dir() and (output.suffix or is_stream(output)):
        return output
    common_folder = os.path.commonpath([_make_absolute(name).parent for name in videos])
    relative = _make_absolute(video).relative_to(common_folder)
    return output / relative.with_name(f"{relative.name}.{timeline_format}")


def _make_absolute(video: str) -> Path:
    return Path(os.path.abspath(video))  # noqa: PTH100 - Path.absolute keeps "..", Path.resolve follows links
