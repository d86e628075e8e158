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
from muybridge.distributed.rank import num_workers
from muybridge.loading.draws import StepDraws, WholeVideos
from muybridge.loading.evaluation_clips import read_views
from muybridge.memory import keep_freed_memory
from muybridge.prepared.dataset import is_prepared, read_description
from muybridge.prepared.object_store import UnreachableStore
from muybridge.prepared.shards import FlowShards, ShardFrames
from muybridge.prepared.stored_flow import is_stored, stored_flow_view, stored_ticks
from muybridge.randomness import generator, shuffled_position
from muybridge.records import FrameSource, FrameTimes, PlannedView, Preprocessing, VideoError
from muybridge.settings import LoadingSettings
from muybridge.video.decode import VideoFiles
from muybridge.video.flow import opencv, seen
from muybridge.video.sampling import random_clip, uniform_clips, within
from muybridge.video.views import AnyBatch, AnyView, batched, drawn_corner, training_view


def frame_source(root: str, preprocessing: Preprocessing) -> FrameSource:
    """Where the frames of a manifest's videos come from: shards where `root` is prepared data, else video files under it.

    For optical flow that prepared data holds as it is wanted, the source is of stored flow; otherwise flow is computed from
    frames. Raises ValueError where prepared data has frames of another size than the preprocessing wants, ImportError where
    flow must be computed and OpenCV is not installed.
    """
    if is_prepared(root):
        described = read_description(root)
        stored = (described.scale_height, described.scale_width)
        wanted = (preprocessing.scale_height, preprocessing.scale_width)
        if stored != wanted:
            raise ValueError(
                f"{root} holds frames of {stored[0]}x{stored[1]}, but {wanted[0]}x{wanted[1]} are wanted; "
                f"prepare it with --scale {wanted[0]} {wanted[1]}, or set clips.scale"
            )
        if described.flow_bound is not None and is_stored(preprocessing, described.frames_per_second):
            return FlowShards(root, scale_height=2 * stored[0], scale_width=stored[1])
    if preprocessing.modality == "flow":
        opencv()
    if is_prepared(root):
        return ShardFrames(root, scale_height=stored[0], scale_width=stored[1])
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

    rows: tuple[PlannedView, ...]
    views: AnyBatch | None
    num_looped_videos: int

    def pin_memory(self) -> EvaluationBatch:
        """See `ViewBatch.pin_memory`."""
        return EvaluationBatch(self.rows, self.views.pin_memory() if self.views else None, self.num_looped_videos)


@dataclass(frozen=True)
class _Drawn:
    view: AnyView
    label: int
    video: str
    looped: bool


class TrainingDraws(Dataset[_Drawn | Failure]):
    """Draw number -> clip. Every pass over the videos is a permutation of its own; a draw costs the same in any place."""

    def __init__(
        self, manifest: Manifest, source: FrameSource, preprocessing: Preprocessing, *, mirror: bool, seed: int
    ) -> None:
        self.manifest = manifest.of_flow() if isinstance(source, FlowShards) else manifest
        self.source = source
        self.preprocessing = preprocessing
        self.mirror = mirror
        self.seed = seed

    def video_index(self, draw: int) -> int:
        """Which video draw number `draw` is of."""
        number, position = divmod(draw, len(self.manifest))
        return shuffled_position(position, len(self.manifest), seed=self.seed, purpose="order", number=number)

    def __getitem__(self, draw: int) -> _Drawn | Failure:
        index = self.video_index(draw)
        chance = generator(self.seed, "clip", draw)
        labels = self.manifest.labels(index)
        label = labels[int(chance.integers(len(labels)))]
        video = self.manifest.video(index)
        try:
            times = frame_times(self.source, self.manifest, index)
            clip_times = random_clip(times, self.preprocessing, chance)
            view = self._view(self.manifest.path(index), clip_times.ticks, chance)
        except VideoError as error:
            return Failure(video, error.status, error.reason)
        return _Drawn(view, label, video, clip_times.looped)

    def _view(self, path: str, ticks: NDArray[np.int64], chance: np.random.Generator) -> AnyView:
        asked = self.preprocessing
        if isinstance(self.source, FlowShards):
            codes = self.source.read(path, stored_ticks(ticks, asked))
            corner, mirror = drawn_corner(asked, mirror=self.mirror, generator=chance)
            return stored_flow_view(codes, corner, asked, mirror=mirror)
        view = training_view(self.source.read(path, ticks), asked.crop, mirror=self.mirror, generator=chance)
        return seen(view, ticks, asked)


