"""Charts as records, independent of the library that draws them.

Input: numbers and labels. Output: `LineChart`, `IntervalChart` and `MatrixChart`, which `drawing` renders. `alt` is the text
for readers who cannot see a chart. Importing this module does not import matplotlib, so studies can write `Series` cheaply.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from muybridge.text import format_count

MAX_POINTS = 300  # of a line; a page cannot show more, and a log can have a million steps


@dataclass(frozen=True)
class Series:
    """One line or set of points; `low` and `high` are the ends of the intervals of `y`, if any."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    style: Literal["line", "points"] = "line"

    def __post_init__(self) -> None:
        if not len(self.x) == len(self.y) == len(self.low or self.y) == len(self.high or self.y):
            raise ValueError(f"the series {self.label!r} has {len(self.x)} x for {len(self.y)} y values; give as many")


@dataclass(frozen=True)
class LineChart:
    """Series over a common x axis."""

    kind: ClassVar[str] = "chart"
    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    alt: str


@dataclass(frozen=True)
class IntervalChart:
    """One value with its interval per label, one below the other."""

    kind: ClassVar[str] = "chart"
    name: str
    title: str
    x_label: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    alt: str


@dataclass(frozen=True)
class MatrixChart:
    """A confusion matrix: `counts` (labels, predictions), and in `shares` each count as a fraction of its row."""

    kind: ClassVar[str] = "chart"
    name: str
    title: str
    labels: tuple[str, ...]
    counts: NDArray[np.int64]
    shares: NDArray[np.float64]
    alt: str


Chart: TypeAlias = LineChart | IntervalChart | MatrixChart


def downsample(x: Sequence[float], y: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Reduce a line to at most `MAX_POINTS` points by averaging neighbours."""
    if len(x) <= MAX_POINTS:
        return tuple(x), tuple(y)
    edges = np.linspace(0, len(x), MAX_POINTS + 1).astype(int)
    counts = np.diff(edges)
    means = [np.add.reduceat(np.asarray(values, np.float64), edges[:-1]) / counts for values in (x, y)]
    return tuple(means[0].tolist()), tuple(means[1].tolist())


def describe_series(series: Series, unit: str = "") -> str:
    """Describe a line by its first and last value."""
    if not series.y or not all(math.isfinite(value) for value in (series.y[0], series.y[-1])):
        return f"{series.label}: no values"
    if len(series.y) == 1:
        return f"{series.label}: {series.y[0]:.3g}{unit}"
    return (
        f"{series.label}: from {series.y[0]:.3g}{unit} to {series.y[-1]:.3g}{unit} over "
        f"{format_count(len(series.y), 'point')}"
    )
