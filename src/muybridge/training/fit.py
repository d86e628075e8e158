"""The training loop on one page: rate, batch, step, log, validate, save (paper section 4.1).

Enter: a `Job` from start.py. Leave: a run folder with last.safetensors, best.safetensors (by video accuracy on validation,
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

from muybridge.distributed.process_group import Ranks
from muybridge.distributed.stop import StopFlag, StopRequested, stop_on_signals
from muybridge.distributed.watchdog import Watch
from muybridge.evaluation.evaluate import Examination, evaluate, sentence
from muybridge.evaluation.metrics import Accuracy
from muybridge.inference.scorer import NetworkScorer
from muybridge.loading.draws import StepDraws
from muybridge.loading.loader import TrainingBatch, TrainingDraws, frame_source, training_batches
from muybridge.training.checkpoint import Progress, newest_snapshot, put_in_place
from muybridge.training.checkpointer import Keeper, save_weights
from muybridge.training.data_parallel import wrap_for_training
from muybridge.training.execution import ahead
from muybridge.training.job import Job
from muybridge.training.metrics_log import Curves
from muybridge.training.optimizer import build_optimizer, set_rate
from muybridge.training.profiler import Profile
from muybridge.training.progress import ProgressBar, StepReport
from muybridge.training.step import Learner, StepResult, example_clips, training_step
from muybridge.weights.card import tensors_sha256

MIN_DRAWS_TO_JUDGE = 100  # before the share of unreadable clips can stop a run; at its end fewer are enough


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the last validation's accuracy, none where there are no validation videos."""

    progress: Progress
    validation: Accuracy | None


def fit(job: Job, console: Console) -> Outcome:
    """Trains from the newest checkpoint, or from the start, to the last step. Raises `StopRequested` after saving."""
    schedule, limits, training = job.schedule, job.settings.timeouts, job.settings.training
    optimizer = build_optimizer(job.network, training)
    progress, measured = newest_progress(job, optimizer, console), None
    model = wrap_for_training(
        job.network, job.ranks, synchronise=training.synchronise_norm, example=example_clips(job, 2)
    )
    learner = Learner(job, model, optimizer)
    saved, saved_at = progress, time.monotonic()
    with (
        stop_on_signals() as stop,
        Watch(job.ranks.place) as watch,
        Curves(job.folder, progress.step, writes=job.ranks.is_first) as curves,
        ProgressBar(console, schedule, progress.step) as bar,
        Profile(job.folder, job.ranks.place, training.profile_steps) as profile,
        Keeper(job, optimizer) as keeper,
    ):
        draws, steps = _draws(job, progress.step)
        batches = read_batches(job, draws, steps, partial(hear_of_restart, job.ranks, stop, console))
        step_phase = partial(watch.phase, minutes=limits.step_minutes, setting="timeouts.step_minutes")
        save_phase = partial(watch.phase, minutes=limits.checkpoint_minutes, setting="timeouts.checkpoint_minutes")
        while True:
            if validation_is_due(job, progress):
                with saved_when_cut_short(keeper, progress, stop, job.ranks):
                    progress, measured = validate(job, progress, curves, console, stop, watch)
            finished, validated = progress.step == schedule.num_steps, progress.validated_step == progress.step
            with step_phase(f"meeting after step {progress.step}"):
                signal_number = asked_to_stop(job.ranks, stop)
            is_time = time.monotonic() - saved_at > 60 * job.settings.checkpoints.every_minutes
            if progress != saved and (finished or validated or is_time or signal_number):
                with save_phase(f"saving step {progress.step}"):
                    keeper.save(progress)
                saved, saved_at = progress, time.monotonic()
            keeper.raise_early()
            if finished:
                return Outcome(progress, measured)
            if signal_number:
                raise StopRequested(signal_number)

            began, step = time.perf_counter(), progress.step
            in_hand = partial(videos_of_step, draws, steps, step)
            with (
                saved_when_cut_short(keeper, progress, stop, job.ranks),
                step_phase(f"reading the clips of step {step + 1}", videos=in_hand),
            ):
                pieces = [next(batches) for _ in range(steps.num_pieces)]
            waited_seconds = time.perf_counter() - began
            rate = schedule.rate(step)
            set_rate(optimizer, rate)
            with step_phase(f"training step {step + 1}", videos=in_hand):
                result = training_step(learner, pieces, step)
            progress = count(job, progress, result, curves)
            profile.stepped()
            seconds = time.perf_counter() - began

            report = StepReport(result.loss, result.num_right, result.num_clips, seconds, waited_seconds)
            bar.stepped(report)
            epoch = schedule.epoch(progress.step)
            curves.record("train", progress.step, {"epoch": epoch, "rate": rate, **report.figures()})


def read_batches(
    job: Job, draws: TrainingDraws, steps: StepDraws, restarted: Callable[[str], None]
) -> Iterator[TrainingBatch]:
    """This rank's batches on its device, `steps.num_pieces` a step; `restarted` hears why workers were started again."""
    pin_memory = job.device.type == "cuda"
    read = training_batches(draws, steps, job.settings.loading, pin_memory=pin_memory, restarted=restarted)
    return ahead(read, job.device)


