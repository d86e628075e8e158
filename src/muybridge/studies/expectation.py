"""What runs will take, before they are started: hours and bytes.

Enter: runs. Leaves: an `Expectation`. Laptop scale is counted from speeds measured on one processor thread (below); paper
scale from the paper's own hours: 11.8 on 64 GPUs for R(2+1)D-18 with 8 frames (Table 3), in proportion to multiply-adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch

from muybridge.models.cost import cost
from muybridge.models.family import ConvolutionKind, build_specification
from muybridge.settings import TrainSettings
from muybridge.studies.plan import Run
from muybridge.studies.study import Scale
from muybridge.training.network import initialize_network

# 10^9 multiply-adds a second of training on one thread: 2 cores of an AMD EPYC with AVX-512, width 8, 2026-11-22.
SPEED = {
    ConvolutionKind.TIME_AS_CHANNELS: 20.0,
    ConvolutionKind.FRAME_2D: 20.0,
    ConvolutionKind.FULL_3D: 22.0,
    ConvolutionKind.SPATIAL_THEN_TEMPORAL: 10.0,
}
SECONDS_A_CLIP_READ = 0.0025  # decoding 48x48 pixels
SECONDS_A_START = 4.0
BACKWARD = 3  # a training step costs about three times the forward pass
PAPER_HOURS, PAPER_MULTIPLY_ADDS = 11.8, 45e6 * BACKWARD * 20.748e9  # Table 3's first row: 45M clips
BYTES_A_WEIGHT = 4


@dataclass(frozen=True)
class Expectation:
    """Of some runs one after the other. `of` says whose hours they are."""

    hours: float
    gigabytes: float
    of: str


def expected(runs: Sequence[Run], scale: Scale, *, jobs: int = 1) -> Expectation:
    """Hours of `jobs` runs at once, and what their folders will hold. Data that is generated or given comes on top."""
    seconds = sum(laptop_seconds(run) if scale == "laptop" else paper_seconds(run) for run in runs)
    size = sum(run_bytes(run) for run in runs)
    machine = {
        "laptop": f"{jobs} at once, one thread of an AMD EPYC each" if jobs > 1 else "one thread of an AMD EPYC",
        "paper": "the paper's 64 GPUs, training alone, in proportion to its Table 3",
    }
    return Expectation(seconds / 3600 / (jobs if scale == "laptop" else 1), size / 1e9, machine[scale])


def laptop_seconds(run: Run) -> float:
    """One run on one thread: training, validation and tests."""
    motions, validations = run.source.motions, run.settings.training.epochs
    every = run.settings.training.validate_every_epochs
    num_videos = 0 if motions is None else len(motions.class_names) * motions.test_videos_per_class
    num_validation = 0 if motions is None else len(motions.class_names) * motions.validation_videos_per_class
    scored = num_videos * sum(test.clips for test in run.tests)
    scored += num_validation * run.settings.evaluation.clips * max(1, round(validations / every)) if every else 0
    trained = training_clips(run)
    kind = build_specification(run.settings.model).stem
    clips = BACKWARD * trained + scored
    return (
        SECONDS_A_START
        + SECONDS_A_CLIP_READ * (trained + scored)
        + clips * multiply_adds(shape_of(run)) / 1e9 / SPEED[kind]
    )


def paper_seconds(run: Run) -> float:
    """One training on the paper's 64 GPUs."""
    asked = BACKWARD * training_clips(run) * multiply_adds(shape_of(run))
    return PAPER_HOURS * 3600 * asked / PAPER_MULTIPLY_ADDS


def training_clips(run: Run) -> float:
    """Clips that a run learns from. Every study says how many there are in an epoch."""
    training = run.settings.training
    assert training.clips_per_epoch is not None, "recipes and laptop runs say it"
    return training.epochs * training.clips_per_epoch


def run_bytes(run: Run) -> float:
    """A run folder: last and best weights, and checkpoints, which hold what the optimizer keeps besides."""
    moments = 2 if run.settings.training.optimizer == "adamw" else 1
    copies = 2 + run.settings.checkpoints.keep * (1 + moments)
    return copies * BYTES_A_WEIGHT * num_parameters(shape_of(run))


def shape_of(run: Run) -> TrainSettings:
    """What the cost depends on, so that seeds are counted once."""
    settings = run.settings
    return TrainSettings(
        data="", model=settings.model, modality=settings.modality, network=settings.network, clips=settings.clips
    )


@cache
def multiply_adds(settings: TrainSettings) -> int:
    """Of one clip; with 400 classes, which hardly matter."""
    clip = (settings.preprocessing.input_channels, settings.clips.length, settings.clips.crop, settings.clips.crop)
    with torch.device("meta"):
        return cost(initialize_network(settings, 400), clip).multiply_adds


@cache
def num_parameters(settings: TrainSettings) -> int:
    """Learnable ones."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in initialize_network(settings, 400).parameters())
