"""Points of a figure, before anything draws them: what a study writes and a chart shows.

Enter and leave: numbers. It stands by itself so that a study does not load matplotlib.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Series:
    """One line or set of points; `low` and `high` are ends of intervals, where it has any."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    style: Literal["line", "points"] = "line"

    def __post_init__(self) -> None:
        if not len(self.x) == len(self.y) == len(self.low or self.y) == len(self.high or self.y):
            raise ValueError(f"the series {self.label!r} has {len(self.x)} places for {len(self.y)} values")
