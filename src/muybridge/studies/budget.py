"""Hours and disk space that runs will take.

Laptop scale is computed from speeds measured on one processor thread. Paper scale is computed from the paper's own hours, 11.8
on 64 GPUs for R(2+1)D-18 with 8 frames (Table 3), in proportion to multiply-adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from muybridge.models.family import ConvolutionKind, build_specification
from muybridge.settings import TrainSettings
from muybridge.studies.counting import count_multiply_adds, count_parameters
from muybridge.studies.plan import EvaluationSpec, PlannedRun
from muybridge.studies.study import Scale

# 10^9 multiply-adds a second of training on one thread: 2 cores of an AMD EPYC with AVX-512, width 8, 2026-11-22.
GMACS_PER_SECOND = {
    ConvolutionKind.TIME_AS_CHANNELS: 20.0,
    ConvolutionKind.FRAME_2D: 20.0,
    ConvolutionKind.FULL_3D: 22.0,
    ConvolutionKind.SPATIAL_THEN_TEMPORAL: 10.0,
}
DECODE_SECONDS_PER_CLIP = 0.0025  # 48x48 pixels
STARTUP_SECONDS = 4.0
STEP_COST = 3  # a training step costs about three times the forward pass
PAPER_HOURS, PAPER_MULTIPLY_ADDS = 11.8, 45e6 * STEP_COST * 20.748e9  # Table 3's first row: 45 million clips
BYTES_PER_WEIGHT = 4


@dataclass(frozen=True)
class Budget:
    """Hours and gigabytes of some runs; `machine` says on what."""

    hours: float
    gigabytes: float
    machine: str

    def to_json(self) -> dict[str, float | str]:
        """As `muybridge study --dry-run --json` prints it."""
        return {"hours": self.hours, "gigabytes": self.gigabytes, "of": self.machine}


def estimate_budget(runs: Sequence[PlannedRun], scale: Scale, *, jobs: int = 1) -> Budget:
    """The duration with `jobs` runs at once and the size of the run folders, without data sets."""
    gigabytes = sum(_count_bytes(run) for run in runs) / 1e9
    if scale == "paper":
        hours = sum(_estimate_paper_seconds(run) for run in runs) / 3600
        return Budget(hours, gigabytes, "the paper's 64 GPUs, training alone, in proportion to its Table 3")
    hours = sum(_estimate_laptop_seconds(run) for run in runs) / 3600 / jobs
    machine = f"{jobs} at once, one thread of an AMD EPYC each" if jobs > 1 else "one thread of an AMD EPYC"
    return Budget(hours, gigabytes, machine)


def _estimate_laptop_seconds(run: PlannedRun) -> float:
    """One run on one thread: training, validations and evaluations."""
    training, motions = run.settings.training, run.source.motions
    num_clips = _count_training_clips(run)
    multiply_adds = STEP_COST * num_clips * count_multiply_adds(run.settings)
    if motions is not None:
        num_classes, interval = len(motions.class_names), training.validate_every_epochs
        num_validations = max(1, round(training.epochs / interval)) if interval else 0
        num_validated = (
            num_classes * motions.validation_videos_per_class * run.settings.evaluation.clips * num_validations
        )
        num_clips += num_validated
        multiply_adds += num_validated * count_multiply_adds(run.settings)
        for evaluation in run.evaluations:
            num_views = num_classes * motions.test_videos_per_class * evaluation.clips * evaluation.crops
            num_clips += num_views
            multiply_adds += num_views * count_multiply_adds(_adapt_to_evaluation(run.settings, evaluation))
    speed = 1e9 * GMACS_PER_SECOND[build_specification(run.settings.model).stem]
    return STARTUP_SECONDS + DECODE_SECONDS_PER_CLIP * num_clips + multiply_adds / speed


def _adapt_to_evaluation(settings: TrainSettings, evaluation: EvaluationSpec) -> TrainSettings:
    """The settings with the size of the evaluation's views, for counting."""
    clips = settings.clips
    return replace(settings, clips=replace(clips, length=evaluation.length, crop=evaluation.crop_size or clips.crop))


def _estimate_paper_seconds(run: PlannedRun) -> float:
    """One training on the paper's 64 GPUs."""
    multiply_adds = STEP_COST * _count_training_clips(run) * count_multiply_adds(run.settings)
    return PAPER_HOURS * 3600 * multiply_adds / PAPER_MULTIPLY_ADDS


def _count_training_clips(run: PlannedRun) -> float:
    training = run.settings.training
    assert training.clips_per_epoch is not None, "recipes and laptop settings have clips_per_epoch"
    return training.epochs * training.clips_per_epoch


def _count_bytes(run: PlannedRun) -> float:
    """A run folder: last and best weights, and checkpoints with the optimizer's moments."""
    num_moments = 2 if run.settings.training.optimizer == "adamw" else 1
    num_copies = 2 + run.settings.checkpoints.keep * (1 + num_moments)
    return num_copies * BYTES_PER_WEIGHT * count_parameters(run.settings)
