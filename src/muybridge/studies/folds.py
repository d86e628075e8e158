"""Training and testing on every official fold of a data set."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from muybridge.evaluation.evaluate import evaluate_split
from muybridge.settings import EvaluateSettings, TrainSettings
from muybridge.training.train import train

FOLDS = (1, 2, 3)
FIGURES = ("clip_top1", "video_top1", "video_top5")


@dataclass(frozen=True)
class FoldsResult:
    """Accuracies of each fold in percent of all its test videos, their mean and their standard deviation."""

    folds: list[dict[str, float]]

    @property
    def mean(self) -> dict[str, float]:
        """The mean over folds of each accuracy."""
        return {name: statistics.mean(row[name] for row in self.folds) for name in FIGURES}

    @property
    def deviation(self) -> dict[str, float]:
        """The standard deviation over folds of each accuracy."""
        return {name: statistics.stdev(row[name] for row in self.folds) for name in FIGURES}

    @property
    def num_failed_videos(self) -> int:
        """Test videos that could not be read, over all folds."""
        return sum(int(row["num_failed_videos"]) for row in self.folds)

    def to_json(self) -> dict[str, Any]:
        """What `muybridge folds --json` prints."""
        return {"folds": self.folds, "mean": self.mean, "deviation": self.deviation}


def train_and_test_folds(settings: TrainSettings) -> FoldsResult:
    """Train one network for each fold, in the folder `fold-K` of `settings.output`, and test it on the fold's test videos.

    Unfinished runs are resumed, finished ones are only tested again.
    """
    output = Path(settings.output)
    return FoldsResult(
        [_train_and_test(replace(settings, fold=fold, output=str(output / f"fold-{fold}"))) for fold in FOLDS]
    )


def _train_and_test(settings: TrainSettings) -> dict[str, float]:
    train(settings, resume=True)
    test = EvaluateSettings(
        data=settings.data,
        fold=settings.fold,
        device=settings.device,
        seed=settings.seed,
        evaluation=settings.evaluation,
        loading=settings.loading,
    )
    accuracy = evaluate_split(settings.output, test, Path(settings.output) / "scores" / "test.parquet").accuracy
    return {
        "fold": float(settings.fold or 0),
        **{name: 100 * getattr(accuracy, name).of_all.share for name in FIGURES},
        "num_videos": float(accuracy.num_videos),
        "num_failed_videos": float(accuracy.num_failed_videos),
    }
