"""What is printed before a run: network, data and number of steps. How long they take is measured (`time_left.py`)."""

from __future__ import annotations

from muybridge.text import format_count
from muybridge.training.checkpoint import find_last_step
from muybridge.training.job import TrainingJob
from muybridge.weights.catalogue import suggest_init

FEW_VIDEOS = 2000  # of a training split: fewer hardly train a network of the family from random weights


def describe_job(job: TrainingJob) -> list[str]:
    """Sentences on a job: its notes, network, data, and amount of work."""
    train, validation, schedule = len(job.train_manifest), len(job.validation_manifest), job.schedule
    noun = job.train_manifest.noun
    num_parameters = sum(parameter.numel() for parameter in job.network.parameters())
    lines = [
        *job.notes,
        f"{job.settings.model} with {format_count(num_parameters, 'parameter')} on {job.device}; "
        f"{train} training and {format_count(validation, f'validation {noun}')} of {_describe_outputs(job)}",
    ]
    if _is_few_for_random_weights(job):
        lines.append(
            f"{format_count(train, noun, 'is')} few for training from random weights: expect an accuracy not far above "
            f"guessing; add --init {suggest_init(job.settings.model)} to start from pretrained weights"
        )
    steps_left = schedule.num_steps - find_last_step(job.folder / "checkpoints")
    if steps_left == 0:
        all_steps = (
            "the one step of the run is"
            if schedule.num_steps == 1
            else f"all {schedule.num_steps:,} steps of the run are"
        )
        return [*lines, f"{all_steps} done"]
    left = "" if steps_left == schedule.num_steps else f", {steps_left:,} of them left"
    return [
        *lines,
        f"{format_count(schedule.num_clips, 'clip')} in {format_count(schedule.num_steps, 'step')} of "
        f"{schedule.global_batch}{left}; the time they take is "
        "measured on the first steps",
    ]


def _is_few_for_random_weights(job: TrainingJob) -> bool:
    """Whether a new run of the command line starts from random weights on few videos. Studies name no recipe."""
    settings = job.settings
    is_new = find_last_step(job.folder / "checkpoints") == 0
    return is_new and settings.init is None and settings.recipe is not None and len(job.train_manifest) < FEW_VIDEOS


def _describe_outputs(job: TrainingJob) -> str:
    nouns = {"multi_label": "class", "regression": "target", "ordinal": "level"}
    return format_count(len(job.classes), nouns[job.head.task] if job.head else "class")
