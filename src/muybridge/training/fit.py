"""The training loop on one page: rate, batch, step, log, validate, save (paper section 4.1).

Enter: a `Job` from start.py. Leave: a run folder with last.safetensors, best.safetensors (by video accuracy on validation,
never on test), checkpoints to go on from, curves, and the scores of the last validation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
from muybridge.training.progress import ProgressBar, StepReport
from muybridge.training.start import Job
from muybridge.weights.card import save, tensors_sha256
from muybridge.weights.surgery import learning_mode

MIN_DRAWS_TO_JUDGE = 100  # before the share of unreadable clips can stop a run; at its end fewer are enough
CALM_DOWN = "lower training.learning_rate or lengthen training.warmup_epochs"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the last validation's accuracy, none where there are no validation videos."""

    progress: Progress
    validation: Accuracy | None


def fit(job: Job, console: Console) -> Outcome:
    """Trains from the newest checkpoint, or from the start, to the last step. Raises `StopRequested` after saving."""
    schedule, optimizer = job.schedule, build_optimizer(job.network, job.settings.training)
    progress, measured = newest_progress(job, optimizer, console), None
    read = training_batches(*_draws(job, progress.step), job.settings.loading, pin_memory=job.device.type == "cuda")
    batches = ahead(read, job.device)
    saved, saved_at = progress, time.monotonic()
    with (
        stop_on_signals() as stop,
        Curves(job.folder, progress.step) as curves,
        ProgressBar(console, schedule, progress.step) as bar,
    ):
        while True:
            if validation_is_due(job, progress):
                with saved_when_cut_short(job, optimizer, progress, stop):
                    progress, measured = validate(job, progress, curves, console, stop)
            finished, validated = progress.step == schedule.num_steps, progress.validated_step == progress.step
            is_time = time.monotonic() - saved_at > 60 * job.settings.checkpoints.every_minutes
            if progress != saved and (finished or validated or is_time or stop.signal_number is not None):
                save_run(job, optimizer, progress)
                saved, saved_at = progress, time.monotonic()
            if finished:
                return Outcome(progress, measured)
            leave_if_asked(stop)

            began = time.perf_counter()
            with saved_when_cut_short(job, optimizer, progress, stop):
                batch = next(batches)
            waited_seconds = time.perf_counter() - began
            rate = schedule.rate(progress.step)
            set_rate(optimizer, rate)
            loss, num_right = training_step(job, optimizer, batch, progress.step)
            progress = count(job, progress, batch, curves)
            seconds = time.perf_counter() - began

            report = StepReport(loss, num_right, len(batch.videos), seconds, waited_seconds)
            bar.stepped(report)
            epoch = schedule.epoch(progress.step)
            curves.record("train", progress.step, {"epoch": epoch, "rate": rate, **report.figures()})