class EvaluationViews(Dataset[tuple[tuple[PlannedView, ...], tuple[AnyView, ...], bool]]):
    """Video index -> its planned views, and those of them that could be read."""

    def __init__(self, manifest: Manifest, source: FrameSource, preprocessing: Preprocessing, num_clips: int) -> None:
        self.manifest = manifest.of_flow() if isinstance(source, FlowShards) else manifest
        self.source = source
        self.preprocessing = preprocessing
        self.num_clips = num_clips

    def video_index(self, index: int) -> int:
        """Which video an item is of: itself."""
        return index

    def __getitem__(self, index: int) -> tuple[tuple[PlannedView, ...], tuple[AnyView, ...], bool]:
        video, labels = self.manifest.video(index), self.manifest.labels(index)
        try:
            times = frame_times(self.source, self.manifest, index)
        except VideoError as error:
            planned = (
                PlannedView(video, number, None, labels, error.status, error.reason) for number in range(self.num_clips)
            )
            return tuple(planned), (), False
        rows, views = [], []
        clips = uniform_clips(times, self.preprocessing, self.num_clips)
        read = read_views(self.source, self.manifest.path(index), clips, self.preprocessing)
        for number, (clip_times, view) in enumerate(zip(clips, read, strict=True)):
            if isinstance(view, VideoError):
                rows.append(PlannedView(video, number, clip_times.start_seconds, labels, view.status, view.reason))
            else:
                rows.append(PlannedView(video, number, clip_times.start_seconds, labels))
                views.append(view)
        return tuple(rows), tuple(views), clips[0].looped


def frame_times(source: FrameSource, manifest: Manifest, index: int) -> FrameTimes:
    """The time stamps of a manifest's video, cut to the segment that its row names."""
    manifest.require_ok(index)
    return within(source.frame_times(manifest.path(index)), *manifest.bounds(index))


@dataclass(frozen=True)
class _Remaining(Sampler[list[int]]):
    """What is left of a sampler's batches after the first `num_done`."""

    batches: StepDraws
    num_done: int

    def __iter__(self) -> Iterator[list[int]]:
        return islice(self.batches, self.num_done, None)

    def __len__(self) -> int:
        return len(self.batches) - self.num_done


def training_batches(
    draws: TrainingDraws,
    steps: StepDraws,
    loading: LoadingSettings,
    *,
    pin_memory: bool,
    restarted: Callable[[str], None] | None = None,
) -> Iterator[TrainingBatch]:
    """The batches of this rank in order of steps, `steps.num_pieces` a step.

    When a worker is killed all are started again where they were, `loading.worker_restarts` times; `restarted` hears why.
    Then it is a RuntimeError. Draws are functions of their numbers, so the batches are the same.
    """
    num_done = num_restarts = 0
    while num_done < len(steps):
        remaining = _Remaining(steps, num_done)
        try:
            for batch in _loaded(draws, remaining, collate_training, loading, pin_memory=pin_memory):
                yield batch
                num_done += 1
        except WorkerKilled as error:
            num_restarts += 1
            if num_restarts > loading.worker_restarts:
                raise
            if restarted:
                restarted(f"{error}; the workers are started again")


class WorkerKilled(RuntimeError):
    """A worker process ended without being asked to."""


def evaluation_batches(
    views: EvaluationViews, videos: WholeVideos, loading: LoadingSettings, *, pin_memory: bool
) -> Iterator[EvaluationBatch]:
    """This rank's batches of whole videos in manifest order."""
    return _loaded(views, videos, collate_evaluation, loading, pin_memory=pin_memory)


def collate_training(items: Sequence[_Drawn | Failure]) -> TrainingBatch:
    """One step's draws as a batch."""
    drawn = [item for item in items if isinstance(item, _Drawn)]
    return TrainingBatch(
        views=batched([item.view for item in drawn]) if drawn else None,
        labels_n=torch.tensor([item.label for item in drawn], dtype=torch.int64),
        videos=tuple(item.video for item in drawn),
        num_looped=sum(item.looped for item in drawn),
        failures=tuple(item for item in items if isinstance(item, Failure)),
    )


