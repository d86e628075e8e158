"""Outputs of a network for the clips of videos, read by this process or by workers, in the order of the videos.

Input: `VideoInput`s and where their clips lie. Output: a row for each readable clip, and why the others could not be read. A
batch holds the clips of whole videos, so results depend neither on the number of workers nor on which of them was faster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from muybridge.distributed.rank import resolve_num_workers
from muybridge.loading.clip_reader import ClipReader
from muybridge.loading.datasets import VideoDataset
from muybridge.loading.workers import WorkerKilled, load_batches
from muybridge.prediction.sliding_window import BATCH_CLIPS
from muybridge.prediction.video_inputs import VideoInput
from muybridge.records import ClipTimes, FrameTimes, Preprocessing, VideoError
from muybridge.settings import LoadingSettings
from muybridge.text import format_count
from muybridge.video.sampling import sample_dense_clips, sample_uniform_clips
from muybridge.video.views import AnyView, collate_views, prepare_network_input

NetworkFunction = Callable[[Tensor], Tensor]
ProgressCallback = Callable[[float], object]
"""Called with the share that is done. A timeline ends early where it returns False."""

_MIN_VIDEOS_FOR_WORKERS = 8
_BATCHES_AHEAD = 2  # of each worker
_NUM_RETRIES_AFTER_KILL = 1  # of a video: a process may be killed for the memory that another one took


@dataclass(frozen=True)
class ClipOutputs:
    """Outputs of a network for the readable clips among some clips, float32 (R, X), and the errors of the others.

    `is_interrupted`: later clips were left out because the caller ended it.
    """

    clip_indices: tuple[int, ...]
    rows: NDArray[np.float32]
    failures: tuple[VideoError, ...]
    is_interrupted: bool = False

    @property
    def reason(self) -> str:
        """Which clips are missing and why; empty if none is."""
        if not self.failures:
            return ""
        num_clips = len(self.clip_indices) + len(self.failures)
        return f"{len(self.failures)} of {format_count(num_clips, 'clip')} could not be read: {self.failures[0].reason}"


@dataclass(frozen=True)
class ClipPlan:
    """Where the clips of a video lie: `num_clips` uniformly spaced ones, or one every `step_frames` frames."""

    num_clips: int = 10
    step_frames: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("clips", self.num_clips), ("step_frames", self.step_frames)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")

    def place_clips(self, times: FrameTimes, preprocessing: Preprocessing) -> list[ClipTimes]:
        """The clips of a video with these frames."""
        if self.step_frames is None:
            return sample_uniform_clips(times, preprocessing, self.num_clips)
        return sample_dense_clips(times, preprocessing, self.step_frames)


@dataclass(frozen=True)
class _VideoClips:
    """The clips of one video as they were read; `error`: the video could not be opened."""

    video_index: int
    clip_times: tuple[ClipTimes, ...]
    results: tuple[AnyView | VideoError, ...]
    error: VideoError | None = None


class InputDataset(VideoDataset[_VideoClips]):
    """Video index -> its planned clips, read."""

    def __init__(self, inputs: Sequence[VideoInput], preprocessing: Preprocessing, plan: ClipPlan) -> None:
        self.inputs = inputs
        self.preprocessing = preprocessing
        self.plan = plan
        self.num_kills: Counter[int] = Counter()  # of the processes that read a video, by its index
        self.reader: ClipReader = inputs[0].create_reader(preprocessing)

    def get_video(self, index: int) -> str:
        """The name of video number `index`."""
        return self.inputs[index].label

    def __getitem__(self, index: int) -> _VideoClips:
        video = self.inputs[index]
        try:
            if self.num_kills[index] > _NUM_RETRIES_AFTER_KILL:
                raise VideoError(
                    "unreadable",
                    f"the process that reads it was killed "
                    f"{format_count(self.num_kills[index], 'time')}; memory may have run out",
                )
            if video.error is not None:
                raise video.error
            times = video.source.read_frame_times(video.name)
            clip_times = self.plan.place_clips(times, self.preprocessing)
            reader = video.create_reader(self.preprocessing)
            results = tuple(reader.read_evaluation_views(video.name, clip_times))
        except VideoError as error:
            return _VideoClips(index, (), (), error)
        return _VideoClips(index, tuple(clip_times), results)


@dataclass(frozen=True)
class WholeVideos(Sampler[list[int]]):
    """Batches of as many whole videos as make BATCH_CLIPS clips, at least one, from video number `num_done` on."""

    num_videos: int
    clips_per_video: int
    num_done: int

    def __iter__(self) -> Iterator[list[int]]:
        size = max(1, BATCH_CLIPS // self.clips_per_video)
        for first in range(self.num_done, self.num_videos, size):
            yield list(range(first, min(first + size, self.num_videos)))

    def __len__(self) -> int:
        return -(-(self.num_videos - self.num_done) // max(1, BATCH_CLIPS // self.clips_per_video))


def collate_videos(items: Sequence[_VideoClips]) -> list[_VideoClips]:
    """Videos as a batch."""
    return list(items)


@dataclass(frozen=True)
class ClipRunner:
    """Runs a network on the clips of videos."""

    network: NetworkFunction
    preprocessing: Preprocessing
    device: torch.device

    def run_views(self, views: Sequence[AnyView]) -> NDArray[np.float32]:
        """Outputs (N, X) of N views, at most BATCH_CLIPS at a time."""
        rows = [np.empty((0, 0), np.float32)] if not views else []
        for first in range(0, len(views), BATCH_CLIPS):
            batch = collate_views(views[first : first + BATCH_CLIPS])
            outputs = self.network(prepare_network_input(batch, self.preprocessing, self.device))
            rows.append(outputs.float().cpu().numpy())
        return np.concatenate(rows)

    def run_readable_clips(
        self, video: VideoInput, clip_times: Sequence[ClipTimes], on_progress: ProgressCallback | None = None
    ) -> ClipOutputs:
        """Outputs for the readable clips of one video, BATCH_CLIPS in memory at a time; there may be none.

        `on_progress` is called after each batch; what it raises ends the work.
        """
        clip_indices: list[int] = []
        rows: list[NDArray[np.float32]] = []
        failures: list[VideoError] = []
        reader = video.create_reader(self.preprocessing)

        def iterate_views() -> Iterator[AnyView]:
            for index, view in enumerate(reader.read_evaluation_views(video.name, clip_times)):
                if isinstance(view, VideoError):
                    failures.append(view)
                else:
                    clip_indices.append(index)
                    yield view

        remaining_views = iterate_views()
        while batch := list(islice(remaining_views, BATCH_CLIPS)):
            rows.append(self.run_views(batch))
            if on_progress is not None:
                on_progress((len(clip_indices) + len(failures)) / len(clip_times))
        stacked = np.concatenate(rows) if rows else np.empty((0, 0), np.float32)
        return ClipOutputs(tuple(clip_indices), stacked, tuple(failures))

    def run_clips(
        self, video: VideoInput, clip_times: Sequence[ClipTimes], on_progress: ProgressCallback | None = None
    ) -> ClipOutputs:
        """As `run_readable_clips`. Raises the first VideoError if no clip can be read."""
        outputs = self.run_readable_clips(video, clip_times, on_progress)
        if not outputs.clip_indices:
            raise outputs.failures[0]
        return outputs

    def run_each(
        self, inputs: Sequence[VideoInput], plan: ClipPlan, *, num_workers: int
    ) -> Iterator[tuple[VideoInput, Sequence[ClipTimes], ClipOutputs | VideoError]]:
        """Every video in order with its clips and their outputs, or with the reason why there are none.

        `num_workers` processes read ahead; 0 reads in this one. Results are bit-equal for any number. A video whose reading
        kills the process twice is failed; raises WorkerKilled where processes are killed without reading anything.
        """
        if not inputs:
            return
        dataset = InputDataset(inputs, self.preprocessing, plan)
        loading = LoadingSettings(
            workers=num_workers if all(video.is_file for video in inputs) else 0, prefetch=_BATCHES_AHEAD
        )
        clips_per_video = plan.num_clips if plan.step_frames is None else BATCH_CLIPS
        num_done = num_restarts = 0
        while num_done < len(inputs):
            sampler = WholeVideos(len(inputs), clips_per_video, num_done)
            try:
                for videos in load_batches(dataset, sampler, collate_videos, loading, pin_memory=False):
                    yield from self._run_batch(inputs, videos)
                    num_done, num_restarts = num_done + len(videos), 0
            except WorkerKilled as error:
                num_restarts += 1
                in_flight = _BATCHES_AHEAD * num_workers * max(1, BATCH_CLIPS // clips_per_video)
                if not error.items or num_restarts > (1 + _NUM_RETRIES_AFTER_KILL) * (in_flight + 1):
                    raise
                dataset.num_kills.update(error.items)

    def _run_batch(
        self, inputs: Sequence[VideoInput], videos: Sequence[_VideoClips]
    ) -> Iterator[tuple[VideoInput, Sequence[ClipTimes], ClipOutputs | VideoError]]:
        views = [view for video in videos for view in video.results if not isinstance(view, VideoError)]
        rows = self.run_views(views)
        for video in videos:
            outputs = _take_outputs(video, rows)
            if isinstance(outputs, ClipOutputs):
                rows = rows[len(outputs.clip_indices) :]
            yield inputs[video.video_index], video.clip_times, outputs


def _take_outputs(video: _VideoClips, rows: NDArray[np.float32]) -> ClipOutputs | VideoError:
    """The outputs of a video, whose readable clips have the first of `rows`."""
    if video.error is not None:
        return video.error
    failures = tuple(result for result in video.results if isinstance(result, VideoError))
    indices = tuple(index for index, result in enumerate(video.results) if not isinstance(result, VideoError))
    if not indices:
        return failures[0]
    return ClipOutputs(indices, rows[: len(indices)], failures)


def choose_num_workers(workers: int | None, num_videos: int) -> int:
    """As given; unset, none for a few videos, which are read sooner than workers start."""
    if workers is not None and workers < 0:
        raise ValueError(f"workers must be 0 or more, not {workers}")
    return 0 if workers is None and num_videos < _MIN_VIDEOS_FOR_WORKERS else resolve_num_workers(workers)
