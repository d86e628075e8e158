"""What happens when: windows along a video merged into segments (`muybridge predict --timeline`). Pure functions.

Enter: windows, a clip's place in time and its class probabilities each, in order. Leave: segments that never overlap, and
both as JSON, CSV or SRT text. The paper stops at one label a video; this is what such networks are used for next.

Windows overlap, segments do not: a window speaks for the time that is nearer to its centre than to its neighbours', the
first from where it starts, the last to where it ends.

    window 0   |----c----|
    window 1        |----c----|
    window 2             |----c----|
    speak for  |--0---|-1--|--2----|        a border lies midway between two centres
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from heapq import heapify, heappop, heappush
from itertools import groupby, pairwise
from typing import Any, Literal, get_args

TimelineMode = Literal["windows", "convolutional"]
TIMELINE_MODES: tuple[str, ...] = get_args(TimelineMode)


@dataclass(frozen=True)
class Window:
    """One clip along a video: where it lies, and the probability of each class."""

    start_seconds: float
    end_seconds: float
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.start_seconds <= self.end_seconds:
            raise ValueError(f"a window cannot end at {self.end_seconds} s, before its start at {self.start_seconds} s")

    @property
    def centre_seconds(self) -> float:
        """Midway between start and end."""
        return (self.start_seconds + self.end_seconds) / 2


@dataclass(frozen=True)
class Segment:
    """A stretch of video with one label; `mean_probability` is the label's, averaged over the windows in it."""

    label: str
    start_seconds: float
    end_seconds: float
    mean_probability: float


@dataclass(frozen=True)
class TimelineOptions:
    """How a timeline is made."""

    step_frames: int | None = None
    """Frames from one window to the next; by default a quarter of a clip's span."""
    minimum_probability: float = 0.0
    """Windows whose best class is less probable leave a gap."""
    minimum_seconds: float = 0.0
    """Shorter segments are given to their neighbours."""
    mode: TimelineMode = "windows"
    """How windows are scored: each by itself as a clip, or from one pass along the whole video."""

    def __post_init__(self) -> None:
        if self.step_frames is not None and self.step_frames < 1:
            raise ValueError(f"windows follow each other after at least 1 frame, not {self.step_frames}")
        if self.mode not in TIMELINE_MODES:
            raise ValueError(f"a timeline's mode is one of {', '.join(TIMELINE_MODES)}, not {self.mode!r}")
        if not 0 <= self.minimum_probability <= 1:
            raise ValueError(f"minimum_probability must lie between 0 and 1, not {self.minimum_probability}")
        if not self.minimum_seconds >= 0:
            raise ValueError(f"minimum_seconds must not be negative, not {self.minimum_seconds}")


@dataclass(frozen=True)
class _Run:
    """Windows `first` up to `last` without it, under one class; None where no class is probable enough."""

    label: int | None
    first: int
    last: int


def merge_windows(
    windows: Sequence[Window],
    classes: Sequence[str],
    *,
    minimum_probability: float = 0.0,
    minimum_seconds: float = 0.0,
) -> tuple[Segment, ...]:
    """Segments in order of time: neighbouring windows with the same most probable class are one.

    Windows whose best class stays below `minimum_probability` leave a gap. A segment shorter than `minimum_seconds` goes to
    the neighbouring segment whose class its windows find more probable, the shortest first; where it has no neighbour, it
    is left out. Without the two minima the segments tile the time from the first window's start to the last one's end.
    ValueError: windows are not in order, or do not have a probability for every class.
    """
    _check(windows, classes)
    if not windows:
        return ()
    borders = borders_seconds(windows)
    tops = [_top(window, minimum_probability) for window in windows]
    runs = _without_short(_runs(tops), windows, borders, minimum_seconds)
    return tuple(
        Segment(classes[run.label], borders[run.first], borders[run.last], _mean(windows, run, run.label))
        for run in runs
        if run.label is not None
    )


def _check(windows: Sequence[Window], classes: Sequence[str]) -> None:
    for window in windows:
        if len(window.probabilities) != len(classes):
            raise ValueError(
                f"the window at {window.start_seconds} s has {len(window.probabilities)} probabilities "
                f"for {len(classes)} classes"
            )
    for before, after in pairwise(windows):
        if not before.centre_seconds < after.centre_seconds:
            raise ValueError(
                f"windows must be in order of time, but one centred at {after.centre_seconds} s "
                f"follows one at {before.centre_seconds} s"
            )


