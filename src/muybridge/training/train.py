"""One training run from its settings: `train(settings)`, as `muybridge train` calls it."""

from __future__ import annotations

import sys

from rich.console import Console

from muybridge.distributed.process_group import join_process_group, local_device
from muybridge.distributed.rank import get_num_restarts
from muybridge.inference.scorer import resolve_device
from muybridge.settings import TrainSettings
from muybridge.training.fit import FitResult, fit
from muybridge.training.job import describe_job, prepare_job


def train(settings: TrainSettings, *, resume: bool = False) -> FitResult:
    """Train a network, with progress on standard error. With `resume`, an interrupted run in `settings.output` is resumed."""
    device = local_device(resolve_device(settings.device))
    with join_process_group(device, settings.timeouts.start_minutes) as ranks:
        console = Console(file=sys.stderr, soft_wrap=True, markup=False, highlight=False, quiet=not ranks.is_rank0)
        job = prepare_job(settings, resume=resume or get_num_restarts() > 0, process_group=ranks)
        for line in describe_job(job) if ranks.is_rank0 else ():
            console.print(line)
        result = fit(job, console)
    state = result.train_state
    if state.num_looped:
        console.print(
            f"{state.num_looped} of {state.num_drawn} clips are of videos shorter than a clip, repeated in a loop"
        )
    if state.num_skipped_steps:
        console.print(f"{state.num_skipped_steps} of {state.step} steps skipped: non-finite loss or gradient")
    if state.num_failed:
        console.print(
            f"{state.num_failed} of {state.num_drawn} clips could not be read; "
            f"{job.folder / 'failures.jsonl'} names them"
        )
    return result
