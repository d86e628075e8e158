"""The sections on training: curves, speed, failures, settings and environment.

Input: the lines of log.jsonl and failures.jsonl, settings and environment of the run folder. Output: blocks of a page. Lines of
other kinds, or without a number where one is expected, are skipped, because later versions may log more kinds.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from muybridge.files.run_folder import is_finite_number
from muybridge.models.heads import Head
from muybridge.report.charts import LineChart, Series, describe_series, downsample
from muybridge.report.document import Block, Paragraph
from muybridge.report.sources import FailedView, RunRecord
from muybridge.report.tables import Column, Table, make_columns

MAX_FAILURES_SHOWN = 50
VALIDATION_METRICS = (("clip_top1", "clip@1"), ("video_top1", "video@1"), ("video_top5", "video@5"))


def extract_curve(log: Sequence[Mapping[str, Any]], kind: str, name: str) -> tuple[list[float], list[float]]:
    """Epochs and values of the metric `name` in log lines of a kind."""
    if kind == "train":
        return _extract_points(log, kind, "epoch", name)
    steps, values = _extract_points(log, kind, "step", name)
    known_steps, known_epochs = _extract_points(log, "train", "step", "epoch")
    if len(known_steps) < 2:
        return steps, values
    # Validation lines have a step but no epoch, which is linear in the step.
    per_step = (known_epochs[-1] - known_epochs[0]) / (known_steps[-1] - known_steps[0])
    return [known_epochs[-1] + (step - known_steps[-1]) * per_step for step in steps], values


def build_curve_blocks(run: RunRecord) -> list[Block]:
    """Charts of loss, accuracy or the metrics of other tasks, and learning rate by epoch."""
    log, num_classes = run.log, _count_classes(run)
    charts = [
        _build_line_chart("loss", "Training loss", "loss", [_build_series("training loss", log, "train", "loss")]),
        _build_line_chart(
            "curves",
            "Accuracy while training",
            "percent",
            [_build_series("training clips", log, "train", "clip_accuracy", 100)]
            + [
                _build_series(f"validation {title}", log, "validation", name, 100)
                for name, title in VALIDATION_METRICS
                if name != "video_top5" or num_classes is None or num_classes > 5  # any video is right otherwise
            ],
        ),
        *_build_task_charts(run),
        _build_line_chart(
            "rate", "Learning rate", "learning rate", [_build_series("learning rate", log, "train", "rate")]
        ),
    ]
    return [chart for chart in charts if chart] or [Paragraph("The log has no curves.")]


def _build_task_charts(run: RunRecord) -> list[LineChart | None]:
    """Charts of the validation metrics of a run of another task than single_label."""
    if not run.task_evaluations:
        return []
    charts = enumerate(_list_task_charts(run.task_evaluations[0].outputs.head), 1)
    return [
        _build_line_chart(
            f"validation-{number}",
            title,
            unit,
            [_build_series(label, run.log, "validation", name, scale) for name, label, scale in metrics],
        )
        for number, (title, unit, metrics) in charts
    ]


def _list_task_charts(head: Head) -> list[tuple[str, str, list[tuple[str, str, float]]]]:
    """Title and unit of each chart, and its metrics: their names in log.jsonl (`TaskMetrics.figures`), labels and scales."""
    match head.task:
        case "multi_label":
            metrics = [("mean_average_precision", "mAP", 100.0), ("micro_f1", "micro F1", 100.0)]
            return [("Validation", "percent", [*metrics, ("macro_f1", "macro F1", 100.0)])]
        case "ordinal":
            return [
                ("Kappa on validation", "quadratic weighted kappa", [("kappa", "kappa", 1.0)]),
                ("Errors on validation", "levels", [("mae", "MAE", 1.0)]),
                ("Exact levels on validation", "percent", [("exact", "exact", 100.0)]),
            ]
        case _:
            suffixes = [f"_{name}" for name in head.outputs] if len(head.outputs) > 1 else [""]
            return [
                (
                    f"Errors of {name} on validation",
                    head.get_unit(index) or "error",
                    [(f"mae{suffix}", "MAE", 1.0), (f"rmse{suffix}", "RMSE", 1.0)],
                )
                for index, (name, suffix) in enumerate(zip(head.outputs, suffixes, strict=True))
            ]


def _count_classes(run: RunRecord) -> int | None:
    """The number of classes of the network, else of the scores; None where neither is there."""
    num_classes = run.network.get("num_classes")
    if isinstance(num_classes, int):
        return num_classes
    return len(run.evaluations[0].video_scores.header.classes) if run.evaluations else None


def build_speed_blocks(run: RunRecord) -> list[Block]:
    """A table and charts of clips a second and of the time spent waiting for data."""
    summary = summarize_speed(run)
    if not summary:
        return [Paragraph("The log does not contain speed.")]
    rows = tuple((name, value) for name, value in summary.items())
    charts = [
        _build_line_chart(
            "speed",
            "Clips a second",
            "clips a second",
            [_build_series("clips a second", run.log, "train", "clips_per_second")],
        ),
        _build_line_chart(
            "waiting",
            "Waiting for data",
            "percent of a step",
            [_build_series("waiting", run.log, "train", "waiting_share", 100)],
        ),
    ]
    note = "Waiting is the share of the steps' time in which no batch was ready."
    return [
        Table("speed", "Speed of training", (Column("metric"), Column("value")), rows, note=note),
        *[chart for chart in charts if chart],
    ]


def summarize_speed(run: RunRecord) -> dict[str, str | float]:
    """Steps, clips a second and waiting by title; empty if the log has no training steps."""
    lines = [
        line
        for line in run.log
        if line.get("kind") == "train"
        and is_finite_number(line.get("clips_per_second"))
        and line["clips_per_second"] > 0
    ]
    if not lines:
        return {}
    rates = [float(line["clips_per_second"]) for line in lines]
    summary: dict[str, str | float] = {"steps": len(lines), "clips a second, median": statistics.median(rates)}
    seconds_per_clip = [1 / rate for rate in rates]
    waiting = [
        (float(line["waiting_share"]), seconds)
        for line, seconds in zip(lines, seconds_per_clip, strict=True)
        if is_finite_number(line.get("waiting_share"))
    ]
    if waiting:
        total = sum(seconds for _, seconds in waiting)
        summary["waiting for data, % of the steps' time"] = (
            100 * sum(share * seconds for share, seconds in waiting) / total
        )
    batch: Any = _get_settings_group(run.settings, "training").get("batch_size")
    if is_finite_number(batch):
        summary["minutes in steps, about"] = sum(seconds_per_clip) * float(batch) / 60
    return summary


def build_failure_blocks(failed_views: Sequence[FailedView], failed_draws: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Tables of the clips that could not be read, in evaluation and in training."""
    if not failed_views and not failed_draws:
        return [Paragraph("Nothing failed: all planned clips were read.")]
    blocks: list[Block] = []
    if failed_views:
        view_counts: Counter[tuple[str, str, str]] = Counter()
        for view in failed_views:
            view_counts[view.video, view.status, view.reason] += view.num_views
        blocks.append(_build_failure_table("evaluation-failures", "Clips that evaluation could not read", view_counts))
    if failed_draws:
        draw_counts = Counter(
            (str(line.get("video", "")), str(line.get("status", "")), str(line.get("reason", "")))
            for line in failed_draws
        )
        blocks.append(_build_failure_table("training-failures", "Clips that training could not read", draw_counts))
    return blocks


