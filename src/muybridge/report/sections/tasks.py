"""The section on the metrics of the tasks multi_label, regression and ordinal, and its charts.

Input: a score file of format 2 and its metrics. Output: blocks of a page: metrics with intervals beside what a predictor that
looks at nothing gives; then average precision by class, predictions against targets and the agreement of Bland and Altman, or
the confusion of levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muybridge.evaluation.multi_label import MultiLabelMetrics
from muybridge.evaluation.ordinal import OrdinalMetrics
from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.evaluation.regression import RegressionMetrics
from muybridge.evaluation.resampling import MetricEstimate
from muybridge.report.charts import IntervalChart, LineChart, MatrixChart, Series
from muybridge.report.confusions import normalize_rows
from muybridge.report.document import Block, Paragraph
from muybridge.report.sections.accuracy import format_protocol
from muybridge.report.sections.confusions import COLORS
from muybridge.report.sections.remarks import build_remarks
from muybridge.report.sources import TaskEvaluationRecord
from muybridge.report.tables import Cell, Table, make_columns
from muybridge.text import format_count

NOTE = "Intervals are 95 % bootstrap intervals over videos."
MAX_CLASSES_IN_CHART = 40
MAX_POINTS = 2000  # of a scatter chart


@dataclass(frozen=True)
class Points:
    """Targets and predictions (V,) to draw, and what to call them."""

    name: str
    targets: NDArray[np.float64]
    predictions: NDArray[np.float64]


def build_task_blocks(evaluation: TaskEvaluationRecord, known: EvaluationProtocol | None) -> list[Block]:
    """The metrics of a score file; `known` is the protocol of the file at the head of the page, None for that file itself.

    The head has the remarks of its file too.
    """
    metrics = evaluation.metrics
    blocks: list[Block] = [Paragraph(f"{format_protocol(metrics, known=known)}.")] if known else []
    blocks += build_remarks(evaluation.name, evaluation.remarks) if known else []
    if metrics.num_failed_videos:
        failed = f"{metrics.num_failed_videos} of {format_count(metrics.num_videos, 'video')} could not be read"
        blocks.append(Paragraph(f"{evaluation.name}: {failed}; they are left out of every number.", "warning"))
    match metrics.metrics:
        case MultiLabelMetrics() as labels:
            return [*blocks, *_build_label_blocks(evaluation, labels)]
        case OrdinalMetrics() as levels:
            return [*blocks, *_build_level_blocks(evaluation, levels)]
        case targets:
            for index, target in enumerate(targets):
                blocks += _build_target_blocks(evaluation, target, index)
            return blocks


def _make_table(
    name: str, title: str, rows: list[tuple[str, MetricEstimate, float | None]], *, baseline: str, note: str = NOTE
) -> Table:
    """Metrics with their intervals, each beside that of a predictor which looks at nothing: `baseline` says which."""
    cells: list[tuple[Cell, ...]] = [
        (metric, one.value, *(None if math.isnan(end) else end for end in (one.low, one.high)), guess)
        for metric, one, guess in rows
    ]
    columns = (*make_columns("metric"), *make_columns("value", "low", "high", baseline, decimals=3))
    return Table(name, title, columns, tuple(cells), note=note)


def _build_label_blocks(evaluation: TaskEvaluationRecord, metrics: MultiLabelMetrics) -> list[Block]:
    name = evaluation.name
    summary = _make_table(
        f"{name}-metrics",
        "Metrics over all classes",
        [
            ("mAP", metrics.mean_average_precision, metrics.chance),
            ("micro F1", MetricEstimate(metrics.micro_f1), None),
            ("macro F1", MetricEstimate(metrics.macro_f1), None),
            ("every class right", MetricEstimate(metrics.exact_match), None),
        ],
        baseline="guessing",
    )
    ranked = sorted(metrics.per_class, key=lambda row: (row.num_positive == 0, row.average_precision.value))
    values: list[tuple[Cell, ...]] = [
        (
            row.name,
            row.num_positive,
            *(
                None if math.isnan(value) else value
                for value in (row.average_precision.value, row.threshold, row.precision, row.recall, row.f1)
            ),
        )
        for row in ranked
    ]
    columns = (
        *make_columns("class", "videos"),
        *make_columns("average precision", "threshold", "precision", "recall", "F1", decimals=3),
    )
    is_chosen = bool(evaluation.outputs.head.thresholds)
    origin = "which was chosen on the validation videos of the run" if is_chosen else "which was not chosen"
    note = f"Precision, recall and F1 are at the threshold, {origin}."
    blocks: list[Block] = [summary]
    shown = [row for row in ranked if row.num_positive and not math.isnan(row.average_precision.low)]
    title = "Average precision by class, the lowest first"
    if len(shown) > MAX_CLASSES_IN_CHART:
        title = f"Average precision of {MAX_CLASSES_IN_CHART} of {len(shown)} classes, the lowest first"
    if shown:
        estimates = [row.average_precision for row in shown[:MAX_CLASSES_IN_CHART]]
        blocks.append(
            IntervalChart(
                name=f"{name}-precision",
                title=title,
                x_label="average precision, with 95 % interval",
                labels=tuple(row.name for row in shown[:MAX_CLASSES_IN_CHART]),
                values=tuple(one.value for one in estimates),
                low=tuple(one.low for one in estimates),
                high=tuple(one.high for one in estimates),
                alt="; ".join(f"{row.name} {row.average_precision.value:.2f}" for row in shown[:5]),
            )
        )
    return [*blocks, Table(f"{name}-classes", "All classes, the lowest first", columns, tuple(values), note=note)]


def _build_level_blocks(evaluation: TaskEvaluationRecord, metrics: OrdinalMetrics) -> list[Block]:
    counts = np.array(metrics.confusion, np.int64)
    table = _make_table(
        f"{evaluation.name}-metrics",
        "Metrics of the levels",
        [
            ("exact", metrics.exact, metrics.majority),
            ("within one level", metrics.within_one, None),
            ("MAE in levels", metrics.mae, metrics.baseline_mae),
            ("quadratic weighted kappa", metrics.kappa, 0.0),
        ],
        baseline="always one level",
        note=f"{NOTE} Always one level: the most frequent one for exact, the median one for MAE.",
    )
    chart = MatrixChart(
        name=f"{evaluation.name}-levels",
        title="Levels and predicted levels",
        labels=evaluation.outputs.header.classes,
        counts=counts,
        shares=normalize_rows(counts),
        alt=f"{int(np.trace(counts))} of {format_count(int(counts.sum()), 'video')} on the diagonal.",
    )
    explanation = f"Rows are labels, columns predictions, both from the lowest level to the highest. {COLORS}"
    return [table, Paragraph(explanation), chart]


def _build_target_blocks(evaluation: TaskEvaluationRecord, target: RegressionMetrics, index: int) -> list[Block]:
    name = f"{evaluation.name}-{index + 1}"
    unit = f" ({target.unit})" if target.unit else ""
    table = _make_table(
        f"{name}-metrics",
        f"{target.name}{unit}: metrics over {format_count(target.num_videos, 'video')}",
        [("MAE", target.mae, target.baseline_mae), ("RMSE", target.rmse, None), ("R2", target.r2, 0.0)],
        baseline="always the mean",
    )
    outputs = evaluation.outputs
    used = outputs.readable_mask & ~np.isnan(outputs.targets[:, index])
    targets, predictions = outputs.targets[used, index], outputs.values[used, index]
    if len(targets) < 2:
        return [table]
    step = -(-len(targets) // MAX_POINTS)
    drawn = "videos" if step == 1 else f"one video in {step}"
    points = Points(drawn, targets[::step], predictions[::step])
    charts = _build_target_charts(name, f"{target.name}{unit}", target, points)
    low, high = target.limits_of_agreement
    sentence = (
        f"Predictions of {target.name}{unit} differ from the targets by {target.bias:.3g} in the mean; 95 % of the differences "
        f"are expected from {low:.3g} to {high:.3g} (limits of agreement)."
    )
    return [table, Paragraph(sentence), *charts]


def _build_target_charts(name: str, label: str, target: RegressionMetrics, points: Points) -> list[Block]:
    """Predictions against targets with the line of equality, and differences against means with their limits."""
    targets, predictions = points.targets, points.predictions
    ends = (float(min(targets.min(), predictions.min())), float(max(targets.max(), predictions.max())))
    scatter = LineChart(
        name=f"{name}-scatter",
        title=f"Prediction and target, {label}",
        x_label="target",
        y_label="prediction",
        series=(
            Series(points.name, tuple(targets.tolist()), tuple(predictions.tolist()), style="points"),
            Series("equal", ends, ends),
        ),
        alt=f"MAE {target.mae.value:.3g}, R2 {target.r2.value:.3g}",
    )
    means, differences = (targets + predictions) / 2, predictions - targets
    span = (float(means.min()), float(means.max()))
    lines = {
        "mean": target.bias,
        "lower limit": target.limits_of_agreement[0],
        "upper limit": target.limits_of_agreement[1],
    }
    agreement = LineChart(
        name=f"{name}-agreement",
        title=f"Agreement (Bland and Altman), {label}",
        x_label="mean of prediction and target",
        y_label="prediction - target",
        series=(
            Series(points.name, tuple(means.tolist()), tuple(differences.tolist()), style="points"),
            *(Series(f"{title} {value:.3g}", span, (value, value)) for title, value in lines.items()),
        ),
        alt=f"mean difference {target.bias:.3g}, 95 % limits {lines['lower limit']:.3g} to {lines['upper limit']:.3g}",
    )
    return [scatter, agreement]