def newest_progress(job: Job, optimizer: torch.optim.Optimizer, console: Console) -> Progress:
    """Where to begin: the newest checkpoint that is whole, read by rank 0 and put in place on all, or step 0."""
    taken, damages = newest_snapshot(job.folder / "checkpoints") if job.ranks.is_first else (None, [])
    for damage in damages:
        console.print(damage)
    taken = job.ranks.first_ones(taken)
    if taken is None:
        return Progress(step=0)
    put_in_place(taken, job.network, optimizer)
    console.print(f"going on at step {taken.progress.step} of {job.schedule.num_steps}")
    return taken.progress


def count(job: Job, progress: Progress, result: StepResult, curves: Curves) -> Progress:
    """One step more, and what was drawn in it; too large a share of failures ends the run with a RuntimeError."""
    now = replace(
        progress,
        step=progress.step + 1,
        num_drawn=progress.num_drawn + result.num_clips + len(result.failures),
        num_failed=progress.num_failed + len(result.failures),
        num_looped=progress.num_looped + result.num_looped,
        num_skipped_steps=progress.num_skipped_steps + result.skipped,
    )
    curves.failures(now.step, result.failures)
    allowed = job.settings.loading.max_failed_share
    may_judge = now.num_drawn >= MIN_DRAWS_TO_JUDGE or now.step == job.schedule.num_steps
    if result.failures and may_judge and now.num_failed > allowed * now.num_drawn:
        last = result.failures[-1]
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
    job: Job, progress: Progress, curves: Curves, console: Console, stop: StopFlag, watch: Watch
) -> tuple[Progress, Accuracy]:
    """Scores the validation videos by the evaluation protocol; keeps best.safetensors and the scores."""
    settings = job.settings
    job.ranks.share_buffers(job.network)
    examination = Examination(
        manifest=job.validation,
        split="validation",
        fold=settings.fold,
        preprocessing=job.preprocessing,
        model_sha256=tensors_sha256(job.network.state_dict()),
        evaluation=settings.evaluation,
        loading=settings.loading,
    )

    def finished(num_videos: int) -> None:
        watch.still_going()
        if signal_number := asked_to_stop(job.ranks, stop):
            raise StopRequested(signal_number)  # validation may take long, and comes again on --resume

    with watch.phase(
        f"validation after step {progress.step}", settings.timeouts.scoring_minutes, "timeouts.scoring_minutes"
    ):
        measured = evaluate(
            examination,
            NetworkScorer(job.network, job.device),
            job.folder / "scores" / "validation.parquet",
            device=job.device,
            finished=finished,
        ).accuracy
    figures = {name: getattr(measured, name).of_all.share for name in ("clip_top1", "video_top1", "video_top5")}
    curves.record("validation", progress.step, figures)
    console.print(f"epoch {job.schedule.epoch(progress.step):.1f}: {sentence(measured)}")
    share = measured.video_top1.of_all.share
    if progress.best_accuracy is None or share > progress.best_accuracy:
        if job.ranks.is_first:
            save_weights(job, "best.safetensors")
        progress = replace(progress, best_accuracy=share, best_step=progress.step)
    return replace(progress, validated_step=progress.step), measured


@contextmanager
def saved_when_cut_short(keeper: Keeper, progress: Progress, stop: StopFlag, ranks: Ranks) -> Iterator[None]:
    """For what leaves the weights alone: where it cannot end, the run is saved before the error goes on.

    A signal to a whole group of processes ends the workers and other ranks too; that counts as the request to stop that
    it is.
    """
    try:
        yield
    except (StopRequested, RuntimeError):
        if progress.step > 0:
            keeper.save(progress)
            keeper.wait()
        if stop.signal_number is not None:
            raise StopRequested(stop.signal_number) from None
        raise


def asked_to_stop(ranks: Ranks, stop: StopFlag) -> int:
    """The signal that any rank was asked to stop by, 0 for none: known to all at the same time."""
    return int(max(row[0] for row in ranks.tables([stop.signal_number or 0])))


def hear_of_restart(ranks: Ranks, stop: StopFlag, console: Console, reason: str) -> None:
    """Workers were killed: by whoever asks the run to stop, or by chance."""
    if stop.signal_number is not None and ranks.world_size == 1:
        raise StopRequested(stop.signal_number)
    console.print(reason)


def videos_of_step(draws: TrainingDraws, steps: StepDraws, step: int) -> list[str]:
    """The videos that this rank draws in a step."""
    return [draws.manifest.video(draws.video_index(draw)) for draw in steps.of_step(step)]


def _draws(job: Job, first_step: int) -> tuple[TrainingDraws, StepDraws]:
    settings = job.settings
    source = frame_source(job.train.root, job.preprocessing)
    draws = TrainingDraws(job.train, source, job.preprocessing, mirror=settings.clips.mirror, seed=settings.seed)
    batch, place = settings.training.batch_size, job.ranks.place
    return draws, StepDraws(first_step, job.schedule.num_steps, batch, place, job.schedule.global_batch)
