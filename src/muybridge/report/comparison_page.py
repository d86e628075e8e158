"""Several runs side by side, with a paired test for each two of them on the videos that both scored.

Enter: runs with scores of the same split, and the groups of their videos where the data is at hand. Leaves: a `Page`. Runs
without a video in common, and runs that give a video different labels, are refused: their numbers do not compare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from muybridge.datasets.manifest import normalize_class_name
from muybridge.evaluation.metrics import compute_video_ranks
from muybridge.evaluation.statistics import PairedTest, holm_adjust, run_paired_test
from muybridge.report.document import Block, Page, Paragraph, Section
from muybridge.report.sections.accuracy import build_accuracy_table, build_interval_chart, format_protocol
from muybridge.report.sections.mistakes import ReportClips, build_clips_note, build_mistake_blocks
from muybridge.report.sections.training import build_failure_blocks, build_runs_chart, flatten_mapping, summarize_speed
from muybridge.report.sources import EvaluationRecord, RunRecord
from muybridge.report.tables import Column, Table, make_columns
from muybridge.text import format_count, format_p_value, format_percent

CURVES = (
    ("loss", ("Training loss", "loss"), ("train", "loss")),
    ("curves", ("video@1 on validation", "percent"), ("validation", "video_top1")),
    ("speed", ("Clips a second", "clips a second"), ("train", "clips_per_second")),
)
FindGroup = Callable[[str], str | None]


@dataclass(frozen=True)
class _ComparedRun:
    """A run's score file of the common split, and for each labelled video its labels by name and whether it was right."""

    name: str
    run: RunRecord
    evaluation: EvaluationRecord
    labels: dict[str, frozenset[str]]
    is_correct: dict[str, bool]


def build_comparison_page(runs: Sequence[RunRecord], clips: Sequence[ReportClips]) -> Page:
    """The runs in the order given, each with its clips; the first data at hand tells which videos belong together."""
    find_group = next((one.reader.find_group for one in clips if one.reader), None)
    compared_runs = [
        _make_compared_run(run, evaluated) for run, evaluated in zip(runs, _select_common_split(runs), strict=True)
    ]
    tests = [_test_pair(first, second, find_group) for first, second in combinations(compared_runs, 2)]
    sections = [
        Section("accuracy", "Accuracy", tuple(_build_accuracy_section_blocks(compared_runs))),
        Section("paired", "Paired tests on the same videos", tuple(_build_paired_blocks(compared_runs, tests))),
        Section("classes", "Classes", tuple(_build_class_blocks(compared_runs))),
    ]
    if len(compared_runs) == 2:
        sections.append(
            Section(
                "mistakes",
                "Sure mistakes that the other run does not make",
                tuple(_build_mistakes(compared_runs, clips)),
            )
        )
    named_runs = [(one.name, one.run) for one in compared_runs]
    curves = [build_runs_chart(name, titled, named_runs, kind_and_metric=figure) for name, titled, figure in CURVES]
    charts = tuple(curve for curve in curves if curve)
    if charts:
        sections.append(Section("training", "Training", (*charts, *_build_speed_blocks(compared_runs))))
    sections.append(Section("failures", "Failures", tuple(_build_failure_section_blocks(compared_runs))))
    sections += [
        Section(name, title, tuple(_build_difference_blocks(name, compared_runs, values)))
        for name, title, values in (
            ("settings", "Settings", [one.run.settings for one in compared_runs]),
            ("environment", "Environment", [one.run.environment for one in compared_runs]),
        )
    ]
    title = " and ".join(one.name for one in compared_runs) if len(compared_runs) < 4 else f"{len(compared_runs)} runs"
    summary: dict[str, object] = {
        "accuracy": {one.name: one.evaluation.accuracy.to_json() for one in compared_runs},
        "paired": [
            {**test.to_json(), "p_value_holm": value}
            for test, value in zip(tests, _adjust_p_values(tests), strict=True)
        ],
    }
    return Page(f"{title}, compared", tuple(_build_lead(tests)), tuple(sections), summary)


