"""`train`: one training run from its settings, alone or under torchrun. What the command line and the Python API call."""

from __future__ import annotations

from collections.abc import Generator

from muybridge.console import PlainConsole
from muybridge.distributed.process_group import join_process_group, local_device
from muybridge.distributed.rank import get_num_restarts
from muybridge.inference.scorer import resolve_device
from muybridge.settings import TrainSettings
from muybridge.training.estimate import describe_job
from muybridge.training.events import TrainingEvent
from muybridge.training.fit import FitResult, iterate_fit
from muybridge.training.job import TrainingJob, prepare_job
from muybridge.training.open_run import lock_run


def train(settings: TrainSettings, *, resume: bool = False) -> FitResult:
    """Trains a network into the run folder `settings.output` and prints progress on standard error.

    `resume` continues the run in that folder, if there is one; so does a restart by torchrun. Raises ValueError where the
    settings fit neither data nor machine nor folder, and `StopRequested` after a signal, once the run is saved.
    """
    events = iterate_events(settings, resume=resume)
    while True:
        try:
            next(events)
        except StopIteration as end:
            result: FitResult = end.value
            return result


def iterate_events(settings: TrainSettings, *, resume: bool = False) -> Generator[TrainingEvent, None, FitResult]:
    """As `train`, step by step: yields what happened (`fit.iterate_fit`)."""
    device = local_device(resolve_device(settings.device))
    with join_process_group(device, settings.timeouts.start_minutes) as process_group:
        console = PlainConsole(quiet=not process_group.is_rank0)
        with lock_run(settings.output, process_group):
            job = prepare_job(settings, resume=resume or get_num_restarts() > 0, process_group=process_group)
            for line in describe_job(job) if process_group.is_rank0 else ():  # it measures a step: once is enough
                console.print(line)
            result = yield from iterate_fit(job, console)
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
