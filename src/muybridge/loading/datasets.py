"""Training and evaluation datasets: an index to a clip or a video's views, and the batches that they are collated into.

Training: draw number n of a run decides video, place in time, crop, mirror and label, so the global batch of a step depends
neither on the number of workers nor on the number of ranks. Evaluation: an item is all views of one video. A video that
cannot be read becomes a recorded failure; it is never replaced by another video.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from muybridge.augmentation_settings import AugmentationSettings
from muybridge.datasets.manifest import Manifest
from muybridge.loading.class_draws import VideoDraws
from muybridge.loading.clip_reader import ClipReader
from muybridge.randomness import make_generator
from muybridge.records import FrameSource, FrameTimes, PlannedView, Task, VideoError
from muybridge.video.media import set_source_rate
from muybridge.video.sampling import sample_random_clip, sample_uniform_clips, trim_frame_times
from muybridge.video.views import AnyBatch, AnyView, collate_views, jitter_view

Item = TypeVar("Item")


@dataclass(frozen=True)
class Failure:
    """A draw or a video that could not be read."""

    video: str
    status: str
    reason: str


@dataclass(frozen=True)
class TrainingClip:
    """A readable draw. `targets` are those of another task than single_label (`encode_targets`)."""

    view: AnyView
    label: int
    video: str
    looped: bool
    targets: tuple[float, ...] = ()


@dataclass(frozen=True)
class TrainingBatch:
    """The readable clips of one batch on one rank, their labels int64 (N,), and the failures among its draws.

    `targets_nd` float32 (N, D) for another task than single_label, where labels are 0; D is 0 for single_label.
    """

    views: AnyBatch | None
    labels_n: Tensor
    videos: tuple[str, ...]
    num_looped: int
    failures: tuple[Failure, ...]
    targets_nd: Tensor = field(default_factory=lambda: torch.zeros(0, 0))

    def pin_memory(self) -> TrainingBatch:
        """See `ViewBatch.pin_memory`."""
        views = self.views.pin_memory() if self.views else None
        return replace(self, views=views, labels_n=self.labels_n.pin_memory(), targets_nd=self.targets_nd.pin_memory())


@dataclass(frozen=True)
class VideoViews:
    """Every planned view of one video, and the readable ones in the same order."""

    planned_views: tuple[PlannedView, ...]
    views: tuple[AnyView, ...]
    looped: bool


@dataclass(frozen=True)
class EvaluationBatch:
    """Every planned view of some whole videos in manifest order, and the readable ones as a batch.

    `looped` says of each video whether it is shorter than a clip and repeats in a loop.
    """

    planned_views: tuple[PlannedView, ...]
    views: AnyBatch | None
    looped: tuple[bool, ...]

    def pin_memory(self) -> EvaluationBatch:
        """See `ViewBatch.pin_memory`."""
        return replace(self, views=self.views.pin_memory() if self.views else None)


class VideoDataset(Dataset[Item], ABC):
    """A dataset whose items are read from videos by `reader`."""

    reader: ClipReader

    @abstractmethod
    def get_video(self, index: int) -> str:
        """The name of the video that item number `index` is read from."""


class TrainingDataset(VideoDataset[TrainingClip | Failure]):
    """Draw number -> clip. Each pass over the videos is a new permutation, computed for one index at a time.

    With `balanced` draws every class is drawn equally often (`class_draws`).
    """

    def __init__(
        self,
        manifest: Manifest,
        reader: ClipReader,
        *,
        mirror: bool,
        seed: int,
        task: Task = "single_label",
        balanced: bool = False,
        augmentation: AugmentationSettings | None = None,
    ) -> None:
        self.manifest = reader.select_videos(manifest)
        self.reader = reader
        self.mirror = mirror
        self.seed = seed
        self.task = task
        augmentation = augmentation or AugmentationSettings()
        self.draws = VideoDraws(
            self.manifest, seed, balanced=balanced, draws_per_video=augmentation.repeated_augmentation
        )
        self.jitter = augmentation.color_jitter

    def find_video_index(self, draw: int) -> int:
        """The manifest's index of the video of draw number `draw`."""
        return self.draws.find_video(draw)[0]

    def get_video(self, index: int) -> str:
        """The name of the video of draw number `index`."""
        return self.manifest.get_video(self.find_video_index(index))

    def __getitem__(self, draw: int) -> TrainingClip | Failure:
        index, label = self.draws.find_video(draw)
        rng = make_generator(self.seed, "clip", draw)
        targets: tuple[float, ...] = ()
        if self.task != "single_label":
            label, targets = 0, encode_targets(self.manifest, index, self.task)
        elif label is None:
            labels = self.manifest.get_labels(index)
            label = labels[int(rng.integers(len(labels)))]
        video, path = self.manifest.get_video(index), self.manifest.get_path(index)
        try:
            times = read_segment_times(self.reader.source, self.manifest, index)
            clip_times = sample_random_clip(times, self.reader.preprocessing, rng)
            view = self.reader.read_training_view(path, clip_times.ticks, mirror=self.mirror, generator=rng)
        except VideoError as error:
            return Failure(video, error.status, error.reason)
        if self.jitter:
            view = jitter_view(view, self.jitter, rng)
        return TrainingClip(view, label, video, clip_times.looped, targets)