def _select_common_split(runs: Sequence[RunRecord]) -> list[EvaluationRecord]:
    """For each run its first score file of a split that all have, test before validation."""
    unscored = [run.name for run in runs if not run.evaluations]
    if unscored:
        raise ValueError(f"{unscored[0]} has no scores to compare; run `muybridge evaluate` on it")
    for one in runs[0].evaluations:
        split_and_fold = one.accuracy.split, one.accuracy.fold
        evaluations = [
            next(
                (other for other in run.evaluations if (other.accuracy.split, other.accuracy.fold) == split_and_fold),
                None,
            )
            for run in runs
        ]
        if None not in evaluations:
            return [other for other in evaluations if other is not None]
    available_splits = "; ".join(
        f"{run.name} of {', '.join(one.accuracy.split for one in run.evaluations)}" for run in runs
    )
    raise ValueError(f"the runs have no scores of the same split and fold: {available_splits}; evaluate them on one")


def _make_compared_run(run: RunRecord, evaluation: EvaluationRecord) -> _ComparedRun:
    scores = evaluation.video_scores
    classes = [normalize_class_name(name) for name in scores.header.classes]
    right = compute_video_ranks(scores) < 1  # a video that could not be read is not right
    labels = {
        video: frozenset(classes[label] for label in of_video)
        for video, of_video in zip(scores.videos, scores.labels, strict=True)
        if of_video
    }
    is_correct = dict(zip(scores.videos, right.tolist(), strict=True))
    return _ComparedRun(run.name, run, evaluation, labels, {video: is_correct[video] for video in labels})


def _test_pair(first: _ComparedRun, second: _ComparedRun, find_group: FindGroup | None) -> PairedTest:
    common = [video for video in first.labels if video in second.labels]
    differing = next((video for video in common if first.labels[video] != second.labels[video]), None)
    if differing is not None:
        raise ValueError(
            f"{differing} has other labels in {first.name} than in {second.name}; compare runs on the same data"
        )
    groups = [find_group(video) for video in common] if find_group else [None]
    known_groups = [group for group in groups if group is not None]
    return run_paired_test(
        (first.name, second.name),
        _gather_correct(first, common),
        _gather_correct(second, common),
        groups=known_groups if len(known_groups) == len(common) else None,
    )


def _gather_correct(compared_run: _ComparedRun, videos: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([compared_run.is_correct[video] for video in videos], np.bool_)


def _adjust_p_values(tests: Sequence[PairedTest]) -> list[float]:
    return holm_adjust([test.p_value for test in tests])


def _build_lead(tests: Sequence[PairedTest]) -> list[Paragraph]:
    if len(tests) > 1:
        return [Paragraph(f"{format_count(len(tests), 'pair')} of runs, each tested on the videos that both scored.")]
    return [Paragraph(_format_test(tests[0], tests[0].p_value, num_tests=1))]


def _format_test(test: PairedTest, p_value: float, *, num_tests: int) -> str:
    better, worse = (test.second, test.first) if test.difference >= 0 else (test.first, test.second)
    only = sorted((test.num_first_only, test.num_second_only), reverse=True)
    low, high = sorted((abs(test.low), abs(test.high))) if test.low * test.high > 0 else (test.low, test.high)
    if test.difference < 0 and test.low * test.high <= 0:
        low, high = -test.high, -test.low
    result = (
        f"{better} is right more often than {worse} by {100 * abs(test.difference):.1f} points "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f})"
        if test.difference
        else f"{better} and {worse} are right equally often (95 % interval {100 * low:.1f} to {100 * high:.1f} points)"
    )
    verdict = "" if p_value < 0.05 else " The test does not tell this from chance."
    of_many = "" if num_tests == 1 else f", raised for {num_tests} pairs"
    return (
        f"On {format_count(test.num_videos, 'video')} that both scored, {result}: {only[0]} that it alone gets right against "
        f"{only[1]}; McNemar's exact test p {_format_p_comparison(p_value)}{of_many}.{verdict}"
    )


def _format_p_comparison(p_value: float) -> str:
    shown = format_p_value(p_value)
    return shown if shown.startswith("<") else f"= {shown}"


