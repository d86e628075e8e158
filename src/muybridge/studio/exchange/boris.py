"""Project files of BORIS (.boris, JSON, project format 7).

A state event is written twice, at its start and at its stop; a point event once. The kinds stand in the ethogram
(`behaviors_conf`): of a behaviour that is a state, an event is a state of no length. Starts and stops alternate for each
behaviour, subject and modifier, so states that overlap have the modifiers 2, 3, ... An observation is of one video here; its
subject is the annotator, since no field says who observed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from muybridge.parsing import parse_json_object
from muybridge.studio.annotation_records import EventMark, SegmentMark
from muybridge.studio.exchange.marks import (
    ImportedMarks,
    ProjectMarks,
    as_dict,
    as_list,
    parse_seconds,
    split_into_lanes,
)
from muybridge.text import format_count

_FORMAT_VERSION = "7.0"
_POINT, _STATE = "Point event", "State event"
_KEYS = "1234567890abcdefghijklmnopqrstuvwxyz"


def write_boris(project: ProjectMarks) -> str:
    """The marks as a BORIS project."""
    point_labels = {event.label for marks in project.marks_by_path.values() for event in marks.events}
    state_labels = {segment.label for marks in project.marks_by_path.values() for segment in marks.segments}
    kinds = [(label, _STATE) for label in sorted(state_labels)]
    kinds += [(label, _POINT) for label in sorted(point_labels - state_labels)]
    observations = {path: _make_observation(project, path, state_labels) for path in project.marks_by_path}
    modifiers = _list_modifiers(observations)
    behaviors = {
        str(number): {
            "type": kind,
            "key": _KEYS[number] if number < len(_KEYS) else "",
            "code": label,
            "description": "",
            "color": project.colors.get(label, ""),
            "category": "",
            "modifiers": {"0": {"name": "overlap", "type": 0, "values": modifiers[label]}} if modifiers[label] else "",
            "excluded": "",
            "coding map": "",
        }
        for number, (label, kind) in enumerate(kinds)
    }
    annotators = {segment.annotator for marks in project.marks_by_path.values() for segment in marks.segments}
    annotators |= {event.annotator for marks in project.marks_by_path.values() for event in marks.events}
    values = {
        "time_format": "s",
        "project_date": "",
        "project_name": "Muybridge Studio",
        "project_description": "",
        "project_format_version": _FORMAT_VERSION,
        "subjects_conf": {
            str(n): {"key": "", "name": name, "description": ""} for n, name in enumerate(sorted(annotators))
        },
        "behaviors_conf": behaviors,
        "independent_variables": {},
        "coding_map": {},
        "behaviors_coding_map": [],
        "converters": {},
        "observations": observations,
    }
    return json.dumps(values, indent=1, ensure_ascii=False)


def _list_modifiers(observations: Mapping[str, Any]) -> dict[str, list[str]]:
    """The modifiers of each behaviour, in order."""
    numbers: defaultdict[str, set[int]] = defaultdict(set)
    for observation in observations.values():
        for _, _, label, modifier, _ in observation["events"]:
            numbers[label] |= {int(modifier)} if modifier else set()
    return {label: [str(number) for number in sorted(used)] for label, used in numbers.items()}


def _make_observation(project: ProjectMarks, path: str, state_labels: Collection[str]) -> dict[str, Any]:
    facts, marks = project.get_facts(path), project.marks_by_path[path]
    events: list[list[Any]] = []
    states: defaultdict[tuple[str, str], list[tuple[float, float, str, str]]] = defaultdict(list)
    all_marks: tuple[SegmentMark | EventMark, ...] = (*marks.segments, *marks.events)
    for mark in all_marks:
        if mark.label in state_labels:
            states[mark.label, mark.annotator].append((*mark.bounds, mark.label, mark.annotator))
        else:
            events.append([mark.bounds[0], mark.annotator, mark.label, "", ""])
    for rows in states.values():
        for number, lane in enumerate(split_into_lanes(rows), start=1):
            modifier = str(number) if number > 1 else ""
            events += [[time, annotator, label, modifier, ""] for *bounds, label, annotator in lane for time in bounds]
    return {
        "file": {"1": [path], **{str(player): [] for player in range(2, 9)}},
        "type": "MEDIA",
        "date": "",
        "description": "",
        "time offset": 0.0,
        "events": sorted(events, key=lambda event: event[:4]),
        "observation time interval": [0, 0],
        "independent_variables": {},
        "media_info": {
            "length": {path: facts.duration_seconds},
            "fps": {path: facts.frames_per_second},
            "hasVideo": {path: True},
            "hasAudio": {path: False},
            "offset": {"1": 0.0},
        },
    }


def read_boris(content: bytes, marks: ImportedMarks) -> None:
    """Take over the observations of a BORIS project. Modifiers and comments are left out."""
    project = parse_json_object(content, "the BORIS project")
    behaviors = as_dict(project.get("behaviors_conf")).values()
    points = {str(as_dict(one).get("code")) for one in behaviors if str(as_dict(one).get("type")).startswith("Point")}
    observations = as_dict(project.get("observations"))
    if not observations:
        marks.skip("the file", "it has no observations")
    for name, observation in observations.items():
        observation = as_dict(observation)
        files = [str(file) for player in as_dict(observation.get("file")).values() for file in as_list(player)]
        if len(files) != 1:
            marks.skip(name, f"the observation is of {len(files)} media files, expected one")
            continue
        offset = _read_offset(observation.get("time offset"))
        for label, subject, start, end in _pair_events(observation, points, marks, name):
            marks.add(files[0], label, start - offset, end - offset, subject or None)


def _read_offset(value: Any) -> float:
    """What BORIS has added to the times of events: seconds, or a text such as 00:00:10 or -00:00:10; 0 for anything else."""
    text = str(value or 0.0)
    return (-1.0 if text.startswith("-") else 1.0) * (parse_seconds(text.lstrip("-")) or 0.0)


def _pair_events(
    observation: dict[str, Any], points: set[str], marks: ImportedMarks, name: str
) -> Iterator[tuple[str, str, float, float]]:
    """Label, subject, start and end of each event: starts and stops of a state alternate for each subject."""
    open_states: dict[tuple[str, str, str], float] = {}
    events = as_list(observation.get("events"))
    rows = [row for row in events if len(as_list(row)) >= 3 and type(row[0]) in (int, float)]  # else NA, as of pictures
    if num_untimed := len(events) - len(rows):
        marks.skip(name, f"{format_count(num_untimed, 'event')} without a time in seconds")
    for row in sorted(rows, key=lambda row: row[0]):
        seconds, subject, label = float(row[0]), str(row[1] or ""), str(row[2])
        key = (label, subject, str(row[3]) if len(row) > 3 else "")
        if label in points:
            yield label, subject, seconds, seconds
        elif key in open_states:
            yield label, subject, open_states.pop(key), seconds
        else:
            open_states[key] = seconds
    for label, _, _ in open_states:
        marks.skip(name, f"a state event {label!r} has a start and no stop")
