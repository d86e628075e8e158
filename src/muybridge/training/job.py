"""From settings to a job that is ready to run: settings checked, data and run folder opened, network initialized.

Whatever can be wrong with a run is looked for here, before the first step, and reported in one sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from muybridge.datasets.manifest import Manifest
from muybridge.datasets.run_videos import RunVideos, write_run_videos
from muybridge.datasets.splits import ValidationSplit
from muybridge.datasets.targets import describe_missing_targets
from muybridge.distributed.process_group import ProcessGroup, local_device
from muybridge.inference.scorer import resolve_device
from muybridge.kernels.batch_norm import find_fusion_problem
from muybridge.kernels.precision import describe_execution
from muybridge.loading.open_data import open_data
from muybridge.models.heads import Head
from muybridge.models.network import VideoResNet
from muybridge.records import Preprocessing
from muybridge.settings import TrainSettings
from muybridge.text import format_count
from muybridge.training.augment import WeightAverage
from muybridge.training.checks import (
    check_clips_fit,
    check_passes,
    check_phases,
    check_supported,
    describe_unused_settings,
)
from muybridge.training.execution import set_up_execution
from muybridge.training.network import UNKNOWN_LICENCE, create_initial_network
from muybridge.training.open_run import OpenedRun, compare_execution, open_run, write_run_description
from muybridge.training.precision import resolve_precision
from muybridge.training.schedule import Schedule, build_schedule
from muybridge.training.tasks import TaskLoss, describe_imbalance, make_head, make_task_loss
from muybridge.training_settings import TrainingSettings


@dataclass(frozen=True)
class TrainingJob:
    """The input of `fit`. `notes` are sentences a user should read before the run starts.

    `execution` is what `describe_execution` says of it, `videos` are those it trains and validates on: `write_description`.
    """

    settings: TrainSettings
    folder: Path
    train_manifest: Manifest
    validation_manifest: Manifest
    network: VideoResNet
    schedule: Schedule
    device: torch.device
    notes: tuple[str, ...]
    process_group: ProcessGroup = field(default_factory=ProcessGroup)
    task_loss: TaskLoss = field(default_factory=lambda: TaskLoss(TrainingSettings(), None, None))
    weight_average: WeightAverage | None = None
    licence: str = UNKNOWN_LICENCE
    execution: Mapping[str, Any] = field(default_factory=dict)
    videos: RunVideos | None = None

    @property
    def head(self) -> Head | None:
        """The head of another task than single_label."""
        return self.task_loss.head

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the card: those of the data, or the targets of a regression."""
        is_regression = self.head is not None and self.head.task == "regression"
        return self.head.outputs if self.head and is_regression else self.train_manifest.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """How frames become the network's input."""
        return self.settings.preprocessing


def prepare_job(
    settings: TrainSettings, *, resume: bool = False, process_group: ProcessGroup | None = None
) -> TrainingJob:
    """Checks the settings against data, machine and run folder. Raises ValueError for what does not fit.

    All ranks of a torchrun job call this. It writes nothing, so that a refused run changes nothing.
    """
    process_group = process_group or ProcessGroup()
    device = local_device(resolve_device(settings.device))
    check_supported(settings, device)
    run = open_run(settings, resume=resume, process_group=process_group)
    settings = run.settings
    data = _open_data(settings, run)
    train, validation = data.select_split("train"), data.select_split("validation")
    if len(train) == 0:
        raise ValueError(f"{settings.data} has no training videos; it has {', '.join(data.count_videos())}")
    check_clips_fit(train, settings.preprocessing)
    schedule = build_schedule(settings.training, num_videos=len(train), world_size=process_group.world_size)
    if run.specification is None:  # an earlier version began runs without whole clips
        check_phases(settings.training, schedule.num_own_steps)
    task_notes = [*describe_imbalance(settings.training, train), *describe_missing_targets(train)]
    head = make_head(settings.training, data)
    initial = create_initial_network(settings, data.classes, head, run.specification, process_group)
    network = initial.network
    check_passes(
        settings, network.specification, global_batch=schedule.global_batch, world_size=process_group.world_size
    )
    settings, precision_notes = resolve_precision(settings, network.to(device), device, process_group)
    execution = describe_execution(device, settings.training.precision, tf32=bool(settings.training.tf32))
    execution["fused_batch_norm"] = find_fusion_problem(device) is None
    resume_notes = (
        compare_execution(Path(settings.output), execution) if run.specification and process_group.is_rank0 else []
    )
    execution_notes = set_up_execution(network, settings, device)
    return TrainingJob(
        settings=settings,
        folder=Path(settings.output),
        train_manifest=train,
        validation_manifest=validation,
        network=network,
        schedule=schedule,
        device=device,
        notes=(
            *data.notes,
            *task_notes,
            *run.notes,
            *describe_unused_settings(settings),
            *initial.notes,
            *resume_notes,
            *precision_notes,
            *execution_notes,
        ),
        process_group=process_group,
        task_loss=make_task_loss(settings.training, head, train),
        weight_average=_set_up_augmentation(network, settings.training),
        licence=initial.licence,
        execution=execution,
        videos=RunVideos.from_manifest(data, settings.training.task),
    )


