"""The training loop on one page: rate, batch, step, log, validate, save (paper section 4.1).

Enter: a `TrainingJob` from start.py. Leave: a run folder with last.safetensors, best.safetensors (by video accuracy on
validation,
never on test), checkpoints to go on from, curves, and the scores of the last validation. Under torchrun every rank runs this
loop and all take the same turns; rank 0 alone writes and prints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from rich.console import Console

from muybridge.distributed.process_group import ProcessGroup
from muybridge.distributed.stop import StopFlag, StopRequested, stop_on_signals
from muybridge.distributed.watchdog import Watchdog
from muybridge.evaluation.evaluate import EvaluationJob, evaluate, format_accuracy
from muybridge.evaluation.metrics import Accuracy
from muybridge.inference.scorer import NetworkScorer
from muybridge.loading.clip_reader import open_clip_reader
from muybridge.loading.datasets import TrainingBatch, TrainingDataset
from muybridge.loading.draws import TrainingBatchSampler
from muybridge.loading.loader import load_training_batches
from muybridge.training.checkpoint import TrainState, read_newest_snapshot, restore
from muybridge.training.checkpointer import AsyncCheckpointer, save_weights
from muybridge.training.data_parallel import wrap_for_training
from muybridge.training.execution import prefetch_to_device
from muybridge.training.job import TrainingJob
from muybridge.training.metrics_log import MetricsLog
from muybridge.training.optimizer import build_optimizer, set_learning_rate
from muybridge.training.profiler import StepProfiler
from muybridge.training.progress_bar import ProgressBar, StepMetrics
from muybridge.training.step import StepContext, StepResult, make_example_clips, training_step
from muybridge.weights.card import compute_tensors_sha256

MIN_DRAWS_FOR_FAILURE_SHARE = 100  # before the share of unreadable clips can stop a run; at its end fewer are enough


@dataclass(frozen=True)
class FitResult:
    """How a run ended: the last validation's accuracy, none where there are no validation videos."""

    train_state: TrainState
    validation_accuracy: Accuracy | None


def fit(job: TrainingJob, console: Console) -> FitResult:
    """Trains from the newest checkpoint, or from the start, to the last step. Raises `StopRequested` after saving."""
    schedule, limits, training = job.schedule, job.settings.timeouts, job.settings.training
    optimizer = build_optimizer(job.network, training)
    train_state, accuracy = restore_newest_checkpoint(job, optimizer, console), None
    model = wrap_for_training(
        job.network,
        job.process_group,
        sync_batch_norm=training.synchronise_norm,
        example_clips=make_example_clips(job, 2),
    )
    context = StepContext(job, model, optimizer)
    saved_state, saved_at = train_state, time.monotonic()
    with (
        stop_on_signals() as stop,
        Watchdog(job.process_group.rank) as watchdog,
        MetricsLog(job.folder, train_state.step, enabled=job.process_group.is_rank0) as metrics_log,
        ProgressBar(console, schedule, train_state.step) as progress_bar,
        StepProfiler(job.folder, job.process_group.rank, training.profile_steps) as profiler,
        AsyncCheckpointer(job, optimizer) as checkpointer,
    ):
        dataset, sampler = _build_dataset_and_sampler(job, train_state.step)
        batches = read_batches(job, dataset, sampler, partial(handle_worker_restart, job.process_group, stop, console))
        step_phase = partial(
            watchdog.limit_phase, limit_minutes=limits.step_minutes, setting_name="timeouts.step_minutes"
        )
        save_phase = partial(
            watchdog.limit_phase, limit_minutes=limits.checkpoint_minutes, setting_name="timeouts.checkpoint_minutes"
        )
        while True:
            if is_validation_due(job, train_state):
                with save_on_failure(checkpointer, train_state, stop, job.process_group):
                    train_state, accuracy = validate(job, train_state, metrics_log, console, stop, watchdog)
            finished, validated = train_state.step == schedule.num_steps, train_state.validated_step == train_state.step
            with step_phase(f"meeting after step {train_state.step}"):
                signal_number = gather_stop_signal(job.process_group, stop)
            is_save_due = time.monotonic() - saved_at > 60 * job.settings.checkpoints.every_minutes
            if train_state != saved_state and (finished or validated or is_save_due or signal_number):
                with save_phase(f"saving step {train_state.step}"):
                    checkpointer.save(train_state)
                saved_state, saved_at = train_state, time.monotonic()
            checkpointer.raise_if_failed()
            if finished:
                return FitResult(train_state, accuracy)
            if signal_number:
                raise StopRequested(signal_number)

            step_start, step = time.perf_counter(), train_state.step
            list_videos = partial(list_videos_of_step, dataset, sampler, step)
            with (
                save_on_failure(checkpointer, train_state, stop, job.process_group),
                step_phase(f"reading the clips of step {step + 1}", list_videos=list_videos),
            ):
                micro_batches = [next(batches) for _ in range(sampler.num_micro_batches)]
            waited_seconds = time.perf_counter() - step_start
            learning_rate = schedule.compute_learning_rate(step)
            set_learning_rate(optimizer, learning_rate)
            with step_phase(f"training step {step + 1}", list_videos=list_videos):
                result = training_step(context, micro_batches, step)
            train_state = update_train_state(job, train_state, result, metrics_log)
            profiler.step()
            seconds = time.perf_counter() - step_start

            step_metrics = StepMetrics(result.loss, result.num_right, result.num_clips, seconds, waited_seconds)
            progress_bar.update(step_metrics)
            epoch = schedule.compute_epoch(train_state.step)
            metrics_log.log_metrics(
                "train", train_state.step, {"epoch": epoch, "rate": learning_rate, **step_metrics.to_log()}
            )


