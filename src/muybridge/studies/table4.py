"""Table 4: Sports-1M, 34 layers: R3D and R(2+1)D, RGB, optical flow and both, clips of 8 and of 32 frames.

Claim (section 5.1): R(2+1)D is more accurate than R3D; longer clips and a second stream each add to that; RGB beats flow on
sports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from muybridge.records import Modality
from muybridge.studies.intervals import difference
from muybridge.studies.paper import TABLE4
from muybridge.studies.plan import Fused, Run, Scoring
from muybridge.studies.recipe import recipe
from muybridge.studies.scales import from_scratch, seeds, stream, uniform
from muybridge.studies.streams import MODALITIES, best_stream, two_streams
from muybridge.studies.study import (
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

LENGTHS = {"paper": (8, 32), "laptop": (8, 16)}
CLIPS = {"paper": 100, "laptop": 25}
FIGURES: tuple[Figure, ...] = ("clip_top1", "video_top1", "video_top5")
WORDS: dict[Modality, str] = {"rgb": "RGB", "flow": "Flow"}
CLAIM = (
    "R(2+1)D is more accurate than R3D from the same recipe; longer clips are better than shorter ones; RGB is better than "
    "optical flow; the mean of both streams is better than either."
)


def test_of(setting: Setting, length: int) -> Scoring:
    """100 clips a video in the paper."""
    return uniform(setting, length, CLIPS[setting.scale])


def one(setting: Setting, family: str, length: int, modality: Modality) -> list[Run]:
    """One network, seed by seed."""
    test = test_of(setting, length)
    if setting.scale == "paper":
        run = Run(recipe(f"sports1m_{family}_34_{length}f"), setting.source, (test,))
    else:
        run = replace(from_scratch(setting, family, length), tests=(test,))
    return seeds(setting, stream(run, modality))


def runs(setting: Setting) -> list[Run]:
    """R3D once, R(2+1)D at two lengths in two streams."""
    short = LENGTHS[setting.scale][0]
    factorised = [
        run
        for length in LENGTHS[setting.scale]
        for modality in MODALITIES
        for run in one(setting, "r2plus1d", length, modality)
    ]
    return [*one(setting, "r3d", short, "rgb"), *factorised]


def fused(setting: Setting) -> list[Fused]:
    """The mean of both streams at both lengths."""
    return [mean for length in LENGTHS[setting.scale] for mean in both(setting, length)]


def both(setting: Setting, length: int) -> list[Fused]:
    """The mean of both streams at one length."""
    rgb, flow = (one(setting, "r2plus1d", length, modality) for modality in MODALITIES)
    return two_streams(rgb, flow, test_of(setting, length))


def tell(setting: Setting, results: Results) -> Told:
    """The paper's rows, ours beside those that are ours to run."""
    ours: dict[str, tuple[Sequence[Run | Fused], int]] = {}
    for length, printed_length in zip(LENGTHS[setting.scale], LENGTHS["paper"], strict=True):
        for modality in MODALITIES:
            ours[f"R(2+1)D-{WORDS[modality]}-{printed_length}frame"] = (
                one(setting, "r2plus1d", length, modality),
                length,
            )
        ours[f"R(2+1)D-Two-Stream-{printed_length}frame"] = (both(setting, length), length)
    short = LENGTHS[setting.scale][0]
    ours["R3D-RGB-8frame"] = (one(setting, "r3d", short, "rgb"), short)
    rows: list[tuple[Cell, ...]] = []
    for printed in TABLE4:
        theirs = (printed.clip_top1, printed.video_top1, printed.video_top5)
        if printed.method in ours:
            members, length = ours[printed.method]
            mine: list[Cell] = [cell(results.estimate(members, test_of(setting, length), figure)) for figure in FIGURES]
            said = length
        else:
            mine, said = [None] * 3, None
        rows.append((printed.method, said, *(value for pair in zip(mine, theirs, strict=True) for value in pair)))
    columns = (
        "method",
        "frames, ours",
        *(f"{name}, {whose}" for name in ("clip@1", "video@1", "video@5") for whose in ("ours", "paper")),
    )
    note = "ours: mean over seeds [95 % t-interval]; paper: as printed, Sports-1M; rows without ours are other authors'"
    if setting.scale == "laptop":
        note += "; laptop: small networks on generated motions, so only the order of rows compares"
    return Told(verdict(setting, results), (Table("Table 4", columns, tuple(rows), note),))


def verdict(setting: Setting, results: Results) -> Verdict:
    """The claim, part by part."""
    short, long = LENGTHS[setting.scale]
    of = {
        (length, modality): results.by_seed(one(setting, "r2plus1d", length, modality), test_of(setting, length))
        for length in (short, long)
        for modality in MODALITIES
    }
    full = results.by_seed(one(setting, "r3d", short, "rgb"), test_of(setting, short), "clip_top1")
    factorised = results.by_seed(one(setting, "r2plus1d", short, "rgb"), test_of(setting, short), "clip_top1")
    findings = [
        compared(f"clip@1 of R(2+1)D above R3D, {short} frames", difference(factorised, full)),
        compared(f"{long} frames above {short}, RGB", difference(of[long, "rgb"], of[short, "rgb"])),
    ]
    for length in (short, long):
        rgb, flow = (one(setting, "r2plus1d", length, modality) for modality in MODALITIES)
        mean = results.by_seed(both(setting, length), test_of(setting, length))
        better = best_stream(results, (rgb, flow), test_of(setting, length))
        findings += [
            compared(f"RGB above flow, {length} frames", difference(of[length, "rgb"], of[length, "flow"])),
            compared(f"both streams above the better one, {length} frames", difference(mean, better)),
        ]
    return concluded(findings)


STUDY = Study("table4", "Table 4: Sports-1M", CLAIM, runs, tell, fused)
