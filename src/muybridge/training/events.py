"""What happens in a training run, as records: for one's own logging (MLflow, Weights & Biases, a notebook)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from muybridge.evaluation.metrics import Accuracy
from muybridge.evaluation.task_metrics import TaskMetrics


@dataclass(frozen=True)
class StepDone:
    """A step of this rank. `step` steps are done, `epoch` is a fraction; `loss` is NaN where no clip could be read.

    `num_right` is None for another task than single_label; a mixed clip counts by the shares of the two clips in it.
    """

    step: int
    epoch: float
    learning_rate: float
    loss: float
    num_right: float | None
    num_clips: int
    seconds: float
    waited_seconds: float

    def to_metrics(self) -> dict[str, float]:
        """The numbers by name, for a logger."""
        return {name: value for name, value in asdict(self).items() if name != "step" and value is not None}


@dataclass(frozen=True)
class ValidationDone:
    """The validation after `step` steps."""

    step: int
    epoch: float
    accuracy: Accuracy | TaskMetrics

    def to_metrics(self) -> dict[str, Any]:
        """clip@1, video@1 and video@5 over all videos, between 0 and 1; for another task its metrics."""
        if isinstance(self.accuracy, TaskMetrics):
            return self.accuracy.figures
        return {
            "clip_top1": self.accuracy.clip_top1.of_all.share,
            "video_top1": self.accuracy.video_top1.of_all.share,
            "video_top5": self.accuracy.video_top5.of_all.share,
        }


TrainingEvent: TypeAlias = StepDone | ValidationDone
