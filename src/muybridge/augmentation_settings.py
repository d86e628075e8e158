"""The settings of training that vary clips and weights against overfitting; the paper has none of them (docs/training.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from muybridge.bounds import ClipLength, FrameSize
from muybridge.records import Task

_MIXED_TASKS: tuple[Task, ...] = ("single_label", "multi_label")

GridShare = Annotated[float, Interval(gt=0, lt=1)]


@dataclass(frozen=True)
class AugmentationSettings:
    """Part of `training_settings.TrainingSettings`, which checks the values. Everything is off by default."""

    ema_decay: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Decay per step of an exponential moving average (EMA) of the weights, which is validated and saved in their place;
    usually 0.999 (Polyak and Juditsky, 1992)."""
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Share of the classifier's inputs that are set to 0 in training (Srivastava et al., 2014)."""
    mixup_alpha: Annotated[float, Interval(ge=0, le=100)] = 0.0
    """Mix every clip with another of its batch, by a share from Beta(alpha, alpha); usually 0.2 (Zhang et al., 2018)."""
    cutmix_alpha: Annotated[float, Interval(ge=0, le=100)] = 0.0
    """Replace consecutive frames of each clip by those of another; their share is from Beta(alpha, alpha). With
    mixup_alpha, each batch draws one of the two (VideoMix: Yun et al., 2020)."""
    color_jitter: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Multiply brightness, contrast and saturation of a clip by 1 +- up to this share; rgb alone. 0.4 is usual
    (Krizhevsky et al., 2012)."""
    repeated_augmentation: Annotated[int, Interval(ge=1, le=64)] = 1
    """Clips drawn from a video in a row, each with its own crop and place in time; the run has as many clips as without
    (Hoffer et al., 2020)."""
    multigrid: tuple[tuple[GridShare, ClipLength, FrameSize], ...] = ()
    """Share of the run, frames and crop of shorter and smaller clips before the whole ones, such as [[0.5, 8, 80]]
    (Wu et al., 2020)."""

    def check_augmentation(self, task: Task) -> None:
        """Raise ValueError for settings that do not suit each other or the task."""
        if (self.mixup_alpha or self.cutmix_alpha) and task not in _MIXED_TASKS:
            raise ValueError(
                f"training.mixup_alpha and training.cutmix_alpha mix classes, which {task} does not have; set them to 0"
            )
        if sum(share for share, _, _ in self.multigrid) >= 1:
            raise ValueError(
                "the shares of training.multigrid leave no step for whole clips; their sum must be below 1"
            )
