"""The training loop on one page: rate, batch, step, log, validate, save (paper section 4.1).

Enter: a `Job` from start.py. Leave: a run folder with last.safetensors, best.safetensors (by video accuracy on validation,
never on test), checkpoints to go on from, curves, and the scores of the last validation.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from muybridge.data.loader import StepDraws, TrainingBatch, TrainingDraws, frame_source, training_batches
from muybridge.data.views import network_input
from muybridge.evaluation.evaluate import Examination, evaluate, sentence
from muybridge.evaluation.metrics import Accuracy
from muybridge.evaluation.scorer import NetworkScorer
from muybridge.processes import StopFlag, StopRequested, place, stop_on_signals
from muybridge.training.checkpoint import Progress, checkpoints, load_checkpoint, save_checkpoint
from muybridge.training.curves import Curves
from muybridge.training.execution import ahead
from muybridge.training.optimizer import build_optimizer, set_rate
from muybridge.training.progress import ProgressBar
from muybridge.training.start import Job
from muybridge.weights.card import save, tensors_sha256

MIN_DRAWS_TO_JUDGE = 100  # before the share of unreadable clips can stop a run


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the last validation's accuracy, none where there are no validation videos."""

    progress: Progress
    validation: Accuracy | None


def fit(job: Job, console: Console) -> Outcome:
    """Trains from the newest checkpoint, or from the start, to the last step. Raises `StopRequested` after saving."""
    training, schedule = job.settings.training, job.schedule
    optimizer = build_optimizer(job.network, training)
    progress, measured = newest_progress(job, optimizer, console), None
    validate_every = round(training.validate_every_epochs * schedule.steps_per_epoch) or schedule.num_steps
    save_every_seconds = 60 * job.settings.checkpoints.every_minutes
    read = training_batches(*_draws(job, progress.step), job.settings.loading, pin_memory=job.device.type == "cuda")
    batches = ahead(read, job.device)
    saved_at = time.monotonic()
    with (
        stop_on_signals() as stop,
        Curves(job.folder, progress.step) as curves,
        ProgressBar(console, schedule, progress.step) as bar,
    ):
        while progress.step < schedule.num_steps:
            waiting_since = time.perf_counter()
            batch = next(batches)
            bar.waited(time.perf_counter() - waiting_since)

            step = progress.step
            set_rate(optimizer, schedule.rate(step))
            loss, num_right = training_step(job, optimizer, batch)
            progress = count(job, replace(progress, step=step + 1), batch, curves)

            bar.stepped(loss, num_right, len(batch.videos))
            curves.record(
                "train", step, {"epoch": schedule.epoch(step + 1), "rate": schedule.rate(step), **bar.figures()}
            )
            finished = progress.step == schedule.num_steps
            if finished or progress.step % validate_every == 0:
                progress, measured = validate(job, progress, curves, console)
            due = finished or progress.step % validate_every == 0 or time.monotonic() - saved_at > save_every_seconds
            if due or stop.signal_number is not None:
                save_run(job, optimizer, progress)
                saved_at = time.monotonic()
            leave_if_asked(stop, finished)
    return Outcome(progress, measured)


def training_step(job: Job, optimizer: torch.optim.Optimizer, batch: TrainingBatch) -> tuple[float, int]:
    """One step of gradient descent; the mean loss, and how many clips were classified right before it.

    A batch none of whose clips could be read moves nothing. A loss that is not finite is a FloatingPointError that names
    the videos, raised before it can reach the weights.
    """
    if batch.views is None:
        return math.nan, 0
    training = job.settings.training
    job.network.train()
    clips = network_input(batch.views, job.preprocessing, job.device)
    labels = batch.labels_n.to(job.device, non_blocking=True)
    with torch.autocast(job.device.type, torch.bfloat16, enabled=training.precision == "bf16"):
        logits: Tensor = job.network(clips)
    loss = functional.cross_entropy(logits.float(), labels, label_smoothing=training.label_smoothing)
    value = loss.item()
    if not math.isfinite(value):
        raise FloatingPointError(
            f"the loss is {value} with the clips of {', '.join(sorted(set(batch.videos)))}; "
            "lower training.learning_rate or lengthen training.warmup_epochs"
        )
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimizer.step()
    return value, int((logits.argmax(1) == labels).sum())


