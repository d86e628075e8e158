"""Table 5: Kinetics, 34 layers: RGB, optical flow and both, from scratch and after Sports-1M.

Claim (section 5.2): pre-training on a large video set helps both streams, most of all RGB; two streams beat either.
The authors scored this table by dense prediction; here it is 10 uniform clips as everywhere.
"""

from __future__ import annotations

from muybridge.records import Modality
from muybridge.studies.intervals import difference
from muybridge.studies.paper import TABLE5
from muybridge.studies.plan import Fused, Run, Source
from muybridge.studies.recipe import recipe
from muybridge.studies.scales import fine_tuned, from_scratch, needed, other_motions, seeds, stream, uniform
from muybridge.studies.streams import MODALITIES, best_stream, two_streams
from muybridge.studies.study import Cell, Results, Setting, Study, Table, Told, Verdict, cell, compared, concluded

LENGTHS = {"paper": 32, "laptop": 16}
STARTS = {"none": False, "Sports-1M": True}
WORDS: dict[Modality, str] = {"rgb": "RGB", "flow": "Flow"}
CLAIM = (
    "Pre-training on another, larger set of videos raises the accuracy of both streams; the mean of both beats either."
)


def one(setting: Setting, modality: Modality, *, pretrained: bool) -> list[Run]:
    """One stream, seed by seed."""
    length = LENGTHS[setting.scale]
    if not pretrained:
        return seeds(setting, first(setting, setting.source, modality))
    source = needed(setting, "sports1m", other_motions())
    before = first(setting, source, modality, "sports1m_r2plus1d_34_32f")
    paper = None
    if setting.scale == "paper":
        paper = recipe(f"fine_tuning/kinetics400_r2plus1d_34_32f_{modality}")
    tuned = fine_tuned(setting, before, length=length, source=setting.source, paper=paper)
    return seeds(setting, tuned)


def first(setting: Setting, source: Source, modality: Modality, name: str | None = None) -> Run:
    """A network from scratch on a data set; its own test is asked for where it is the study's."""
    length = LENGTHS[setting.scale]
    tests = (uniform(setting, length),) if source == setting.source else ()
    if setting.scale == "paper":
        # Sports-1M has a recipe for RGB alone; its flow network takes the same one, as in Table 4.
        settings = recipe(name or f"kinetics400_r2plus1d_34_32f_{modality}")
    else:
        settings = from_scratch(setting, "r2plus1d", length).settings
    return stream(Run(settings, source, tests), modality)


def runs(setting: Setting) -> list[Run]:
    """Two streams, with and without pre-training."""
    return [
        run
        for pretrained in STARTS.values()
        for modality in MODALITIES
        for run in one(setting, modality, pretrained=pretrained)
    ]


def both(setting: Setting, *, pretrained: bool) -> list[Fused]:
    """The mean of both streams."""
    rgb, flow = (one(setting, modality, pretrained=pretrained) for modality in MODALITIES)
    return two_streams(rgb, flow, uniform(setting, LENGTHS[setting.scale]))


def fused(setting: Setting) -> list[Fused]:
    """With and without pre-training."""
    return [mean for pretrained in STARTS.values() for mean in both(setting, pretrained=pretrained)]


def tell(setting: Setting, results: Results) -> Told:
    """The paper's rows, ours beside."""
    test = uniform(setting, LENGTHS[setting.scale])
    rows: list[tuple[Cell, ...]] = []
    for printed in TABLE5:
        top1: Cell = None
        top5: Cell = None
        if printed.method.startswith("R(2+1)D") and printed.pretraining in STARTS:
            pretrained = STARTS[printed.pretraining]
            members: list[Run] | list[Fused]
            if printed.method.endswith("Two-Stream"):
                members = both(setting, pretrained=pretrained)
            else:
                modality: Modality = "flow" if printed.method.endswith("Flow") else "rgb"
                members = one(setting, modality, pretrained=pretrained)
            top1, top5 = (cell(results.estimate(members, test, figure)) for figure in ("video_top1", "video_top5"))
        rows.append((printed.method, printed.pretraining, top1, printed.video_top1, top5, printed.video_top5))
    columns = ("method", "pre-training", "video@1, ours", "video@1, paper", "video@5, ours", "video@5, paper")
    note = "ours: mean over seeds [95 % t-interval]; paper: as printed, scored by dense prediction; rows without ours are I3D's"
    if setting.scale == "laptop":
        note += "; laptop: generated motions, pre-training on other motions, so only the order of rows compares"
    return Told(verdict(setting, results), (Table("Table 5", columns, tuple(rows), note),))


def verdict(setting: Setting, results: Results) -> Verdict:
    """Pre-training for each stream, and the mean against the better stream."""
    test = uniform(setting, LENGTHS[setting.scale])
    findings = []
    for modality in MODALITIES:
        plain, before = (
            results.by_seed(one(setting, modality, pretrained=pretrained), test) for pretrained in (False, True)
        )
        findings.append(compared(f"{WORDS[modality]}: pre-trained above from scratch", difference(before, plain)))
    for pretrained, words in ((False, "from scratch"), (True, "pre-trained")):
        streams = [one(setting, modality, pretrained=pretrained) for modality in MODALITIES]
        mean = results.by_seed(both(setting, pretrained=pretrained), test)
        findings.append(
            compared(
                f"both streams above the better one, {words}", difference(mean, best_stream(results, streams, test))
            )
        )
    return concluded(findings)


STUDY = Study("table5", "Table 5: Kinetics, two streams, with and without pre-training", CLAIM, runs, tell, fused)
