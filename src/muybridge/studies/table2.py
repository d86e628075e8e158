"""Table 2: twelve networks from scratch, clips of 8 and of 16 frames.

Claim (sections 4.2 and 4.3): with one recipe, networks that see motion beat those that see single frames, mixed
convolutions are no worse than R3D with fewer parameters, and R(2+1)D beats them all.
"""

from __future__ import annotations

from muybridge.models.family import FAMILIES, PAPER_NAMES
from muybridge.studies.intervals import difference, mean_by_seed
from muybridge.studies.paper import TABLE2
from muybridge.studies.plan import Run
from muybridge.studies.scales import from_scratch, seeds, uniform
from muybridge.studies.study import (
    SCALE_NOTES,
    Cell,
    Figure,
    Results,
    Setting,
    Study,
    Table,
    Told,
    Verdict,
    cell,
    compared,
    concluded,
)

LENGTHS = (8, 16)
SINGLE_FRAMES = ("r2d", "f_r2d")
MIXED = tuple(family for family in FAMILIES if family.startswith("mc"))
CLAIM = (
    "With the same recipe, networks that see motion (R3D, MCx, rMCx, R(2+1)D) are more accurate than those of 2-D convolutions "
    "(R2D, f-R2D); mixed convolutions MCx are more accurate than R3D with fewer parameters; R(2+1)D is the most accurate."
)


def runs(setting: Setting) -> list[Run]:
    """Twelve networks at two lengths."""
    return [
        run
        for length in LENGTHS
        for family in FAMILIES
        for run in seeds(setting, from_scratch(setting, family, length))
    ]


def by_seed(setting: Setting, results: Results, family: str, length: int) -> dict[int, float]:
    """video@1 of one network, seed by seed."""
    return results.by_seed(seeds(setting, from_scratch(setting, family, length)), uniform(setting, length))


def tell(setting: Setting, results: Results) -> Told:
    """Ours beside the paper's, and the claim."""
    tables = tuple(table(setting, results, figure) for figure in ("video_top1", "clip_top1"))
    return Told(verdict(setting, results), tables)


def verdict(setting: Setting, results: Results) -> Verdict:
    """The claim, part by part."""
    findings = []
    for length in LENGTHS:
        of = {family: by_seed(setting, results, family, length) for family in FAMILIES}
        flat = mean_by_seed([of[family] for family in SINGLE_FRAMES])
        moving = mean_by_seed([of[family] for family in FAMILIES if family not in SINGLE_FRAMES])
        mixed = mean_by_seed([of[family] for family in MIXED])
        findings += [
            compared(f"{length} frames: networks that see motion above 2-D ones", difference(moving, flat)),
            compared(f"{length} frames: MCx on average above R3D", difference(mixed, of["r3d"])),
            compared(f"{length} frames: R(2+1)D above R3D", difference(of["r2plus1d"], of["r3d"])),
            compared(f"{length} frames: R(2+1)D above MCx on average", difference(of["r2plus1d"], mixed)),
        ]
    return concluded(findings)


def table(setting: Setting, results: Results, figure: Figure) -> Table:
    """One accuracy: a row a network, ours beside the paper's at both lengths."""
    name = "clip@1" if figure == "clip_top1" else "video@1"
    rows: list[tuple[Cell, ...]] = []
    for printed in TABLE2:
        row: list[Cell] = [PAPER_NAMES[printed.family]]
        for length in LENGTHS:
            members = seeds(setting, from_scratch(setting, printed.family, length))
            row.append(cell(results.estimate(members, uniform(setting, length), figure)))
            row.append(float(getattr(printed, f"{figure}_{length}f")))
        rows.append(tuple(row))
    columns = ("network", *(f"{whose}, {length} frames" for length in LENGTHS for whose in ("ours", "paper")))
    return Table(f"Table 2, {name} in percent", columns, tuple(rows), SCALE_NOTES[setting.scale])


STUDY = Study("table2", "Table 2: twelve networks, clips of 8 and 16 frames", CLAIM, runs, tell)
