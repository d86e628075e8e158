"""Scoring a data set by the evaluation protocol (`muybridge evaluate`, studies, validation during training).

Input: weights and a split of a data set (`evaluate_split`), or a manifest and a `Scorer` (`evaluate`). Output: a score file,
and the accuracy computed from that file.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from muybridge.datasets.columns import AS_VERSION_0_1
from muybridge.datasets.manifest import Manifest
from muybridge.datasets.run_videos import is_run_data
from muybridge.datasets.splits import ValidationSplit
from muybridge.datasets.targets import match_targets
from muybridge.distributed.gather import gather_rounds, gather_stop_signal
from muybridge.distributed.process_group import ProcessGroup, local_device
from muybridge.distributed.rank import current_rank
from muybridge.distributed.stop import StopRequested, stop_on_signals
from muybridge.distributed.watchdog import Watchdog
from muybridge.evaluation.caveats import find_caveats
from muybridge.evaluation.metrics import Accuracy
from muybridge.evaluation.overlap import Overlap
from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.evaluation.resampling import NUM_BOOTSTRAPS
from muybridge.evaluation.scores import score_batch
from muybridge.evaluation.scores_header import FORMAT, TARGETS_FORMAT, ScoresHeader
from muybridge.evaluation.scores_path import resolve_scores_path
from muybridge.evaluation.task_metrics import TaskMetrics, compute_metrics
from muybridge.evaluation.video_scores import VideoScoresWriter, aggregate_record_batch, read_any_video_scores
from muybridge.evaluation.view_scores import ViewScoresWriter
from muybridge.files.atomic import check_output_file
from muybridge.files.run_folder import read_settings
from muybridge.inference.scorer import load_scorer, resolve_device
from muybridge.kernels.precision import Precision, describe_execution
from muybridge.loading.clip_reader import open_clip_reader
from muybridge.loading.datasets import EvaluationDataset
from muybridge.loading.draws import VideoBatchSampler
from muybridge.loading.loader import load_evaluation_batches
from muybridge.loading.open_data import open_data
from muybridge.models.cost import cost as count_cost
from muybridge.models.heads import Head
from muybridge.models.network import VideoResNet
from muybridge.records import Checkpoint, Preprocessing, Scorer, Task
from muybridge.settings import EvaluateSettings, EvaluationSettings, LoadingSettings
from muybridge.text import format_count, format_percent
from muybridge.weights.address import find_run_folder, is_default_checkpoint, select_checkpoint
from muybridge.weights.card import Card

# Settings of how data is read, which are those of the run unless they are given.
READING = ("fold", "num_folds", "fold_by", "seed", "columns", "source_fps", "time_origin", "background", "validation")


@dataclass(frozen=True)
class EvaluationJob:
    """What to evaluate and how, except for the scorer. `manifest` holds one split, labelled with the model's classes."""

    manifest: Manifest
    split: str
    fold: int | None
    preprocessing: Preprocessing
    model_sha256: str
    evaluation: EvaluationSettings
    loading: LoadingSettings
    precision: Precision = "fp32"  # of the scorer; it stands in the score file
    head: Head | None = None  # of the network, for another task than single_label
    num_bootstraps: int = NUM_BOOTSTRAPS  # of the intervals of such a task; 0: none
    remarks: tuple[str, ...] | None = None  # what belongs beside the accuracy, for the score file; None: not looked for
    origin: Mapping[str, Any] = field(default_factory=dict)  # `describe_origin` of the data, for the score file

    def __post_init__(self) -> None:
        if self.head and self.evaluation.keep == "videos":
            raise ValueError(
                f"evaluation.keep videos is for the task single_label, not for {self.head.task}; use evaluation.keep views"
            )

    @property
    def task(self) -> Task:
        """What the network was trained for."""
        return self.head.task if self.head else "single_label"

    def make_header(self) -> ScoresHeader:
        """The header of the score file."""
        is_regression = self.head is not None and self.head.task == "regression"
        return ScoresHeader(
            classes=self.head.outputs if self.head and is_regression else self.manifest.classes,
            protocol=EvaluationProtocol.from_settings(
                self.evaluation, self.preprocessing, self.manifest.time_origin, self.task
            ),
            split=self.split,
            fold=self.fold,
            model_sha256=self.model_sha256,
            manifest_sha256=self.manifest.compute_sha256(),
            num_videos=len(self.manifest),
            format=TARGETS_FORMAT if self.head else FORMAT,
            head=self.head,
        )

    def compute_metrics(self, path: Path) -> Accuracy | TaskMetrics:
        """The accuracy or the metrics of the task, from the score file."""
        return compute_metrics(read_any_video_scores(path), num_bootstraps=self.num_bootstraps)


