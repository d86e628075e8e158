"""Figure 3: training and validation error by epoch, R3D against R(2+1)D, at two depths.

Claim (section 3.5): R(2+1)D has the lower validation error and the lower training error too, so it is easier to optimise
and not merely larger; the gap grows with depth.
"""

from __future__ import annotations

from collections.abc import Sequence

from muybridge.models.family import PAPER_NAMES
from muybridge.report.charts import Series
from muybridge.studies.intervals import difference, estimate
from muybridge.studies.plan import Run
from muybridge.studies.scales import from_scratch, seeds, uniform
from muybridge.studies.study import (
    Cell,
    Chart,
    Results,
    Setting,
    Study,
    Table,
    Told,
    Verdict,
    cell,
    compared,
    concluded,
    points,
)

FAMILIES = ("r3d", "r2plus1d")
LENGTH = 16
ERRORS = {"training_clip_error": "training", "validation_clip_error": "validation"}
CLAIM = (
    "R(2+1)D has a lower training error than R3D of the same depth, not only a lower validation error: it is easier to "
    "optimise. The difference is larger in the deeper network."
)


def members(setting: Setting, family: str, *, deeper: bool) -> list[Run]:
    """One curve, seed by seed; the shallower networks are Table 2's."""
    return seeds(setting, from_scratch(setting, family, LENGTH, deeper=deeper))


def runs(setting: Setting) -> list[Run]:
    """Two networks at two depths."""
    return [run for deeper in (False, True) for family in FAMILIES for run in members(setting, family, deeper=deeper)]


def errors(results: Results, chosen: Sequence[Run], setting: Setting, name: str) -> dict[int, dict[float, float]]:
    """seed -> epoch -> error in percent."""
    found = {run.settings.seed: results.row(run, uniform(setting, LENGTH)) for run in chosen}
    return {
        seed: {point["epoch"]: point[name] for point in row["history"]}
        for seed, row in found.items()
        if row is not None
    }


def last(curves: dict[int, dict[float, float]]) -> dict[int, float]:
    """The error of the last epoch, seed by seed."""
    return {seed: curve[max(curve)] for seed, curve in curves.items() if curve}


def tell(setting: Setting, results: Results) -> Told:
    """A figure a depth, the last epoch as a table."""
    charts = tuple(chart(setting, results, deeper=deeper) for deeper in (False, True))
    return Told(verdict(setting, results), (table(setting, results),), charts)


def layers(setting: Setting, *, deeper: bool) -> str:
    """`18 layers`, as the networks of the figure have."""
    return f"{from_scratch(setting, 'r3d', LENGTH, deeper=deeper).settings.model.rpartition('_')[2]} layers"


def chart(setting: Setting, results: Results, *, deeper: bool) -> Chart:
    """Four curves: training and validation of both networks."""
    depth = layers(setting, deeper=deeper)
    series: list[Series] = []
    for family in FAMILIES:
        chosen = members(setting, family, deeper=deeper)
        for name, spoken in ERRORS.items():
            curves = errors(results, chosen, setting, name)
            epochs = sorted({epoch for curve in curves.values() for epoch in curve})
            means = [
                (epoch, estimate([curve[epoch] for curve in curves.values() if epoch in curve])) for epoch in epochs
            ]
            series.append(points(f"{PAPER_NAMES[family]}, {spoken}", means, "line"))
    finals = "; ".join(f"{one.label} ends at {one.y[-1]:.1f}" for one in series if one.y) or "nothing has been run"
    alt = f"Clip error in percent by epoch at {depth}: {finals}."
    return Chart(f"Figure 3, {depth}", "epoch", "clip error in percent", tuple(series), alt)


def table(setting: Setting, results: Results) -> Table:
    """Errors of the last epoch."""
    rows: list[tuple[Cell, ...]] = []
    for deeper in (False, True):
        for family in FAMILIES:
            found = [
                estimate(list(last(errors(results, members(setting, family, deeper=deeper), setting, name)).values()))
                for name in ERRORS
            ]
            rows.append((f"{PAPER_NAMES[family]}, {layers(setting, deeper=deeper)}", *map(cell, found)))
    note = (
        "mean over seeds [95 % t-interval] of the last epoch; training: the clips learnt from, before each step; the paper "
        "prints curves and no numbers"
    )
    return Table("Figure 3, clip error in percent", ("network", "training", "validation"), tuple(rows), note)


def verdict(setting: Setting, results: Results) -> Verdict:
    """Training and validation gap at each depth, and whether the gap grows."""
    findings, gaps = [], []
    for deeper in (False, True):
        for name, spoken in ERRORS.items():
            full, factorised = (
                last(errors(results, members(setting, family, deeper=deeper), setting, name)) for family in FAMILIES
            )
            depth = layers(setting, deeper=deeper)
            findings.append(compared(f"{depth}: {spoken} error of R3D above R(2+1)D", difference(full, factorised)))
            if name == "training_clip_error":
                gaps.append({seed: full[seed] - factorised[seed] for seed in full.keys() & factorised.keys()})
    findings.append(compared("the training gap is larger in the deeper networks", difference(gaps[1], gaps[0])))
    return concluded(findings)


STUDY = Study("figure3", "Figure 3: training and validation error by epoch", CLAIM, runs, tell)
