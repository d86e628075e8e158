"""The parts of a page that tell accuracy: by score file, by class, by pair of classes.

Enter: what `sources` read. Leave: blocks of a page. Every number stands with its protocol, both denominators and its interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from muybridge.evaluation.metrics import Accuracy, Rate, compute_confusion_matrix, wilson_interval
from muybridge.report.charts import IntervalChart, MatrixChart
from muybridge.report.confusions import (
    compute_confusion_order,
    find_densest_windows,
    list_confused_pairs,
    normalize_rows,
)
from muybridge.report.document import Block, Paragraph
from muybridge.report.sources import EvaluationRecord
from muybridge.report.tables import Cell, Column, Table, make_columns
from muybridge.text import format_count, format_percent

INTERVALS_NOTE = (
    "Intervals are 95 % Wilson score intervals whose trials are videos, for clip@1 too: clips of one video are close to copies "
    "of each other."
)
MAX_CLASSES_PER_MATRIX = 24  # classes; above that, windows of neighbours are shown larger
WINDOW_CLASSES, NUM_WINDOWS = 16, 3
NUM_PAIRS = 20
MIN_VIDEOS_PER_CLASS = 20  # below as many videos a class, its interval is worth a word


def format_protocol(accuracy: Accuracy) -> str:
    """Split, videos and protocol of a number."""
    fold = "" if accuracy.fold is None else f", fold {accuracy.fold}"
    return (
        f"{accuracy.split}{fold}, {format_count(accuracy.num_videos, 'video')}: {accuracy.protocol.format_sentence()}"
    )


def format_top1(rate: Rate) -> str:
    """`video@1 52.8 % (95 % interval 45.0 to 60.4)`."""
    return f"video@1 {format_percent(rate.share)} (95 % interval {100 * rate.low:.1f} to {100 * rate.high:.1f})"


def build_accuracy_blocks(evaluations: Sequence[EvaluationRecord]) -> list[Block]:
    """All score files of a run: a chart, a table, and what has to be said of failures and missing labels."""
    blocks: list[Block] = [
        Paragraph(f"{_format_name_prefix(one)}{format_protocol(one.accuracy)}.") for one in evaluations
    ]
    blocks += [
        *_build_warnings(evaluations),
        _build_accuracy_chart(evaluations),
        build_accuracy_table("accuracy", evaluations),
    ]
    return blocks


def _format_name_prefix(evaluation: EvaluationRecord) -> str:
    """The file's name, where it says more than its split."""
    return "" if evaluation.name == evaluation.accuracy.split else f"{evaluation.name}: "


def build_accuracy_table(name: str, evaluations: Sequence[EvaluationRecord], names: Sequence[str] = ()) -> Table:
    """A row for each figure of each score file, over all videos and over the readable ones."""
    rows = []
    for label, one in zip(names or [one.name for one in evaluations], evaluations, strict=True):
        accuracy = one.accuracy
        for title, rates in (
            ("clip@1", accuracy.clip_top1),
            ("video@1", accuracy.video_top1),
            ("video@5", accuracy.video_top5),
        ):
            everything, readable = rates.of_all, rates.of_readable
            ends = (100 * everything.low, 100 * everything.high)
            shares = [100 * rate.share if rate.of else None for rate in (everything, readable)]
            rows.append((label, title, shares[0], *ends, everything.right, everything.of, shares[1], readable.of))
    columns = (
        *make_columns("scores", "figure"),
        *make_columns("of all, %", "low", "high", decimals=1),
        *make_columns("right", "all"),
        *make_columns("of readable, %", decimals=1),
        *make_columns("readable"),
    )
    return Table(name, "Accuracy", columns, tuple(rows), note=INTERVALS_NOTE)


def _build_accuracy_chart(evaluations: Sequence[EvaluationRecord]) -> IntervalChart:
    labels, rates = [], []
    for one in evaluations:
        prefix = f"{one.name} " if len(evaluations) > 1 else ""
        for title, of in (
            ("clip@1", one.accuracy.clip_top1),
            ("video@1", one.accuracy.video_top1),
            ("video@5", one.accuracy.video_top5),
        ):
            labels.append(f"{prefix}{title}")
            rates.append(of.of_all)
    return build_interval_chart("accuracy", "Accuracy over all videos", labels, rates)


def build_interval_chart(name: str, title: str, labels: Sequence[str], rates: Sequence[Rate]) -> IntervalChart:
    """Rates in percent with their intervals."""
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
    for one in evaluations:
        accuracy = one.accuracy
        if accuracy.num_failed_videos:
            warnings.append(
                Paragraph(
                    f"{one.name}: {accuracy.num_failed_videos} of "
                    f"{format_count(accuracy.num_videos, 'video')} could not be read; "
                    "they are wrong among all videos and absent among the readable ones.",
                    "warning",
                )
            )
        if accuracy.num_unlabelled_videos:
            warnings.append(
                Paragraph(
                    f"{one.name}: {format_count(accuracy.num_unlabelled_videos, 'video')} without a label are counted nowhere."
                )
            )
    return warnings


