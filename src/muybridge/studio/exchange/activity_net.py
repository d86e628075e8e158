"""Annotations in the form of ActivityNet (JSON): `database`, by name of the video, with segments in seconds.

It has no annotators, and no points in time, so events are left out of an export. Names without an extension are found.
"""

from __future__ import annotations

import json
from typing import Any

from muybridge.parsing import parse_json_object
from muybridge.studio.annotation_records import SegmentMark
from muybridge.studio.errors import StudioError
from muybridge.studio.exchange.marks import ImportedMarks, ProjectMarks, as_dict, as_list

_SUBSETS = {"train": "training", "validation": "validation", "test": "testing"}


def write_activity_net(project: ProjectMarks) -> str:
    """The segments as a database. A video whose segments have one split is in that subset, else in training."""
    database: dict[str, Any] = {}
    for path, marks in project.marks_by_path.items():
        facts = project.get_facts(path)
        database[path] = {
            "duration": facts.duration_seconds,
            "subset": _choose_subset(marks.segments),
            "resolution": f"{facts.width}x{facts.height}",
            "url": "",
            "annotations": [{"label": one.label, "segment": list(one.bounds)} for one in marks.segments],
        }
    taxonomy = [{"nodeName": "Root", "nodeId": 0, "parentName": None, "parentId": None}]
    taxonomy += [
        {"nodeName": label, "nodeId": number, "parentName": "Root", "parentId": 0}
        for number, label in enumerate(project.labels, start=1)
    ]
    values = {"version": "VERSION 1.3", "taxonomy": taxonomy, "database": database}
    return json.dumps(values, indent=1, ensure_ascii=False)


def _choose_subset(segments: tuple[SegmentMark, ...]) -> str:
    splits = {segment.split for segment in segments}
    return _SUBSETS.get(str(splits.pop()), "training") if len(splits) == 1 else "training"


def read_activity_net(content: bytes, marks: ImportedMarks) -> None:
    """Take over the segments of the videos that the project has."""
    database = parse_json_object(content, "the ActivityNet file").get("database")
    if not isinstance(database, dict):
        raise StudioError(400, "the file is not in the form of ActivityNet; expected an object called database")
    for name, video in database.items():
        for annotation in map(as_dict, as_list(as_dict(video).get("annotations"))):
            segment = as_list(annotation.get("segment"))
            if len(segment) != 2:
                marks.skip(name, "an annotation has no segment of two times")
                continue
            marks.add(name, annotation.get("label"), *segment)