def write_description(job: TrainingJob) -> None:
    """Writes what a run is into its folder: settings.yaml, network.json, environment.json and videos.parquet.

    `fit` calls this on rank 0 once the checkpoint of a resumed run has been read, after which nothing refuses it.
    """
    write_run_description(job.settings, job.network.specification, job.process_group, job.execution)
    if job.videos is not None:
        write_run_videos(job.folder, job.videos)


def _open_data(settings: TrainSettings, run: OpenedRun) -> Manifest:
    """The data; of a resumed run in the order in which the run draws from it."""
    data = open_data(
        settings.data,
        fold=settings.fold,
        columns=settings.columns,
        source_fps=settings.source_fps,
        time_origin=settings.time_origin or "picture",
        background="drawn" if settings.background else "none",
        task=settings.training.task,
        levels=settings.training.levels,
        num_folds=settings.num_folds,
        fold_by=settings.fold_by,
        validation=ValidationSplit(settings.seed, settings.validation),
    )
    return data if run.specification is None else _order_as_run(data, settings, run)


def _set_up_augmentation(network: VideoResNet, training: TrainingSettings) -> WeightAverage | None:
    """Sets the network's dropout. Returns the average of its weights where the run keeps one."""
    network.dropout = training.dropout
    return WeightAverage(network, training.ema_decay) if training.ema_decay else None


def _order_as_run(data: Manifest, settings: TrainSettings, run: OpenedRun) -> Manifest:
    """The data of a resumed run, in the order in which the run draws from it.

    ValueError for other data of the same names, and for other labels, targets or bounds than the run has learned.
    """
    if run.videos is not None:
        return _check_unchanged(run.videos, run.videos.select_from(data), settings)
    if run.saved_data is not None and Path(run.saved_data).resolve() != Path(settings.data).resolve():
        raise ValueError(
            f"--data is {settings.data}, the run has {run.saved_data} and does not record its videos, since an earlier version "
            "began it; leave --data out, or move the data back"
        )
    return data


def _check_unchanged(videos: RunVideos, data: Manifest, settings: TrainSettings) -> Manifest:
    """The data, with a note where some of its files have other sizes than in training.

    ValueError where all have, or where its labels, its targets or the bounds of its segments differ.
    """
    task = settings.training.task
    different = []
    if not videos.has_labels_of(data, task):
        different.append("targets" if task == "regression" else "labels")
    if not videos.has_bounds_of(data):
        different.append("starts or ends")
    if different:
        raise ValueError(
            f"{settings.data} has other {' and '.join(different)} for the run's videos than those that it has learned; restore "
            f"them, or start a new run from its weights with --init {settings.output} and another -o"
        )
    equal = videos.compare_sizes(data.root)
    if not equal or all(equal):
        return data
    if not any(equal):
        raise ValueError(
            f"{data.root} has other files under the names of the run's videos: none has the size that it had in training; name "
            "the data of the run with --data, or start a new run with another -o"
        )
    note = f"{format_count(equal.count(False), 'file')} under {data.root} changed in size since the run began"
    return replace(data, notes=(*data.notes, note))