def _build_accuracy_section_blocks(compared_runs: Sequence[_ComparedRun]) -> list[Block]:
    protocols = {one.evaluation.accuracy.protocol for one in compared_runs}
    if len(protocols) == 1:
        blocks: list[Block] = [
            Paragraph(f"All were measured on {format_protocol(compared_runs[0].evaluation.accuracy)}.")
        ]
    else:
        listed = "; ".join(f"{one.name} on {format_protocol(one.evaluation.accuracy)}" for one in compared_runs)
        blocks = [
            Paragraph(
                f"The protocols differ, so part of any difference may be theirs and not the networks': {listed}.",
                "warning",
            )
        ]
    for title, rates in (
        ("video@1", [one.evaluation.accuracy.video_top1.of_all for one in compared_runs]),
        ("clip@1", [one.evaluation.accuracy.clip_top1.of_all for one in compared_runs]),
    ):
        labels = [one.name for one in compared_runs]
        blocks.append(build_interval_chart(title.replace("@", "-"), f"{title} over all videos", labels, rates))
    names = [one.name for one in compared_runs]
    return [*blocks, build_accuracy_table("accuracy", [one.evaluation for one in compared_runs], names)]


def _build_paired_blocks(compared_runs: Sequence[_ComparedRun], tests: Sequence[PairedTest]) -> list[Block]:
    adjusted = _adjust_p_values(tests)
    rows = tuple(
        (
            test.second,
            test.first,
            100 * test.difference,
            100 * test.low,
            100 * test.high,
            test.num_videos,
            test.num_second_only,
            test.num_first_only,
            format_p_value(test.p_value),
            format_p_value(value),
        )
        for test, value in zip(tests, adjusted, strict=True)
    )
    columns = (
        *make_columns("run", "against"),
        *make_columns("video@1, points", "low", "high", decimals=1),
        *make_columns("common videos", "only it is right", "only the other", "p", "p, all pairs"),
    )
    sentences: list[Block] = [
        Paragraph(_format_test(test, value, num_tests=len(tests))) for test, value in zip(tests, adjusted, strict=True)
    ]
    table = Table("paired", "Paired differences", columns, rows, note=_describe_method(tests))
    return [
        *(sentences if len(tests) <= 6 else []),
        *_build_different_videos_warning(compared_runs),
        table,
        Paragraph(_describe_agreement(compared_runs)),
    ]


def _describe_method(tests: Sequence[PairedTest]) -> str:
    groups = sorted({test.num_groups for test in tests if test.num_groups is not None})
    resampled = (
        f"whole groups of videos that belong together ({', '.join(map(str, groups))}), 10,000 times; of fewer than about 20 "
        "groups they are too narrow. McNemar's test takes single videos as independent"
        if groups and all(test.num_groups is not None for test in tests)
        else "videos, 10,000 times; no groups of videos that belong together are known"
    )
    return (
        "Points are percent of the common videos; a video that could not be read is wrong. Intervals are 95 % bootstrap "
        f"intervals that resample {resampled}. p is of McNemar's exact test, two-sided; for all pairs it is raised by Holm's "
        "method, so that all of them hold together."
    )


def _build_different_videos_warning(compared_runs: Sequence[_ComparedRun]) -> list[Block]:
    everything = set().union(*(one.labels for one in compared_runs))
    common = set(compared_runs[0].labels).intersection(*(one.labels for one in compared_runs[1:]))
    if len(common) == len(everything):
        return []
    listed = ", ".join(f"{one.name} {len(one.labels)}" for one in compared_runs)
    return [
        Paragraph(
            f"The runs were scored on different videos ({listed}); {len(common)} are common to all, and each test is on those "
            "that its two runs share.",
            "warning",
        )
    ]


def _describe_agreement(compared_runs: Sequence[_ComparedRun]) -> str:
    common = [video for video in compared_runs[0].labels if all(video in one.labels for one in compared_runs)]
    if not common:
        return "No video is common to all of them."
    num_right = np.stack([_gather_correct(one, common) for one in compared_runs]).sum(axis=0)
    all_right, none_right = np.count_nonzero(num_right == len(compared_runs)), np.count_nonzero(num_right == 0)
    return (
        f"Of {format_count(len(common), 'video')} common to all, every run is right about {all_right} and "
        f"none about {none_right}; "
        f"at least one is right about {format_percent(1 - none_right / len(common))}."
    )


