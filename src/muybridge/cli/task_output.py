"""The metrics of the tasks multi_label, regression and ordinal as `muybridge evaluate` and `fuse` print them."""

from __future__ import annotations

import math

from muybridge.evaluation.multi_label import MultiLabelMetrics
from muybridge.evaluation.ordinal import OrdinalMetrics
from muybridge.evaluation.regression import RegressionMetrics
from muybridge.evaluation.resampling import MetricEstimate
from muybridge.evaluation.task_metrics import TaskMetrics
from muybridge.terminal import print_line
from muybridge.text import format_count, format_percent

NUM_SHOWN_CLASSES = 20


def print_task_metrics(metrics: TaskMetrics, sentence: str | None = None) -> None:
    """Protocol, metrics with their intervals and what they are worth beside guessing, and the videos left out.

    `sentence` replaces the protocol's.
    """
    print_line(f"{sentence or metrics.protocol.format_sentence()}; split {metrics.split}; task {metrics.task}")
    print_line()
    match metrics.metrics:
        case MultiLabelMetrics() as labels:
            _print_multi_label(labels)
        case OrdinalMetrics() as levels:
            _print_ordinal(levels)
        case targets:
            for target in targets:
                _print_regression(target)
    num_used = metrics.num_videos - metrics.num_failed_videos
    remarks = f"{format_count(num_used, 'readable video')} of {metrics.num_videos}"
    if metrics.num_failed_videos:
        remarks += f"; {metrics.num_failed_videos} unreadable, left out of every number above"
    if metrics.num_unlabelled_videos:
        remarks += f"; {metrics.num_unlabelled_videos} without a target"
    print_line()
    for verdict in metrics.verdicts:
        print_line(verdict)
    print_line(remarks)


def _print_header(first: str) -> None:
    print_line(f"{first:<14}{'':>10}   {'95 % interval':<20}")


def _print_row(name: str, one: MetricEstimate, remark: str = "", *, percent: bool = False) -> None:
    value = format_percent(one.value) if percent else f"{one.value:.3g}"
    factor, form = (100, ".1f") if percent else (1, ".3g")
    interval = "" if math.isnan(one.low) else f"{factor * one.low:{form}} to {factor * one.high:{form}}"
    print_line(f"{name:<14}{value:>10}   {interval:<19} {remark}".rstrip())


def _print_multi_label(metrics: MultiLabelMetrics) -> None:
    _print_header("")
    guessing = f"guessing: {format_percent(metrics.chance)}"
    _print_row("mAP", metrics.mean_average_precision, guessing, percent=True)
    for name, value in (
        ("micro F1", metrics.micro_f1),
        ("macro F1", metrics.macro_f1),
        ("all right", metrics.exact_match),
    ):
        _print_row(name, MetricEstimate(value), percent=True)
    print_line()
    width = max(len(row.name) for row in metrics.per_class[:NUM_SHOWN_CLASSES])
    print_line(f"{'class':<{width}}{'AP':>9}{'videos':>9}{'threshold':>11}{'precision':>11}{'recall':>9}{'F1':>9}")
    ranked = sorted(
        metrics.per_class, key=lambda row: (math.isnan(row.average_precision.value), row.average_precision.value)
    )
    for row in ranked[:NUM_SHOWN_CLASSES]:
        shares = [_format_share(value) for value in (row.precision, row.recall, row.f1)]
        print_line(
            f"{row.name:<{width}}{_format_share(row.average_precision.value):>9}{row.num_positive:>9}{row.threshold:>11.2f}"
            f"{shares[0]:>11}{shares[1]:>9}{shares[2]:>9}"
        )
    if len(ranked) > NUM_SHOWN_CLASSES:
        print_line(f"the lowest {NUM_SHOWN_CLASSES} of {format_count(len(ranked), 'class')}; --json has all")


def _format_share(value: float) -> str:
    return "-" if math.isnan(value) else format_percent(value)


def _print_regression(metrics: RegressionMetrics) -> None:
    unit = f" ({metrics.unit})" if metrics.unit else ""
    _print_header(f"{metrics.name}{unit}")
    _print_row("MAE", metrics.mae, f"always the mean: {metrics.baseline_mae:.3g}")
    _print_row("RMSE", metrics.rmse)
    _print_row("R2", metrics.r2, "always the mean: 0")
    low, high = metrics.limits_of_agreement
    print_line(f"differences of {metrics.bias:.3g} in the mean; 95 % of them from {low:.3g} to {high:.3g}")


def _print_ordinal(metrics: OrdinalMetrics) -> None:
    _print_header("")
    _print_row("exact", metrics.exact, f"always the most frequent: {format_percent(metrics.majority)}", percent=True)
    _print_row("within 1", metrics.within_one, percent=True)
    _print_row("MAE, levels", metrics.mae, f"always the median: {metrics.baseline_mae:.3g}")
    _print_row("kappa", metrics.kappa, "quadratic weights; chance: 0")
