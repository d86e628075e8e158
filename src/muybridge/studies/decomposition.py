"""Beyond the paper: what it is about R(2+1)D's decomposition that helps.

Claim (section 3.5): two things, the additional ReLU between the halves, and that two smaller filters are easier to optimise
than one. Without the ReLU only the second is left: R3D, R(2+1)D without it, and R(2+1)D tell the two apart. How many
channels lie between the halves (the paper's rule per convolution, torchvision's per block; 45 in the stem where the rule
gives 83) should not matter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from muybridge.settings import TrainSettings
from muybridge.studies.figure4 import gmacs
from muybridge.studies.intervals import difference
from muybridge.studies.plan import Run
from muybridge.studies.scales import from_scratch, num_classes, rule_stem, seeds, uniform
from muybridge.studies.study import Cell, Results, Setting, Study, Table, Told, Verdict, cell, compared, concluded

LENGTH = 16
FULL, AS_PRINTED, PER_BLOCK, STEM, LINEAR = (
    "R3D",
    "R(2+1)D as in the paper",
    "R(2+1)D, mid-channels per block",
    "R(2+1)D, the rule in the stem too",
    "R(2+1)D, no ReLU between the halves",
)
CLAIM = (
    "Both of the paper's reasons for R(2+1)D hold by themselves: factorised filters without a ReLU between the halves are more "
    "accurate than R3D, and the ReLU adds to that. The number of channels between the halves matters less."
)


def variants(setting: Setting) -> dict[str, list[Run]]:
    """Every variant by name, seed by seed; the first two are Table 2's."""
    full, printed = (from_scratch(setting, family, LENGTH) for family in ("r3d", "r2plus1d"))
    found = {
        FULL: full,
        AS_PRINTED: printed,
        PER_BLOCK: changed(printed, mid_channel_rule="per_block"),
        STEM: changed(printed, stem_mid_channels=rule_stem(printed.settings)),
        LINEAR: changed(printed, middle_relu=False),
    }
    return {name: seeds(setting, run) for name, run in found.items()}


def changed(run: Run, **network: Any) -> Run:
    """A run whose network differs in one setting."""
    return replace(run, settings=replace(run.settings, network=replace(run.settings.network, **network)))


def runs(setting: Setting) -> list[Run]:
    """Every variant."""
    return [run for members in variants(setting).values() for run in members]


def tell(setting: Setting, results: Results) -> Told:
    """A row a variant."""
    test, classes = uniform(setting, LENGTH), num_classes(setting)
    rows: list[tuple[Cell, ...]] = []
    for name, members in variants(setting).items():
        found = [results.row(run, test) for run in members]
        parameters = next((int(row["training"]["parameters"]) for row in found if row is not None), None)
        errors = [row["history"][-1]["training_clip_error"] for row in found if row is not None and row["history"]]
        rows.append(
            (
                name,
                parameters,
                round(gmacs(settings_of(members), classes), 4),
                cell(results.estimate(members, test, "clip_top1")),
                cell(results.estimate(members, test)),
                round(sum(errors) / len(errors), 1) if errors else None,
            )
        )
    columns = ("network", "parameters", "10^9 multiply-adds", "clip@1", "video@1", "training error, last epoch")
    stem = rule_stem(settings_of(variants(setting)[AS_PRINTED]))
    note = (
        f"mean over seeds [95 % t-interval]; {LENGTH} frames. The rule gives the stem {stem} channels between its halves "
        "at this width. The paper prints no such table."
    )
    return Told(verdict(setting, results), (Table("Decomposition", columns, tuple(rows), note),))


def settings_of(members: list[Run]) -> TrainSettings:
    """Those that all seeds share."""
    return members[0].settings


def verdict(setting: Setting, results: Results) -> Verdict:
    """Each reason by itself, and the channels."""
    test = uniform(setting, LENGTH)
    of = {name: results.by_seed(members, test) for name, members in variants(setting).items()}
    findings = [
        compared("factorised without ReLU above R3D", difference(of[LINEAR], of[FULL])),
        compared("ReLU between the halves above none", difference(of[AS_PRINTED], of[LINEAR])),
    ]
    verdict = concluded(findings)
    besides = [
        compared(f"{name} above the paper's", difference(of[name], of[AS_PRINTED]))[0] for name in (PER_BLOCK, STEM)
    ]
    return Verdict(f"{verdict.text} Besides: {'; '.join(besides)}.", verdict.supported)


STUDY = Study("decomposition", "Decomposition: which part of R(2+1)D helps", CLAIM, runs, tell)
