"""What is printed before a run: network, data, number of steps, and an estimate of how long they take."""

from __future__ import annotations

import copy
import time

import torch

from muybridge.text import format_count
from muybridge.training.checkpoint import find_last_step
from muybridge.training.job import TrainingJob
from muybridge.training.progress_bar import format_duration
from muybridge.weights.catalogue import suggest_init

FEW_VIDEOS = 2000  # of a training split: fewer hardly train a network of the family from random weights
TIMING_REPEATS = 3
TIMING_BUDGET_SECONDS = 2.0


def describe_job(job: TrainingJob) -> list[str]:
    """Sentences on a job: its notes, network, data, amount of work and estimated time. Measures a training step."""
    train, validation, schedule = len(job.train_manifest), len(job.validation_manifest), job.schedule
    num_parameters = sum(parameter.numel() for parameter in job.network.parameters())
    lines = [
        *job.notes,
        f"{job.settings.model} with {num_parameters:,} parameters on {job.device}; "
        f"{train} training and {validation} validation videos of {_describe_outputs(job)}",
    ]
    if _is_few_for_random_weights(job):
        lines.append(
            f"{format_count(train, 'video')} are few for training from random weights: expect an accuracy not far above "
            f"guessing; add --init {suggest_init(job.settings.model)} to start from pretrained weights"
        )
    steps_left = schedule.num_steps - find_last_step(job.folder / "checkpoints")
    if steps_left == 0:
        return [*lines, f"all {schedule.num_steps:,} steps of the run are done"]
    seconds = measure_seconds_per_clip(job)
    duration = format_duration(seconds * steps_left * schedule.global_batch)
    left = "" if steps_left == schedule.num_steps else f", {steps_left:,} of them left"
    return [
        *lines,
        f"{schedule.num_clips:,} clips in {schedule.num_steps:,} steps of {schedule.global_batch}{left}: about {duration} "
        f"at {1 / seconds:.3g} clips a second, if loading keeps up, plus validation",
    ]


def _describe_outputs(job: TrainingJob) -> str:
    nouns = {"multi_label": "class", "regression": "target", "ordinal": "level"}
    noun = nouns[job.head.task] if job.head else "class"
    return format_count(len(job.classes), noun)


def _is_few_for_random_weights(job: TrainingJob) -> bool:
    """Whether a new run of the command line starts from random weights on few videos. Studies name no recipe."""
    settings = job.settings
    is_new = find_last_step(job.folder / "checkpoints") == 0
    return is_new and settings.init is None and settings.recipe is not None and len(job.train_manifest) < FEW_VIDEOS


def measure_seconds_per_clip(job: TrainingJob) -> float:
    """Seconds per clip of a training step without loading, measured on this device with a copy of the network.

    The minimum over some repeats, since the first includes set-up and others may share the processor; in batches as large as
    `TIMING_BUDGET_SECONDS` allow.
    """
    network = copy.deepcopy(job.network).train()
    shape = (job.preprocessing.input_channels, job.preprocessing.clip_length, *[job.preprocessing.crop] * 2)
    training, num_clips = job.settings.training, 2  # batch norm in training mode needs two values a channel
    while True:
        clips = torch.randn(num_clips, *shape, device=job.device)
        step_seconds = []
        for _ in range(TIMING_REPEATS):
            start = time.perf_counter()
            with torch.autocast(job.device.type, torch.bfloat16, enabled=training.precision == "bf16"):
                logits: torch.Tensor = network(clips)
            torch.autograd.backward(logits.float().sum())
            if job.device.type == "cuda":
                torch.cuda.synchronize(job.device)
            step_seconds.append(time.perf_counter() - start)
        larger = min(training.batch_size, 2 * num_clips)
        if larger <= num_clips or sum(step_seconds) * larger / num_clips > TIMING_BUDGET_SECONDS:
            return min(step_seconds) / num_clips
        num_clips = larger
