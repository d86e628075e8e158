"""Merging windows along a video into segments (`muybridge predict --timeline`). Pure functions; not part of the paper.

Input: windows in order of time, each with its class probabilities. Output: segments that do not overlap, and both as JSON,
CSV or SRT text.

Windows overlap, segments do not: a window counts for the time that is nearer to its centre than to its neighbours' centres.
The first one counts from its start, the last one to its end.

    window 0   |----c----|
    window 1        |----c----|
    window 2             |----c----|
    counts for |--0---|-1--|--2----|        borders are midway between centres
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from heapq import heapify, heappop, heappush
from itertools import groupby, pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from muybridge.bounds import FrameStep, Seconds, Share, check_fields
from muybridge.models.heads import choose_levels, recover_boundaries
from muybridge.text import format_count, sanitize_text

TimelineMode = Literal["windows", "convolutional"]
INTERRUPTED = "(interrupted: not scored)"  # the label of the rest of a timeline that was ended early
_TOLERANCE_SECONDS = 1e-6  # more than rounding does to times, and less than any two frames are apart


@dataclass(frozen=True)
class Window:
    """One clip along a video: start, end, and the probability of each class."""

    start_seconds: float
    end_seconds: float
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.start_seconds <= self.end_seconds:
            raise ValueError(f"a window ends at {self.end_seconds} s, before its start at {self.start_seconds} s")

    def shift(self, seconds: float) -> Window:
        """The same window, so many seconds later."""
        return Window(self.start_seconds + seconds, self.end_seconds + seconds, self.probabilities)

    @property
    def center_seconds(self) -> float:
        """The middle of the window."""
        return (self.start_seconds + self.end_seconds) / 2


@dataclass(frozen=True)
class Segment:
    """A part of a video with one label; `mean_probability` is the mean of that label over the windows in it."""

    label: str
    start_seconds: float
    end_seconds: float
    mean_probability: float


@dataclass(frozen=True)
class TimelineOptions:
    """Options of a timeline."""

    step_frames: FrameStep | None = None
    """Frames from one window to the next; None: a quarter of a clip's span."""
    minimum_probability: Share = 0.0
    """Windows whose class is less probable leave a gap."""
    minimum_seconds: Seconds = 0.0
    """Shorter segments are merged into their neighbours."""
    smoothing_seconds: Seconds = 0.0
    """Average probabilities over the windows whose centres lie within this time around each."""
    mode: TimelineMode = "windows"
    """How windows are scored: each as a clip (windows), or in one pass along the video (convolutional)."""
    classes_overlap: bool = False
    """Each class by itself has segments, where it is at least `minimum_probability`; shorter ones are left out."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class _LabelRun:
    """Windows from `start` up to, not including, `stop` with one class; None where no class is probable enough."""

    label: int | None
    start: int
    stop: int


def smooth_windows(windows: Sequence[Window], smoothing_seconds: float) -> tuple[Window, ...]:
    """Windows in order of time, each with the mean probabilities of those centred within half of the time around its centre."""
    if not windows or smoothing_seconds <= 0:
        return tuple(windows)
    centers = np.array([window.center_seconds for window in windows])
    sums = np.cumsum([[0.0] * len(windows[0].probabilities), *(window.probabilities for window in windows)], axis=0)
    reach = smoothing_seconds / 2 + _TOLERANCE_SECONDS
    first = np.searchsorted(centers, centers - reach, side="left")
    stop = np.searchsorted(centers, centers + reach, side="right")
    means = (sums[stop] - sums[first]) / (stop - first)[:, None]
    return tuple(replace(window, probabilities=tuple(row)) for window, row in zip(windows, means.tolist(), strict=True))


def find_class_segments(
    windows: Sequence[Window], classes: Sequence[str], minimum_probability: float, minimum_seconds: float = 0.0
) -> tuple[Segment, ...]:
    """For each class by itself, segments of the windows in which it is at least so probable: classes may overlap in time.

    Those shorter than `minimum_seconds` are left out. In order of start, then of class. Raises ValueError as `merge_windows`.
    """
    _check_windows(windows, classes)
    if not windows:
        return ()
    borders = compute_borders_seconds(windows)
    segments = []
    for label in range(len(classes)):
        marks = [label if window.probabilities[label] >= minimum_probability else None for window in windows]
        runs = [run for run in _group_runs(marks) if run.label is not None]
        least = minimum_seconds - _TOLERANCE_SECONDS
        runs = [run for run in runs if _measure_seconds(run, borders) >= least]
        segments += [_make_segment(run, windows, borders, classes) for run in runs]
    return tuple(sorted(segments, key=lambda segment: segment.start_seconds))


def merge_windows(
    windows: Sequence[Window],
    classes: Sequence[str],
    *,
    minimum_probability: float = 0.0,
    minimum_seconds: float = 0.0,
    has_levels: bool = False,
) -> tuple[Segment, ...]:
    """Merge neighbouring windows with the same most probable class into segments, in order of time.

    With `has_levels`, classes are levels in order, and a window is of the median one, as a video is (`choose_levels`).
    Windows whose class is less probable than `minimum_probability` leave a gap. A segment shorter than `minimum_seconds` is
    merged into the neighbour whose class is more probable in its windows, shortest segments first; one without neighbours is
    dropped. Without the two minima, segments tile the time from the start of the first window to the end of the last.
    Raises ValueError where windows are out of order or lack a probability for every class.
    """
    _check_windows(windows, classes)
    if not windows:
        return ()
    borders = compute_borders_seconds(windows)
    labels = _choose_labels(windows, minimum_probability, has_levels=has_levels)
    runs = _merge_short_runs(_group_runs(labels), windows, borders, minimum_seconds)
    return tuple(_make_segment(run, windows, borders, classes) for run in runs if run.label is not None)


def _make_segment(
    run: _LabelRun, windows: Sequence[Window], borders: Sequence[float], classes: Sequence[str]
) -> Segment:
    assert run.label is not None
    mean = _compute_mean_probability(windows, run, run.label)
    return Segment(classes[run.label], borders[run.start], borders[run.stop], mean)


def _check_windows(windows: Sequence[Window], classes: Sequence[str]) -> None:
    for window in windows:
        if len(window.probabilities) != len(classes):
            raise ValueError(
                f"the window at {window.start_seconds} s has {len(window.probabilities)} probabilities "
                f"for {format_count(len(classes), 'class')}"
            )
    for before, after in pairwise(windows):
        if not before.center_seconds < after.center_seconds:
            raise ValueError(
                f"windows must be in order of time, but one centred at {after.center_seconds} s "
                f"follows one at {before.center_seconds} s"
            )


def compute_borders_seconds(windows: Sequence[Window]) -> list[float]:
    """Borders between the times that windows count for, including both ends: one more than windows."""
    centers = [window.center_seconds for window in windows]
    midpoints = [(left + right) / 2 for left, right in pairwise(centers)]
    return [windows[0].start_seconds, *midpoints, windows[-1].end_seconds]


def choose_classes(probabilities_nk: NDArray[np.float64], *, has_levels: bool) -> NDArray[np.int64]:
    """The class (N,) of each row of probabilities (N, K): the most probable one, or the median level (`choose_levels`)."""
    if has_levels:
        return choose_levels(recover_boundaries(probabilities_nk).round(9))  # rounding must not take 0.5 for more
    return np.asarray(probabilities_nk.argmax(axis=1), np.int64)  # the first among equals


def _choose_labels(windows: Sequence[Window], minimum_probability: float, *, has_levels: bool) -> list[int | None]:
    """The class of each window; None where it is not probable enough."""
    rows = np.array([window.probabilities for window in windows])
    labels = choose_classes(rows, has_levels=has_levels)
    return [
        label if row[label] >= minimum_probability else None for row, label in zip(rows, labels.tolist(), strict=True)
    ]


def _group_runs(labels: Sequence[int | None]) -> list[_LabelRun]:
    """Group consecutive equal labels."""
    runs, start = [], 0
    for label, group in groupby(labels):
        stop = start + len(list(group))
        runs.append(_LabelRun(label, start, stop))
        start = stop
    return runs


def _merge_short_runs(
    runs: Sequence[_LabelRun], windows: Sequence[Window], borders: Sequence[float], minimum_seconds: float
) -> list[_LabelRun]:
    """Merge labelled runs shorter than `minimum_seconds` into their neighbours, always the shortest remaining run first."""
    run_by_start = {run.start: run for run in runs}
    run_by_stop = {run.stop: run for run in runs}
    by_length = [(_measure_seconds(run, borders), run.start, run.stop) for run in runs if run.label is not None]
    heapify(by_length)
    while by_length and by_length[0][0] < minimum_seconds - _TOLERANCE_SECONDS:
        _, start, stop = heappop(by_length)
        short = run_by_start.get(start)
        if short is None or short.stop != stop:
            continue  # it was merged into another run after it was pushed
        neighbors = [run for run in (run_by_stop.get(start), run_by_start.get(stop)) if run is not None]
        candidates = [run.label for run in neighbors if run.label is not None]
        label = max(
            candidates, key=lambda candidate: _compute_mean_probability(windows, short, candidate), default=None
        )
        parts = [short, *(run for run in neighbors if run.label is not None and run.label == label)]
        for part in parts:
            del run_by_start[part.start], run_by_stop[part.stop]
        merged = _LabelRun(label, min(part.start for part in parts), max(part.stop for part in parts))
        run_by_start[merged.start] = run_by_stop[merged.stop] = merged
        if label is not None:
            heappush(by_length, (_measure_seconds(merged, borders), merged.start, merged.stop))
    return [run_by_start[start] for start in sorted(run_by_start)]


def _measure_seconds(run: _LabelRun, borders: Sequence[float]) -> float:
    """How long a run is, to the microsecond: of runs that are equally long, rounding must not choose the shortest."""
    return round(borders[run.stop] - borders[run.start], 6)


def _compute_mean_probability(windows: Sequence[Window], run: _LabelRun, label: int) -> float:
    return sum(window.probabilities[label] for window in windows[run.start : run.stop]) / (run.stop - run.start)


def timeline_to_json(windows: Sequence[Window], segments: Sequence[Segment], classes: Sequence[str]) -> dict[str, Any]:
    """JSON values {classes, windows: [...], segments: [...]} with the fields of the records."""
    return {
        "classes": list(classes),
        "windows": [{**asdict(window), "probabilities": list(window.probabilities)} for window in windows],
        "segments": [asdict(segment) for segment in segments],
    }


def to_csv(segments: Sequence[Segment]) -> str:
    """CSV with a row a segment: label, start_seconds, end_seconds, mean_probability."""
    header = ["label", "start_seconds", "end_seconds", "mean_probability"]
    return _format_csv(
        header,
        [[segment.label, segment.start_seconds, segment.end_seconds, segment.mean_probability] for segment in segments],
    )


def _format_csv(header: Sequence[str], rows: Sequence[Sequence[str | float]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{cell:.6f}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    return text.getvalue()


def to_srt(segments: Sequence[Segment]) -> str:
    """SRT subtitles: the label of each segment and its mean probability."""
    return "".join(
        f"{position}\n{format_srt_time(segment.start_seconds)} --> {format_srt_time(segment.end_seconds)}\n"
        f"{sanitize_text(' '.join(segment.label.split()))} ({100 * segment.mean_probability:.0f} %)\n\n"
        for position, segment in enumerate(segments, start=1)
    )


def format_srt_time(seconds: float) -> str:
    """HH:MM:SS,mmm, rounded to milliseconds; hours may exceed 99."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d},{milliseconds % 1000:03d}"
