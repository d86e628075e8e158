"""Projects of the VGG Image Annotator, version 3 (JSON), with temporal segments.

A mark is an entry of `metadata` whose `z` holds start and end in seconds, or one time of an event; its class is the value of
the attribute with the anchor of temporal segments (FILE1_Z2_XY0) or of points in time (FILE1_Z1_XY0).
"""

from __future__ import annotations

import json
from typing import Any

from muybridge.parsing import parse_json_object
from muybridge.studio.exchange.marks import ImportedMarks, ProjectMarks, as_dict, as_list

_SEGMENT_ANCHOR, _EVENT_ANCHOR, _ANNOTATOR_ANCHOR = "FILE1_Z2_XY0", "FILE1_Z1_XY0", "FILE1_Z2_XY0"
_SELECT, _CHECKBOX, _TEXT = 4, 2, 1
_VIDEO, _LOCAL_FILE = 4, 1
_SEGMENT_ID, _EVENT_ID, _ANNOTATOR_ID = "1", "2", "3"


def write_via(project: ProjectMarks) -> str:
    """The marks as a VIA 3 project; annotators stand in an attribute of their own."""
    metadata: dict[str, Any] = {}
    files, views = {}, {}
    options = {str(number): label for number, label in enumerate(project.labels, start=1)}
    ids = {label: option for option, label in options.items()}
    for number, (path, marks) in enumerate(project.marks_by_path.items(), start=1):
        video_id = str(number)
        files[video_id] = {"fid": video_id, "fname": path, "type": _VIDEO, "loc": _LOCAL_FILE, "src": path}
        views[video_id] = {"fid_list": [video_id]}
        entries = [(list(one.bounds), _SEGMENT_ID, one.label, one.annotator) for one in marks.segments]
        entries += [([one.time_seconds], _EVENT_ID, one.label, one.annotator) for one in marks.events]
        for position, (z, attribute, label, annotator) in enumerate(entries):
            chosen = {attribute: ids[label], _ANNOTATOR_ID: annotator}
            metadata[f"{video_id}_{position:08d}"] = {"vid": video_id, "flg": 0, "z": z, "xy": [], "av": chosen}
    project_values = {
        "pid": "__VIA_PROJECT_ID__",
        "rev": "__VIA_PROJECT_REV_ID__",
        "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__",
        "pname": "Muybridge Studio",
        "creator": "Muybridge Studio",
        "created": 0,
        "data_format_version": "3.1.1",
        "vid_list": list(files),
    }
    values: dict[str, Any] = {
        "project": project_values,
        "config": {
            "file": {"loc_prefix": {str(number): "" for number in range(1, 5)}},
            "ui": {"file_content_align": "center"},
        },
        "attribute": {
            _SEGMENT_ID: _make_attribute("class", _SEGMENT_ANCHOR, _SELECT, options),
            _EVENT_ID: _make_attribute("event", _EVENT_ANCHOR, _SELECT, options),
            _ANNOTATOR_ID: _make_attribute("annotator", _ANNOTATOR_ANCHOR, _TEXT, {}),
        },
        "file": files,
        "metadata": metadata,
        "view": views,
    }
    return json.dumps(values, indent=1, ensure_ascii=False)


def _make_attribute(name: str, anchor: str, kind: int, options: dict[str, str]) -> dict[str, Any]:
    return {"aname": name, "anchor_id": anchor, "type": kind, "desc": "", "options": options, "default_option_id": ""}


def read_via(content: bytes, marks: ImportedMarks) -> None:
    """Take over temporal segments and points in time; regions in frames are left out."""
    project = parse_json_object(content, "the VIA project")
    attributes = {key: as_dict(value) for key, value in as_dict(project.get("attribute")).items()}
    annotator_ids = {key for key, value in attributes.items() if value.get("aname") == "annotator"}
    files, views = as_dict(project.get("file")), as_dict(project.get("view"))
    if not as_dict(project.get("metadata")):
        marks.skip("the file", "it has no temporal segments")
    for entry in map(as_dict, as_dict(project.get("metadata")).values()):
        times = as_list(entry.get("z"))
        if as_list(entry.get("xy")) or len(times) not in (1, 2):
            marks.skip(str(entry.get("vid")), "it is a region, or of the whole file")
            continue
        file_ids = as_list(as_dict(views.get(str(entry.get("vid")))).get("fid_list")) or [entry.get("vid")]
        file = as_dict(files.get(str(file_ids[0])))
        name = str(file.get("fname") or file.get("src") or "")
        chosen = as_dict(entry.get("av"))
        annotator = next((str(chosen[key]) for key in annotator_ids if chosen.get(key)), None)
        labels = [
            as_dict(attributes.get(key, {}).get("options")).get(option, option)
            for key, value in chosen.items()
            if key not in annotator_ids
            for option in (str(value).split(",") if attributes.get(key, {}).get("type") == _CHECKBOX else [str(value)])
        ]
        if not labels:
            marks.skip(name, "a temporal segment has no class")
        for label in labels:
            marks.add(name, label, times[0], times[-1], annotator)