def borders_seconds(windows: Sequence[Window]) -> list[float]:
    """Where each window begins to speak, and where the last one ends: one number more than windows."""
    centres = [window.centre_seconds for window in windows]
    between = [(left + right) / 2 for left, right in pairwise(centres)]
    return [windows[0].start_seconds, *between, windows[-1].end_seconds]


def _top(window: Window, minimum_probability: float) -> int | None:
    best = max(window.probabilities)
    return window.probabilities.index(best) if best >= minimum_probability else None  # of equals the first


def _runs(labels: Sequence[int | None]) -> list[_Run]:
    """Consecutive equal labels as one run each."""
    runs, first = [], 0
    for label, group in groupby(labels):
        last = first + len(list(group))
        runs.append(_Run(label, first, last))
        first = last
    return runs


def _without_short(
    runs: Sequence[_Run], windows: Sequence[Window], borders: Sequence[float], minimum_seconds: float
) -> list[_Run]:
    """The runs after every labelled one shorter than `minimum_seconds` was given away, the shortest at any moment first."""
    begins = {run.first: run for run in runs}
    ends = {run.last: run for run in runs}
    by_length = [(borders[run.last] - borders[run.first], run.first, run.last) for run in runs if run.label is not None]
    heapify(by_length)
    while by_length and by_length[0][0] < minimum_seconds:
        _, first, last = heappop(by_length)
        short = begins.get(first)
        if short is None or short.last != last:
            continue  # it became part of another since it was entered
        beside = [run for run in (ends.get(first), begins.get(last)) if run is not None]
        takers = [run.label for run in beside if run.label is not None]
        label = max(takers, key=lambda taker: _mean(windows, short, taker), default=None)
        parts = [short, *(run for run in beside if run.label is not None and run.label == label)]
        for part in parts:
            del begins[part.first], ends[part.last]
        joined = _Run(label, min(part.first for part in parts), max(part.last for part in parts))
        begins[joined.first] = ends[joined.last] = joined
        if label is not None:
            heappush(by_length, (borders[joined.last] - borders[joined.first], joined.first, joined.last))
    return [begins[first] for first in sorted(begins)]


def _mean(windows: Sequence[Window], run: _Run, label: int) -> float:
    return sum(window.probabilities[label] for window in windows[run.first : run.last]) / (run.last - run.first)


def to_json(windows: Sequence[Window], segments: Sequence[Segment], classes: Sequence[str]) -> dict[str, Any]:
    """Both as JSON values: {classes, windows: [...], segments: [...]} with the fields of the records."""
    return {
        "classes": list(classes),
        "windows": [{**asdict(window), "probabilities": list(window.probabilities)} for window in windows],
        "segments": [asdict(segment) for segment in segments],
    }


def to_csv(segments: Sequence[Segment]) -> str:
    """A row a segment: label, start_seconds, end_seconds, mean_probability."""
    header = ["label", "start_seconds", "end_seconds", "mean_probability"]
    return _csv(
        header, [[item.label, item.start_seconds, item.end_seconds, item.mean_probability] for item in segments]
    )


def windows_to_csv(windows: Sequence[Window], classes: Sequence[str]) -> str:
    """A row a window: start_seconds, end_seconds, and a column for every class."""
    return _csv(
        ["start_seconds", "end_seconds", *classes],
        [[item.start_seconds, item.end_seconds, *item.probabilities] for item in windows],
    )


def _csv(header: Sequence[str], rows: Sequence[Sequence[str | float]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{cell:.6f}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    return text.getvalue()


def to_srt(segments: Sequence[Segment]) -> str:
    """Subtitles for any player: a label and its mean probability shown while its segment lasts."""
    return "".join(
        f"{number}\n{srt_time(item.start_seconds)} --> {srt_time(item.end_seconds)}\n"
        f"{' '.join(item.label.split())} ({100 * item.mean_probability:.0f} %)\n\n"
        for number, item in enumerate(segments, start=1)
    )


def srt_time(seconds: float) -> str:
    """HH:MM:SS,mmm; 59.9996 is 00:01:00,000. Hours go on past 99."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d},{milliseconds % 1000:03d}"
