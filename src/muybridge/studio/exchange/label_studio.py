"""Tasks of Label Studio (JSON) with the tag `TimelineLabels`, whose ranges count frames from 1, both ends included.

Seconds and frames are converted by the rate of each video. Label Studio has no points in time: an event is a range of one
frame, in a `TimelineLabels` of its own called `events`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from muybridge.parsing import parse_json
from muybridge.studio.errors import StudioError
from muybridge.studio.exchange.marks import ImportedMarks, ProjectMarks, VideoFacts, as_dict, as_list, parse_seconds

_SEGMENTS, _EVENTS = "segments", "events"
_VIDEO_KEYS = ("video", "video_url", "videos", "url")
_UPLOADED = re.compile(r"^.*/[0-9a-f]{8}-")


def write_label_studio(project: ProjectMarks) -> str:
    """The marks as tasks with annotations, one of each annotator."""
    tasks = []
    for number, (path, marks) in enumerate(project.marks_by_path.items(), start=1):
        rate = project.get_facts(path).frames_per_second
        results: dict[str, list[dict[str, Any]]] = {}
        for segment in marks.segments:
            first = round(segment.start_seconds * rate) + 1
            last = max(first, round(segment.end_seconds * rate))
            results.setdefault(segment.annotator, []).append(_make_region(_SEGMENTS, segment.label, first, last))
        for event in marks.events:
            frame = round(event.time_seconds * rate) + 1
            results.setdefault(event.annotator, []).append(_make_region(_EVENTS, event.label, frame, frame))
        annotations = [{"completed_by": {"email": name}, "result": result} for name, result in results.items()]
        tasks.append({"id": number, "data": {"video": path}, "annotations": annotations, "predictions": []})
    return json.dumps(tasks, indent=1, ensure_ascii=False)


def _make_region(source: str, label: str, first: int, last: int) -> dict[str, Any]:
    return {
        "id": f"{source}-{label}-{first}-{last}",
        "type": "timelinelabels",
        "from_name": source,
        "to_name": "video",
        "origin": "manual",
        "value": {"ranges": [{"start": first, "end": last}], "timelinelabels": [label]},
    }


def read_label_studio(content: bytes, marks: ImportedMarks) -> None:
    """Take over the timeline labels of an export, in its full form (`annotations`) or short form (`videoLabels`)."""
    tasks = parse_json(content, "the Label Studio export")
    if not isinstance(tasks, list):
        raise StudioError(400, "the file is no export of Label Studio; expected a list of tasks")
    for task in map(as_dict, tasks):
        name = _find_name(as_dict(task.get("data")) or task, marks)
        for annotation in map(as_dict, as_list(task.get("annotations"))):
            if annotation.get("was_cancelled"):
                marks.skip(name, "an annotation was cancelled")
                continue
            author = annotation.get("completed_by")
            annotator = author.get("email") if isinstance(author, dict) else None
            for result in map(as_dict, as_list(annotation.get("result"))):
                if result.get("type") == "timelinelabels":
                    is_event = result.get("from_name") == _EVENTS
                    _add_regions(marks, name, as_dict(result.get("value")), annotator, is_event=is_event)
                else:
                    marks.skip(name, f"a result of the type {result.get('type')} is no timeline label")
        for key, values in task.items():  # of the short form: the name of the tag, which is anybody's choice
            for value in map(as_dict, as_list(values)):
                if "timelinelabels" in value:
                    _add_regions(marks, name, value, None, is_event=key == _EVENTS)


def _find_name(data: dict[str, Any], marks: ImportedMarks) -> str:
    """The video of a task: under a usual key, else the first text that names one. Uploads have eight digits before it."""
    texts = [data[key] for key in (*_VIDEO_KEYS, *data) if isinstance(data.get(key), str)]
    names = [text.partition("?d=")[2] or text for text in texts]
    names += [_UPLOADED.sub("", name) for name in names]
    return next((name for name in names if marks.find(name)), names[0] if names else "")


def _add_regions(
    marks: ImportedMarks, name: str, value: dict[str, Any], annotator: str | None, *, is_event: bool
) -> None:
    ranges, labels = as_list(value.get("ranges")), as_list(value.get("timelinelabels"))
    if not (ranges and labels):
        marks.skip(name, "a timeline label has no range or no label")
    path = marks.find(name)
    rate = marks.facts.get(path or "", VideoFacts()).frames_per_second
    for part in map(as_dict, ranges):
        first, last = part.get("start"), part.get("end")
        if (
            not (isinstance(first, int | float) and isinstance(last, int | float))
            or parse_seconds(first) is None  # too large for a float
            or parse_seconds(last) is None
            or first < 1
        ):
            marks.skip(name, f"{first!r} to {last!r} are no frames counted from 1")
            continue
        start = (first - 1) / rate
        for label in labels:
            marks.add(name, label, start, start if is_event else last / rate, annotator)
