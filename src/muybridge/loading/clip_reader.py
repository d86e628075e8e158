"""How each modality reads clips: RGB frames, optical flow computed from frames, or optical flow stored beside them.

Input: a video's name and the ticks of a clip (`ClipTimes`). Output: views for training, evaluation and timelines. Datasets and
predictors call a `ClipReader` and do not ask which modality it is; `open_clip_reader` is the one place that chooses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from muybridge.datasets.manifest import Manifest
from muybridge.loading.evaluation_clips import read_clips
from muybridge.loading.frame_stream import TIMESTEPS_PER_CHUNK, stream_frames
from muybridge.prepared.dataset import check_frame_size, is_prepared, read_description
from muybridge.prepared.shards import ShardFrameSource
from muybridge.prepared.stored_flow import can_use_stored_flow, make_stored_flow_view, select_stored_ticks
from muybridge.records import ClipTimes, FrameSource, Preprocessing, TimeOrigin, VideoError, YuvClip
from muybridge.video.flow import compute_flow_view, import_opencv
from muybridge.video.flow_fields import FlowCache
from muybridge.video.flow_pictures import FlowPictures
from muybridge.video.media import MediaFiles
from muybridge.video.views import (
    AnyView,
    FlowView,
    View,
    compute_center_corner,
    crop_flow,
    list_crop_corners,
    make_evaluation_view,
    make_evaluation_views,
    make_training_view,
    sample_crop,
)


class ClipReader(Protocol):
    """Reads the clips of one modality. It is sent to worker processes and holds nothing that is open."""

    @property
    def source(self) -> FrameSource:
        """The frames or flow fields that clips are made of."""

    @property
    def preprocessing(self) -> Preprocessing:
        """Length, crop and modality of the clips."""

    def select_videos(self, manifest: Manifest) -> Manifest:
        """The manifest whose paths are the names of the videos in `source`."""

    def read_training_view(
        self, video: str, ticks: NDArray[np.int64], *, mirror: bool, generator: np.random.Generator
    ) -> AnyView:
        """The clip at `ticks` with a random crop, mirrored half of the time if `mirror`. Raises VideoError."""

    def read_evaluation_views(
        self, video: str, clips: Sequence[ClipTimes], *, num_crops: int = 1
    ) -> Iterator[AnyView | VideoError]:
        """The centre crop of each clip, or its three crops, or as often why it could not be read.

        Clips are in order of time; the crops of a clip follow each other (`video.views.list_crop_corners`).
        """

    def read_timesteps(self, video: str, ticks_mg: NDArray[np.int64]) -> Iterator[AnyView]:
        """The centre crop of the timesteps at `ticks_mg` (M, G), in order, TIMESTEPS_PER_CHUNK a view.

        Raises VideoError where a frame cannot be read, after the views before it.
        """

    def initialize_worker(self) -> None:
        """Set up libraries in a new worker process."""


@dataclass(frozen=True)
class RgbReader:
    """Clips of the frames themselves."""

    source: FrameSource
    preprocessing: Preprocessing

    def select_videos(self, manifest: Manifest) -> Manifest:
        """See `ClipReader`."""
        return manifest

    def read_training_view(
        self, video: str, ticks: NDArray[np.int64], *, mirror: bool, generator: np.random.Generator
    ) -> View:
        """See `ClipReader`."""
        frames = self.source.read(video, ticks)
        return make_training_view(frames, self.preprocessing.crop, mirror=mirror, generator=generator)

    def read_evaluation_views(
        self, video: str, clips: Sequence[ClipTimes], *, num_crops: int = 1
    ) -> Iterator[View | VideoError]:
        """See `ClipReader`."""
        for _, frames in read_clips(self.source, video, clips):
            if isinstance(frames, VideoError):
                yield from [frames] * num_crops
            else:
                yield from make_evaluation_views(frames, self.preprocessing.crop, num_crops)

    def read_timesteps(self, video: str, ticks_mg: NDArray[np.int64]) -> Iterator[View]:
        """See `ClipReader`."""
        for _, frames in stream_frames(self.source, video, ticks_mg):
            yield make_evaluation_view(frames, self.preprocessing.crop)

    def initialize_worker(self) -> None:
        """See `ClipReader`."""


@dataclass(frozen=True)
class FlowReader:
    """Clips of optical flow: of the pictures of flow that are stored with a video, else computed from its frames.

    Raises ImportError if OpenCV is not installed.
    """

    source: FrameSource
    preprocessing: Preprocessing

    def __post_init__(self) -> None:
        import_opencv()

    def select_videos(self, manifest: Manifest) -> Manifest:
        """See `ClipReader`."""
        return manifest

    def read_training_view(
        self, video: str, ticks: NDArray[np.int64], *, mirror: bool, generator: np.random.Generator
    ) -> FlowView:
        """See `ClipReader`."""
        preprocessing = self.preprocessing
        if (stored := self._open_stored_flow(video)) is not None:
            corner, mirrored = sample_crop(self._size, preprocessing.crop, mirror=mirror, generator=generator)
            return self._read_stored_view(stored, ticks, {}, corner, mirror=mirrored)
        frames = self.source.read(video, ticks)
        view = make_training_view(frames, preprocessing.crop, mirror=mirror, generator=generator)
        return compute_flow_view(view, ticks, preprocessing, {})

    def read_evaluation_views(
        self, video: str, clips: Sequence[ClipTimes], *, num_crops: int = 1
    ) -> Iterator[FlowView | VideoError]:
        """See `ClipReader`. A flow that several clips share is computed once."""
        try:
            stored = self._open_stored_flow(video)
        except VideoError as error:
            yield from (error for _ in range(num_crops * len(clips)))
            return
        if stored is not None:
            flow_cache: FlowCache = {}
            corners = list_crop_corners(self._size, self.preprocessing.crop, num_crops)
            yield from (
                self._read_stored_clip(stored, clip, flow_cache, corner) for clip in clips for corner in corners
            )
            return
        flow_caches: list[FlowCache] = [{} for _ in range(num_crops)]
        for clip, frames in read_clips(self.source, video, clips):
            if isinstance(frames, VideoError):
                yield from [frames] * num_crops
                continue
            views = make_evaluation_views(frames, self.preprocessing.crop, num_crops)
            yield from (self._compute_view(*pair, clip.ticks) for pair in zip(views, flow_caches, strict=True))

    def read_timesteps(self, video: str, ticks_mg: NDArray[np.int64]) -> Iterator[FlowView]:
        """See `ClipReader`."""
        flow_cache: FlowCache = {}
        if (stored := self._open_stored_flow(video)) is not None:
            for first in range(0, len(ticks_mg), TIMESTEPS_PER_CHUNK):
                ticks = ticks_mg[first : first + TIMESTEPS_PER_CHUNK].reshape(-1)
                yield self._read_stored_view(stored, ticks, flow_cache, self._center_corner)
            return
        for ticks, frames in stream_frames(self.source, video, ticks_mg):
            view = make_evaluation_view(frames, self.preprocessing.crop)
            yield self._compute_view(view, flow_cache, ticks)

    def initialize_worker(self) -> None:
        """See `ClipReader`."""
        import_opencv().setNumThreads(1)  # many workers compute side by side

    def _compute_view(self, view: View, flow_cache: FlowCache, ticks: NDArray[np.int64]) -> FlowView:
        _forget_earlier_flow(flow_cache, ticks)
        return compute_flow_view(view, ticks, self.preprocessing, flow_cache)

    def _open_stored_flow(self, video: str) -> FlowPictures | None:
        return self.source.open_flow(video) if isinstance(self.source, MediaFiles) else None

    @property
    def _size(self) -> tuple[int, int]:
        return self.preprocessing.scale_height, self.preprocessing.scale_width

    @property
    def _center_corner(self) -> tuple[int, int]:
        return compute_center_corner(self._size, self.preprocessing.crop)

    def _read_stored_clip(
        self, stored: FlowPictures, clip: ClipTimes, flow_cache: FlowCache, corner: tuple[int, int]
    ) -> FlowView | VideoError:
        try:
            return self._read_stored_view(stored, clip.ticks, flow_cache, corner)
        except VideoError as error:
            return error

    def _read_stored_view(
        self,
        stored: FlowPictures,
        ticks: NDArray[np.int64],
        flow_cache: FlowCache,
        corner: tuple[int, int],
        *,
        mirror: bool = False,
    ) -> FlowView:
        _forget_earlier_flow(flow_cache, ticks)
        group = len(self.preprocessing.frame_offsets)
        fields = stored.read_flows(ticks, group, self._size, flow_cache)
        return crop_flow(fields, corner, self.preprocessing.crop, mirror=mirror)


def _forget_earlier_flow(flow_cache: FlowCache, ticks: NDArray[np.int64]) -> None:
    """Clips are in order of time: no later clip needs flow from before these ticks."""
    first = int(ticks.min())
    for pair in [pair for pair in flow_cache if pair[0] < first]:
        del flow_cache[pair]


@dataclass(frozen=True)
class StoredFlowReader:
    """Clips of optical flow that `prepare --flow` stored; `source` holds its codes, x above y (`prepared.stored_flow`)."""

    source: FrameSource
    preprocessing: Preprocessing

    def select_videos(self, manifest: Manifest) -> Manifest:
        """See `ClipReader`."""
        return manifest.select_flow()

    def read_training_view(
        self, video: str, ticks: NDArray[np.int64], *, mirror: bool, generator: np.random.Generator
    ) -> FlowView:
        """See `ClipReader`."""
        preprocessing = self.preprocessing
        codes = self.source.read(video, select_stored_ticks(ticks, preprocessing))
        size = (preprocessing.scale_height, preprocessing.scale_width)
        corner, mirrored = sample_crop(size, preprocessing.crop, mirror=mirror, generator=generator)
        return make_stored_flow_view(codes, corner, preprocessing, mirror=mirrored)

    def read_evaluation_views(
        self, video: str, clips: Sequence[ClipTimes], *, num_crops: int = 1
    ) -> Iterator[FlowView | VideoError]:
        """See `ClipReader`."""
        flow_clips = [replace(clip, ticks=select_stored_ticks(clip.ticks, self.preprocessing)) for clip in clips]
        for _, codes in read_clips(self.source, video, flow_clips):
            if isinstance(codes, VideoError):
                yield from [codes] * num_crops
            else:
                yield from self._make_views(codes, num_crops)

    def read_timesteps(self, video: str, ticks_mg: NDArray[np.int64]) -> Iterator[FlowView]:
        """See `ClipReader`."""
        stored_ticks = select_stored_ticks(ticks_mg.reshape(-1), self.preprocessing).reshape(len(ticks_mg), -1)
        for _, codes in stream_frames(self.source, video, stored_ticks):
            yield from self._make_views(codes, 1)

    def initialize_worker(self) -> None:
        """See `ClipReader`."""

    def _make_views(self, codes: YuvClip, num_crops: int) -> list[FlowView]:
        preprocessing = self.preprocessing
        size = (preprocessing.scale_height, preprocessing.scale_width)
        corners = list_crop_corners(size, preprocessing.crop, num_crops)
        return [make_stored_flow_view(codes, corner, preprocessing, mirror=False) for corner in corners]


def create_clip_reader(source: FrameSource, preprocessing: Preprocessing) -> ClipReader:
    """The reader that makes clips of a source of frames; raises ImportError if it needs OpenCV and that is not installed."""
    match preprocessing.modality:
        case "rgb":
            return RgbReader(source, preprocessing)
        case "flow":
            is_stored = isinstance(source, ShardFrameSource) and source.holds_flow
            return StoredFlowReader(source, preprocessing) if is_stored else FlowReader(source, preprocessing)


def open_clip_reader(root: str, preprocessing: Preprocessing, time_origin: TimeOrigin = "picture") -> ClipReader:
    """The reader for the videos of a manifest: those of prepared data if `root` is a prepared folder, else files under it.

    `time_origin` is that of the manifest; prepared videos have no other than their first frame.
    Optical flow is read from prepared data if it is stored there at this rate and gap, from pictures of flow that lie with the
    frames of a video, and computed from frames otherwise.
    Raises ValueError if prepared data holds frames of another size, ImportError if flow must be computed without OpenCV.
    """
    source = open_frame_source(root, preprocessing, time_origin)
    if not is_prepared(root):
        return create_clip_reader(source, preprocessing)
    description = read_description(root)
    can_use_flow = description.flow_bound is not None and can_use_stored_flow(
        preprocessing, description.frames_per_second
    )
    if preprocessing.modality == "flow" and can_use_flow:
        height, width = 2 * preprocessing.scale_height, preprocessing.scale_width
        source = ShardFrameSource(root, scale_height=height, scale_width=width, holds_flow=True)
        return create_clip_reader(source, preprocessing)
    if not description.has_frames:
        raise ValueError(
            f"{root} holds optical flow without frames, from each stored frame to the next; "
            + (
                "add --modality flow"
                if preprocessing.modality == "rgb"
                else "leave out clips.frames_per_second, and add --clips.flow-chain true for a gap above 1"
            )
        )
    return create_clip_reader(source, preprocessing)


def open_frame_source(root: str, preprocessing: Preprocessing, time_origin: TimeOrigin = "picture") -> FrameSource:
    """The frames of a manifest's videos: from shards if `root` is prepared data, else from files and folders under it.

    Raises ValueError if prepared data holds frames of another size than the preprocessing.
    """
    expected = (preprocessing.scale_height, preprocessing.scale_width)
    if not is_prepared(root):
        return MediaFiles(root, scale_height=expected[0], scale_width=expected[1], time_origin=time_origin)
    description = read_description(root)
    stored = (description.scale_height, description.scale_width)
    check_frame_size(root, stored, preprocessing)
    return ShardFrameSource(root, scale_height=stored[0], scale_width=stored[1])
