"""Metrics of the tasks multi_label, regression and ordinal, with what they were measured by.

Input: `VideoOutputs`. Output: `TaskMetrics`, for readable videos whose targets are known; it says how many others there are.
The criterion chooses the best weights of a run: the higher the better.

    task          metrics                                  criterion
    multi_label   mAP, F1 at the thresholds of the head    mAP
    regression    MAE, RMSE, R2, Bland and Altman          the negative RMSE in deviations of the target, a mean over targets
    ordinal       exact, within one level, MAE, kappa      quadratic weighted kappa
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any, TypeAlias

import numpy as np

from muybridge.evaluation.aggregate import VideoScores
from muybridge.evaluation.metrics import Accuracy, compute_accuracy
from muybridge.evaluation.multi_label import MultiLabelMetrics, compute_multi_label
from muybridge.evaluation.ordinal import OrdinalMetrics, compute_ordinal
from muybridge.evaluation.outputs import VideoOutputs
from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.evaluation.regression import RegressionMetrics, compute_regression
from muybridge.evaluation.resampling import NUM_BOOTSTRAPS, MetricEstimate
from muybridge.models.heads import Head, choose_levels
from muybridge.records import Task
from muybridge.text import format_count, format_percent

WORST_CRITERION = -1e30  # where it is not defined; finite, as checkpoints store it as JSON
AnyMetrics: TypeAlias = MultiLabelMetrics | tuple[RegressionMetrics, ...] | OrdinalMetrics


@dataclass(frozen=True)
class TaskMetrics:
    """Result of an evaluation of another task than single_label. `num_` fields count all videos of the split."""

    task: Task
    protocol: EvaluationProtocol
    split: str
    fold: int | None
    metrics: AnyMetrics
    criterion: float
    num_videos: int
    num_unlabelled_videos: int
    num_used_videos: int
    """Videos with a target and a readable view; of several targets a video may lack some."""
    num_failed_videos: int
    """Videos without a readable view."""
    num_views: int
    num_failed_views: int

    @property
    def figures(self) -> dict[str, float]:
        """The metrics to log, plot and average over folds, by name."""
        match self.metrics:
            case MultiLabelMetrics() as labels:
                mean = labels.mean_average_precision.value
                return {"mean_average_precision": mean, "micro_f1": labels.micro_f1, "macro_f1": labels.macro_f1}
            case OrdinalMetrics() as levels:
                estimates = {"kappa": levels.kappa, "mae": levels.mae, "exact": levels.exact}
                return {name: one.value for name, one in estimates.items()}
            case targets:
                return {
                    f"{name}_{target.name}" if len(targets) > 1 else name: getattr(target, name).value
                    for target in targets
                    for name in ("mae", "rmse", "r2")
                }

    def format_line(self) -> str:
        """The metrics in one line."""
        match self.metrics:
            case MultiLabelMetrics() as labels:
                precision = _format_share_estimate(labels.mean_average_precision)
                text = (
                    f"mAP {precision}  (guessing: {format_percent(labels.chance)})  "
                    f"micro F1 {format_percent(labels.micro_f1)}  macro F1 {format_percent(labels.macro_f1)}"
                )
            case OrdinalMetrics() as levels:
                text = (
                    f"kappa {_format_estimate(levels.kappa)}  MAE {levels.mae.value:.3g} levels  "
                    f"exact {format_percent(levels.exact.value)}  "
                    f"(always the most frequent level: {format_percent(levels.majority)})"
                )
            case targets:
                text = "; ".join(_format_target(target, self.num_used_videos) for target in targets)
        line = f"{text}  of {format_count(self.num_used_videos, 'video')}"
        return f"{line}, {self.num_failed_videos} more unreadable" if self.num_failed_videos else line

    @property
    def verdicts(self) -> list[str]:
        """Sentences where a metric is not above what guessing gives, or the majority, or the mean, by its interval."""
        match self.metrics:
            case MultiLabelMetrics() as labels:
                return _compare_with_guessing("the mAP is", labels.mean_average_precision, labels.chance, "guessing")
            case OrdinalMetrics() as levels:
                return _compare_with_guessing("kappa is", levels.kappa, 0.0, "chance")
            case targets:
                return [
                    sentence
                    for target in targets
                    for sentence in _compare_with_guessing(
                        f"predictions of {target.name} are", target.r2, 0.0, "always predicting the mean (R2)"
                    )
                ]

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values, null instead of NaN; the protocol includes its sentence."""
        protocol = {**self.protocol.to_json(), "sentence": self.protocol.format_sentence()}
        return {**_to_json(vars(self)), "protocol": protocol}


