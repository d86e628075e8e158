"""Table 6: transfer to small data sets, UCF101 and HMDB51, mean of three splits.

Claim (section 5.3): networks pre-trained on Kinetics transfer better than those of Sports-1M; two streams beat either. At
laptop scale the small data sets are motions of few videos, drawn three times in place of three splits, and what is
pre-trained on is the study's own motions; a start from scratch stands in for the weaker pre-training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from muybridge.records import Modality
from muybridge.studies.intervals import Estimate, difference, estimate, mean_by_seed
from muybridge.studies.paper import TABLE6
from muybridge.studies.plan import Fused, Run, Scoring, Source, generated
from muybridge.studies.recipe import recipe
from muybridge.studies.scales import OTHER_MOTIONS, fine_tuned, from_scratch, needed, seeds, stream, uniform
from muybridge.studies.streams import MODALITIES, two_streams
from muybridge.studies.study import Cell, Results, Setting, Study, Table, Told, Verdict, cell, compared, concluded

FOLDS = (1, 2, 3)
LENGTHS = {"paper": 32, "laptop": 16}
TARGETS = ("ucf101", "hmdb51")
KINETICS, OTHER = "Kinetics", "Sports-1M"
STREAMS: dict[Modality, str] = {"rgb": "RGB", "flow": "Flow"}
# Ten classes that the study's own motions do not have; hmdb51 in place of ucf101: fewer and fainter.
MOTIONS = {
    "ucf101": replace(OTHER_MOTIONS, train_videos_per_class=12),
    "hmdb51": replace(OTHER_MOTIONS, train_videos_per_class=8, contrast=0.6),
}
CLAIM = (
    "What was learnt on Kinetics transfers: fine-tuned on UCF101 and HMDB51 it is more accurate than after Sports-1M; the mean "
    "of both streams is better than either."
)


@dataclass(frozen=True)
class Target:
    """A small data set in one of its three splits."""

    name: str
    fold: int
    source: Source


def targets(setting: Setting, name: str) -> list[Target]:
    """Three splits of a data set; of motions three draws."""
    given = needed(setting, name, generated(MOTIONS[name]))
    if given.motions is None:
        return [Target(name, fold, given) for fold in FOLDS]
    return [Target(name, fold, generated(replace(given.motions, seed=10 + fold))) for fold in FOLDS]


def test_of(setting: Setting) -> Scoring:
    """UCF101 and HMDB51 are tested on their test split at either scale."""
    return replace(uniform(setting, LENGTHS[setting.scale]), split="test")


def one(setting: Setting, target: Target, modality: Modality, start: str) -> list[Run]:
    """One stream fine-tuned on one split, seed by seed. `start` names the pre-training."""
    length, test = LENGTHS[setting.scale], (test_of(setting),)
    before = stream(pretraining(setting, start, modality), modality)
    fold = None if target.source.motions is not None else target.fold
    if setting.scale == "paper":
        tuned = fine_tuned(
            setting,
            before,
            length=length,
            source=target.source,
            paper=recipe(f"fine_tuning/{target.name}_r2plus1d_34_32f_{modality}"),
        )
    else:
        tuned = fine_tuned(setting, before, length=length, source=target.source, paper=None)
        if start == OTHER:  # from scratch: the same recipe without what was learnt before
            tuned = replace(tuned, start=None)
    return seeds(setting, replace(tuned, settings=replace(tuned.settings, fold=fold), tests=test))


def pretraining(setting: Setting, start: str, modality: Modality) -> Run:
    """The run that is fine-tuned, untested."""
    if setting.scale == "laptop":
        return replace(from_scratch(setting, "r2plus1d", LENGTHS["laptop"]), tests=())
    if start == KINETICS:
        return Run(recipe(f"kinetics400_r2plus1d_34_32f_{modality}"), setting.source, ())
    sports = needed(setting, "sports1m", setting.source)
    return Run(recipe("sports1m_r2plus1d_34_32f"), sports, ())


def runs(setting: Setting) -> list[Run]:
    """Two data sets, three splits, two streams, two starts."""
    return [
        run
        for name in TARGETS
        for target in targets(setting, name)
        for start in (KINETICS, OTHER)
        for modality in MODALITIES
        for run in one(setting, target, modality, start)
    ]


def both(setting: Setting, target: Target, start: str) -> list[Fused]:
    """The mean of both streams on one split."""
    rgb, flow = (one(setting, target, modality, start) for modality in MODALITIES)
    return two_streams(rgb, flow, test_of(setting))


def fused(setting: Setting) -> list[Fused]:
    """On every split."""
    return [
        mean
        for name in TARGETS
        for target in targets(setting, name)
        for start in (KINETICS, OTHER)
        for mean in both(setting, target, start)
    ]


def over_splits(setting: Setting, results: Results, name: str, start: str, method: str) -> dict[int, float]:
    """Mean video@1 over three splits, seed by seed; only seeds that have all three."""
    of_splits: list[Sequence[Run | Fused]] = []
    for target in targets(setting, name):
        if method == "TwoStream":
            of_splits.append(both(setting, target, start))
        else:
            of_splits.append(one(setting, target, "flow" if method == "Flow" else "rgb", start))
    return mean_by_seed([results.by_seed(members, test_of(setting)) for members in of_splits])


def tell(setting: Setting, results: Results) -> Told:
    """The paper's rows, ours beside."""
    rows: list[tuple[Cell, ...]] = []
    for printed in TABLE6:
        mine: list[Cell] = [None, None]
        if printed.method.startswith("R(2+1)D"):
            method, start = printed.method.removeprefix("R(2+1)D-"), printed.pretraining
            mine = [shown(over_splits(setting, results, name, start, method)) for name in TARGETS]
        rows.append((printed.method, printed.pretraining, mine[0], printed.ucf101, mine[1], printed.hmdb51))
    columns = ("method", "pre-training", "UCF101, ours", "UCF101, paper", "HMDB51, ours", "HMDB51, paper")
    note = (
        "video@1, mean of three splits; ours: mean over seeds [95 % t-interval]; rows without ours are other authors'"
    )
    if setting.scale == "laptop":
        note += (
            "; laptop: small sets of generated motions in place of both data sets; 'Kinetics' is pre-training on other "
            "motions, 'Sports-1M' a start from scratch"
        )
    return Told(verdict(setting, results), (Table("Table 6", columns, tuple(rows), note),))


def shown(values: dict[int, float]) -> Cell:
    """A cell of means over splits."""
    found: Estimate | None = estimate(list(values.values()))
    return cell(found)


def verdict(setting: Setting, results: Results) -> Verdict:
    """Starts against each other in each stream, and the mean against the better stream."""
    other = "from scratch" if setting.scale == "laptop" else f"after {OTHER}"
    findings = []
    for name in TARGETS:
        of = {
            (start, method): over_splits(setting, results, name, start, method)
            for start in (KINETICS, OTHER)
            for method in (*STREAMS.values(), "TwoStream")
        }
        for method in STREAMS.values():
            gain = difference(of[KINETICS, method], of[OTHER, method])
            findings.append(compared(f"{name}, {method}: pre-trained above {other}", gain))
        rgb, flow = of[KINETICS, "RGB"], of[KINETICS, "Flow"]
        better = {seed: max(rgb[seed], flow[seed]) for seed in rgb.keys() & flow.keys()}
        findings.append(
            compared(f"{name}: both streams above the better one", difference(of[KINETICS, "TwoStream"], better))
        )
    return concluded(findings)


STUDY = Study("table6", "Table 6: transfer to UCF101 and HMDB51", CLAIM, runs, tell, fused)