def build_class_blocks(evaluation: EvaluationRecord) -> list[Block]:
    """The table by class, the hardest first, and what each class is most often taken for."""
    counts = compute_confusion_matrix(evaluation.video_scores)
    wrong = counts - np.diag(np.diag(counts))
    names = evaluation.video_scores.header.classes
    any_failed = any(row.failed for row in evaluation.accuracy.per_class)
    rows: list[tuple[Cell, ...]] = []
    for number, row in enumerate(evaluation.accuracy.per_class):
        other = int(wrong[number].argmax())
        predicted = f"{names[other]} ({wrong[number, other]})" if wrong[number, other] else None
        low, high = wilson_interval(row.right / row.of if row.of else 0.0, row.of)
        share = 100 * row.right / row.of if row.of else None
        failed = (row.failed,) if any_failed else ()
        rows.append((row.name, row.of, row.right, *failed, share, 100 * low, 100 * high, predicted))
    shares = 4 if any_failed else 3
    rows.sort(key=lambda row: math.inf if row[shares] is None else float(row[shares] or 0))
    columns = (
        *make_columns("class", "videos", "right", *(("unreadable",) if any_failed else ())),
        *make_columns("video@1, %", "low", "high", decimals=1),
        *make_columns("most often taken for"),
    )
    num_few = sum(row.of < MIN_VIDEOS_PER_CLASS for row in evaluation.accuracy.per_class)
    note = "Intervals are 95 % Wilson score intervals."
    if num_few:
        note += (
            f" {num_few} of {format_count(len(rows), 'class')} have fewer than {MIN_VIDEOS_PER_CLASS} "
            f"videos, too few to say much."
        )
    return [Table("classes", "Every class, the hardest first", columns, tuple(rows), note=note)]


def build_confusion_blocks(evaluation: EvaluationRecord) -> list[Block]:
    """The matrix with confused classes as neighbours, the densest parts of a large one, and the pairs as a list."""
    counts = compute_confusion_matrix(evaluation.video_scores)
    if not counts.sum():
        return [Paragraph("No readable video has exactly one label, so there is no confusion matrix.")]
    names, order = evaluation.video_scores.header.classes, compute_confusion_order(counts)
    pairs = list_confused_pairs(counts)
    large = len(names) > MAX_CLASSES_PER_MATRIX
    explanation = (
        "A row is a label, a column what the network said first; classes that are confused stand side by side. Blue is "
        "right, orange wrong; the fuller, the larger the share of the label's videos. Only readable videos with exactly one "
        "label count."
    )
    blocks: list[Block] = [
        Paragraph(explanation),
        _build_matrix_chart(evaluation, order, "confusion", f"{format_count(len(names), 'class')}"),
    ]
    if large:
        for number, window in enumerate(
            find_densest_windows(counts, order, size=WINDOW_CLASSES, max_windows=NUM_WINDOWS), 1
        ):
            title = f"part {number}: {WINDOW_CLASSES} neighbours that are often confused"
            blocks.append(_build_matrix_chart(evaluation, order[window], f"confusion-part-{number}", title))
    if not pairs:
        return [*blocks, Paragraph("No class was taken for another.")]
    rows = tuple(
        (
            names[pair.label],
            names[pair.predicted],
            pair.num_confused,
            pair.num_videos,
            100 * pair.num_confused / pair.num_videos,
        )
        for pair in pairs
    )
    columns = (*make_columns("label", "taken for", "videos", "of"), Column("share, %", 1))
    note = f"The first {NUM_PAIRS} of {len(pairs)} pairs." if len(pairs) > NUM_PAIRS else ""
    return [*blocks, Table("confusions", "Most confused pairs", columns, rows, note=note, num_shown=NUM_PAIRS)]


def _build_matrix_chart(
    evaluation: EvaluationRecord, order: np.typing.NDArray[np.int64], name: str, title: str
) -> MatrixChart:
    counts, names = compute_confusion_matrix(evaluation.video_scores), evaluation.video_scores.header.classes
    part = counts[np.ix_(order, order)]
    worst = list_confused_pairs(part)[:3]
    summary = "; ".join(
        f"{names[order[pair.label]]} for {names[order[pair.predicted]]} {pair.num_confused} of {pair.num_videos} videos"
        for pair in worst
    )
    right, total = int(np.trace(part)), int(counts[order].sum())
    return MatrixChart(
        name=name,
        title=f"Confusion matrix, {title}",
        labels=tuple(names[number] for number in order.tolist()),
        counts=part,
        shares=normalize_rows(counts)[np.ix_(order, order)],
        alt=f"{right} of {format_count(total, 'video')} lie on the diagonal. Most often mistaken: {summary or 'nothing'}.",
    )