class EvaluationDataset(VideoDataset[VideoViews]):
    """Video index -> its `num_clips` * `num_crops` planned views, and those of them that could be read."""

    def __init__(
        self,
        manifest: Manifest,
        reader: ClipReader,
        num_clips: int,
        *,
        task: Task = "single_label",
        num_crops: int = 1,
    ) -> None:
        self.manifest = reader.select_videos(manifest)
        self.reader = reader
        self.num_clips = num_clips
        self.num_crops = num_crops
        self.task = task

    def get_video(self, index: int) -> str:
        """The name of video number `index`."""
        return self.manifest.get_video(index)

    def __getitem__(self, index: int) -> VideoViews:
        video, labels = self.manifest.get_video(index), self.manifest.get_labels(index)
        targets = () if self.task == "single_label" else encode_targets(self.manifest, index, self.task)
        try:
            times = read_segment_times(self.reader.source, self.manifest, index)
            clips = sample_uniform_clips(times, self.reader.preprocessing, self.num_clips)
        except VideoError as error:
            failed = PlannedView(video, 0, None, labels, error.status, error.reason, targets)
            return VideoViews(
                tuple(replace(failed, view=view) for view in range(self.num_clips * self.num_crops)), (), False
            )
        results = list(
            self.reader.read_evaluation_views(self.manifest.get_path(index), clips, num_crops=self.num_crops)
        )
        planned_views = []
        clips_of_views = [clip for clip in clips for _ in range(self.num_crops)]
        for view_index, (clip_times, result) in enumerate(zip(clips_of_views, results, strict=True)):
            planned = PlannedView(video, view_index, clip_times.start_seconds, labels, targets=targets)
            if isinstance(result, VideoError):
                planned = replace(planned, status=result.status, reason=result.reason)
            planned_views.append(planned)
        views = tuple(view for view in results if not isinstance(view, VideoError))
        return VideoViews(tuple(planned_views), views, clips[0].looped)


def encode_targets(manifest: Manifest, index: int, task: Task) -> tuple[float, ...]:
    """The targets of a video: 1 for each class that it has and 0 for the others; its level; or its numbers, NaN if unknown."""
    match task:
        case "regression":
            return manifest.get_targets(index)
        case "ordinal":
            labels = manifest.get_labels(index)
            return (float(labels[0]) if labels else math.nan,)
        case "multi_label":
            labels = manifest.get_labels(index)
            return tuple(float(class_index in labels) for class_index in range(len(manifest.classes)))
        case _:
            return ()


def read_segment_times(source: FrameSource, manifest: Manifest, index: int) -> FrameTimes:
    """The time stamps of a manifest's video, cut to the segment that its row names. Raises VideoError."""
    manifest.check_status(index)
    times = set_source_rate(source.read_frame_times(manifest.get_path(index)), manifest.get_source_rate(index))
    return trim_frame_times(times, *manifest.get_bounds(index))


def collate_training(items: Sequence[TrainingClip | Failure]) -> TrainingBatch:
    """Draws as a batch."""
    clips = [item for item in items if isinstance(item, TrainingClip)]
    return TrainingBatch(
        views=collate_views([item.view for item in clips]) if clips else None,
        labels_n=torch.tensor([item.label for item in clips], dtype=torch.int64),
        videos=tuple(item.video for item in clips),
        num_looped=sum(item.looped for item in clips),
        failures=tuple(item for item in items if isinstance(item, Failure)),
        targets_nd=torch.tensor([item.targets for item in clips], dtype=torch.float32).reshape(len(clips), -1)
        if clips
        else torch.zeros(0, 0),
    )


def collate_evaluation(items: Sequence[VideoViews]) -> EvaluationBatch:
    """The views of some videos as a batch."""
    views = [view for item in items for view in item.views]
    return EvaluationBatch(
        planned_views=tuple(planned for item in items for planned in item.planned_views),
        views=collate_views(views) if views else None,
        looped=tuple(item.looped for item in items),
    )
