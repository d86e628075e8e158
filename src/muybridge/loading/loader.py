"""Worker processes that turn a manifest into batches of clips (design decisions 7 and 9).

Training: draw number n of a run decides video, place in time, crop, mirror and label; a step is a range of draw numbers,
so the global batch at a step depends neither on the number of workers nor on the number of ranks, and resuming needs only
the step. Evaluation: a batch is the views of whole videos in manifest order. A video that cannot be read becomes a
recorded failure, never another video.

Workers come from a fork server that has opened nothing: no decoder and no file handle crosses a fork.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from muybridge.datasets.manifest import Manifest
from muybridge.distributed.rank import resolve_num_workers
from muybridge.loading.draws import TrainingBatchSampler, VideoBatchSampler
from muybridge.loading.evaluation_clips import read_views
from muybridge.memory import keep_freed_memory
from muybridge.prepared.dataset import check_frame_size, is_prepared, read_description
from muybridge.prepared.object_store import ObjectStoreError
from muybridge.prepared.shards import ShardFlowSource, ShardFrameSource
from muybridge.prepared.stored_flow import can_use_stored_flow, make_stored_flow_view, select_stored_ticks
from muybridge.randomness import make_generator, shuffle_index
from muybridge.records import FrameSource, FrameTimes, PlannedView, Preprocessing, VideoError
from muybridge.settings import LoadingSettings
from muybridge.video.decode import VideoFiles
from muybridge.video.flow import compute_modality, import_opencv
from muybridge.video.sampling import sample_random_clip, sample_uniform_clips, trim_frame_times
from muybridge.video.views import AnyBatch, AnyView, collate_views, make_training_view, sample_crop_corner


def open_frame_source(root: str, preprocessing: Preprocessing) -> FrameSource:
    """Where the frames of a manifest's videos come from: shards where `root` is prepared data, else video files under it.

    For optical flow that prepared data holds as it is wanted, the source is of stored flow; otherwise flow is computed from
    frames. Raises ValueError where prepared data has frames of another size than the preprocessing wants, ImportError where
    flow must be computed and OpenCV is not installed.
    """
    if is_prepared(root):
        description = read_description(root)
        stored_size = (description.scale_height, description.scale_width)
        check_frame_size(root, stored_size, preprocessing)
        if description.flow_bound is not None and can_use_stored_flow(preprocessing, description.frames_per_second):
            return ShardFlowSource(root, scale_height=2 * stored_size[0], scale_width=stored_size[1])
    if preprocessing.modality == "flow":
        import_opencv()
    if is_prepared(root):
        return ShardFrameSource(root, scale_height=stored_size[0], scale_width=stored_size[1])
    return VideoFiles(root, scale_height=preprocessing.scale_height, scale_width=preprocessing.scale_width)


@dataclass(frozen=True)
class Failure:
    """A draw or a video that could not be read."""

    video: str
    status: str
    reason: str


@dataclass(frozen=True)
class TrainingBatch:
    """The clips of one step on one rank: those that could be read, their labels, and the failures among the draws."""

    views: AnyBatch | None
    labels_n: Tensor
    videos: tuple[str, ...]
    num_looped: int
    failures: tuple[Failure, ...]

    def pin_memory(self) -> TrainingBatch:
        """See `ViewBatch.pin_memory`."""
        views = self.views.pin_memory() if self.views else None
        return TrainingBatch(views, self.labels_n.pin_memory(), self.videos, self.num_looped, self.failures)


@dataclass(frozen=True)
class EvaluationBatch:
    """Every planned view of some whole videos in manifest order, and the readable ones of them as a batch."""

    planned_views: tuple[PlannedView, ...]
    views: AnyBatch | None
    num_looped_videos: int

    def pin_memory(self) -> EvaluationBatch:
        """See `ViewBatch.pin_memory`."""
        return EvaluationBatch(
            self.planned_views, self.views.pin_memory() if self.views else None, self.num_looped_videos
        )


@dataclass(frozen=True)
class _TrainingClip:
    view: AnyView
    label: int
    video: str
    looped: bool


class TrainingDataset(Dataset[_TrainingClip | Failure]):
    """Draw number -> clip. Every pass over the videos is a permutation of its own; a draw costs the same in any place."""

    def __init__(
        self, manifest: Manifest, source: FrameSource, preprocessing: Preprocessing, *, mirror: bool, seed: int
    ) -> None:
        self.manifest = manifest.select_flow() if isinstance(source, ShardFlowSource) else manifest
        self.source = source
        self.preprocessing = preprocessing
        self.mirror = mirror
        self.seed = seed

    def find_video_index(self, draw: int) -> int:
        """Which video draw number `draw` is of."""
        pass_index, position = divmod(draw, len(self.manifest))
        return shuffle_index(
            position, len(self.manifest), seed=self.seed, purpose="order", permutation_index=pass_index
        )

    def __getitem__(self, draw: int) -> _TrainingClip | Failure:
        index = self.find_video_index(draw)
        rng = make_generator(self.seed, "clip", draw)
        labels = self.manifest.get_labels(index)
        label = labels[int(rng.integers(len(labels)))]
        video = self.manifest.get_video(index)
        try:
            times = read_segment_times(self.source, self.manifest, index)
            clip_times = sample_random_clip(times, self.preprocessing, rng)
            view = self._read_view(self.manifest.get_path(index), clip_times.ticks, rng)
        except VideoError as error:
            return Failure(video, error.status, error.reason)
        return _TrainingClip(view, label, video, clip_times.looped)

    def _read_view(self, path: str, ticks: NDArray[np.int64], rng: np.random.Generator) -> AnyView:
        preprocessing = self.preprocessing
        if isinstance(self.source, ShardFlowSource):
            codes = self.source.read(path, select_stored_ticks(ticks, preprocessing))
            corner, mirror = sample_crop_corner(preprocessing, mirror=self.mirror, generator=rng)
            return make_stored_flow_view(codes, corner, preprocessing, mirror=mirror)
        view = make_training_view(self.source.read(path, ticks), preprocessing.crop, mirror=self.mirror, generator=rng)
        return compute_modality(view, ticks, preprocessing)


class EvaluationDataset(Dataset[tuple[tuple[PlannedView, ...], tuple[AnyView, ...], bool]]):
    """Video index -> its planned views, and those of them that could be read."""

    def __init__(self, manifest: Manifest, source: FrameSource, preprocessing: Preprocessing, num_clips: int) -> None:
        self.manifest = manifest.select_flow() if isinstance(source, ShardFlowSource) else manifest
        self.source = source
        self.preprocessing = preprocessing
        self.num_clips = num_clips

    def find_video_index(self, index: int) -> int:
        """Which video an item is of: itself."""
        return index

    def __getitem__(self, index: int) -> tuple[tuple[PlannedView, ...], tuple[AnyView, ...], bool]:
        video, labels = self.manifest.get_video(index), self.manifest.get_labels(index)
        try:
            times = read_segment_times(self.source, self.manifest, index)
        except VideoError as error:
            planned = (
                PlannedView(video, view_index, None, labels, error.status, error.reason)
                for view_index in range(self.num_clips)
            )
            return tuple(planned), (), False
        planned_views, views = [], []
        clips = sample_uniform_clips(times, self.preprocessing, self.num_clips)
        read = read_views(self.source, self.manifest.get_path(index), clips, self.preprocessing)
        for number, (clip_times, view) in enumerate(zip(clips, read, strict=True)):
            if isinstance(view, VideoError):
                planned_views.append(
                    PlannedView(video, number, clip_times.start_seconds, labels, view.status, view.reason)
                )
            else:
                planned_views.append(PlannedView(video, number, clip_times.start_seconds, labels))
                views.append(view)
        return tuple(planned_views), tuple(views), clips[0].looped


def read_segment_times(source: FrameSource, manifest: Manifest, index: int) -> FrameTimes:
    """The time stamps of a manifest's video, cut to the segment that its row names."""
    manifest.check_status(index)
    return trim_frame_times(source.read_frame_times(manifest.get_path(index)), *manifest.get_bounds(index))


