"""Training and testing on every fold of a data set: the official ones, or those of a cross-validation."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from muybridge.evaluation.evaluate import EvaluationResult, evaluate_split
from muybridge.evaluation.metrics import Accuracy
from muybridge.evaluation.task_metrics import TaskMetrics
from muybridge.settings import NUM_OFFICIAL_FOLDS, EvaluateSettings, TrainSettings
from muybridge.training.job import prepare_job
from muybridge.training.train import train

_ACCURACIES = {"clip@1": "clip_top1", "video@1": "video_top1", "video@5": "video_top5"}
COUNTS = ("fold", "num_videos", "num_failed_videos")


@dataclass(frozen=True)
class FoldsResult:
    """The figures of each fold over its test videos, their mean and their standard deviation.

    Accuracies are in percent of all test videos, and so are `majority`, that of always predicting the most frequent class, and
    `chance`, that of guessing. Figures of another task than single_label are those of its metrics. `remarks` belong beside
    them, such as training videos among the tested ones, each with its fold.
    """

    folds: list[dict[str, float]]
    remarks: tuple[str, ...] = ()

    @property
    def figures(self) -> list[str]:
        """The names of the figures."""
        return [name for name in self.folds[0] if name not in COUNTS]

    @property
    def mean(self) -> dict[str, float]:
        """The mean over folds of each figure, NaN where one of them has none, as R2 of a single video."""
        return {name: statistics.fmean(row[name] for row in self.folds) for name in self.figures}

    @property
    def deviation(self) -> dict[str, float]:
        """The standard deviation over folds of each figure, NaN where one of them has none."""
        return {
            name: math.nan if math.isnan(mean) else statistics.stdev(row[name] for row in self.folds)
            for name, mean in self.mean.items()
        }

    @property
    def num_failed_videos(self) -> int:
        """Test videos that could not be read, over all folds."""
        return sum(int(row["num_failed_videos"]) for row in self.folds)

    def to_json(self) -> dict[str, Any]:
        """What `muybridge folds --json` prints, null instead of NaN."""
        folds = [_replace_nan(row) for row in self.folds]
        mean, deviation = map(_replace_nan, (self.mean, self.deviation))
        return {"folds": folds, "mean": mean, "deviation": deviation, "remarks": list(self.remarks)}


def _replace_nan(row: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in row.items()}


def train_and_test_folds(settings: TrainSettings) -> FoldsResult:
    """Train one network for each fold, in the folder `fold-K` of `settings.output`, and test it on the fold's test videos.

    There are `settings.num_folds` folds, or three official ones. Unfinished runs are resumed, finished ones are only tested
    again. Raises ValueError before the first is trained where any does not fit its data or its folder.
    """
    folds = range(1, (settings.num_folds or NUM_OFFICIAL_FOLDS) + 1)
    runs = [replace(settings, fold=fold, output=str(Path(settings.output, f"fold-{fold}"))) for fold in folds]
    for run in runs:
        prepare_job(run, resume=True)
    rows, remarks = [], []
    for fold, run in zip(folds, runs, strict=True):
        result = _train_and_test(run)
        metrics = result.metrics
        counts = {"num_videos": float(metrics.num_videos), "num_failed_videos": float(metrics.num_failed_videos)}
        rows.append({"fold": float(fold), **_list_figures(metrics), **counts})
        remarks += [f"fold {fold}: {remark}" for remark in result.remarks]
    return FoldsResult(rows, tuple(remarks))


def _train_and_test(settings: TrainSettings) -> EvaluationResult:
    train(settings, resume=True)
    test = EvaluateSettings(
        data=settings.data,
        fold=settings.fold,
        num_folds=settings.num_folds,
        fold_by=settings.fold_by,
        device=settings.device,
        seed=settings.seed,
        evaluation=settings.evaluation,
        loading=settings.loading,
    )
    return evaluate_split(settings.output, test, Path(settings.output) / "scores" / "test.parquet")


def _list_figures(metrics: Accuracy | TaskMetrics) -> dict[str, float]:
    if isinstance(metrics, TaskMetrics):
        return metrics.figures
    accuracies = {_ACCURACIES[name]: 100 * rates.of_all.share for name, rates in metrics.figures}
    baseline = metrics.baseline
    return {**accuracies, "majority": 100 * baseline.majority.share, "chance": 100 * baseline.chance}
