"""The report that compares several runs.

Input: runs with scores of the same split, and readers of their clips. Output: a `Page` with accuracies side by side, a paired
test for each two runs, and what differs between the runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from muybridge.datasets.classes import normalize_class_name
from muybridge.evaluation.statistics import PairedTest, holm_adjust
from muybridge.report.comparison import ComparedRun, match_runs, run_paired_tests
from muybridge.report.document import Block, Page, Paragraph, Section
from muybridge.report.sections.accuracy import (
    build_accuracy_table,
    build_interval_chart,
    format_protocol,
)
from muybridge.report.sections.mistakes import ReportClips, build_clips_note, build_mistake_blocks
from muybridge.report.sections.paired_tests import build_paired_test_blocks, summarize_tests
from muybridge.report.sections.remarks import build_data_remarks, build_remarks
from muybridge.report.sections.training import build_failure_blocks, build_runs_chart, flatten_mapping, summarize_speed
from muybridge.report.sources import RunRecord
from muybridge.report.tables import Column, Table, make_columns
from muybridge.text import format_count

CURVES = (  # name; title and unit; kind and metric of the log
    ("loss", ("Training loss", "loss"), ("train", "loss")),
    ("curves", ("video@1 on validation", "percent"), ("validation", "video_top1")),
    ("speed", ("Clips a second", "clips a second"), ("train", "clips_per_second")),
)
MAX_TITLE_RUNS = 3


def build_comparison_page(runs: Sequence[RunRecord], clips: Sequence[ReportClips]) -> Page:
    """Build the page of runs in the given order, `clips` one for each. Groups of videos come from the first readable data."""
    find_group = next((run_clips.reader.find_group for run_clips in clips if run_clips.reader), None)
    compared_runs = match_runs(runs)
    tests = run_paired_tests(compared_runs, find_group)
    sections = [
        Section("accuracy", "Accuracy", tuple(_build_accuracy_blocks(compared_runs))),
        Section("paired", "Paired tests on the same videos", tuple(build_paired_test_blocks(compared_runs, tests))),
        Section("classes", "Classes", tuple(_build_class_blocks(compared_runs))),
    ]
    if len(compared_runs) == 2:
        title = "Confident mistakes that the other run does not make"
        sections.append(Section("mistakes", title, tuple(_build_mistake_blocks(compared_runs, clips))))
    if training_blocks := _build_training_blocks(compared_runs):
        sections.append(Section("training", "Training", tuple(training_blocks)))
    sections.append(Section("failures", "Failures", tuple(_build_failure_blocks(compared_runs))))
    settings, environments = ([run.settings for run in runs], [run.environment for run in runs])
    for name, title, values in (("settings", "Settings", settings), ("environment", "Environment", environments)):
        sections.append(Section(name, title, tuple(build_difference_blocks(name, runs, values))))
    title = " and ".join(run.name for run in runs) if len(runs) <= MAX_TITLE_RUNS else f"{len(runs)} runs"
    lead = (Paragraph(summarize_tests(tests)), *_build_remarks(compared_runs), *list_unfinished(runs))
    return Page(f"{title}, compared", lead, tuple(sections), _summarize(compared_runs, tests))


def _summarize(compared_runs: Sequence[ComparedRun], tests: Sequence[PairedTest]) -> dict[str, object]:
    adjusted = holm_adjust([test.p_value for test in tests])
    evaluations = {run.name: run.evaluation for run in compared_runs}
    return {
        "accuracy": {name: one.accuracy.to_json() for name, one in evaluations.items()},
        "remarks": {name: list(one.remarks) for name, one in evaluations.items()},
        "paired": [{**test.to_json(), "p_value_holm": value} for test, value in zip(tests, adjusted, strict=True)],
    }


def _build_remarks(compared_runs: Sequence[ComparedRun]) -> list[Paragraph]:
    remarks = [paragraph for run in compared_runs for paragraph in build_remarks(run.name, run.evaluation.remarks)]
    return [*remarks, *build_data_remarks({run.name: run.evaluation.data for run in compared_runs})]


def _build_accuracy_blocks(compared_runs: Sequence[ComparedRun]) -> list[Block]:
    names = [run.name for run in compared_runs]
    accuracies = [run.evaluation.accuracy for run in compared_runs]
    if len({accuracy.protocol for accuracy in accuracies}) == 1:
        protocols = Paragraph(f"All were measured on {format_protocol(accuracies[0])}.")
    else:
        listed = "; ".join(
            f"{name} on {format_protocol(accuracy)}" for name, accuracy in zip(names, accuracies, strict=True)
        )
        protocols = Paragraph(
            f"The protocols differ, so a difference may be due to the protocols and not the networks: {listed}.",
            "warning",
        )
    return [
        protocols,
        build_interval_chart(
            "video-1", "video@1 over all videos", names, [one.video_top1.of_all for one in accuracies]
        ),
        build_interval_chart("clip-1", "clip@1 over all videos", names, [one.clip_top1.of_all for one in accuracies]),
        build_accuracy_table("accuracy", [run.evaluation for run in compared_runs], names),
    ]


def _build_class_blocks(compared_runs: Sequence[ComparedRun]) -> list[Block]:
    """The table of video@1 by class and run, the largest difference between runs first."""
    rows_by_run = [
        {normalize_class_name(row.name): row for row in run.evaluation.accuracy.per_class} for run in compared_runs
    ]
    rows = []
    for row in compared_runs[0].evaluation.accuracy.per_class:
        same_class = [run_rows.get(normalize_class_name(row.name)) for run_rows in rows_by_run]
        percents = [100 * other.right / other.of if other and other.of else None for other in same_class]
        known = [percent for percent in percents if percent is not None]
        rows.append((row.name, row.of, *percents, max(known) - min(known) if known else None))
    rows.sort(key=lambda row: -(row[-1] if isinstance(row[-1], float) else -1.0))
    columns = (
        *make_columns("class", "videos"),
        *(Column(run.name, 1) for run in compared_runs),
        Column("largest difference", 1),
    )
    note = "video@1 in percent of all videos of the class. Among many classes, some differ much by chance."
    return [Table("classes", "All classes, the largest difference first", columns, tuple(rows), note=note)]


def _build_mistake_blocks(compared_runs: Sequence[ComparedRun], clips: Sequence[ReportClips]) -> list[Block]:
    """Of each of two runs the most confident mistakes that the other run does not make."""
    blocks = build_clips_note(*clips)
    for number, (run, other, run_clips) in enumerate(
        zip(compared_runs, reversed(compared_runs), clips, strict=True), 1
    ):
        mistakes = run.evaluation.mistakes
        only = [mistake for mistake in mistakes if other.is_correct.get(mistake.video)]
        blocks.append(
            Paragraph(
                f"{len(only)} of the {len(mistakes)} most confident mistakes of {run.name}: {other.name} is right."
            )
        )
        if only:
            title = f"Mistakes of {run.name} that {other.name} does not make"
            blocks += build_mistake_blocks(f"mistakes-{number}", title, only, run_clips)
    return blocks


def _build_training_blocks(compared_runs: Sequence[ComparedRun]) -> list[Block]:
    """Curves and speeds; nothing if no log has a curve."""
    named_runs = [(run.name, run.run) for run in compared_runs]
    charts: list[Block] = [
        chart
        for name, title_and_unit, kind_and_metric in CURVES
        if (chart := build_runs_chart(name, title_and_unit, named_runs, kind_and_metric=kind_and_metric))
    ]
    speeds = [summarize_speed(run.run) for run in compared_runs]
    names = list(dict.fromkeys(name for speed in speeds for name in speed))
    if not charts or not names:
        return charts
    rows = tuple(
        (run.name, *(speed.get(name) for name in names)) for run, speed in zip(compared_runs, speeds, strict=True)
    )
    return [*charts, Table("speeds", "Speed of training", make_columns("run", *names), rows)]


def _build_failure_blocks(compared_runs: Sequence[ComparedRun]) -> list[Block]:
    rows = tuple(
        (
            run.name,
            run.evaluation.accuracy.num_failed_videos,
            run.evaluation.accuracy.num_failed_views,
            len(run.run.failures),
        )
        for run in compared_runs
    )
    columns = make_columns(
        "run", "unreadable videos", "unreadable clips of the evaluation", "unreadable clips of the training"
    )
    views = list(dict.fromkeys(view for run in compared_runs for view in run.evaluation.failures))
    table = Table("failures", "What could not be read", columns, rows)
    return [table, *(build_failure_blocks(views, ()) if views else [])]


def list_unfinished(runs: Sequence[RunRecord]) -> list[Paragraph]:
    """A warning for each run that has not finished."""
    return [Paragraph(f"{run.name} has not finished: {run.unfinished}.", "warning") for run in runs if run.unfinished]


def build_difference_blocks(name: str, runs: Sequence[RunRecord], values: Sequence[Mapping[str, Any]]) -> list[Block]:
    """The values, one mapping for each run, that are not the same in all runs."""
    flat = [flatten_mapping(run_values) for run_values in values]
    if not any(flat):
        return [Paragraph("Not known: only score files were given.")]
    keys = list(dict.fromkeys(key for run_values in flat for key in run_values))
    all_rows = [(key, *(run_values.get(key) for run_values in flat)) for key in keys]
    rows = tuple(row for row in all_rows if len(set(row[1:])) > 1)
    if not rows:
        return [Paragraph(f"All are the same: {format_count(len(keys), 'value')}.")]
    columns = make_columns("name", *(run.name for run in runs))
    note = f"{format_count(len(keys) - len(rows), 'other value', 'is')} the same."
    return [Table(name, f"Differences in {name}", columns, rows, note=note)]
