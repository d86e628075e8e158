"""The parts of a page that tell how a run went: curves, speed, failures, settings, environment.

Enter: the lines of log.jsonl and failures.jsonl, settings and environment as the run folder has them. Leave: blocks of a page.
Lines of other kinds, or without a number where one is expected, are passed over: the log is open to later kinds.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from muybridge.report.charts import LineChart, spoken, thinned
from muybridge.report.document import Block, Text
from muybridge.report.series import Series
from muybridge.report.sources import FailedView, Run
from muybridge.report.tables import Column, Table, titles

NUM_FAILURES = 50
VALIDATION_FIGURES = (("clip_top1", "clip@1"), ("video_top1", "video@1"), ("video_top5", "video@5"))


def curve(log: Sequence[Mapping[str, Any]], kind: str, name: str) -> tuple[list[float], list[float]]:
    """Epochs and values of one figure of the log."""
    if kind == "train":
        return _figures(log, kind, "epoch", name)
    steps, values = _figures(log, kind, "step", name)
    known_steps, known_epochs = _figures(log, "train", "step", "epoch")
    if len(known_steps) < 2:
        return steps, values
    # A validation is told with its step alone; every step's epoch is on a straight line.
    per_step = (known_epochs[-1] - known_epochs[0]) / (known_steps[-1] - known_steps[0])
    return [known_epochs[-1] + (step - known_steps[-1]) * per_step for step in steps], values


def curve_blocks(log: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Loss, accuracy and learning rate by epoch."""
    charts = [
        _line_chart("loss", "Training loss", "loss", [_series("training loss", log, "train", "loss")]),
        _line_chart(
            "curves",
            "Accuracy while training",
            "percent",
            [_series("training clips", log, "train", "clip_accuracy", 100)]
            + [_series(f"validation {title}", log, "validation", name, 100) for name, title in VALIDATION_FIGURES],
        ),
        _line_chart("rate", "Learning rate", "learning rate", [_series("learning rate", log, "train", "rate")]),
    ]
    return [chart for chart in charts if chart] or [Text("The log has no curves.")]


def speed_blocks(run: Run) -> list[Block]:
    """Clips a second and the share of waiting for data, over the run and as totals."""
    facts = speed(run)
    if not facts:
        return [Text("The log says nothing of speed.")]
    rows = tuple((name, value) for name, value in facts.items())
    charts = [
        _line_chart(
            "speed",
            "Clips a second",
            "clips a second",
            [_series("clips a second", run.log, "train", "clips_per_second")],
        ),
        _line_chart(
            "waiting",
            "Waiting for data",
            "percent of a step",
            [_series("waiting", run.log, "train", "waiting_share", 100)],
        ),
    ]
    note = "Waiting is the share of the steps' time in which the network stood still because no batch was ready."
    return [
        Table("speed", "Speed of training", (Column("figure"), Column("value")), rows, note=note),
        *[chart for chart in charts if chart],
    ]


def speed(run: Run) -> dict[str, str | float]:
    """Steps, clips a second and waiting; nothing where the log has no training steps."""
    lines = [
        line
        for line in run.log
        if line.get("kind") == "train" and _is_number(line.get("clips_per_second")) and line["clips_per_second"] > 0
    ]
    if not lines:
        return {}
    rates = [float(line["clips_per_second"]) for line in lines]
    facts: dict[str, str | float] = {"steps": len(lines), "clips a second, median": statistics.median(rates)}
    seconds_a_clip = [1 / rate for rate in rates]
    waited = [
        (float(line["waiting_share"]), cost)
        for line, cost in zip(lines, seconds_a_clip, strict=True)
        if _is_number(line.get("waiting_share"))
    ]
    if waited:
        total = sum(cost for _, cost in waited)
        facts["waiting for data, % of the steps' time"] = 100 * sum(share * cost for share, cost in waited) / total
    batch: Any = _group(run.settings, "training").get("batch_size")
    if _is_number(batch):
        facts["minutes in steps, about"] = sum(seconds_a_clip) * float(batch) / 60
    return facts


def failure_blocks(views: Sequence[FailedView], draws: Sequence[Mapping[str, Any]]) -> list[Block]:
    """What could not be read, in evaluation and in training."""
    if not views and not draws:
        return [Text("Nothing failed: every planned clip was read.")]
    blocks: list[Block] = []
    if views:
        of_views = Counter((view.video, view.status, view.reason) for view in views)
        blocks.append(_failure_table("evaluation-failures", "Clips that evaluation could not read", of_views))
    if draws:
        of_draws = Counter(
            (str(line.get("video", "")), str(line.get("status", "")), str(line.get("reason", ""))) for line in draws
        )
        blocks.append(_failure_table("training-failures", "Clips that training could not read", of_draws))
    return blocks


def _failure_table(name: str, title: str, counts: Counter[tuple[str, str, str]]) -> Table:
    rows = tuple((*words, num) for words, num in counts.most_common())
    note = f"The first {NUM_FAILURES} of {len(rows)}." if len(rows) > NUM_FAILURES else ""
    return Table(name, title, titles("video", "status", "reason", "clips"), rows, note=note, num_shown=NUM_FAILURES)


def settings_table(name: str, title: str, values: Mapping[str, Any]) -> Table:
    """Nested values as rows of dotted names."""
    rows = tuple((name, value) for name, value in flattened(values).items())
    return Table(name, title, titles("name", "value"), rows)


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"clips": {"length": 8}}` as `{"clips.length": "8"}`, values in words."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flattened(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = _plain(value)
    return found


def _plain(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return str(value).lower()
        case list() | tuple():
            return " ".join(_plain(item) for item in value)
        case _:
            return str(value)


def line_of_runs(
    name: str, titled: tuple[str, str], runs: Sequence[tuple[str, Run]], *, figure: tuple[str, str]
) -> LineChart | None:
    """One figure (kind, name) of several runs over their epochs; `titled` is the chart's title and the unit."""
    series = [_series(label, run.log, *figure, _scale(figure[1])) for label, run in runs]
    return _line_chart(name, *titled, series)


def _scale(figure: str) -> float:
    return 100 if figure.endswith(("top1", "top5", "accuracy", "share")) else 1


def _series(label: str, log: Sequence[Mapping[str, Any]], kind: str, name: str, scale: float = 1) -> Series:
    epochs, values = thinned(*curve(log, kind, name))
    return Series(label, epochs, tuple(scale * value for value in values))


def _line_chart(name: str, title: str, y_label: str, series: Sequence[Series]) -> LineChart | None:
    drawn = tuple(one for one in series if one.x)
    if all(len(one.x) < 2 for one in drawn):
        return None  # a point is no curve; the tables have it
    alt = "; ".join(spoken(one) for one in drawn)
    return LineChart(name, f"{title} by epoch", "epoch", y_label, drawn, alt)


def _figures(log: Sequence[Mapping[str, Any]], kind: str, x: str, y: str) -> tuple[list[float], list[float]]:
    pairs = [
        (float(line[x]), float(line[y]))
        for line in log
        if line.get("kind") == kind and _is_number(line.get(x)) and _is_number(line.get(y))
    ]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _group(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = settings.get(name)
    return found if isinstance(found, Mapping) else {}
