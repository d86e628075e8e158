"""Figure 4: accuracy against multiply-adds, the runs of Table 2 once more.

Claim (section 4.2): at about equal multiply-adds R(2+1)D gains 3 to 3.8 points over R3D, and no other network of the family
is both cheaper and better.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch

from muybridge.models.cost import cost
from muybridge.models.family import FAMILIES, PAPER_NAMES
from muybridge.settings import ClipSettings, TrainSettings
from muybridge.studies.intervals import Estimate, difference
from muybridge.studies.paper import FIGURE4_GAIN, TABLE2
from muybridge.studies.scales import from_scratch, num_classes, seeds, uniform
from muybridge.studies.study import (
    SCALE_NOTES,
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
from muybridge.studies.table2 import LENGTHS, by_seed, runs
from muybridge.training.network import initialize_network

KINDS = {
    "R2D, f-R2D": ("r2d", "f_r2d"),
    "R3D": ("r3d",),
    "MC2 to MC5": tuple(family for family in FAMILIES if family.startswith("mc")),
    "rMC2 to rMC5": tuple(family for family in FAMILIES if family.startswith("rmc")),
    "R(2+1)D": ("r2plus1d",),
}
CLAIM = (
    f"R(2+1)D gains over R3D ({FIGURE4_GAIN[0]:g} to {FIGURE4_GAIN[1]:g} points of video@1 in the paper) at about the same "
    "multiply-adds, and no network of the family is both cheaper and more accurate."
)


@cache
def gmacs(settings: TrainSettings, classes: int) -> float:
    """10^9 multiply-adds of convolutions and classifier for one clip."""
    with torch.device("meta"):  # shapes without numbers
        network = initialize_network(settings, classes)
    clip = (settings.preprocessing.input_channels, settings.clips.length, settings.clips.crop, settings.clips.crop)
    return cost(network, clip).multiply_adds / 1e9


def tell(setting: Setting, results: Results) -> Told:
    """Accuracy over cost: ours, and the paper's."""
    charts = tuple(one for length in LENGTHS for one in (chart(setting, results, length), printed_chart(length)))
    return Told(verdict(setting, results), tuple(table(setting, results, length) for length in LENGTHS), charts)


def measured(setting: Setting, results: Results, length: int) -> dict[str, tuple[float, Estimate | None]]:
    """family -> 10^9 multiply-adds, video@1."""
    found = {}
    for family in FAMILIES:
        run = from_scratch(setting, family, length)
        accuracy = results.estimate(seeds(setting, run), uniform(setting, length))
        found[family] = gmacs(run.settings, num_classes(setting)), accuracy
    return found


def chart(setting: Setting, results: Results, length: int) -> Chart:
    """Ours: a point a network, a series a kind of network."""
    return drawn(f"Figure 4, {length} frames, ours", measured(setting, results, length))


def printed_chart(length: int) -> Chart:
    """The paper's: multiply-adds counted by us, accuracies of its Table 2."""
    found: dict[str, tuple[float, Estimate | None]] = {}
    for row in TABLE2:
        accuracy = Estimate(float(getattr(row, f"video_top1_{length}f")), None, None, 1)
        found[row.family] = gmacs(kinetics_like(row.family, length), 400), accuracy
    return drawn(f"Figure 4, {length} frames, the paper's accuracies", found)


def drawn(title: str, found: Mapping[str, tuple[float, Estimate | None]]) -> Chart:
    """Accuracy over cost, with every point said in words."""
    kinds = {
        name: sorted((found[family] for family in families), key=lambda point: point[0])
        for name, families in KINDS.items()
    }
    series = tuple(points(name, members, "points") for name, members in kinds.items())
    said = [f"{PAPER_NAMES[family]} {at.mean:.1f} at {x:.3f}" for family, (x, at) in found.items() if at is not None]
    alt = f"Accuracy over cost: {'; '.join(said) or 'nothing has been run'}."
    return Chart(title, "10^9 multiply-adds a clip", "video@1 in percent", series, alt)


def kinetics_like(family: str, length: int) -> TrainSettings:
    """The network of the paper's table, without its recipe, which counting does not need."""
    return TrainSettings(data="", model=f"{family}_18", clips=ClipSettings(length=length))


def table(setting: Setting, results: Results, length: int) -> Table:
    """Cost and accuracy, ours beside the paper's."""
    printed = {row.family: row for row in TABLE2}
    rows: list[tuple[Cell, ...]] = [
        (
            PAPER_NAMES[family],
            round(cost_of, 4),
            cell(accuracy),
            round(gmacs(kinetics_like(family, length), 400), 3),
            float(getattr(printed[family], f"video_top1_{length}f")),
        )
        for family, (cost_of, accuracy) in measured(setting, results, length).items()
    ]
    columns = ("network", "10^9 multiply-adds, ours", "video@1, ours", "10^9 multiply-adds, paper", "video@1, paper")
    return Table(f"Figure 4, {length} frames", columns, tuple(rows), SCALE_NOTES[setting.scale])


def verdict(setting: Setting, results: Results) -> Verdict:
    """The gain over R3D, and whether anything cheaper is better than R(2+1)D."""
    findings = []
    for length in LENGTHS:
        found = measured(setting, results, length)
        ours = by_seed(setting, results, "r2plus1d", length)
        findings.append(
            compared(f"{length} frames: R(2+1)D above R3D", difference(ours, by_seed(setting, results, "r3d", length)))
        )
        cheaper = [
            (at.mean, family)
            for family, (cost_of, at) in found.items()
            if at is not None and cost_of < found["r2plus1d"][0]
        ]
        if cheaper:
            best = max(cheaper)[1]
            gain = difference(ours, by_seed(setting, results, best, length))
            findings.append(compared(f"{length} frames: R(2+1)D above the best cheaper one, {PAPER_NAMES[best]}", gain))
    return concluded(findings)


STUDY = Study("figure4", "Figure 4: accuracy against multiply-adds", CLAIM, runs, tell)
