"""The training loop: batch, learning rate, step, log, validate, save (paper section 4.1).

Input: a `TrainingJob`. Output: a run folder with last.safetensors, best.safetensors (by video accuracy on validation, never
on test), checkpoints, logs, and the scores of the last validation. Under torchrun every rank runs this loop, and all take
the same branches; only rank 0 writes and prints.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from muybridge.evaluation.metrics import Accuracy
from muybridge.evaluation.task_metrics import TaskMetrics
from muybridge.kernels.graphs import GraphedNetwork
from muybridge.loading.datasets import Failure
from muybridge.text import format_count
from muybridge.training.checkpoint import TrainState, mark_none_yet, read_newest_snapshot, restore
from muybridge.training.data_parallel import wrap_for_training
from muybridge.training.events import StepDone, TrainingEvent, ValidationDone
from muybridge.training.execution import use_cuda_graphs
from muybridge.training.guard import LOADING, TRAINING, guard_run
from muybridge.training.job import TrainingJob, write_description
from muybridge.training.metrics_log import MetricsLog
from muybridge.training.optimizer import build_optimizer, set_learning_rate
from muybridge.training.profiler import StepProfiler
from muybridge.training.progress_bar import ProgressBar, StepMetrics
from muybridge.training.step import StepContext, StepResult, make_example_clips, training_step
from muybridge.training.step_batches import StepBatches
from muybridge.training.validation import VALIDATION_SCORES, is_validation_due, make_workload, validate
from muybridge.weights.address import RUN_FILES

MIN_DRAWS_FOR_FAILURE_SHARE = 100  # before the last step, fewer draws do not stop a run however many of them fail


@dataclass(frozen=True)
class FitResult:
    """The final state of a run, and the metrics of its last validation in this process, if there was one."""

    train_state: TrainState
    validation_metrics: Accuracy | TaskMetrics | None

    @property
    def validation_accuracy(self) -> Accuracy | None:
        """The metrics of the last validation; None for another task than single_label."""
        return self.validation_metrics if isinstance(self.validation_metrics, Accuracy) else None


def fit(job: TrainingJob, console: Console) -> FitResult:
    """Trains from the newest checkpoint, or from step 0, to the last step. Raises `StopRequested` after saving."""
    events = iterate_fit(job, console)
    while True:
        try:
            next(events)
        except StopIteration as end:
            result: FitResult = end.value
            return result


def iterate_fit(job: TrainingJob, console: Console) -> Generator[TrainingEvent, None, FitResult]:
    """As `fit`, step by step: yields what happened. A caller that stops early leaves a saved run."""
    schedule, training = job.schedule, job.settings.training
    optimizer = build_optimizer(job.network, training)
    train_state, validation_metrics = _restore_newest_checkpoint(job, optimizer, console), None
    context = StepContext(job, _wrap_network(job, console), optimizer)
    with (
        guard_run(job, optimizer, train_state, console) as guard,  # time limits, checkpoints, failures, stop requests
        MetricsLog(job.folder, train_state.step, enabled=job.process_group.is_rank0) as metrics_log,
        ProgressBar(console, schedule, train_state.step, make_workload(job)) as progress_bar,
        StepProfiler(job.folder, job.process_group.rank, training.profile_steps) as profiler,
    ):
        batches = StepBatches(job, train_state.step, on_worker_restart=guard.handle_worker_restart)
        if is_validation_due(job, train_state):  # the run was stopped between a step and the end of its validation
            train_state, validation_metrics = validate(job, train_state, guard, metrics_log, console)
            progress_bar.finish_validation()
        guard.save_if_due(train_state)

        for step in range(train_state.step, schedule.num_steps):
            start = time.perf_counter()
            # A phase has a time limit, and names the videos of the step when it fails.
            list_videos = partial(batches.list_videos, step)
            guard.start_phase(LOADING, train_state, list_videos=list_videos)
            micro_batches = next(batches)
            waited_seconds = time.perf_counter() - start

            learning_rate = schedule.compute_learning_rate(step)
            set_learning_rate(optimizer, learning_rate)

            guard.start_phase(TRAINING, train_state, list_videos=list_videos)
            result = training_step(context, micro_batches, step)
            guard.end_phase()
            profiler.step()

            train_state = count_step(train_state, result)
            metrics_log.log_failures(train_state.step, result.failures)
            check_failed_share(job, train_state, result.failures)
            seconds = time.perf_counter() - start
            num_right = result.num_right if training.task == "single_label" else None
            metrics = StepMetrics(result.loss, num_right, result.num_clips, seconds, waited_seconds)
            progress_bar.update(metrics)
            epoch = schedule.compute_epoch(train_state.step)
            metrics_log.log_metrics(
                "train", train_state.step, {"epoch": epoch, "rate": learning_rate, **metrics.to_log()}
            )

            if is_validation_due(job, train_state):
                if isinstance(context.model, GraphedNetwork):
                    context.model.make_room()
                train_state, validation_metrics = validate(job, train_state, guard, metrics_log, console)
                progress_bar.finish_validation()
            guard.save_if_due(train_state)  # and stops here if asked to
            with guard.save_if_left(train_state):
                yield _make_step_event(train_state.step, epoch, learning_rate, metrics)
                if validation_metrics is not None and train_state.validated_step == train_state.step:
                    yield ValidationDone(train_state.step, epoch, validation_metrics)
    return FitResult(train_state, validation_metrics)


def _wrap_network(job: TrainingJob, console: Console) -> nn.Module | GraphedNetwork:
    """The network as a step calls it: by CUDA graphs, or with gradients averaged over the ranks."""
    training = job.settings.training
    if job.process_group.world_size == 1:
        return use_cuda_graphs(job.network, training, console.print)
    examples = make_example_clips(job, 2)
    return wrap_for_training(
        job.network, job.process_group, sync_batch_norm=training.synchronise_norm, example_clips=examples
    )


def _restore_newest_checkpoint(job: TrainingJob, optimizer: torch.optim.Optimizer, console: Console) -> TrainState:
    """Restores the newest intact checkpoint on all ranks, read by rank 0, and returns its state; of a new run that of step 0.

    Only then is the run folder written. Raises ValueError where no checkpoint of the run is intact: its network has random
    weights until one is restored.
    """
    snapshot, problems = read_newest_snapshot(job.folder / "checkpoints") if job.process_group.is_rank0 else (None, [])
    for problem in problems:
        console.print(problem)
    snapshot = job.process_group.broadcast_from_rank0(snapshot)
    if snapshot is None:
        if job.process_group.is_rank0:
            write_description(job)
            _begin_anew(job.folder)
        return TrainState(step=0)
    restore(snapshot, job.network, optimizer)
    if job.weight_average is not None:
        job.weight_average.load(snapshot.average)
    if job.process_group.is_rank0:
        write_description(job)
    console.print(f"resuming at step {snapshot.train_state.step} of {job.schedule.num_steps}")
    return snapshot.train_state


def _begin_anew(folder: Path) -> None:
    """Removes what a run that was killed before its first checkpoint left: this one may be of other settings."""
    mark_none_yet(folder / "checkpoints")
    for name in (*RUN_FILES, VALIDATION_SCORES):
        (folder / name).unlink(missing_ok=True)


def _make_step_event(step: int, epoch: float, learning_rate: float, metrics: StepMetrics) -> StepDone:
    values = (metrics.loss, metrics.num_right, metrics.num_clips, metrics.seconds, metrics.waited_seconds)
    return StepDone(step, epoch, learning_rate, *values)


def count_step(train_state: TrainState, result: StepResult) -> TrainState:
    """The state after one more step."""
    return replace(
        train_state,
        step=train_state.step + 1,
        num_drawn=train_state.num_drawn + result.num_clips + len(result.failures),
        num_failed=train_state.num_failed + len(result.failures),
        num_looped=train_state.num_looped + result.num_looped,
        num_skipped_steps=train_state.num_skipped_steps + result.skipped,
    )


def check_failed_share(job: TrainingJob, train_state: TrainState, failures: Sequence[Failure]) -> None:
    """Raises RuntimeError where, with the `failures` of the last step, more than loading.max_failed_share have failed."""
    max_failed_share = job.settings.loading.max_failed_share
    is_judged = train_state.num_drawn >= MIN_DRAWS_FOR_FAILURE_SHARE or train_state.step == job.schedule.num_steps
    if failures and is_judged and train_state.num_failed > max_failed_share * train_state.num_drawn:
        last = failures[-1]
        raise RuntimeError(
            f"{train_state.num_failed} of {format_count(train_state.num_drawn, 'clip')} could not be read, more than "
            f"loading.max_failed_share {max_failed_share:g} allows; {job.folder / 'failures.jsonl'} names them, the last is "
            f"{last.video}: {last.reason}"
        )