def _compare_with_guessing(subject: str, estimate: MetricEstimate, reference: float, name: str) -> list[str]:
    """A sentence where an estimate is not above what guessing gives."""
    if estimate.high < reference:
        return [f"{subject} worse than {name}"]
    return [f"{subject} not distinguishable from {name}"] if estimate.low <= reference else []


def compute_task_metrics(outputs: VideoOutputs, *, num_bootstraps: int = NUM_BOOTSTRAPS) -> TaskMetrics:
    """The metrics of a score file. Raises ValueError if no video has a known target."""
    header, readable = outputs.header, outputs.readable_mask
    if not outputs.labeled_mask.any():
        raise ValueError(
            f"none of {format_count(len(outputs.videos), 'video')} of split {header.split} has a target, "
            f"so there is nothing to compare "
            "with; add targets to the data, or use `muybridge predict`"
        )
    metrics = _compute_metrics(outputs, num_bootstraps)
    return TaskMetrics(
        task=header.task,
        protocol=header.protocol,
        split=header.split,
        fold=header.fold,
        metrics=metrics,
        criterion=_compute_criterion(metrics, outputs.head),
        num_videos=len(outputs.videos),
        num_unlabelled_videos=int(np.count_nonzero(~outputs.labeled_mask)),
        num_used_videos=int(np.count_nonzero(readable & outputs.labeled_mask)),
        num_failed_videos=int(np.count_nonzero(~readable)),
        num_views=int(outputs.num_views.sum()),
        num_failed_views=int(outputs.num_failed_views.sum()),
    )


def compute_metrics(
    videos: VideoScores | VideoOutputs, *, num_bootstraps: int = NUM_BOOTSTRAPS
) -> Accuracy | TaskMetrics:
    """The accuracy of single_label, the metrics of other tasks. Raises ValueError if no video has a label or target."""
    if isinstance(videos, VideoOutputs):
        return compute_task_metrics(videos, num_bootstraps=num_bootstraps)
    return compute_accuracy(videos)


def _compute_metrics(outputs: VideoOutputs, num_bootstraps: int) -> AnyMetrics:
    head, used = outputs.head, outputs.readable_mask & outputs.labeled_mask
    values, targets = outputs.values[used], outputs.targets[used]
    match head.task:
        case "multi_label":
            return compute_multi_label(
                values, targets, head.outputs, head.resolved_thresholds, num_bootstraps=num_bootstraps
            )
        case "ordinal":
            labels = targets[:, 0].astype(np.int64)
            return compute_ordinal(
                choose_levels(values), labels, len(outputs.header.classes), num_bootstraps=num_bootstraps
            )
        case _:
            return tuple(
                compute_regression(
                    values[:, index],
                    targets[:, index],
                    name=name,
                    unit=head.get_unit(index),
                    target_mean=head.known_target_mean[index] if head.known_target_mean else None,
                    num_bootstraps=num_bootstraps,
                )
                for index, name in enumerate(head.outputs)
            )


def _compute_criterion(metrics: AnyMetrics, head: Head) -> float:
    match metrics:
        case MultiLabelMetrics():
            value = metrics.mean_average_precision.value
        case OrdinalMetrics():
            value = metrics.kappa.value
        case targets:
            errors = [one.rmse.value / std for one, std in zip(targets, head.target_std or (), strict=True)]
            value = -float(np.mean([error for error in errors if not math.isnan(error)] or [math.inf]))
    return value if math.isfinite(value) else WORST_CRITERION


def _format_estimate(one: MetricEstimate) -> str:
    """`5.31 [4.8, 5.9]`; without the interval where there is none."""
    interval = "" if math.isnan(one.low) else f" [{one.low:.3g}, {one.high:.3g}]"
    return f"{one.value:.3g}{interval}"


def _format_share_estimate(one: MetricEstimate) -> str:
    """A share as `71.3 % [64.0, 78.2]`."""
    interval = "" if math.isnan(one.low) else f" [{100 * one.low:.1f}, {100 * one.high:.1f}]"
    return f"{format_percent(one.value)}{interval}"


def _format_target(target: RegressionMetrics, num_used_videos: int) -> str:
    unit = f" {target.unit}" if target.unit else ""
    is_partial = target.num_videos < num_used_videos
    measured = f"  in {format_count(target.num_videos, 'video')} that have it" if is_partial else ""
    return (
        f"{target.name}: MAE {_format_estimate(target.mae)}{unit}  (the mean: {target.baseline_mae:.3g})  "
        f"RMSE {target.rmse.value:.3g}{unit}  R2 {target.r2.value:.3g}{measured}"
    )


def _to_json(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _to_json(vars(value))
    if isinstance(value, Mapping):
        return {key: _to_json(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_to_json(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
