"""The report that compares runs of one of the tasks multi_label, regression and ordinal.

Input: runs with scores of the same split. Output: a `Page` with the metrics of each run, and for each two runs the difference
on the videos that both scored, with a 95 % bootstrap interval over these videos: both runs are resampled together.

    multi_label   mAP                      higher is better
    regression    MAE of each target       lower is better
    ordinal       MAE in levels            lower is better
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from muybridge.evaluation.fusion_members import match_outputs
from muybridge.evaluation.multi_label import MultiLabelMetrics, compute_mean_average_precisions
from muybridge.evaluation.ordinal import OrdinalMetrics
from muybridge.evaluation.outputs import VideoOutputs
from muybridge.evaluation.resampling import MetricEstimate, WeightedMetric, estimate
from muybridge.models.heads import Head, choose_levels
from muybridge.report.comparison_page import build_difference_blocks, list_unfinished
from muybridge.report.document import Block, Page, Paragraph, Section
from muybridge.report.sections.accuracy import format_protocol
from muybridge.report.sections.remarks import build_data_remarks, build_remarks
from muybridge.report.sources import RunRecord, TaskEvaluationRecord
from muybridge.report.tables import Cell, Table, make_columns
from muybridge.text import format_count

_NOTE = (
    "Intervals are 95 % bootstrap intervals over the videos that both runs scored, not adjusted for the number of rows."
)

_MakeMetric = Callable[[NDArray[np.float64], NDArray[np.float64]], WeightedMetric]


@dataclass(frozen=True)
class _Measure:
    """A metric to compare by; `make` takes values (V, D) and targets (V, T). `target` is the index of the one it is of."""

    name: str
    make: _MakeMetric
    is_error: bool
    target: int = 0


@dataclass(frozen=True)
class _Member:
    """A run with its score file; `order` has the indices of the first run's outputs in it."""

    name: str
    evaluation: TaskEvaluationRecord
    order: tuple[int, ...]

    def gather(self, videos: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values and targets of videos, in the order of the first run's outputs."""
        outputs = self.evaluation.outputs
        row_by_video = {video: row for row, video in enumerate(outputs.videos)}
        rows = [row_by_video[video] for video in videos]
        targets = outputs.targets[rows]
        return outputs.values[rows][:, self.order], targets if outputs.head.task == "ordinal" else targets[
            :, self.order
        ]


@dataclass(frozen=True)
class _Difference:
    """Second minus first run by one measure on common videos."""

    names: tuple[str, str]
    measure: _Measure
    num_videos: int
    values: tuple[float, float]
    difference: MetricEstimate

    def format_sentence(self) -> str:
        """What the difference means, by its interval."""
        value, low, high = self.difference.value, self.difference.low, self.difference.high
        first, second = self.names
        is_second_better = (value < 0) == self.measure.is_error
        better, worse = (second, first) if is_second_better else (first, second)
        ends = sorted((abs(low), abs(high))) if low * high > 0 else [low, high]
        interval = f"95 % interval {ends[0]:.3g} to {ends[1]:.3g}"
        videos = f"On {format_count(self.num_videos, 'video')} that both scored"
        if not low * high > 0:
            return (
                f"{videos}, the difference of {value:.3g} ({interval}) in {self.measure.name} from {first} to {second} is not "
                "significant."
            )
        kind = "lower" if self.measure.is_error else "higher"
        return f"{videos}, {self.measure.name} of {better} is {kind} than that of {worse} by {abs(value):.3g} ({interval})."


def build_task_comparison_page(runs: Sequence[RunRecord]) -> Page:
    """Build the page of runs in the given order.

    Raises ValueError where they have no scores of one split and task, their outputs differ, or they share no videos.
    """
    members = _match_members(runs)
    differences = [
        difference for first, second in combinations(members, 2) for difference in _compare(first, second, members[0])
    ]
    sections = [
        Section("metrics", "Metrics", tuple(_build_metric_blocks(members))),
        Section("paired", "Differences on the same videos", (_build_difference_table(differences),)),
        Section(
            "settings", "Settings", tuple(build_difference_blocks("settings", runs, [run.settings for run in runs]))
        ),
    ]
    remarks = [paragraph for one in members for paragraph in build_remarks(one.name, one.evaluation.remarks)]
    remarks += build_data_remarks({one.name: one.evaluation.data for one in members})
    lead = (*(Paragraph(one.format_sentence()) for one in differences), *remarks, *list_unfinished(runs))
    title = " and ".join(run.name for run in runs) if len(runs) <= 3 else format_count(len(runs), "run")
    evaluations = {one.name: one.evaluation for one in members}
    summary = {
        "metrics": {name: one.metrics.to_json() for name, one in evaluations.items()},
        "remarks": {name: list(one.remarks) for name, one in evaluations.items()},
    }
    return Page(f"{title}, compared", lead, tuple(sections), dict(summary))


def _match_members(runs: Sequence[RunRecord]) -> list[_Member]:
    """The first score file of a split and fold that all runs have, with matched outputs."""
    missing = [run.name for run in runs if not run.task_evaluations]
    if missing:
        raise ValueError(f"{missing[0]} has no scores of this task to compare; give runs of one task")
    keys = [[(one.metrics.split, one.metrics.fold) for one in run.task_evaluations] for run in runs]
    common = next((key for key in keys[0] if all(key in others for others in keys)), None)
    if common is None:
        raise ValueError("the runs have no scores of the same split and fold; evaluate them on one split")
    evaluations = [run.task_evaluations[own.index(common)] for run, own in zip(runs, keys, strict=True)]
    first = evaluations[0].outputs
    members = []
    for run, evaluation in zip(runs, evaluations, strict=True):
        other = evaluation.outputs
        try:
            order = match_outputs(first.header.classes, first.head, other.header.classes, other.head)
        except ValueError as error:
            raise ValueError(f"{runs[0].name} and {run.name} cannot be compared: {error}") from error
        members.append(_Member(run.name, evaluation, tuple(order)))
    return members


def _list_measures(head: Head) -> list[_Measure]:
    match head.task:
        case "multi_label":
            return [_Measure("mAP", _make_mean_precision, is_error=False)]
        case "ordinal":
            return [_Measure("MAE in levels", _make_level_error, is_error=True)]
        case _:
            units = [f" ({head.get_unit(index)})" if head.get_unit(index) else "" for index in range(len(head.outputs))]
            return [
                _Measure(f"the MAE of {name}{unit}", _make_target_error(index), is_error=True, target=index)
                for index, (name, unit) in enumerate(zip(head.outputs, units, strict=True))
            ]


def _make_mean_precision(values: NDArray[np.float64], targets: NDArray[np.float64]) -> WeightedMetric:
    return lambda counts: compute_mean_average_precisions(values, targets > 0.5, counts)


def _make_level_error(values: NDArray[np.float64], targets: NDArray[np.float64]) -> WeightedMetric:
    return _make_mean(np.abs(choose_levels(values) - targets[:, 0]))


def _make_target_error(index: int) -> _MakeMetric:
    return lambda values, targets: _make_mean(np.abs(values[:, index] - targets[:, index]))


def _make_mean(errors: NDArray[np.float64]) -> WeightedMetric:
    """The mean of errors (V,), NaN where a target is unknown."""
    is_known = ~np.isnan(errors)

    def mean(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        known = counts[:, is_known]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(known @ errors[is_known] / known.sum(axis=1))

    return mean


def _compare(first: _Member, second: _Member, reference: _Member) -> list[_Difference]:
    videos = _list_common_videos(first.evaluation.outputs, second.evaluation.outputs)
    if not videos:
        raise ValueError(
            f"{first.name} and {second.name} have no readable video in common; compare runs on the same data"
        )
    (values, targets), (other_values, other_targets) = first.gather(videos), second.gather(videos)
    if not np.array_equal(targets, other_targets, equal_nan=True):
        raise ValueError(f"{first.name} and {second.name} have other targets; compare runs on the same data")
    differences = []
    for measure in _list_measures(reference.evaluation.outputs.head):
        metrics = (measure.make(values, targets), measure.make(other_values, targets))
        ones = np.ones((1, len(videos)))
        each = (float(metrics[0](ones)[0]), float(metrics[1](ones)[0]))
        difference = estimate(_subtract(*metrics), len(videos))
        num_videos = int(np.count_nonzero(~np.isnan(targets[:, measure.target])))
        differences.append(_Difference((first.name, second.name), measure, num_videos, each, difference))
    return differences


def _subtract(first: WeightedMetric, second: WeightedMetric) -> WeightedMetric:
    return lambda counts: second(counts) - first(counts)


def _list_common_videos(first: VideoOutputs, second: VideoOutputs) -> list[str]:
    """The videos that both could read and that have a target."""
    used = [
        {video for video, is_used in zip(one.videos, one.readable_mask & one.labeled_mask, strict=True) if is_used}
        for one in (first, second)
    ]
    return [video for video in first.videos if video in used[0] and video in used[1]]


def _build_metric_blocks(members: Sequence[_Member]) -> list[Block]:
    metrics = [one.evaluation.metrics for one in members]
    if len({one.protocol for one in metrics}) == 1:
        protocols = Paragraph(f"All were measured on {format_protocol(metrics[0])}.")
    else:
        listed = "; ".join(f"{one.name} on {format_protocol(one.evaluation.metrics)}" for one in members)
        protocols = Paragraph(f"The protocols differ, which may cause a difference: {listed}.", "warning")
    rows: list[tuple[Cell, ...]] = [
        (
            member.name,
            *(None if np.isnan(value) else value for value in _list_figures(member).values()),
            one.num_videos - one.num_failed_videos,
            one.num_failed_videos,
        )
        for member, one in zip(members, metrics, strict=True)
    ]
    headings = list(_list_figures(members[0]))
    columns = (*make_columns("run"), *make_columns(*headings, decimals=3), *make_columns("videos", "unreadable"))
    return [
        protocols,
        Table("metrics", "Metrics of the runs, each over its readable videos", columns, tuple(rows)),
    ]


def _list_figures(member: _Member) -> dict[str, float]:
    """The metrics of a run by heading, its targets in the order of the first run's."""
    match member.evaluation.metrics.metrics:
        case MultiLabelMetrics() as labels:
            mean = labels.mean_average_precision.value
            return {"mAP": mean, "micro F1": labels.micro_f1, "macro F1": labels.macro_f1}
        case OrdinalMetrics() as levels:
            estimates = {"quadratic weighted kappa": levels.kappa, "MAE in levels": levels.mae, "exact": levels.exact}
            return {heading: one.value for heading, one in estimates.items()}
        case targets:
            figures: dict[str, float] = {}
            for target in (targets[index] for index in member.order):
                unit = f" ({target.unit})" if target.unit else ""
                figures |= {
                    f"MAE of {target.name}{unit}": target.mae.value,
                    f"RMSE of {target.name}{unit}": target.rmse.value,
                    f"R2 of {target.name}": target.r2.value,
                }
            return figures


def _build_difference_table(differences: Sequence[_Difference]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            *one.names,
            one.measure.name,
            one.num_videos,
            *one.values,
            *(None if np.isnan(value) else value for value in vars(one.difference).values()),
        )
        for one in differences
    ]
    columns = (
        *make_columns("first", "second", "measure", "videos"),
        *make_columns("of the first", "of the second", "second - first", "low", "high", decimals=3),
    )
    return Table("paired", "Differences of two runs", columns, tuple(rows), note=_NOTE)