@dataclass(frozen=True)
class _RemainingBatchSampler(Sampler[list[int]]):
    """What is left of a sampler's batches after the first `num_done`."""

    batches: TrainingBatchSampler
    num_done: int

    def __iter__(self) -> Iterator[list[int]]:
        return islice(self.batches, self.num_done, None)

    def __len__(self) -> int:
        return len(self.batches) - self.num_done


def load_training_batches(
    dataset: TrainingDataset,
    sampler: TrainingBatchSampler,
    loading: LoadingSettings,
    *,
    pin_memory: bool,
    on_restart: Callable[[str], None] | None = None,
) -> Iterator[TrainingBatch]:
    """The batches of this rank in order of steps, `steps.num_micro_batches` a step.

    When a worker is killed all are started again where they were, `loading.worker_restarts` times; `restarted` hears why.
    Then it is a RuntimeError. Draws are functions of their numbers, so the batches are the same.
    """
    num_done = num_restarts = 0
    while num_done < len(sampler):
        remaining = _RemainingBatchSampler(sampler, num_done)
        try:
            for batch in _load_batches(dataset, remaining, collate_training, loading, pin_memory=pin_memory):
                yield batch
                num_done += 1
        except WorkerKilled as error:
            num_restarts += 1
            if num_restarts > loading.worker_restarts:
                raise
            if on_restart:
                on_restart(f"{error}; the workers are started again")


class WorkerKilled(RuntimeError):
    """A worker process ended without being asked to."""


def load_evaluation_batches(
    dataset: EvaluationDataset, sampler: VideoBatchSampler, loading: LoadingSettings, *, pin_memory: bool
) -> Iterator[EvaluationBatch]:
    """This rank's batches of whole videos in manifest order."""
    return _load_batches(dataset, sampler, collate_evaluation, loading, pin_memory=pin_memory)


