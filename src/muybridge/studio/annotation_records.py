"""Records of annotations and classes, as the HTTP interface and the files beside the videos hold them.

Names of classes and people are restricted to what is safe everywhere they go: on one line, without `|`, which joins classes in
a list, and not beginning like a spreadsheet's formula.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from muybridge.datasets.video_files import normalize_unicode
from muybridge.text import escape_csv_cell, sanitize_text

Origin = Literal["manual", "accepted", "changed", "imported"]
AnnotationSplit = Literal["train", "validation", "test", "unused"]
_NUM_DECIMALS = 6  # of seconds
MAX_NAME_CHARACTERS = 100
MAX_MARKS = 100_000  # of a kind, of one video
DEFAULT_COLORS = (
    *("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee7733", "#009988"),
    *("#cc3311", "#33bbee", "#997700", "#bbbbbb"),
)


def check_name(name: str) -> str:
    """A name of a class or person in Unicode's form NFC. Raises ValueError where it is not fit for lists and pages."""
    name = normalize_unicode(name)
    if name != name.strip() or sanitize_text(name) != name or not name:
        raise ValueError(f"the name {sanitize_text(name)!r} has blanks at its ends or characters that cannot be shown")
    if "|" in name:
        raise ValueError(f"the name {name!r} has a |, which joins several classes; choose another")
    if escape_csv_cell(name) != name:
        raise ValueError(f"the name {name!r} begins like a spreadsheet's formula; choose another")
    return name


def _round_seconds(seconds: float) -> float:
    return round(seconds, _NUM_DECIMALS)


def current_time() -> datetime:
    """Now, in UTC, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARACTERS), AfterValidator(check_name)]
MarkSeconds = Annotated[float, Field(ge=0, le=1e9), AfterValidator(_round_seconds)]
Group = Annotated[str, Field(max_length=200), AfterValidator(check_name)]


class StudioRecord(BaseModel):
    """A record of the HTTP interface: immutable, without unknown fields or numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TimeRange(StudioRecord):
    """A part of a video, in seconds from its first frame."""

    start_seconds: MarkSeconds
    end_seconds: MarkSeconds

    @property
    def bounds(self) -> tuple[float, float]:
        """Start and end."""
        return self.start_seconds, self.end_seconds

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not self.start_seconds < self.end_seconds:
            raise ValueError(f"a range ends at {self.end_seconds} s, not after its start at {self.start_seconds} s")
        return self


class SegmentMark(TimeRange):
    """A class marked from a start to an end."""

    label: Name
    annotator: Name
    created: AwareDatetime | None = None
    origin: Origin = "manual"
    split: AnnotationSplit | None = None
    group: Group | None = None


class EventMark(StudioRecord):
    """A class marked at a point in time."""

    label: Name
    time_seconds: MarkSeconds
    annotator: Name
    created: AwareDatetime | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """The time, twice."""
        return self.time_seconds, self.time_seconds


class ReviewedRange(TimeRange):
    """A part that was watched completely: what no segment covers in it is background."""

    annotator: Name


class RejectedMark(TimeRange):
    """A suggestion that was wrong."""

    label: Name
    annotator: Name
    created: AwareDatetime | None = None


class VideoMarks(StudioRecord):
    """All marks of one video."""

    segments: tuple[SegmentMark, ...] = Field(default=(), max_length=MAX_MARKS)
    events: tuple[EventMark, ...] = Field(default=(), max_length=MAX_MARKS)
    reviewed: tuple[ReviewedRange, ...] = Field(default=(), max_length=MAX_MARKS)
    rejected: tuple[RejectedMark, ...] = Field(default=(), max_length=MAX_MARKS)


class Annotations(VideoMarks):
    """All marks of one video, with what names this state of them."""

    path: str = Field(min_length=1, max_length=4096)
    revision: str | None = Field(default=None, max_length=64)


class ClassStyle(StudioRecord):
    """A class as the page shows it."""

    name: Name
    color: str = Field(default=DEFAULT_COLORS[0], pattern=r"^#[0-9a-fA-F]{6}$")
    key: str | None = Field(default=None, min_length=1, max_length=1)