@dataclass(frozen=True)
class EvaluationResult:
    """The metrics of the score file `path`, and the number of videos shorter than a clip, which were repeated in a loop.

    `overlap` with the videos of the run and `checkpoint` are of the weights of a run folder; None for others. `cost` is that of
    a video, relative to the default protocol of these weights (`compute_relative_cost`).
    """

    metrics: Accuracy | TaskMetrics
    num_looped_videos: int
    path: Path
    overlap: Overlap | None = None
    checkpoint: Checkpoint | None = None
    cost: float = 1.0
    remarks: tuple[str, ...] = ()
    """Sentences that belong beside the metrics: training videos among the scored ones or not looked for, weights chosen by the
    scored videos, a run that has not finished."""
    notes: tuple[str, ...] = ()
    """Sentences on how the data was read: columns that are not, files left out, splits drawn, options not used."""

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values. `overlap` is null for weights that are not of a run."""
        return {
            "scores": str(self.path),
            "num_looped_videos": self.num_looped_videos,
            "checkpoint": self.checkpoint,
            "cost": self.cost,
            "overlap": self.overlap.to_json() if self.overlap else None,
            "remarks": list(self.remarks),
            **self.metrics.to_json(),
        }

    @property
    def accuracy(self) -> Accuracy:
        """The metrics of single_label. Raises ValueError for another task."""
        if isinstance(self.metrics, TaskMetrics):
            raise ValueError(f"the task {self.metrics.task} has no accuracy; this is for the task single_label")
        return self.metrics


def evaluate_split(
    weights: str | Path,
    settings: EvaluateSettings,
    path: Path | None = None,
    *,
    refuse_overlap: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> EvaluationResult:
    """Score one split of a data set with saved weights and write the scores to `path`, by default as `scores_path.py` says.

    `weights` is a run folder, a .safetensors or .onnx file, or a catalogue name.
    `on_progress` is called with (videos done, videos in total) after each batch. The process ends when
    `timeouts.scoring_minutes` pass without a batch. Raises ValueError where the weights cannot be loaded, the data cannot be
    opened, or the split has no videos, `OverlapError` with `refuse_overlap` where training videos would be scored, and
    `StopRequested` after a signal, once the scored videos are saved.
    """
    device = local_device(resolve_device(settings.device))
    address = select_checkpoint(weights, settings.checkpoint)
    loaded = load_scorer(address, device, settings.precision)
    job = _plan_evaluation(loaded.card, use_training_splits(weights, settings))
    job = replace(job, precision=loaded.precision)
    run_origin = use_training_splits(weights, replace(settings, time_origin=None)).time_origin or "picture"
    default_protocol = EvaluationProtocol.from_settings(
        EvaluationSettings(), loaded.card.preprocessing, run_origin, loaded.card.task
    )
    if path is None:
        is_default = is_default_checkpoint(weights, settings.checkpoint) and reads_as_run(weights, settings)
        header = job.make_header()
        path = resolve_scores_path(
            weights, settings.data, header, is_own=is_default and header.protocol == default_protocol
        )
        check_output_file(path)
    caveats = find_caveats(address, loaded.card, job.manifest, settings.split, refuse_overlap=refuse_overlap)
    job = replace(job, remarks=caveats.remarks, origin=describe_origin(weights, settings.data))
    with (
        stop_on_signals("batch") as stop,
        Watchdog(current_rank()) as watchdog,
        watchdog.limit_phase("evaluation", settings.timeouts.scoring_minutes, "timeouts.scoring_minutes"),
    ):

        def on_batch_done(num_videos: int) -> None:
            watchdog.reset_deadline()
            if signal_number := gather_stop_signal(stop, ProcessGroup(current_rank())):
                raise StopRequested(signal_number)
            if on_progress:
                on_progress(num_videos, len(job.manifest))

        result = evaluate(job, loaded.scorer, path, device=device, on_progress=on_batch_done)
    protocol = job.make_header().protocol
    cost = compute_relative_cost(loaded.network, protocol, default_protocol)
    crop_problem = protocol.find_crop_problem()
    notes = (*job.manifest.notes, *([f"not used: {crop_problem}"] if crop_problem else []))
    overlap, checkpoint, remarks = caveats.overlap, caveats.checkpoint, caveats.remarks
    return replace(result, overlap=overlap, checkpoint=checkpoint, cost=cost, remarks=remarks, notes=notes)


def compute_relative_cost(
    network: VideoResNet | None, protocol: EvaluationProtocol, reference: EvaluationProtocol
) -> float:
    """Multiply-adds of a video by a protocol, relative to another; of an ONNX file (None) in proportion to its pixels."""
    views = protocol.num_views / reference.num_views
    if protocol.preprocessing == reference.preprocessing:  # to count a network takes a second
        return views
    own, other = (_count_multiply_adds(network, one.preprocessing) for one in (protocol, reference))
    return views * own / other


def _count_multiply_adds(network: VideoResNet | None, preprocessing: Preprocessing) -> int:
    """Of one view; without a network the values of its input."""
    size = (preprocessing.input_channels, preprocessing.clip_length, preprocessing.crop, preprocessing.crop)
    return math.prod(size) if network is None else count_cost(network, size).multiply_adds


def open_evaluation_data(card: Card, settings: EvaluateSettings, *, whole_files: bool = False) -> Manifest:
    """The data of an evaluation. With `whole_files` it has all of the background, not as much as training draws.

    Raises ValueError as `open_data`.
    """
    return open_data(
        settings.data,
        fold=settings.fold,
        columns=settings.columns,
        source_fps=settings.source_fps,
        time_origin=settings.time_origin or "picture",
        background=("all" if whole_files else "drawn") if settings.background else "none",
        task=card.task,
        levels=card.classes if card.task == "ordinal" else (),
        num_folds=settings.num_folds,
        fold_by=settings.fold_by or "group",
        validation=ValidationSplit(settings.seed or 0, settings.validation or "auto"),
    )


def select_scored_split(data: Manifest, settings: EvaluateSettings) -> Manifest:
    """The videos to score. Raises ValueError where the split has none."""
    manifest = data.select_split(settings.split)
    if len(manifest) == 0:
        raise ValueError(
            f"{settings.data} has no videos in the split {settings.split}; it has {', '.join(data.count_videos())}"
        )
    return manifest


def _plan_evaluation(card: Card, settings: EvaluateSettings) -> EvaluationJob:
    """Open one split of a data set for a network with this card.

    Raises ValueError where the data cannot be opened, lacks classes of the card, or has no videos in the split.
    """
    card.check_classifier()
    manifest = select_scored_split(open_evaluation_data(card, settings), settings)
    is_regression = card.task == "regression"
    return EvaluationJob(
        manifest=match_targets(manifest, card.classes) if is_regression else manifest.remap_labels(card.classes),
        split=settings.split,
        fold=settings.fold,
        preprocessing=settings.evaluation.adapt_preprocessing(card.preprocessing),
        model_sha256=card.tensors_sha256,
        evaluation=settings.evaluation,
        loading=settings.loading,
        head=card.head,
    )


def use_training_splits(weights: str | Path, settings: EvaluateSettings) -> EvaluateSettings:
    """Fill in what is unset of how data is read from the run that made the weights, if it was trained on the same data.

    Otherwise the split to score could contain videos that the run was trained on.
    """
    run = find_run_folder(weights)
    if run is None:
        return settings
    saved = read_settings(run / "settings.yaml")
    if not is_run_data(run, str(saved.get("data")), settings.data):
        return settings
    then = {"columns": AS_VERSION_0_1, "background": False}  # of settings that did not exist when the run began
    unset = [name for name in READING if getattr(settings, name) is None]
    return replace(settings, **{name: saved.get(name, then.get(name)) for name in unset})


def describe_origin(weights: str | Path, data: str) -> dict[str, Any]:
    """Where the scored data is, absolute, and whether the run of the weights was trained on it; without a run, that alone."""
    place = {"data": str(Path(data).absolute()) if Path(data).exists() else data}
    run = find_run_folder(weights)
    if run is None:
        return place
    return {**place, "is_own_data": is_run_data(run, str(read_settings(run / "settings.yaml").get("data")), data)}


def reads_as_run(weights: str | Path, settings: EvaluateSettings) -> bool:
    """Whether the data is that of the run folder `weights` and is read as it was in training, with the same splits.

    An old run without settings.yaml is taken at its word.
    """
    run = Path(weights)
    if not run.is_dir():
        return False
    if find_run_folder(run) and not is_run_data(
        run, str(read_settings(run / "settings.yaml").get("data")), settings.data
    ):
        return False
    read = [use_training_splits(run, each) for each in (settings, EvaluateSettings(data=settings.data))]
    return all(getattr(read[0], name) == getattr(read[1], name) for name in READING)


def evaluate(
    job: EvaluationJob,
    scorer: Scorer,
    path: Path,
    *,
    device: torch.device,
    on_progress: Callable[[int], None] | None = None,
) -> EvaluationResult:
    """Score every planned view of every video, write the scores to `path`, and compute the accuracy from that file.

    With `evaluation.keep videos` the file has a row a video. An interrupted evaluation resumes; videos with views that failed,
    and those whose files changed since, are scored again. Under torchrun all ranks call this function: each scores its share of
    the batches, rank 0 writes, and all ranks get the result. `on_progress` is called with the number of videos done, equally
    often on all ranks.
    """
    process_group, header, num_videos = ProcessGroup(current_rank()), job.make_header(), len(job.manifest)
    keep_videos = job.evaluation.keep == "videos"
    execution = {**describe_execution(device, job.precision), **job.origin}
    execution |= {} if job.remarks is None else {"remarks": job.remarks}
    writer: VideoScoresWriter | ViewScoresWriter | None = None
    if process_group.is_rank0:
        make_writer = VideoScoresWriter if keep_videos else ViewScoresWriter
        writer = make_writer(path, header, execution)
    pending = process_group.broadcast_from_rank0(writer.select_pending(_list_files(job.manifest)) if writer else [])
    reader = open_clip_reader(job.manifest.root, job.preprocessing, job.manifest.time_origin)
    dataset = EvaluationDataset(
        job.manifest, reader, job.evaluation.clips, task=job.task, num_crops=job.evaluation.crops
    )
    sampler = VideoBatchSampler(pending, job.evaluation.videos_per_batch, process_group.rank)
    batches = load_evaluation_batches(dataset, sampler, job.loading, pin_memory=device.type == "cuda")

    def iterate_local_rows() -> Iterator[tuple[pa.RecordBatch, Sequence[bool]]]:
        for batch in batches:
            rows = score_batch(batch, scorer, preprocessing=job.preprocessing, device=device, schema=header.schema)
            if keep_videos:
                rows = aggregate_record_batch(rows, header, batch.looped)
            yield rows, batch.looped

    def iterate_gathered_rows() -> Iterator[tuple[pa.RecordBatch, Sequence[bool]]]:
        num_done = list(accumulate(map(len, sampler.batches), initial=num_videos - len(pending)))
        for num_batches, gathered_rows in gather_rounds(iterate_local_rows(), len(sampler.batches), process_group):
            yield from gathered_rows
            if on_progress:
                on_progress(num_done[num_batches])

    result = None
    if writer is None:
        deque(iterate_gathered_rows(), maxlen=0)  # takes part in every round; only rank 0 receives rows
    else:
        if isinstance(writer, VideoScoresWriter):
            num_looped = writer.write(rows for rows, _ in iterate_gathered_rows())
        else:
            num_looped = writer.write(iterate_gathered_rows())
        result = EvaluationResult(job.compute_metrics(path), num_looped, path)
    result = process_group.broadcast_from_rank0(result)
    assert result is not None
    return result


def _list_files(manifest: Manifest) -> dict[str, Path]:
    """The files of all videos by name. Prepared videos have none: the hash of their manifest says whether they changed."""
    indices = range(len(manifest))
    return {manifest.get_video(index): Path(manifest.root, manifest.get_path(index)) for index in indices}


def format_result_line(metrics: Accuracy | TaskMetrics) -> str:
    """The metrics of any task in one line."""
    return metrics.format_line() if isinstance(metrics, TaskMetrics) else format_accuracy(metrics)


def format_accuracy(accuracy: Accuracy) -> str:
    """clip@1, video@1 with its interval, and video@5 where it says something, over all videos, in one line."""
    top1 = accuracy.video_top1.of_all
    parts = [f"{name} {format_percent(rates.of_all.share)}" for name, rates in accuracy.figures]
    parts[1] += f" [{100 * top1.low:.1f}, {100 * top1.high:.1f}]"
    line = f"{'  '.join(parts)}  of {format_count(top1.of, 'video')}"
    return f"{line}, {accuracy.num_failed_videos} of them unreadable" if accuracy.num_failed_videos else line
