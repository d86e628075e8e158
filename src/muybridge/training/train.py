"""`train`: one training run from its settings, alone or under torchrun. What the command line and the Python API call."""

from __future__ import annotations

import sys

from rich.console import Console

from muybridge.distributed.process_group import ProcessGroup, join_process_group, local_device
from muybridge.distributed.rank import get_num_restarts
from muybridge.inference.scorer import resolve_device
from muybridge.settings import GivenSettings, TrainSettings
from muybridge.training.estimate import describe_job
from muybridge.training.fit import FitResult, fit
from muybridge.training.job import TrainingJob, prepare_job
from muybridge.training.open_run import lock_run
from muybridge.training.resolve import ResolvedSettings, find_device_and_timeout, resolve_settings


def train(settings: TrainSettings, *, resume: bool = False) -> FitResult:
    """Trains a network into the run folder `settings.output` and prints progress on standard error.

    `resume` continues the run in that folder, if there is one; so does a restart by torchrun. Raises ValueError where the
    settings fit neither data nor machine nor folder, and `StopRequested` after a signal, once the run is saved.
    """
    device = local_device(resolve_device(settings.device))
    with join_process_group(device, settings.timeouts.start_minutes) as process_group:
        return _train(ResolvedSettings(settings), process_group, resume=resume or get_num_restarts() > 0)


def train_given(given: GivenSettings, *, resume: bool = False) -> tuple[FitResult, TrainSettings]:
    """`train` with settings of which some are given and the others resolved (`resolve.py`). Returns the settings too."""
    resume = resume or get_num_restarts() > 0
    device, start_minutes = find_device_and_timeout(given, resume=resume)
    with join_process_group(local_device(resolve_device(device)), start_minutes) as process_group:
        resolved = resolve_settings(given, resume=resume) if process_group.is_rank0 else None
        resolved = process_group.broadcast_from_rank0(resolved)
        assert resolved is not None, "rank 0 has resolved them"
        return _train(resolved, process_group, resume=resume), resolved.settings


def _train(resolved: ResolvedSettings, process_group: ProcessGroup, *, resume: bool) -> FitResult:
    console = Console(file=sys.stderr, soft_wrap=True, markup=False, highlight=False, quiet=not process_group.is_rank0)
    with lock_run(resolved.settings.output, process_group):
        job = prepare_job(resolved.settings, resume=resume, process_group=process_group)
        # Describing measures a step: once is enough.
        for line in (*resolved.notes, *describe_job(job)) if process_group.is_rank0 else ():
            console.print(line)
        result = fit(job, console)
    for line in _list_notes(job, result):
        console.print(line)
    return result


def _list_notes(job: TrainingJob, result: FitResult) -> list[str]:
    """Sentences on looped clips, skipped steps and unreadable clips, where the run had any."""
    train_state, notes = result.train_state, []
    if train_state.num_looped:
        notes.append(
            f"{train_state.num_looped} of {train_state.num_drawn} clips are of videos shorter than a clip, repeated in a loop"
        )
    if train_state.num_skipped_steps:
        notes.append(
            f"{train_state.num_skipped_steps} of {train_state.step} steps skipped: non-finite loss or gradients"
        )
    if train_state.num_failed:
        notes.append(
            f"{train_state.num_failed} of {train_state.num_drawn} clips could not be read; "
            f"{job.folder / 'failures.jsonl'} names them"
        )
    return notes