def read_batches(
    job: TrainingJob, dataset: TrainingDataset, sampler: TrainingBatchSampler, on_restart: Callable[[str], None]
) -> Iterator[TrainingBatch]:
    """This rank's batches on its device, `steps.num_micro_batches` a step; `restarted` hears why workers were started again."""
    pin_memory = job.device.type == "cuda"
    batches = load_training_batches(
        dataset, sampler, job.settings.loading, pin_memory=pin_memory, on_restart=on_restart
    )
    return prefetch_to_device(batches, job.device)


def restore_newest_checkpoint(job: TrainingJob, optimizer: torch.optim.Optimizer, console: Console) -> TrainState:
    """Where to begin: the newest checkpoint that is whole, read by rank 0 and put in place on all, or step 0."""
    snapshot, problems = read_newest_snapshot(job.folder / "checkpoints") if job.process_group.is_rank0 else (None, [])
    for problem in problems:
        console.print(problem)
    snapshot = job.process_group.broadcast_from_rank0(snapshot)
    if snapshot is None:
        return TrainState(step=0)
    restore(snapshot, job.network, optimizer)
    console.print(f"going on at step {snapshot.train_state.step} of {job.schedule.num_steps}")
    return snapshot.train_state


def update_train_state(
    job: TrainingJob, train_state: TrainState, result: StepResult, metrics_log: MetricsLog
) -> TrainState:
    """One step more, and what was drawn in it; too large a share of failures ends the run with a RuntimeError."""
    updated = replace(
        train_state,
        step=train_state.step + 1,
        num_drawn=train_state.num_drawn + result.num_clips + len(result.failures),
        num_failed=train_state.num_failed + len(result.failures),
        num_looped=train_state.num_looped + result.num_looped,
        num_skipped_steps=train_state.num_skipped_steps + result.skipped,
    )
    metrics_log.log_failures(updated.step, result.failures)
    max_failed_share = job.settings.loading.max_failed_share
    has_enough_draws = updated.num_drawn >= MIN_DRAWS_FOR_FAILURE_SHARE or updated.step == job.schedule.num_steps
    if result.failures and has_enough_draws and updated.num_failed > max_failed_share * updated.num_drawn:
        last = result.failures[-1]
        raise RuntimeError(
            f"{updated.num_failed} of {updated.num_drawn} clips could not be read, more than "
            f"loading.max_failed_share {max_failed_share:g} "
            f"allows; {job.folder / 'failures.jsonl'} names them, the last is {last.video}: {last.reason}"
        )
    return updated


def is_validation_due(job: TrainingJob, train_state: TrainState) -> bool:
    """Whether the validation videos are to be scored after this step, and were not yet."""
    if len(job.validation_manifest) == 0 or train_state.step in (0, train_state.validated_step):
        return False
    interval_steps = job.settings.training.validate_every_epochs * job.schedule.steps_per_epoch
    return train_state.step == job.schedule.num_steps or (
        interval_steps > 0 and train_state.step % max(1, round(interval_steps)) == 0
    )


