"""Verdicts: whether the finished rows of a study support its claim.

Input: `GridResults`. Output: a `Verdict` from several findings. A comparison is decided where the 95 % interval of the
difference, taken seed by seed and video by video, lies beyond what rounding alone does to it (`noise.py`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from muybridge.models.family import FAMILIES, PAPER_NAMES
from muybridge.studies.counting import count_million_parameters, count_multiply_adds, measure_layer_groups
from muybridge.studies.grids import (
    DEPTHS,
    FIGURE5_CLIPS,
    FIGURE5_LENGTHS,
    FOLDS,
    KINETICS,
    MODALITIES,
    SPORTS,
    TABLE2_LENGTHS,
    TABLE4_LENGTHS,
    TARGETS,
    count_classes,
)
from muybridge.studies.intervals import BySeed, Estimate
from muybridge.studies.paper import TABLE1, TABLE2, TABLE3
from muybridge.studies.stem_filters import RANDOM_CHANGE_SHARE, estimate_change_share
from muybridge.studies.study import ErrorOrMetric, GridResults, Scale, Verdict

Finding = tuple[str, bool | None]  # a sentence, and whether it holds; None for undecided
SINGLE_FRAME = ("r2d", "f_r2d")
MIXED = tuple(family for family in FAMILIES if family.startswith("mc"))
ERRORS: dict[ErrorOrMetric, str] = {"training_clip_error": "training", "validation_clip_error": "validation"}
FIFTH_OF_CLIPS: dict[Scale, int] = {"paper": 20, "laptop": 5}


def conclude(findings: Sequence[Finding]) -> Verdict:
    """False where one finding is False, True where all are True, else None. The text names each."""
    answers = {True: "yes", False: "no", None: "undecided"}
    text = " ".join(f"{sentence}: {answers[supported]}." for sentence, supported in findings)
    values = [supported for _, supported in findings]
    return Verdict(text, False if False in values else True if values and all(values) else None)


def compare(sentence: str, gap: Estimate | None) -> Finding:
    """Whether a difference is above zero by more than rounding alone makes it."""
    if gap is None:
        return f"{sentence} (not run)", None
    interval = "" if gap.low is None or gap.high is None else f", 95 % {gap.low:+.1f} to {gap.high:+.1f}"
    margin = "" if gap.margin is None or not gap.margin else f", rounding {gap.margin:.1f}"
    return f"{sentence} ({gap.mean:+.1f} points{interval}{margin})", gap.is_positive


def check_within(sentence: str, gap: Estimate | None, points: float) -> Finding:
    """Whether a difference is at most `points`: undecided where they are in the interval or as near as rounding reaches."""
    if gap is None:
        return f"{sentence} (not run)", None
    sentence = f"{sentence} (behind by {gap.format()})"
    if gap.low is None or gap.high is None or gap.margin is None:
        return sentence, None
    if gap.high <= points - gap.margin:
        return sentence, True
    return sentence, False if gap.low > points + gap.margin else None


def judge_table1(results: GridResults) -> Verdict:
    """Section 3, Table 1: every size and every number of parameters is the printed one."""
    wrong = [
        f"{printed.group} at {depth} layers"
        for depth in DEPTHS["paper"]
        for printed, group in zip(TABLE1, measure_layer_groups(depth), strict=True)
        if not group.matches(printed, printed.num_blocks(depth))
    ]
    counted = [(printed.family, count_million_parameters(printed), printed.parameters_millions) for printed in TABLE2]
    off = [
        f"{family} has {ours} million parameters, printed {paper}" for family, ours, paper in counted if ours != paper
    ]
    sizes = f"sizes differ in {', '.join(wrong)}" if wrong else "all groups, filters and sizes are the printed ones"
    counts = "; ".join(off) if off else "all parameters are the printed ones"
    return Verdict(f"{sizes.capitalize()}; {counts}.", not wrong and not off)


def judge_table2(results: GridResults) -> Verdict:
    """Sections 4.2 and 4.3: motion above single frames, MCx above R3D, R(2+1)D above all."""

    def average(families: Sequence[str], length: int) -> BySeed:
        return results.by_seed(*((family, length) for family in families))

    findings = []
    for length in TABLE2_LENGTHS:
        moving = average([family for family in FAMILIES if family not in SINGLE_FRAME], length)
        blind, flat, mixed = average(["f_r2d"], length), average(["r2d"], length), average(MIXED, length)
        full, factorised = average(["r3d"], length), average(["r2plus1d"], length)
        findings += [
            compare(f"{length} frames: networks that see motion above f-R2D", results.compare(moving, blind)),
            compare(f"{length} frames: networks that see motion above R2D", results.compare(moving, flat)),
            compare(f"{length} frames: MCx on average above R3D", results.compare(mixed, full)),
            compare(f"{length} frames: R(2+1)D above R3D", results.compare(factorised, full)),
            compare(f"{length} frames: R(2+1)D above MCx on average", results.compare(factorised, mixed)),
        ]
    return conclude(findings)


def judge_table3(results: GridResults) -> Verdict:
    """Section 4.3: the rows of the table against each other."""
    short, stretched, long, tuned = TABLE3
    return conclude(
        [
            compare("trained and tested short above tested long", results.difference(short, stretched)),
            compare("trained long above trained short", results.difference(long, short)),
            compare("fine-tuned long above only tested long", results.difference(tuned, stretched)),
            check_within("fine-tuned within 2 points of trained long", results.difference(long, tuned), 2.0),
        ]
    )


def judge_table4(results: GridResults) -> Verdict:
    """Section 5.1: R(2+1)D above R3D, long above short clips, RGB above flow, both streams above either."""
    lengths = TABLE4_LENGTHS[results.config.scale]
    rgb = {printed: f"R(2+1)D-RGB-{printed}frame" for printed in lengths}
    short, long = lengths
    factorised = results.difference(rgb[short], f"R3D-RGB-{short}frame", metric="clip_top1")
    findings = [
        compare(f"clip@1 of R(2+1)D above R3D, {lengths[short]} frames", factorised),
        compare(f"{lengths[long]} frames above {lengths[short]}, RGB", results.difference(rgb[long], rgb[short])),
    ]
    for printed, length in lengths.items():
        flow, fused = f"R(2+1)D-Flow-{printed}frame", f"R(2+1)D-Two-Stream-{printed}frame"
        gain = _fusion_gain(results, fused, (rgb[printed], flow))
        findings += [
            compare(f"RGB above flow, {length} frames", results.difference(rgb[printed], flow)),
            compare(f"both streams above the better one, {length} frames", gain),
        ]
    return conclude(findings)


def judge_table5(results: GridResults) -> Verdict:
    """Section 5.2: pre-training helps each stream, and the mean exceeds the better stream."""
    findings = []
    for stream in MODALITIES:
        gain = results.difference((f"R(2+1)D-{stream}", SPORTS), (f"R(2+1)D-{stream}", "none"))
        findings.append(compare(f"{stream}: pre-trained above from scratch", gain))
    for start, description in (("none", "from scratch"), (SPORTS, "pre-trained")):
        streams = [(f"R(2+1)D-{stream}", start) for stream in MODALITIES]
        gain = _fusion_gain(results, ("R(2+1)D-Two-Stream", start), streams)
        findings.append(compare(f"both streams above the better one, {description}", gain))
    return conclude(findings)


def judge_table6(results: GridResults) -> Verdict:
    """Section 5.3: Kinetics transfers better than Sports-1M, two streams better than either; means of three splits."""

    def average(method: str, start: str) -> BySeed:
        return results.by_seed(*((f"R(2+1)D-{method}", start, target, fold) for fold in FOLDS))

    other = "from scratch" if results.config.scale == "laptop" else f"after {SPORTS}"
    findings = []
    for target in TARGETS:
        streams = {stream: average(stream, KINETICS) for stream in MODALITIES}
        for stream, pretrained in streams.items():
            gain = results.compare(pretrained, average(stream, SPORTS))
            findings.append(compare(f"{target}, {stream}: pre-trained above {other}", gain))
        rgb, flow = streams.values()
        better = {seed: max(rgb[seed], flow[seed], key=np.mean) for seed in rgb.keys() & flow.keys()}
        gain = results.compare(average("TwoStream", KINETICS), better)
        findings.append(compare(f"{target}: both streams above the better one", gain))
    return conclude(findings)


def judge_figure3(results: GridResults) -> Verdict:
    """Section 3.5: R(2+1)D has the lower errors, in training too, and the more so in the deeper network."""
    findings, training_gaps = [], []
    for depth in DEPTHS[results.config.scale]:
        for name, label in ERRORS.items():
            full, factorised = (results.final_errors((family, depth), name) for family in ("r3d", "r2plus1d"))
            sentence = f"{depth} layers: {label} error of R3D above R(2+1)D"
            findings.append(compare(sentence, results.compare(full, factorised, name)))
            if name == "training_clip_error":
                training_gaps.append({seed: full[seed] - factorised[seed] for seed in full.keys() & factorised.keys()})
    shallow, deep = training_gaps
    gap = results.compare(deep, shallow, "training_clip_error")
    findings.append(compare("the training gap is larger in the deeper networks", gap))
    return conclude(findings)


def judge_figure4(results: GridResults) -> Verdict:
    """Section 4.2: R(2+1)D gains over R3D, and no cheaper network is better."""
    findings = []
    for length in TABLE2_LENGTHS:
        gain = results.difference(("r2plus1d", length), ("r3d", length))
        findings.append(compare(f"{length} frames: R(2+1)D above R3D", gain))
        costs = {family: _count_cost(results, (family, length)) for family in FAMILIES}
        cheaper = [family for family in FAMILIES if costs[family] < costs["r2plus1d"]]
        estimates = {family: results.estimate((family, length)) for family in cheaper}
        accuracies = [(estimate.mean, family) for family, estimate in estimates.items() if estimate is not None]
        if accuracies:
            best = max(accuracies)[1]
            gain = results.difference(("r2plus1d", length), (best, length))
            findings.append(compare(f"{length} frames: R(2+1)D above the best cheaper one, {PAPER_NAMES[best]}", gain))
    return conclude(findings)


def judge_figure5(results: GridResults) -> Verdict:
    """Section 4.3: clip@1 rises with length, video@1 peaks before the longest, a fifth of the clips is nearly enough."""
    lengths = FIGURE5_LENGTHS[results.config.scale]
    findings = []
    for shorter, longer in pairwise(lengths):
        gain = results.difference(("length", longer), ("length", shorter), metric="clip_top1")
        findings.append(compare(f"clip@1 with {longer} frames above {shorter}", gain))
    *others, longest = lengths
    estimates = {length: results.estimate(("length", length)) for length in others}
    means = {length: estimate.mean for length, estimate in estimates.items() if estimate is not None}
    if means:
        best = max(means, key=lambda length: means[length])
        gain = results.difference(("length", best), ("length", longest))
        findings.append(compare(f"video@1 with {best} frames above the longest, {longest}", gain))
    all_clips, fifth = FIGURE5_CLIPS[results.config.scale][-1], FIFTH_OF_CLIPS[results.config.scale]
    loss = results.difference(("clips", all_clips), ("clips", fifth))
    findings.append(check_within(f"{fifth} clips within a point of {all_clips}", loss, 1.0))
    return conclude(findings)


def judge_figure6(results: GridResults) -> Verdict:
    """Appendix: temporal filters of the stem change over time more than random ones."""
    share = estimate_change_share(results)
    # Rounding has no say in it: the share is read from the weights, and each seed has its own.
    gap = None if share is None else replace(share.shift(-100 * RANDOM_CHANGE_SHARE), margin=0.0)
    return conclude([compare("more change than at random", gap)])


def judge_decomposition(results: GridResults) -> Verdict:
    """Section 3.5: each of the two reasons by itself; the number of channels is reported besides and decides nothing."""
    full, printed, per_block, stem, linear = results.grid
    verdict = conclude(
        [
            compare("factorised without ReLU above R3D", results.difference(linear, full)),
            compare("ReLU between the halves above none", results.difference(printed, linear)),
        ]
    )
    besides = [compare(f"{name} above the paper's", results.difference(name, printed))[0] for name in (per_block, stem)]
    return Verdict(f"{verdict.text} Besides: {'; '.join(besides)}.", verdict.supported)


def _fusion_gain(results: GridResults, fused: Hashable, streams: Sequence[Hashable]) -> Estimate | None:
    return results.compare(results.by_seed(fused), results.best_by_seed(*streams))


def _count_cost(results: GridResults, key: Hashable) -> int:
    return count_multiply_adds(results.grid[key].settings, count_classes(results.config))
