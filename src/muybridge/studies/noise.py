"""The noise floor of a study: what rounding alone does to its numbers, and how many seeds its differences need.

Small networks amplify the last bit of any of their numbers: a rerun of one seed that differs by rounding alone ends several
points away. A study reruns a few of its cells so, in the four ways of `RERUN_KINDS`, and no difference below the floor is
called one.

Input: finished rows. Output: a `NoiseFloor`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from muybridge.studies.plan import PlannedRun, Rerun, RerunKind, RunGroup
from muybridge.text import join_names

NUM_RERUNS = 5  # of seed 0, the planned run and four more: fewer measure no deviation
RESOLVED_POINTS = 3.0  # the difference that the number of seeds is quoted for
RERUN_KINDS: Mapping[RerunKind, str] = {
    "weights": "initial weights moved by a unit in the last place",
    "threads": "more threads",
    "convolution": "torch's convolutions in place of the faster forms",
    "batch": "batches convolved in parts",
}


METRIC_LABELS = {  # beside video@1
    "clip_top1": "clip@1",
    "training_clip_error": "the training error",
    "validation_clip_error": "the validation error",
}


@dataclass(frozen=True)
class NoiseFloor:
    """Standard deviations over reruns of one seed, in percent: the largest of the cells that were rerun, by metric."""

    deviations: Mapping[str, float]
    num_cells: int
    num_runs: int
    kinds: tuple[RerunKind, ...] = ()

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
        cells = "one network" if self.num_cells == 1 else f"the largest of {self.num_cells} networks"
        ways = f" ({join_names([RERUN_KINDS[kind] for kind in self.kinds])})" if self.kinds else ""
        others = [
            f"{value:.1f} of {label}" for name, label in METRIC_LABELS.items() if (value := self.get(name)) is not None
        ]
        return (
            f"Noise floor: {self.num_runs} runs of one seed that differ by rounding alone{ways} have a standard deviation of "
            f"{join_names([f'{video:.1f} points of video@1', *others])} ({cells}). A difference of means over n seeds whose "
            "interval begins below sqrt(2 / n) of that of its metric is undecided."
        )


def plan_reruns(group: RunGroup, num_reruns: int, kinds: Sequence[RerunKind]) -> tuple[PlannedRun, ...]:
    """Further runs of a cell's first seed that differ by rounding alone, of `kinds` in turn; `num_reruns` with the first."""
    first = group.members[0]
    if not isinstance(first, PlannedRun):
        return ()
    turns = (divmod(index, len(kinds)) for index in range(num_reruns - 1))
    return tuple(_plan_rerun(first, Rerun(kinds[kind], number + 1)) for number, kind in turns)


def list_reruns(group: RunGroup, num_reruns: int, kinds: Sequence[RerunKind]) -> tuple[PlannedRun, ...]:
    """The planned reruns of a cell, and those of every kind by itself, which count where they have run."""
    choices = (tuple(kinds), *((kind,) for kind in RERUN_KINDS))
    runs = (run for choice in choices for run in plan_reruns(group, num_reruns, choice))
    return tuple({run.name: run for run in runs}.values())


def _plan_rerun(run: PlannedRun, rerun: Rerun) -> PlannedRun:
    training = run.settings.training
    match rerun.kind:
        case "weights":
            training = replace(training, rounding_seed=rerun.number)
        case "convolution":  # there is one plain form: further reruns of it move the weights as well
            training = replace(training, channels_last=not training.channels_last, rounding_seed=rerun.number - 1)
        case "batch":
            training = replace(training, rounding_parts=rerun.number + 1)
        case "threads":
            pass  # no setting: the process of the run has more of them
    return replace(run, settings=replace(run.settings, training=training), rerun=rerun)


def measure_floor(
    reruns_by_network: Sequence[Sequence[Sequence[Mapping[str, Any]]]],
    metrics: Mapping[str, Callable[[Mapping[str, Any]], float]],
) -> NoiseFloor:
    """The floor from networks, their reruns and the rows of these, one for each fold; networks without all reruns are left out.

    `metrics` reads a number in percent from a row. The number of a rerun is the mean of its folds. Reruns that computed the
    same to the last video and loss, as with two and three threads on two cores, count once.
    """
    complete = [runs for runs in map(list_distinct, reruns_by_network) if len(runs) >= NUM_RERUNS]
    deviations = {
        name: max(float(np.std([np.mean([read(row) for row in rows]) for rows in runs], ddof=1)) for runs in complete)
        for name, read in (metrics.items() if complete else ())
    }
    # Runs without validation have no accuracy on it.
    deviations = {name: value for name, value in deviations.items() if math.isfinite(value)}
    kinds = {row["rerun"]["kind"] for runs in complete for rows in runs for row in rows if row.get("rerun")}
    known = tuple(kind for kind in RERUN_KINDS if kind in kinds)
    return NoiseFloor(deviations, len(complete), min(map(len, complete), default=0), known)


def list_distinct(runs: Sequence[Sequence[Mapping[str, Any]]]) -> list[Sequence[Mapping[str, Any]]]:
    """Reruns, each the rows of its folds, without repetitions. Rows without the results of single videos are kept."""
    distinct: list[Sequence[Mapping[str, Any]]] = []
    known_results: list[list[Any]] = []
    for rows in runs:
        results = [(row.get("numbers", {}).get("videos"), row.get("history")) for row in rows]
        if results not in known_results or any(videos is None for videos, _ in results):
            distinct.append(rows)
        known_results.append(results)
    return distinct
