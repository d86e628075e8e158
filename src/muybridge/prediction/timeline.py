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
    def center_seconds(self) -> float:
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
class _LabelRun:
    """Windows `first` up to `last` without it, under one class; None where no class is probable enough."""

    label: int | None
    start: int
    stop: int


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
    _check_windows(windows, classes)
    if not windows:
        return ()
    borders = compute_borders_seconds(windows)
    tops = [_find_top_class(window, minimum_probability) for window in windows]
    runs = _merge_short_runs(_group_runs(tops), windows, borders, minimum_seconds)
    return tuple(
        Segment(
            classes[run.label],
            borders[run.start],
            borders[run.stop],
            _compute_mean_probability(windows, run, run.label),
        )
        for run in runs
        if run.label is not None
    )


def _check_windows(windows: Sequence[Window], classes: Sequence[str]) -> None:
    for window in windows:
        if len(window.probabilities) != len(classes):
            raise ValueError(
                f"the window at {window.start_seconds} s has {len(window.probabilities)} probabilities "
                f"for {len(classes)} classes"
            )
    for before, after in pairwise(windows):
        if not before.center_seconds < after.center_seconds:
            raise ValueError(
                f"windows must be in order of time, but one centred at {after.center_seconds} s "
                f"follows one at {before.center_seconds} s"
            )


def compute_borders_seconds(windows: Sequence[Window]) -> list[float]:
    """Where each window begins to speak, and where the last one ends: one number more than windows."""
    centers = [window.center_seconds for window in windows]
    midpoints = [(left + right) / 2 for left, right in pairwise(centers)]
    return [windows[0].start_seconds, *midpoints, windows[-1].end_seconds]


def _find_top_class(window: Window, minimum_probability: float) -> int | None:
    best = max(window.probabilities)
    return window.probabilities.index(best) if best >= minimum_probability else None  # of equals the first


def _group_runs(labels: Sequence[int | None]) -> list[_LabelRun]:
    """Consecutive equal labels as one run each."""
    runs, start = [], 0
    for label, group in groupby(labels):
        stop = start + len(list(group))
        runs.append(_LabelRun(label, start, stop))
        start = stop
    return runs


def _merge_short_runs(
    runs: Sequence[_LabelRun], windows: Sequence[Window], borders: Sequence[float], minimum_seconds: float
) -> list[_LabelRun]:
    """The runs after every labelled one shorter than `minimum_seconds` was given away, the shortest at any moment first."""
    run_by_start = {run.start: run for run in runs}
    run_by_stop = {run.stop: run for run in runs}
    by_length = [(borders[run.stop] - borders[run.start], run.start, run.stop) for run in runs if run.label is not None]
    heapify(by_length)
    while by_length and by_length[0][0] < minimum_seconds:
        _, start, stop = heappop(by_length)
        short = run_by_start.get(start)
        if short is None or short.stop != stop:
            continue  # it became part of another since it was entered
        neighbors = [run for run in (run_by_stop.get(start), run_by_start.get(stop)) if run is not None]
        candidates = [run.label for run in neighbors if run.label is not None]
        label = max(candidates, key=lambda taker: _compute_mean_probability(windows, short, taker), default=None)
        parts = [short, *(run for run in neighbors if run.label is not None and run.label == label)]
        for part in parts:
            del run_by_start[part.start], run_by_stop[part.stop]
        merged = _LabelRun(label, min(part.start for part in parts), max(part.stop for part in parts))
        run_by_start[merged.start] = run_by_stop[merged.stop] = merged
        if label is not None:
            heappush(by_length, (borders[merged.stop] - borders[merged.start], merged.start, merged.stop))
    return [run_by_start[first] for first in sorted(run_by_start)]


def _compute_mean_probability(windows: Sequence[Window], run: _LabelRun, label: int) -> float:
    return sum(window.probabilities[label] for window in windows[run.start : run.stop]) / (run.stop - run.start)


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
    return _format_csv(
        header, [[item.label, item.start_seconds, item.end_seconds, item.mean_probability] for item in segments]
    )


def windows_to_csv(windows: Sequence[Window], classes: Sequence[str]) -> str:
    """A row a window: start_seconds, end_seconds, and a column for every class."""
    return _format_csv(
        ["start_seconds", "end_seconds", *classes],
        [[item.start_seconds, item.end_seconds, *item.probabilities] for item in windows],
    )


def _format_csv(header: Sequence[str], rows: Sequence[Sequence[str | float]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{cell:.6f}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    return text.getvalue()


def to_srt(segments: Sequence[Segment]) -> str:
    """Subtitles for any player: a label and its mean probability shown while its segment lasts."""
    return "".join(
        f"{number}\n{format_srt_time(item.start_seconds)} --> {format_srt_time(item.end_seconds)}\n"
        f"{' '.join(item.label.split())} ({100 * item.mean_probability:.0f} %)\n\n"
        for number, item in enumerate(segments, start=1)
    )


def format_srt_time(seconds: float) -> str:
    """HH:MM:SS,mmm; 59.9996 is 00:01:00,000. Hours go on past 99."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d},{milliseconds % 1000:03d}"
