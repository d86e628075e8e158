"""The noise floor of a study: what rounding alone does to its numbers, and how many seeds its differences need.

Small networks amplify the last bit of their first weights: a rerun of one seed that differs by rounding alone ends several
points away. A study reruns a few of its cells so (`training.rounding_seed`), and no difference below the floor is called one.

Input: finished rows. Output: a `NoiseFloor`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from muybridge.studies.plan import PlannedRun, RunGroup

NUM_RERUNS = 5  # of seed 0, the planned run and four more: fewer measure no deviation
RESOLVED_POINTS = 3.0  # the difference that the number of seeds is quoted for


@dataclass(frozen=True)
class NoiseFloor:
    """Standard deviations over reruns of one seed, in percent: the largest of the cells that were rerun, by metric."""

    deviations: Mapping[str, float]
    num_cells: int
    num_runs: int

    def get(self, metric: str) -> float | None:
        """The floor of a metric; None where it was not measured."""
        return self.deviations.get(metric)

    def format_sentence(self) -> str:
        """What the floor is and how it was measured."""
        video = self.get("video_top1")
        if video is None:
            return (
                f"Noise floor: not measured, so differences stay undecided; it takes {NUM_RERUNS} runs of one seed that differ "
                "by rounding alone (--reruns)."
            )
        cells = "network" if self.num_cells == 1 else f"{self.num_cells} networks"
        return (
            f"Noise floor: {self.num_runs} runs of one seed that differ by rounding alone have a standard deviation of "
            f"{video:.1f} points of video@1 (the largest of {cells}). A difference of means over n seeds whose interval begins "
            f"below {video:.1f} x sqrt(2 / n) is undecided."
        )


def plan_reruns(group: RunGroup, num_reruns: int) -> tuple[PlannedRun, ...]:
    """The further runs of a cell's first seed that differ by rounding alone, `num_reruns` with the first."""
    first = group.members[0]
    if not isinstance(first, PlannedRun):
        return ()
    return tuple(_with_rounding(first, number) for number in range(1, num_reruns))


def _with_rounding(run: PlannedRun, rounding_seed: int) -> PlannedRun:
    training = replace(run.settings.training, rounding_seed=rounding_seed)
    return replace(run, settings=replace(run.settings, training=training))


def measure_floor(
    reruns_by_cell: Sequence[Sequence[Mapping[str, Any]]], metrics: Mapping[str, Callable[[Mapping[str, Any]], float]]
) -> NoiseFloor:
    """The floor from the rows of the cells that were rerun; cells without all their rows are left out.

    `metrics` reads a number in percent from a row.
    """
    complete = [rows for rows in reruns_by_cell if len(rows) >= NUM_RERUNS]
    deviations = (
        {name: max(statistics.stdev(read(row) for row in rows) for rows in complete) for name, read in metrics.items()}
        if complete
        else {}
    )
    return NoiseFloor(deviations, len(complete), min((len(rows) for rows in complete), default=0))