def training_step(job: Job, optimizer: torch.optim.Optimizer, batch: TrainingBatch, step: int) -> tuple[float, int]:
    """One step of gradient descent; the mean loss, and how many clips were classified right before it.

    A batch none of whose clips could be read moves nothing. A loss that is not finite is a FloatingPointError that names
    the step (the first is 1) and the videos, raised before it can reach the weights.
    """
    if batch.views is None:
        return math.nan, 0
    training = job.settings.training
    learning_mode(job.network)
    clips = network_input(batch.views, job.preprocessing, job.device)
    labels = batch.labels_n.to(job.device, non_blocking=True)
    with torch.autocast(job.device.type, torch.bfloat16, enabled=training.precision == "bf16"):
        logits: Tensor = job.network(clips)
    loss = functional.cross_entropy(logits.float(), labels, label_smoothing=training.label_smoothing)
    value = loss.item()
    if not math.isfinite(value):
        raise FloatingPointError(
            f"the loss is {value} in step {step + 1} with the clips of {', '.join(sorted(set(batch.videos)))}; {CALM_DOWN}"
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
    """One step more, and what was drawn in it; too large a share of failures ends the run with a RuntimeError."""
    now = replace(
        progress,
        step=progress.step + 1,
        num_drawn=progress.num_drawn + len(batch.videos) + len(batch.failures),
        num_failed=progress.num_failed + len(batch.failures),
        num_looped=progress.num_looped + batch.num_looped,
    )
    curves.failures(now.step, batch.failures)
    allowed = job.settings.loading.max_failed_share
    may_judge = now.num_drawn >= MIN_DRAWS_TO_JUDGE or now.step == job.schedule.num_steps
    if batch.failures and may_judge and now.num_failed > allowed * now.num_drawn:
        last = batch.failures[-1]
        raise RuntimeError(
            f"{now.num_failed} of {now.num_drawn} clips could not be read, more than loading.max_failed_share {allowed:g} "
            f"allows; {job.folder / 'failures.jsonl'} names them, the last is {last.video}: {last.reason}"
        )
    return now


def validation_is_due(job: Job, progress: Progress) -> bool:
    """Whether the validation videos are to be scored after this step, and were not yet."""
    if len(job.validation) == 0 or progress.step in (0, progress.validated_step):
        return False
    steps = job.settings.training.validate_every_epochs * job.schedule.steps_per_epoch
    return progress.step == job.schedule.num_steps or (steps > 0 and progress.step % max(1, round(steps)) == 0)


def validate(
    job: Job, progress: Progress, curves: Curves, console: Console, stop: StopFlag
) -> tuple[Progress, Accuracy]:
    """Scores the validation videos by the evaluation protocol; keeps best.safetensors and the scores."""
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
    measured = evaluate(
        examination,
        NetworkScorer(job.network, job.device),
        job.folder / "scores" / "validation.parquet",
        device=job.device,
        finished=lambda num_videos: leave_if_asked(stop),  # validation may take long, and comes again on --resume
    ).accuracy
    figures = {name: getattr(measured, name).of_all.share for name in ("clip_top1", "video_top1", "video_top5")}
    curves.record("validation", progress.step, figures)
    console.print(f"epoch {job.schedule.epoch(progress.step):.1f}: {sentence(measured)}")
    share = measured.video_top1.of_all.share
    if progress.best_accuracy is None or share > progress.best_accuracy:
        save_weights(job, "best.safetensors")
        progress = replace(progress, best_accuracy=share)
    return replace(progress, validated_step=progress.step), measured


@contextmanager
def saved_when_cut_short(
    job: Job, optimizer: torch.optim.Optimizer, progress: Progress, stop: StopFlag
) -> Iterator[None]:
    """For what leaves the weights alone: where it cannot end, the run is saved before the error goes on.

    A signal to a whole group of processes ends the workers too; that counts as the request to stop that it is.
    """
    try:
        yield
    except (StopRequested, RuntimeError):
        if progress.step > 0:
            save_run(job, optimizer, progress)
        leave_if_asked(stop)
        raise


def save_run(job: Job, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """A checkpoint to go on from, and last.safetensors to use. Neither ever holds weights that are not finite."""
    if not all(bool(tensor.isfinite().all()) for tensor in job.network.state_dict().values()):
        raise FloatingPointError(f"the weights are not finite after step {progress.step}; {CALM_DOWN}")
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


def leave_if_asked(stop: StopFlag) -> None:
    """Ends a run that was asked to stop."""
    if stop.signal_number is not None:
        raise StopRequested(stop.signal_number)


def _draws(job: Job, first_step: int) -> tuple[TrainingDraws, StepDraws]:
    settings = job.settings
    source = frame_source(job.train.root, job.preprocessing)
    draws = TrainingDraws(job.train, source, job.preprocessing, mirror=settings.clips.mirror, seed=settings.seed)
    return draws, StepDraws(first_step, job.schedule.num_steps, settings.training.batch_size, place())
