"""`train`: one training run from its settings, alone or under torchrun. What the command line and the Python API call."""

from __future__ import annotations

from collections.abc import Generator

from muybridge.console import PlainConsole
from muybridge.distributed.process_group import ProcessGroup, join_process_group, local_device
from muybridge.distributed.rank import get_num_restarts
from muybridge.inference.scorer import resolve_device
from muybridge.settings import TrainSettings
from muybridge.text import format_count
from muybridge.training.events import TrainingEvent
from muybridge.training.fit import FitResult, iterate_fit
from muybridge.training.given_settings import GivenSettings
from muybridge.training.job import TrainingJob, prepare_job
from muybridge.training.job_description import describe_job
from muybridge.training.open_run import lock_run
from muybridge.training.resolve import ResolvedSettings, find_device_and_timeout, resolve_settings

TrainingEvents = Generator[TrainingEvent, None, tuple[FitResult, TrainSettings]]


def train(settings: TrainSettings, *, resume: bool = False) -> FitResult:
    """Trains a network into the run folder `settings.output` and prints progress on standard error.

    `resume` continues the run in that folder, if there is one; so does a restart by torchrun. Raises ValueError where the
    settings fit neither data nor machine nor folder, and `StopRequested` after a signal, once the run is saved.
    """
    return _run_to_end(iterate_events(settings, resume=resume))[0]


def train_given(given: GivenSettings, *, resume: bool = False) -> tuple[FitResult, TrainSettings]:
    """`train` with settings of which some are given and the others resolved (`resolve.py`). Returns the settings too."""
    return _run_to_end(iterate_events(given, resume=resume))


def _run_to_end(events: TrainingEvents) -> tuple[FitResult, TrainSettings]:
    while True:
        try:
            next(events)
        except StopIteration as end:
            result: tuple[FitResult, TrainSettings] = end.value
            return result


def iterate_events(settings: TrainSettings | GivenSettings, *, resume: bool = False) -> TrainingEvents:
    """As `train` or `train_given`, step by step: yields what happened (`fit.iterate_fit`)."""
    resume = resume or get_num_restarts() > 0
    if isinstance(settings, GivenSettings):
        device, start_minutes = find_device_and_timeout(settings, resume=resume)
    else:
        device, start_minutes = settings.device, settings.timeouts.start_minutes
    with join_process_group(local_device(resolve_device(device)), start_minutes) as process_group:
        resolved = _resolve(settings, process_group, resume=resume)
        console = PlainConsole(quiet=not process_group.is_rank0)
        with lock_run(resolved.settings.output, process_group):
            job = prepare_job(resolved.settings, resume=resume, process_group=process_group)
            for line in (*resolved.notes, *describe_job(job)):
                console.print(line)
            result = yield from iterate_fit(job, console)
    for line in _list_notes(job, result):
        console.print(line)
    return result, resolved.settings


def _resolve(settings: TrainSettings | GivenSettings, process_group: ProcessGroup, *, resume: bool) -> ResolvedSettings:
    """The settings of the run, resolved by rank 0, which may download weights."""
    if isinstance(settings, TrainSettings):
        return ResolvedSettings(settings)
    resolved = resolve_settings(settings, resume=resume) if process_group.is_rank0 else None
    resolved = process_group.broadcast_from_rank0(resolved)
    assert resolved is not None, "rank 0 has resolved them"
    return resolved


def _list_notes(job: TrainingJob, result: FitResult) -> list[str]:
    """Sentences on looped clips, skipped steps and unreadable clips, where the run had any."""
    train_state, notes = result.train_state, []
    if train_state.num_looped:
        notes.append(
            f"{train_state.num_looped} of {format_count(train_state.num_drawn, 'clip')}: of videos "
            f"shorter than a clip, repeated in a loop"
        )
    if train_state.num_skipped_steps:
        notes.append(
            f"{train_state.num_skipped_steps} of {format_count(train_state.step, 'step')} skipped: non-finite loss or gradients"
        )
    if train_state.num_failed:
        notes.append(
            f"{train_state.num_failed} of {format_count(train_state.num_drawn, 'clip')} could not be read; "
            f"{job.folder / 'failures.jsonl'} names them"
        )
    return notes
