"""Annotation files of Create ML's action classifier (JSON): a list of videos with label, start and end in seconds.

Create ML asks for the names of the keys; these are `video`, `label`, `start` and `end`, and others that are usual are read. It
has no points in time, so events are left out of an export.
"""

from __future__ import annotations

import json
from typing import Any

from muybridge.parsing import parse_json
from muybridge.studio.errors import StudioError
from muybridge.studio.exchange.marks import ImportedMarks, ProjectMarks, VideoFacts, as_dict

_VIDEO_KEYS = ("video", "file", "file_name", "filename", "video_file", "url", "name")
_LABEL_KEYS = ("label", "action", "class")
_START_KEYS = ("start", "start_time", "startTime", "start_seconds")
_END_KEYS = ("end", "end_time", "endTime", "end_seconds")


def write_create_ml(project: ProjectMarks) -> str:
    """The segments as a list."""
    rows = [
        {"video": path, "label": segment.label, "start": segment.start_seconds, "end": segment.end_seconds}
        for path, marks in project.marks_by_path.items()
        for segment in marks.segments
    ]
    return json.dumps(rows, indent=1, ensure_ascii=False)


def read_create_ml(content: bytes, marks: ImportedMarks) -> None:
    """Take over the segments; one without bounds is the whole video."""
    rows = parse_json(content, "the annotation file")
    if not isinstance(rows, list):
        raise StudioError(400, "the file is no annotation file of Create ML; expected a list of videos with labels")
    for row in map(as_dict, rows):
        name = str(_get(row, _VIDEO_KEYS) or "")
        path = marks.find(name)
        end = _get(row, _END_KEYS)
        if end is None and path is not None:
            end = marks.facts.get(path, VideoFacts()).duration_seconds
        marks.add(name, _get(row, _LABEL_KEYS), _get(row, _START_KEYS) or 0.0, end)


def _get(row: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((row[key] for key in keys if row.get(key) is not None), None)