def collate_evaluation(items: Sequence[tuple[tuple[PlannedView, ...], tuple[AnyView, ...], bool]]) -> EvaluationBatch:
    """Some videos' views as a batch."""
    rows = tuple(row for planned, _, _ in items for row in planned)
    views = [view for _, readable, _ in items for view in readable]
    return EvaluationBatch(rows, batched(views) if views else None, sum(looped for _, _, looped in items))


def _loaded(
    dataset: Dataset[Any], sampler: Sampler[list[int]], collate: Any, loading: LoadingSettings, *, pin_memory: bool
) -> Iterator[Any]:
    workers = num_workers(loading.workers)
    context = _fork_server() if workers else None
    in_hand = _InHand(dataset, torch.full((workers, 2), -1).share_memory_()) if workers else None  # type: ignore[no-untyped-call]  # torch
    try:
        with warnings.catch_warnings():
            # As many workers as were asked for; torch would advise fewer where there are fewer cores.
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
            batches = iter(
                DataLoader(
                    in_hand or dataset,
                    batch_sampler=sampler,
                    collate_fn=collate,
                    num_workers=workers,
                    multiprocessing_context=context,
                    prefetch_factor=loading.prefetch if workers else None,
                    pin_memory=pin_memory,
                    worker_init_fn=_begin_worker if workers else None,
                )
            )
        yield from batches
    except UnreachableStore as error:
        if not workers:
            raise
        told = str(error).rstrip().rpartition(f"{UnreachableStore.__name__}: ")[2]  # behind the worker's traceback
        raise UnreachableStore(told) from error
    except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
        if not workers or not _tells_of_a_lost_worker(error):
            raise
        assert in_hand is not None, "there are workers"
        raise WorkerKilled(
            f"a data worker was killed{in_hand.told(str(error))}, most often because memory ran out; lower loading.workers, "
            f"loading.prefetch or training.batch_size ({type(error).__name__}: {str(error).partition('. ')[0]})"
        ) from error


class _InHand(Dataset[Any]):
    """A data set whose workers leave word of what they read, in memory that outlives them: `table` (workers, 2) of process
    and item, or -1 between two items."""

    def __init__(self, dataset: Any, table: Tensor) -> None:
        self.dataset, self.table = dataset, table

    def __getitem__(self, item: int) -> Any:
        row = self.table[get_worker_info().id]  # type: ignore[union-attr]  # only workers come here
        row[0], row[1] = os.getpid(), item
        found = self.dataset[item]
        row[1] = -1
        return found

    def told(self, error: str) -> str:
        """Which video the worker that `error` names by its process was reading; of all workers where it names none."""
        lost = set(map(int, re.findall(r"\d+", error)))
        rows = [(process, item) for process, item in self.table.tolist() if item >= 0]
        mine = [item for process, item in rows if process in lost] or [item for _, item in rows]
        videos = [self.dataset.manifest.video(self.dataset.video_index(item)) for item in mine]
        return f" while it read {' or '.join(videos)}" if videos else ""


def _tells_of_a_lost_worker(error: Exception) -> bool:
    """Whether torch missed a worker, or a connection to one broke. A data set's own error begins with "Caught"."""
    if str(error).startswith("Caught "):
        return False
    return not isinstance(error, RuntimeError) or str(error).startswith("DataLoader worker")


def _fork_server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # torch and PyAV are imported once, not once a worker
    return context


def _begin_worker(worker: int) -> None:
    _leave_signals_to_the_parent()
    threading.Thread(target=_end_with_the_parent, name="parent", daemon=True).start()
    keep_freed_memory(32 << 20)  # the planes of one clip serve the next: a fifth more clips
    facts: Any = get_worker_info()
    dataset = facts.dataset.dataset
    stored = isinstance(dataset.source, FlowShards)
    if dataset.preprocessing.modality == "flow" and not stored:
        opencv().setNumThreads(1)  # many workers compute side by side


def _end_with_the_parent() -> None:
    """torch's workers look after their system parent, which is the fork server: it would outlive a training that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker was started by somebody"
    parent.join()
    os._exit(1)


def _leave_signals_to_the_parent() -> None:
    """Ctrl-C reaches every process of a terminal; the training process decides when its workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
