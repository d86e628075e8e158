"""The sections on accuracy by score file and by class.

Input: evaluation records. Output: blocks of a page. Every number comes with its protocol, both denominators and
its interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from muybridge.evaluation.metrics import Accuracy, Rate, compute_confusion_matrix, wilson_interval
from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.evaluation.task_metrics import TaskMetrics
from muybridge.report.charts import IntervalChart
from muybridge.report.document import Block, Paragraph
from muybridge.report.sections.remarks import build_remarks
from muybridge.report.sources import EvaluationRecord, TaskEvaluationRecord
from muybridge.report.tables import Cell, Table, make_columns
from muybridge.text import format_count, format_percent

INTERVALS_NOTE = (
    "Intervals are 95 % Wilson score intervals whose trials are videos, for clip@1 too, because clips of one video are nearly "
    "copies of each other."
)
MIN_VIDEOS_PER_CLASS = 20  # a note warns of classes with fewer


def format_protocol(metrics: Accuracy | TaskMetrics, *, known: EvaluationProtocol | None = None) -> str:
    """Split, number of videos and protocol of a result; `known` is the protocol that the page has named before."""
    fold = "" if metrics.fold is None else f", fold {metrics.fold}"
    protocol = "the same protocol" if metrics.protocol == known else metrics.protocol.format_sentence()
    return f"{metrics.split}{fold}, {format_count(metrics.num_videos, 'video')}: {protocol}"


def format_data(evaluation: EvaluationRecord | TaskEvaluationRecord) -> str:
    """`/data/other.csv, split `, which stands before a split where the scored data is not that of the run; else nothing."""
    if not evaluation.is_of_other_data:
        return ""
    return f"{evaluation.data or 'other data than that of the run'}, split "


def format_top1(rate: Rate) -> str:
    """`video@1 52.8 % (95 % interval 45.0 to 60.4)`."""
    return f"video@1 {format_percent(rate.share)} (95 % interval {100 * rate.low:.1f} to {100 * rate.high:.1f})"


def build_accuracy_blocks(evaluations: Sequence[EvaluationRecord]) -> list[Block]:
    """All score files of a run: protocols and remarks of those after the first, warnings about failures, chart, table.

    Protocol and remarks of the first one stand at the head of the page.
    """
    first = evaluations[0].accuracy.protocol
    blocks: list[Block] = [
        Paragraph(f"{_format_name_prefix(one)}{format_protocol(one.accuracy, known=first)}.") for one in evaluations[1:]
    ]
    blocks += [
        *_build_warnings(evaluations),
        _build_accuracy_chart(evaluations),
        build_accuracy_table("accuracy", evaluations),
    ]
    return blocks


def _format_name_prefix(evaluation: EvaluationRecord) -> str:
    """The file's name, if it differs from the split."""
    return "" if evaluation.name == evaluation.accuracy.split else f"{evaluation.name}: "


def build_accuracy_table(name: str, evaluations: Sequence[EvaluationRecord], names: Sequence[str] = ()) -> Table:
    """One row for each metric of each score file, over all videos and over the readable ones."""
    rows, labels = [], names or [one.name for one in evaluations]
    for label, one in zip(labels, evaluations, strict=True):
        accuracy = one.accuracy
        for title, rates in accuracy.figures:
            of_all, readable = rates.of_all, rates.of_readable
            interval = (100 * of_all.low, 100 * of_all.high)
            shares = [100 * rate.share if rate.of else None for rate in (of_all, readable)]
            compared = _list_baselines(accuracy, title)
            rows.append(
                (label, title, shares[0], *interval, of_all.right, of_all.of, shares[1], readable.of, *compared)
            )
    columns = (
        *make_columns("scores", "figure"),
        *make_columns("of all, %", "low", "high", decimals=1),
        *make_columns("right", "all"),
        *make_columns("of readable, %", decimals=1),
        *make_columns("readable"),
        *make_columns("most frequent class, %", "guessing, %", decimals=1),
    )
    remarks = [f" {label}: {remark}." for label, one in zip(labels, evaluations, strict=True) for remark in one.remarks]
    return Table(name, "Accuracy", columns, tuple(rows), note=f"{INTERVALS_NOTE}{''.join(remarks)}")