def _build_class_blocks(compared_runs: Sequence[_ComparedRun]) -> list[Block]:
    """video@1 of each class in each run; classes on which the runs differ most come first."""
    by_run = [
        {normalize_class_name(row.name): row for row in one.evaluation.accuracy.per_class} for one in compared_runs
    ]
    rows = []
    for row in compared_runs[0].evaluation.accuracy.per_class:
        found = [of_run.get(normalize_class_name(row.name)) for of_run in by_run]
        shares = [100 * other.right / other.of if other and other.of else None for other in found]
        known = [share for share in shares if share is not None]
        rows.append((row.name, row.of, *shares, max(known) - min(known) if known else None))
    rows.sort(key=lambda row: -(row[-1] if isinstance(row[-1], float) else -1.0))
    columns = (
        *make_columns("class", "videos"),
        *(Column(one.name, 1) for one in compared_runs),
        Column("largest difference", 1),
    )
    note = "video@1 in percent of all videos of the class. Among many classes some differ much by chance alone."
    return [Table("classes", "Every class, the largest difference first", columns, tuple(rows), note=note)]


def _build_mistakes(compared_runs: Sequence[_ComparedRun], clips: Sequence[ReportClips]) -> list[Block]:
    """Those of the most confident mistakes of each of two runs about which the other run is right."""
    blocks = build_clips_note(*clips)
    for one, other, of_one in zip(compared_runs, reversed(compared_runs), clips, strict=True):
        only = [mistake for mistake in one.evaluation.mistakes if other.is_correct.get(mistake.video)]
        said = (
            f"{len(only)} of the {len(one.evaluation.mistakes)} most confident mistakes of {one.name}: "
            f"{other.name} is right."
        )
        blocks.append(Paragraph(said))
        if only:
            title = f"Mistakes of {one.name} that {other.name} does not make"
            blocks += build_mistake_blocks(f"mistakes-{compared_runs.index(one) + 1}", title, only, of_one)
    return blocks


def _build_speed_blocks(compared_runs: Sequence[_ComparedRun]) -> list[Block]:
    speeds = [summarize_speed(one.run) for one in compared_runs]
    names = list(dict.fromkeys(name for facts in speeds for name in facts))
    if not names:
        return []
    rows = tuple(
        (one.name, *(facts.get(name) for name in names)) for one, facts in zip(compared_runs, speeds, strict=True)
    )
    return [Table("speeds", "Speed of training", make_columns("run", *names), rows)]


def _build_failure_section_blocks(compared_runs: Sequence[_ComparedRun]) -> list[Block]:
    rows = tuple(
        (
            one.name,
            one.evaluation.accuracy.num_failed_videos,
            one.evaluation.accuracy.num_failed_views,
            len(one.run.failures),
        )
        for one in compared_runs
    )
    columns = make_columns(
        "run", "unreadable videos", "unreadable clips of the evaluation", "unreadable clips of the training"
    )
    blocks: list[Block] = [Table("failures", "What could not be read", columns, rows)]
    views = list(dict.fromkeys(view for one in compared_runs for view in one.evaluation.failures))
    return [*blocks, *(build_failure_blocks(views, ()) if views else [])]


def _build_difference_blocks(name: str, compared_runs: Sequence[_ComparedRun], values: Sequence[object]) -> list[Block]:
    """What is not the same everywhere."""
    flat = [flatten_mapping(of_run) if isinstance(of_run, dict) else {} for of_run in values]
    if not any(flat):
        return [Paragraph("Not known: score files alone were given.")]
    keys = list(dict.fromkeys(key for of_run in flat for key in of_run))
    rows = tuple(
        (key, *(of_run.get(key) for of_run in flat)) for key in keys if len({of_run.get(key) for of_run in flat}) > 1
    )
    same = len(keys) - len(rows)
    if not rows:
        return [Paragraph(f"All {len(keys)} values are the same.")]
    columns = make_columns("name", *(one.name for one in compared_runs))
    return [
        Table(name, f"What differs in {name}", columns, rows, note=f"{format_count(same, 'other value')} are the same.")
    ]