def validate(
    job: TrainingJob,
    train_state: TrainState,
    metrics_log: MetricsLog,
    console: Console,
    stop: StopFlag,
    watchdog: Watchdog,
) -> tuple[TrainState, Accuracy]:
    """Scores the validation videos by the evaluation protocol; keeps best.safetensors and the scores."""
    settings = job.settings
    job.process_group.broadcast_buffers(job.network)
    evaluation_job = EvaluationJob(
        manifest=job.validation_manifest,
        split="validation",
        fold=settings.fold,
        preprocessing=job.preprocessing,
        model_sha256=compute_tensors_sha256(job.network.state_dict()),
        evaluation=settings.evaluation,
        loading=settings.loading,
    )

    def on_batch_done(num_videos: int) -> None:
        watchdog.reset_deadline()
        if signal_number := gather_stop_signal(job.process_group, stop):
            raise StopRequested(signal_number)  # validation may take long, and comes again on --resume

    with watchdog.limit_phase(
        f"validation after step {train_state.step}", settings.timeouts.scoring_minutes, "timeouts.scoring_minutes"
    ):
        accuracy = evaluate(
            evaluation_job,
            NetworkScorer(job.network, job.device),
            job.folder / "scores" / "validation.parquet",
            device=job.device,
            on_progress=on_batch_done,
        ).accuracy
    metrics = {name: getattr(accuracy, name).of_all.share for name in ("clip_top1", "video_top1", "video_top5")}
    metrics_log.log_metrics("validation", train_state.step, metrics)
    console.print(f"epoch {job.schedule.compute_epoch(train_state.step):.1f}: {format_accuracy(accuracy)}")
    share = accuracy.video_top1.of_all.share
    if train_state.best_accuracy is None or share > train_state.best_accuracy:
        if job.process_group.is_rank0:
            save_weights(job, "best.safetensors")
        train_state = replace(train_state, best_accuracy=share, best_step=train_state.step)
    return replace(train_state, validated_step=train_state.step), accuracy


@contextmanager
def save_on_failure(
    checkpointer: AsyncCheckpointer, train_state: TrainState, stop: StopFlag, process_group: ProcessGroup
) -> Iterator[None]:
    """For what leaves the weights alone: where it cannot end, the run is saved before the error goes on.

    A signal to a whole group of processes ends the workers and other ranks too; that counts as the request to stop that
    it is.
    """
    try:
        yield
    except (StopRequested, RuntimeError):
        if train_state.step > 0:
            checkpointer.save(train_state)
            checkpointer.wait()
        if stop.signal_number is not None:
            raise StopRequested(stop.signal_number) from None
        raise


def gather_stop_signal(process_group: ProcessGroup, stop: StopFlag) -> int:
    """The signal that any rank was asked to stop by, 0 for none: known to all at the same time."""
    return int(max(row[0] for row in process_group.all_gather_floats([stop.signal_number or 0])))


def handle_worker_restart(process_group: ProcessGroup, stop: StopFlag, console: Console, reason: str) -> None:
    """Workers were killed: by whoever asks the run to stop, or by chance."""
    if stop.signal_number is not None and process_group.world_size == 1:
        raise StopRequested(stop.signal_number)
    console.print(reason)


def list_videos_of_step(dataset: TrainingDataset, sampler: TrainingBatchSampler, step: int) -> list[str]:
    """The videos that this rank draws in a step."""
    return [dataset.get_video(draw) for draw in sampler.list_draws(step)]


def _build_dataset_and_sampler(job: TrainingJob, first_step: int) -> tuple[TrainingDataset, TrainingBatchSampler]:
    settings = job.settings
    reader = open_clip_reader(job.train_manifest.root, job.preprocessing)
    dataset = TrainingDataset(job.train_manifest, reader, mirror=settings.clips.mirror, seed=settings.seed)
    batch, place = settings.training.batch_size, job.process_group.rank
    return dataset, TrainingBatchSampler(first_step, job.schedule.num_steps, batch, place, job.schedule.global_batch)
