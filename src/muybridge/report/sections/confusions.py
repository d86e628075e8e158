"""The section with the confusion matrix of a score file: the matrix, its densest parts, and the confused pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from muybridge.evaluation.metrics import compute_confusion_matrix
from muybridge.report.charts import MatrixChart
from muybridge.report.confusions import (
    compute_confusion_order,
    find_densest_windows,
    list_confused_pairs,
    normalize_rows,
)
from muybridge.report.document import Block, Paragraph
from muybridge.report.sources import EvaluationRecord
from muybridge.report.tables import Column, Table, make_columns
from muybridge.text import format_count

MAX_CLASSES_PER_MATRIX = 24  # of more classes, the densest windows are shown enlarged
WINDOW_CLASSES, NUM_WINDOWS = 16, 3
NUM_PAIRS = 20
COLORS = "Blue is correct, orange wrong; the opacity is the share of the label's videos."
EXPLANATION = (
    "Rows are labels, columns predictions; classes often confused with each other are neighbours. "
    f"{COLORS} Only readable videos with exactly one label count."
)


def build_confusion_blocks(evaluation: EvaluationRecord) -> list[Block]:
    """The matrix with confused classes as neighbours, the densest windows of a large one, and the table of pairs."""
    counts = compute_confusion_matrix(evaluation.video_scores)
    if not counts.sum():
        return [Paragraph("No readable video has exactly one label, so there is no confusion matrix.")]
    class_names, order = evaluation.video_scores.header.classes, compute_confusion_order(counts)
    title = format_count(len(class_names), "class")
    blocks: list[Block] = [
        Paragraph(EXPLANATION),
        _build_matrix_chart(counts, class_names, order, name="confusion", title=title),
    ]
    if len(class_names) > MAX_CLASSES_PER_MATRIX:
        windows = find_densest_windows(counts, order, size=WINDOW_CLASSES, max_windows=NUM_WINDOWS)
        for number, window in enumerate(windows, 1):
            title = f"part {number}: {WINDOW_CLASSES} neighbours that are often confused"
            name = f"confusion-part-{number}"
            blocks.append(_build_matrix_chart(counts, class_names, order[window], name=name, title=title))
    return [*blocks, _build_pairs_table(counts, class_names)]


def _build_matrix_chart(
    counts: NDArray[np.int64], class_names: tuple[str, ...], order: NDArray[np.int64], *, name: str, title: str
) -> MatrixChart:
    part = counts[np.ix_(order, order)]
    labels = tuple(class_names[index] for index in order.tolist())
    worst = "; ".join(
        f"{labels[pair.label]} for {labels[pair.predicted]} {pair.num_confused} of {format_count(pair.num_videos, 'video')}"
        for pair in list_confused_pairs(part)[:3]
    )
    num_correct, num_videos = int(np.trace(part)), int(counts[order].sum())
    return MatrixChart(
        name=name,
        title=f"Confusion matrix, {title}",
        labels=labels,
        counts=part,
        shares=normalize_rows(counts)[np.ix_(order, order)],
        alt=f"{num_correct} of {format_count(num_videos, 'video')} on the diagonal. Most confused: {worst or 'none'}.",
    )


def _build_pairs_table(counts: NDArray[np.int64], class_names: tuple[str, ...]) -> Block:
    pairs = list_confused_pairs(counts)
    if not pairs:
        return Paragraph("No video was misclassified.")
    rows = tuple(
        (
            class_names[pair.label],
            class_names[pair.predicted],
            pair.num_confused,
            pair.num_videos,
            100 * pair.num_confused / pair.num_videos,
        )
        for pair in pairs
    )
    columns = (*make_columns("label", "taken for", "videos", "of"), Column("share, %", 1))
    note = f"The first {NUM_PAIRS} of {len(pairs)} pairs." if len(pairs) > NUM_PAIRS else ""
    return Table("confusions", "Most confused pairs", columns, rows, note=note, num_shown=NUM_PAIRS)
