"""What the formats of other tools have in common: whose videos are meant, and what is taken over.

Input: names of videos as another tool writes them, labels and times. Output: marks by path, and what was left out and why. A
name is a path of the project, else the only video of that file name, else the only one of that name without its extension.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote

from pydantic import ValidationError

from muybridge.studio.annotation_records import MAX_MARKS, AnnotationSplit, EventMark, SegmentMark, VideoMarks
from muybridge.studio.errors import StudioError, describe_field

DEFAULT_RATE = 25.0  # of a video that could not be examined
_MAX_SKIPPED = 1000
_EVENT_SECONDS = 1e-3  # a segment of no length is an event
Row = TypeVar("Row", bound=tuple[float, float, str, str])


@dataclass(frozen=True)
class VideoFacts:
    """What a format needs of a video. Duration 0: not known."""

    frames_per_second: float = DEFAULT_RATE
    duration_seconds: float = 0.0
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class ProjectMarks:
    """What is exported: the marks of each video, what is known of it, and the colours of classes."""

    marks_by_path: Mapping[str, VideoMarks]
    facts: Mapping[str, VideoFacts]
    colors: Mapping[str, str]

    @property
    def labels(self) -> list[str]:
        """All classes, in order of name."""
        marks = self.marks_by_path.values()
        segments = {segment.label for one in marks for segment in one.segments}
        return sorted(segments | {event.label for one in marks for event in one.events})

    def get_facts(self, path: str) -> VideoFacts:
        """What is known of a video."""
        return self.facts.get(path, VideoFacts())


@dataclass
class ImportedMarks:
    """Collects what a file of another tool holds."""

    facts: Mapping[str, VideoFacts]
    annotator: str
    created: datetime
    only_path: str | None = None  # the video that the file is of, whatever it calls it
    segments: dict[str, list[SegmentMark]] = field(default_factory=dict)
    events: dict[str, list[EventMark]] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def find(self, name: str) -> str | None:
        """The path of the video that `name` means, None if there is none or more than one."""
        if self.only_path is not None:
            return self.only_path
        plain = unquote(name.replace("\\", "/"))
        for candidate in (name, plain):
            if candidate in self.facts:
                return candidate
        wanted = PurePosixPath(plain)
        for part in ("name", "stem"):
            matches = [path for path in self.facts if getattr(PurePosixPath(path), part) == getattr(wanted, part)]
            matches = matches or [path for path in self.facts if getattr(PurePosixPath(path), part) == wanted.name]
            if len(matches) == 1:
                return matches[0]
        return None

    def add(
        self,
        name: str,
        label: Any,
        start: Any,
        end: Any,
        annotator: str | None = None,
        *,
        split: AnnotationSplit | None = None,
        group: str | None = None,
    ) -> None:
        """Add a segment, or an event where start and end are the same; what does not fit is noted in `skipped`."""
        path = self.find(name)
        if path is None:
            self.skip(name, "there is no video of this name in the project")
            return
        start_seconds, end_seconds = parse_seconds(start), parse_seconds(end)
        if start_seconds is None or end_seconds is None:
            self.skip(name, f"{start!r} to {end!r} are no times")
            return
        label = str(label).strip() if isinstance(label, str | int | float) else label
        common = {"label": label, "annotator": annotator or self.annotator, "created": self.created}
        try:
            if abs(end_seconds - start_seconds) < _EVENT_SECONDS / 2:
                event = EventMark.model_validate({**common, "time_seconds": start_seconds})
                self.events.setdefault(path, []).append(event)
            else:
                bounds = {"start_seconds": start_seconds, "end_seconds": end_seconds, "origin": "imported"}
                values = {**common, **bounds, "split": split, "group": group}
                self.segments.setdefault(path, []).append(SegmentMark.model_validate(values))
        except ValidationError as error:
            self.skip(name, describe_field(error.errors()[0]))
        if len(self.segments.get(path, ())) + len(self.events.get(path, ())) > MAX_MARKS:
            raise StudioError(413, f"the file has more than {MAX_MARKS:,} marks of one video")

    def skip(self, name: str, reason: str) -> None:
        """Note what was left out; where that is much, the last note says that there is more."""
        note = (name[:200], reason[:300])
        if len(self.skipped) > _MAX_SKIPPED or note in self.skipped[-20:]:
            return
        if len(self.skipped) == _MAX_SKIPPED:
            note = ("...", f"more was left out than these {_MAX_SKIPPED:,}")
        self.skipped.append(note)


def split_into_lanes(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows, each with its start and its end first, in as few lists as possible, so that none of a list overlap."""
    lanes: list[list[Row]] = []
    for row in sorted(rows):
        lane = next((lane for lane in lanes if lane[-1][1] <= row[0]), None)
        if lane is None:
            lanes.append([row])
        else:
            lane.append(row)
    return lanes


def parse_seconds(value: Any) -> float | None:
    """Seconds of a number or of a text such as 12.5, 1:02.5 or 00:01:02.500; None for what is no time."""
    if isinstance(value, bool):
        return None
    try:
        parts = [float(value)] if isinstance(value, int | float) else [float(part) for part in str(value).split(":")]
    except (ValueError, OverflowError):
        return None
    if len(parts) > 3 or not all(math.isfinite(part) and part >= 0 for part in parts):
        return None
    seconds = 0.0
    for part in parts:
        seconds = 60 * seconds + part
    return seconds


def as_list(value: Any) -> list[Any]:
    """A list of a file, empty where it holds something else."""
    return value if isinstance(value, list) else []


def as_dict(value: Any) -> dict[str, Any]:
    """An object of a file, empty where it holds something else."""
    return value if isinstance(value, dict) else {}
