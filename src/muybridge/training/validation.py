"""Validation during training: scores of the validation videos, and the weights with the best accuracy."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from muybridge.evaluation.evaluate import EvaluationJob, describe_origin, evaluate, format_result_line
from muybridge.evaluation.metrics import Accuracy
from muybridge.evaluation.multi_label import choose_thresholds
from muybridge.evaluation.outputs import compute_video_outputs
from muybridge.evaluation.overlap import WHILE_TRAINING
from muybridge.evaluation.scores import read_any_scores
from muybridge.evaluation.task_metrics import TaskMetrics
from muybridge.inference.scorer import NetworkScorer
from muybridge.kernels.precision import Precision
from muybridge.models.heads import Head
from muybridge.training.checkpoint import TrainState
from muybridge.training.checkpointer import save_weights
from muybridge.training.guard import VALIDATION, RunGuard
from muybridge.training.job import TrainingJob
from muybridge.training.metrics_log import MetricsLog
from muybridge.training.time_left import Workload
from muybridge.weights.card import compute_tensors_sha256

VALIDATION_SCORES = "scores/validation.parquet"  # of the run folder


def make_workload(job: TrainingJob) -> Workload:
    """The steps and validations of a run."""
    interval_steps = job.settings.training.validate_every_epochs * job.schedule.steps_per_epoch
    return Workload(
        job.schedule.num_steps,
        job.schedule.global_batch,
        max(1, round(interval_steps)) if interval_steps > 0 else 0,
        len(job.validation_manifest) * job.settings.evaluation.num_views,
    )


def is_validation_due(job: TrainingJob, train_state: TrainState) -> bool:
    """Whether the validation videos are to be scored after this step and have not been yet."""
    step = train_state.step
    return step != train_state.validated_step and make_workload(job).is_validation_due(step)


def validate(
    job: TrainingJob, train_state: TrainState, guard: RunGuard, metrics_log: MetricsLog, console: Console
) -> tuple[TrainState, Accuracy | TaskMetrics]:
    """Scores the validation videos by the evaluation protocol; writes their scores, and best.safetensors if it is the best.

    A stop request ends it between two batches; it is repeated when the run is resumed.
    """
    guard.start_phase(VALIDATION, train_state)
    with job.weight_average.applied() if job.weight_average else nullcontext():
        train_state, metrics = _validate_weights(job, train_state, guard, metrics_log, console)
    guard.end_phase()
    return replace(train_state, validated_step=train_state.step), metrics


def _validate_weights(
    job: TrainingJob, train_state: TrainState, guard: RunGuard, metrics_log: MetricsLog, console: Console
) -> tuple[TrainState, Accuracy | TaskMetrics]:
    """Scores the validation videos with the weights of the network as they are."""
    job.process_group.broadcast_buffers(job.network)  # without synchronized batch norm every rank has its own
    # On a GPU as the run is trained, so that validation is as fast; on a CPU in fp32, by kernels that are faster than bf16.
    in_bf16 = job.settings.training.precision == "bf16" and job.device.type == "cuda"
    precision: Precision = "bf16" if in_bf16 else "fp32"
    evaluation_job = EvaluationJob(
        manifest=job.validation_manifest,
        split="validation",
        fold=job.settings.fold,
        preprocessing=job.settings.evaluation.adapt_preprocessing(job.preprocessing),
        model_sha256=compute_tensors_sha256(job.network.state_dict()),
        evaluation=job.settings.evaluation,
        loading=job.settings.loading,
        precision=precision,
        head=job.head,
        num_bootstraps=0,
        remarks=(WHILE_TRAINING,),
        origin=describe_origin(job.folder, job.settings.data),
    )
    path = job.folder / VALIDATION_SCORES
    metrics = evaluate(
        evaluation_job,
        NetworkScorer(job.network, job.device, precision),
        path,
        device=job.device,
        on_progress=lambda num_videos: guard.report_progress(),
    ).metrics
    metrics_log.log_metrics("validation", train_state.step, _list_figures(metrics))
    console.print(f"epoch {job.schedule.compute_epoch(train_state.step):.1f}: {format_result_line(metrics)}")
    score = metrics.criterion if isinstance(metrics, TaskMetrics) else metrics.video_top1.of_all.share
    if train_state.best_accuracy is None or score > train_state.best_accuracy:
        if job.process_group.is_rank0:
            save_weights(job, "best.safetensors", head=_tune_head(job.head, path))
        train_state = replace(train_state, best_accuracy=score, best_step=train_state.step)
    return train_state, metrics


def _list_figures(metrics: Accuracy | TaskMetrics) -> dict[str, float]:
    """The numbers of a validation by name, as they are logged."""
    if isinstance(metrics, TaskMetrics):
        return metrics.figures
    return {name: getattr(metrics, name).of_all.share for name in ("clip_top1", "video_top1", "video_top5")}


def _tune_head(head: Head | None, path: Path) -> Head | None:
    """The head with the thresholds that suit these scores of the validation videos."""
    if head is None or head.task != "multi_label":
        return head
    outputs = compute_video_outputs(read_any_scores(path))
    used = outputs.readable_mask
    return replace(head, thresholds=choose_thresholds(outputs.values[used], outputs.targets[used]))