def _build_failure_table(name: str, title: str, counts: Counter[tuple[str, str, str]]) -> Table:
    rows = tuple((*failure, count) for failure, count in counts.most_common())
    note = f"The first {MAX_FAILURES_SHOWN} of {len(rows)}." if len(rows) > MAX_FAILURES_SHOWN else ""
    return Table(
        name, title, make_columns("video", "status", "reason", "clips"), rows, note=note, num_shown=MAX_FAILURES_SHOWN
    )


def build_settings_table(name: str, title: str, values: Mapping[str, Any]) -> Table:
    """A table of nested values, one row for each dotted name."""
    rows = tuple((name, value) for name, value in flatten_mapping(values).items())
    return Table(name, title, make_columns("name", "value"), rows)


def flatten_mapping(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten `{"clips": {"length": 8}}` to `{"clips.length": "8"}`, values as text."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten_mapping(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = _format_value(value)
    return flat


def _format_value(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return str(value).lower()
        case list() | tuple():
            return " ".join(_format_value(item) for item in value)
        case _:
            return str(value)


def build_runs_chart(
    name: str,
    title_and_unit: tuple[str, str],
    runs: Sequence[tuple[str, RunRecord]],
    *,
    kind_and_metric: tuple[str, str],
) -> LineChart | None:
    """Chart one metric of several runs by epoch; None if no run has two points of it."""
    series = [
        _build_series(label, run.log, *kind_and_metric, _get_percent_scale(kind_and_metric[1])) for label, run in runs
    ]
    return _build_line_chart(name, *title_and_unit, series)


def _get_percent_scale(metric: str) -> float:
    return 100 if metric.endswith(("top1", "top5", "accuracy", "share")) else 1


def _build_series(label: str, log: Sequence[Mapping[str, Any]], kind: str, name: str, scale: float = 1) -> Series:
    epochs, values = downsample(*extract_curve(log, kind, name))
    return Series(label, epochs, tuple(scale * value for value in values))


def _build_line_chart(name: str, title: str, y_label: str, series: Sequence[Series]) -> LineChart | None:
    drawn = tuple(one for one in series if one.x)
    if all(len(one.x) < 2 for one in drawn):
        return None  # a single point is in the tables
    alt = "; ".join(describe_series(one) for one in drawn)
    return LineChart(name, f"{title} by epoch", "epoch", y_label, drawn, alt)


def _extract_points(log: Sequence[Mapping[str, Any]], kind: str, x: str, y: str) -> tuple[list[float], list[float]]:
    pairs = [
        (float(line[x]), float(line[y]))
        for line in log
        if line.get("kind") == kind and is_finite_number(line.get(x)) and is_finite_number(line.get(y))
    ]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _get_settings_group(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    group = settings.get(name)
    return group if isinstance(group, Mapping) else {}
