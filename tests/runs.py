"""Runs small enough for a test: a network of width 4 on generated motions of two classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from muybridge.settings import ClipSettings, EvaluationSettings, LoadingSettings, NetworkSettings, TrainSettings
from muybridge.synthetic.motions import MotionSettings
from muybridge.training.checkpoint import TrainState, save_checkpoint
from muybridge.training.job import TrainingJob, write_description
from muybridge.training.optimizer import build_optimizer
from muybridge.training_settings import TrainingSettings

MOTIONS = MotionSettings(
    classes=2,
    train_videos_per_class=8,
    validation_videos_per_class=2,
    test_videos_per_class=3,
    num_frames=13,  # minus a span of 4 frames it is 9: ten clips lie symmetrically
    height=32,
    width=32,
)

# Every part of the later recipe that draws at random, and averaged weights.
LATER_RECIPE: Mapping[str, Any] = {
    "training.ema_decay": 0.8,
    "training.dropout": 0.3,
    "training.mixup_alpha": 0.4,
    "training.cutmix_alpha": 1.0,
    "training.color_jitter": 0.3,
    "training.repeated_augmentation": 2,
    "training.multigrid": ((0.25, 2, 16), (0.25, 4, 16)),
}


def tiny_run(data: Path | str, output: Path, changes: Mapping[str, Any] | None = None) -> TrainSettings:
    """12 steps of 4 clips, validated after the 6th and the last; `changes` by name, such as `training.epochs`."""
    settings = TrainSettings(
        data=str(data),
        output=str(output),
        model="r2plus1d_10",
        network=NetworkSettings(width=4),
        clips=ClipSettings(length=4, scale=(32, 32), crop=28, mirror=False),
        training=TrainingSettings(batch_size=4, epochs=2, clips_per_epoch=24, optimizer="adamw", learning_rate=0.02),
        evaluation=EvaluationSettings(clips=2),
        loading=LoadingSettings(workers=0),
    )
    for name, value in (changes or {}).items():
        group, _, setting = name.rpartition(".")
        if group:
            settings = replace(settings, **{group: replace(getattr(settings, group), **{setting: value})})
        else:
            settings = replace(settings, **{setting: value})
    return settings


def save_job(job: TrainingJob, step: int = 5) -> None:
    """Writes the run folder of a job as if it had trained for so many steps."""
    write_description(job)
    optimizer = build_optimizer(job.network, job.settings.training)
    save_checkpoint(job.folder / "checkpoints", job.network, optimizer, TrainState(step), keep=1)
