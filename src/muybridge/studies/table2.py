"""Table 2: twelve networks of 18 layers from scratch, clips of 8 and of 16 frames.

Claim (section 4.2): 3-D networks beat 2-D ones, mixed ones beat R3D with fewer parameters, R(2+1)D beats them all.
"""

from __future__ import annotations

from muybridge.models.family import FAMILIES, PAPER_NAMES
from muybridge.studies.intervals import difference, mean_by_seed
from muybridge.studies.laptop import STUDY_CLIPS, STUDY_DEPTH, study_run
from muybridge.studies.paper import TABLE2
from muybridge.studies.plan import Run, Test, with_seeds
from muybridge.studies.recipe import recipe
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
PAPER_CLIPS = 10
FLAT, FULL, FACTORISED = ("r2d", "f_r2d"), "r3d", "r2plus1d"
MIXED = tuple(family for family in FAMILIES if family.startswith("mc"))
CLAIM = (
    "With the same recipe, networks that see motion (R3D, MCx, rMCx, R(2+1)D) are more accurate than those that see single "
    "frames (R2D, f-R2D); mixed convolutions MCx are at least as accurate as R3D with fewer parameters; R(2+1)D is the most "
    "accurate of all."
)


def run_of(setting: Setting, family: str, length: int) -> Run:
    """One network of the table, seed 0."""
    if setting.scale == "paper":
        settings = recipe(f"kinetics400_{family}_18_{length}f")
    else:
        settings = study_run(f"{family}_{STUDY_DEPTH}", length)
    return Run(settings, setting.source, (test_of(setting, length),))


def test_of(setting: Setting, length: int) -> Test:
    """The test of the table: uniform clips of the length trained with."""
    return Test(PAPER_CLIPS if setting.scale == "paper" else STUDY_CLIPS, length, setting.split)


def runs(setting: Setting) -> list[Run]:
    """Twelve networks at two lengths."""
    return [
        run
        for length in LENGTHS
        for family in FAMILIES
        for run in with_seeds(run_of(setting, family, length), setting.seeds)
    ]


def tell(setting: Setting, results: Results) -> Told:
    """Ours beside the paper's, and the claim."""
    return Told(
        verdict(setting, results), (table(setting, results, "clip_top1"), table(setting, results, "video_top1"))
    )


def by_seed(setting: Setting, results: Results, family: str, length: int) -> dict[int, float]:
    """video@1 of one network, seed by seed."""
    chain = with_seeds(run_of(setting, family, length), setting.seeds)
    return results.by_seed(chain, test_of(setting, length))


def verdict(setting: Setting, results: Results) -> Verdict:
    """The claim, part by part."""
    findings = []
    for length in LENGTHS:
        of = {family: by_seed(setting, results, family, length) for family in FAMILIES}
        flat = mean_by_seed([of[family] for family in FLAT])
        moving = mean_by_seed([of[family] for family in FAMILIES if family not in FLAT])
        mixed = mean_by_seed([of[family] for family in MIXED])
        findings += [
            compared(
                f"{length} frames, networks that see motion above those of single frames", difference(moving, flat)
            ),
            compared(f"{length} frames, the mean of MCx above R3D", difference(mixed, of[FULL])),
            compared(f"{length} frames, R(2+1)D above R3D", difference(of[FACTORISED], of[FULL])),
            compared(f"{length} frames, R(2+1)D above the mean of MCx", difference(of[FACTORISED], mixed)),
        ]
    return concluded(findings)


def table(setting: Setting, results: Results, figure: Figure) -> Table:
    """One accuracy: a row a network, ours beside the paper's at both lengths."""
    name = "clip@1" if figure == "clip_top1" else "video@1"
    rows: list[tuple[Cell, ...]] = []
    for printed in TABLE2:
        row: list[Cell] = [PAPER_NAMES[printed.family]]
        for length in LENGTHS:
            seeds = with_seeds(run_of(setting, printed.family, length), setting.seeds)
            row += [cell(results.estimate(seeds, test_of(setting, length), figure))]
            row += [float(getattr(printed, f"{figure}_{length}f"))]
        rows.append(tuple(row))
    columns = ("network", *(f"{whose}, {length} frames" for length in LENGTHS for whose in ("ours", "paper")))
    return Table(f"Table 2, {name} in percent", columns, tuple(rows), SCALE_NOTES[setting.scale])


STUDY = Study("table2", "Table 2: twelve networks, clips of 8 and 16 frames", CLAIM, runs, tell)