def collate_training(items: Sequence[_TrainingClip | Failure]) -> TrainingBatch:
    """One step's draws as a batch."""
    clips = [item for item in items if isinstance(item, _TrainingClip)]
    return TrainingBatch(
        views=collate_views([item.view for item in clips]) if clips else None,
        labels_n=torch.tensor([item.label for item in clips], dtype=torch.int64),
        videos=tuple(item.video for item in clips),
        num_looped=sum(item.looped for item in clips),
        failures=tuple(item for item in items if isinstance(item, Failure)),
    )


def collate_evaluation(items: Sequence[tuple[tuple[PlannedView, ...], tuple[AnyView, ...], bool]]) -> EvaluationBatch:
    """Some videos' views as a batch."""
    planned_views = tuple(row for planned, _, _ in items for row in planned)
    views = [view for _, readable, _ in items for view in readable]
    return EvaluationBatch(
        planned_views, collate_views(views) if views else None, sum(looped for _, _, looped in items)
    )


def _load_batches(
    dataset: Dataset[Any], sampler: Sampler[list[int]], collate: Any, loading: LoadingSettings, *, pin_memory: bool
) -> Iterator[Any]:
    worker_count = resolve_num_workers(loading.workers)
    context = _create_fork_server_context() if worker_count else None
    tracked_dataset = None
    if worker_count:
        worker_items = torch.full((worker_count, 2), -1).share_memory_()  # type: ignore[no-untyped-call]  # torch
        tracked_dataset = _TrackedDataset(dataset, worker_items)
    try:
        with warnings.catch_warnings():
            # As many workers as were asked for; torch would advise fewer where there are fewer cores.
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
            batches = iter(
                DataLoader(
                    tracked_dataset or dataset,
                    batch_sampler=sampler,
                    collate_fn=collate,
                    num_workers=worker_count,
                    multiprocessing_context=context,
                    prefetch_factor=loading.prefetch if worker_count else None,
                    pin_memory=pin_memory,
                    worker_init_fn=_initialize_worker if worker_count else None,
                )
            )
        yield from batches
    except ObjectStoreError as error:
        if not worker_count:
            raise
        message = str(error).rstrip().rpartition(f"{ObjectStoreError.__name__}: ")[2]  # behind the worker's traceback
        raise ObjectStoreError(message) from error
    except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
        if not worker_count or not _is_lost_worker_error(error):
            raise
        assert tracked_dataset is not None, "there are workers"
        raise WorkerKilled(
            f"a data worker was killed{tracked_dataset.describe_videos_in_progress(str(error))}, most "
            f"often because memory ran out; lower loading.workers, "
            f"loading.prefetch or training.batch_size ({type(error).__name__}: {str(error).partition('. ')[0]})"
        ) from error


class _TrackedDataset(Dataset[Any]):
    """A data set whose workers leave word of what they read, in memory that outlives them: `table` (workers, 2) of process
    and item, or -1 between two items."""

    def __init__(self, dataset: Any, table: Tensor) -> None:
        self.dataset, self.worker_items = dataset, table

    def __getitem__(self, item: int) -> Any:
        row = self.worker_items[get_worker_info().id]  # type: ignore[union-attr]  # only workers come here
        row[0], row[1] = os.getpid(), item
        sample = self.dataset[item]
        row[1] = -1
        return sample

    def describe_videos_in_progress(self, error: str) -> str:
        """Which video the worker that `error` names by its process was reading; of all workers where it names none."""
        lost_processes = set(map(int, re.findall(r"\d+", error)))
        rows = [(process, item) for process, item in self.worker_items.tolist() if item >= 0]
        lost_items = [item for process, item in rows if process in lost_processes] or [item for _, item in rows]
        videos = [self.dataset.manifest.get_video(self.dataset.find_video_index(item)) for item in lost_items]
        return f" while it read {' or '.join(videos)}" if videos else ""


def _is_lost_worker_error(error: Exception) -> bool:
    """Whether torch missed a worker, or a connection to one broke. A data set's own error begins with "Caught"."""
    if str(error).startswith("Caught "):
        return False
    return not isinstance(error, RuntimeError) or str(error).startswith("DataLoader worker")


def _create_fork_server_context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # torch and PyAV are imported once, not once a worker
    return context


def _initialize_worker(worker_id: int) -> None:
    _ignore_stop_signals()
    threading.Thread(target=_exit_with_parent, name="parent", daemon=True).start()
    keep_freed_memory(32 << 20)  # the planes of one clip serve the next: a fifth more clips
    worker_info: Any = get_worker_info()
    dataset = worker_info.dataset.dataset
    uses_stored_flow = isinstance(dataset.source, ShardFlowSource)
    if dataset.preprocessing.modality == "flow" and not uses_stored_flow:
        import_opencv().setNumThreads(1)  # many workers compute side by side


def _exit_with_parent() -> None:
    """torch's workers look after their system parent, which is the fork server: it would outlive a training that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker was started by somebody"
    parent.join()
    os._exit(1)


def _ignore_stop_signals() -> None:
    """Ctrl-C reaches every process of a terminal; the training process decides when its workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