def newest_progress(job: Job, optimizer: torch.optim.Optimizer, console: Console) -> Progress:
    """Where to begin: the newest checkpoint put in place, or step 0."""
    found = checkpoints(job.folder / "checkpoints")
    if not found:
        return Progress(step=0)
    progress = load_checkpoint(found[-1], job.network, optimizer)
    console.print(f"going on at step {progress.step} of {job.schedule.num_steps}")
    return progress


def count(job: Job, progress: Progress, batch: TrainingBatch, curves: Curves) -> Progress:
    """Adds a batch to what was drawn and what failed; too large a share of failures ends the run with a RuntimeError."""
    curves.failures(progress.step - 1, batch.failures)
    num_failed = progress.num_failed + len(batch.failures)
    num_drawn = progress.num_drawn + len(batch.failures) + len(batch.videos)
    allowed = job.settings.loading.max_failed_share
    if batch.failures and num_drawn >= MIN_DRAWS_TO_JUDGE and num_failed > allowed * num_drawn:
        last = batch.failures[-1]
        raise RuntimeError(
            f"{num_failed} of {num_drawn} clips could not be read, more than loading.max_failed_share {allowed:g} allows; "
            f"{job.folder / 'failures.jsonl'} names them, the last is {last.video}: {last.reason}"
        )
    return replace(progress, num_drawn=num_drawn, num_failed=num_failed)


def validate(job: Job, progress: Progress, curves: Curves, console: Console) -> tuple[Progress, Accuracy | None]:
    """Scores the validation videos by the evaluation protocol; keeps best.safetensors and the scores."""
    if len(job.validation) == 0:
        return progress, None
    settings = job.settings
    examination = Examination(
        manifest=job.validation,
        split="validation",
        fold=settings.fold,
        preprocessing=job.preprocessing,
        model_sha256=tensors_sha256(job.network.state_dict()),
        evaluation=settings.evaluation,
        loading=settings.loading,
    )
    path = job.folder / "scores" / "validation.parquet"
    scorer = NetworkScorer(job.network, job.device)
    measured = evaluate(examination, scorer, path, device=job.device).accuracy
    figures = {name: getattr(measured, name).of_all.share for name in ("clip_top1", "video_top1", "video_top5")}
    curves.record("validation", progress.step, figures)
    console.print(f"epoch {job.schedule.epoch(progress.step):.1f}: {sentence(measured)}", highlight=False)
    share = measured.video_top1.of_all.share
    if progress.best_accuracy is None or share > progress.best_accuracy:
        save_weights(job, "best.safetensors")
        progress = replace(progress, best_accuracy=share)
    return progress, measured


def save_run(job: Job, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """A checkpoint to go on from, and last.safetensors to use."""
    folder = job.folder / "checkpoints"
    save_checkpoint(folder, job.network, optimizer, progress, job.settings.checkpoints.keep)
    save_weights(job, "last.safetensors")


def save_weights(job: Job, name: str) -> None:
    """The network with its card."""
    save(
        job.network,
        job.folder / name,
        classes=job.train.classes,
        preprocessing=job.preprocessing,
        source=f"trained by muybridge on {job.settings.data}",
    )


def leave_if_asked(stop: StopFlag, finished: bool) -> None:
    """Ends a run that was asked to stop, unless it is at its end anyway."""
    if stop.signal_number is not None and not finished:
        raise StopRequested(stop.signal_number)


def _draws(job: Job, first_step: int) -> tuple[TrainingDraws, StepDraws]:
    settings = job.settings
    source = frame_source(job.train.root, job.preprocessing)
    draws = TrainingDraws(job.train, source, job.preprocessing, mirror=settings.clips.mirror, seed=settings.seed)
    return draws, StepDraws(first_step, job.schedule.num_steps, settings.training.batch_size, place())
