"""Bouts: how often, how long and how soon each class occurs along a video, as behaviour scientists count them.

Input: segments of one video. Output: a `Bouts` for each class, also as rows of CSV. Pure functions; not part of the paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from muybridge.prediction.timeline import Segment
from muybridge.text import escape_csv_cell

BOUT_COLUMNS = ("label", "num_bouts", "total_seconds", "mean_seconds", "latency_seconds")


@dataclass(frozen=True)
class Bouts:
    """The segments of one class. `latency_seconds` is the start of the first, None where there is none."""

    label: str
    num_bouts: int
    total_seconds: float
    latency_seconds: float | None

    @property
    def mean_seconds(self) -> float | None:
        """The mean duration; None where there is no bout."""
        return self.total_seconds / self.num_bouts if self.num_bouts else None


def summarize_bouts(segments: Iterable[Segment], classes: Sequence[str]) -> list[Bouts]:
    """The bouts of each class, in the order of the classes."""
    segments_by_label: dict[str, list[Segment]] = {label: [] for label in classes}
    for segment in segments:
        segments_by_label[segment.label].append(segment)
    return [
        Bouts(
            label,
            len(own),
            sum(segment.end_seconds - segment.start_seconds for segment in own),
            min((segment.start_seconds for segment in own), default=None),
        )
        for label, own in segments_by_label.items()
    ]


def format_bouts(segments: Iterable[Segment], classes: Sequence[str]) -> list[list[str]]:
    """Rows of `BOUT_COLUMNS` for people, a row a class; empty cells where there is no bout."""
    return [
        [
            escape_csv_cell(bouts.label),
            str(bouts.num_bouts),
            *(
                "" if value is None else f"{value:.3f}"
                for value in (bouts.total_seconds, bouts.mean_seconds, bouts.latency_seconds)
            ),
        ]
        for bouts in summarize_bouts(segments, classes)
    ]