def _list_baselines(accuracy: Accuracy, figure: str) -> tuple[Cell, Cell]:
    """A figure of always predicting the most frequent class, in percent, and of guessing; video@5 has the second alone."""
    baseline = accuracy.baseline
    if figure == "video@5":
        return None, 100 * baseline.chance_top5
    return 100 * baseline.majority.share, 100 * baseline.chance


def _build_accuracy_chart(evaluations: Sequence[EvaluationRecord]) -> IntervalChart:
    labels, rates = [], []
    for one in evaluations:
        prefix = f"{one.name} " if len(evaluations) > 1 else ""
        for title, metric in one.accuracy.figures:
            labels.append(f"{prefix}{title}")
            rates.append(metric.of_all)
    return build_interval_chart("accuracy", "Accuracy over all videos", labels, rates)


def build_interval_chart(name: str, title: str, labels: Sequence[str], rates: Sequence[Rate]) -> IntervalChart:
    """Chart rates in percent with their intervals."""
    return IntervalChart(
        name=name,
        title=title,
        x_label="percent, with 95 % interval",
        labels=tuple(labels),
        values=tuple(100 * rate.share if rate.of else 0.0 for rate in rates),
        low=tuple(100 * rate.low for rate in rates),
        high=tuple(100 * rate.high for rate in rates),
        alt="; ".join(
            f"{label} {format_percent(rate.share)}, {100 * rate.low:.1f} to {100 * rate.high:.1f}"
            for label, rate in zip(labels, rates, strict=True)
        ),
    )


def _build_warnings(evaluations: Sequence[EvaluationRecord]) -> list[Block]:
    warnings: list[Block] = []
    for number, one in enumerate(evaluations):
        accuracy = one.accuracy
        if accuracy.num_failed_videos:
            warnings.append(
                Paragraph(
                    f"{one.name}: {accuracy.num_failed_videos} of "
                    f"{format_count(accuracy.num_videos, 'video')} could not be read; "
                    "they count as wrong among all videos and are excluded from the readable ones.",
                    "warning",
                )
            )
        warnings += build_remarks(one.name, one.remarks) if number else []
        if accuracy.num_unlabelled_videos:
            warnings.append(
                Paragraph(
                    f"{one.name}: {format_count(accuracy.num_unlabelled_videos, 'video')} without a label excluded."
                )
            )
    return warnings


def build_class_blocks(evaluation: EvaluationRecord) -> list[Block]:
    """The table of video@1 by class, the lowest first, with the most frequent wrong prediction of each class."""
    counts = compute_confusion_matrix(evaluation.video_scores)
    wrong = counts - np.diag(np.diag(counts))
    names = evaluation.video_scores.header.classes
    any_failed = any(row.failed for row in evaluation.accuracy.per_class)
    rows: list[tuple[Cell, ...]] = []
    for index, row in enumerate(evaluation.accuracy.per_class):
        other = int(wrong[index].argmax())
        predicted = f"{names[other]} ({wrong[index, other]})" if wrong[index, other] else None
        low, high = wilson_interval(row.right / row.of if row.of else 0.0, row.of)
        share = 100 * row.right / row.of if row.of else None
        failed = (row.failed,) if any_failed else ()
        rows.append((row.name, row.of, row.right, *failed, share, 100 * low, 100 * high, predicted))
    share_index = 4 if any_failed else 3
    rows.sort(key=lambda row: math.inf if row[share_index] is None else float(row[share_index] or 0))
    columns = (
        *make_columns("class", "videos", "right", *(("unreadable",) if any_failed else ())),
        *make_columns("video@1, %", "low", "high", decimals=1),
        *make_columns("most often taken for"),
    )
    num_few = sum(row.of < MIN_VIDEOS_PER_CLASS for row in evaluation.accuracy.per_class)
    note = "Intervals are 95 % Wilson score intervals."
    if num_few:
        note += (
            f" {num_few} of {format_count(len(rows), 'class')} with fewer than {MIN_VIDEOS_PER_CLASS} "
            f"videos, too few for a reliable estimate."
        )
    return [Table("classes", "All classes, the lowest accuracy first", columns, tuple(rows), note=note)]
