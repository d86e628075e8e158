"""Clips of videos as small animated pictures: what the network saw when it was wrong.

Input: a data address, a protocol and a view. Output: an animated WebP at the clip's own speed and a still one of four of its
frames, for print and for readers who prefer no motion. Frames are read and cropped as in evaluation; of an optical-flow clip,
the first frame of each flow is shown.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from muybridge.datasets.manifest import Manifest
from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.evaluation.scores_header import ScoresHeader
from muybridge.inference.explain import compute_grad_cam, draw_evidence
from muybridge.loading.clip_reader import open_clip_reader, open_frame_source
from muybridge.loading.datasets import read_segment_times
from muybridge.loading.open_data import DataOptions, open_data
from muybridge.models.network import VideoResNet
from muybridge.records import ClipTimes, FrameSource, VideoError
from muybridge.video.display import make_display_preprocessing, read_display_frames
from muybridge.video.sampling import sample_uniform_clips
from muybridge.video.views import collate_views, prepare_network_input

MAX_SIDE_PIXELS = 128  # ten clips of 8 frames of 64x64 are 33 kB together
WEBP_QUALITY = 60
MIN_FRAME_MILLISECONDS = 20  # browsers slow down faster animations
LAST_FRAME_EXTRA_MILLISECONDS = 400  # marks where the clip repeats


@dataclass(frozen=True)
class ClipFrames:
    """A clip for display: RGB uint8 (T, H, W, 3), and how long each frame is shown."""

    frames_thwc: NDArray[np.uint8]
    frame_milliseconds: int


@dataclass(frozen=True)
class ScoredClipReader:
    """Reads the clips of a score file's videos from the data that was scored."""

    manifest: Manifest
    source: FrameSource
    protocol: EvaluationProtocol
    video_indices: dict[str, int]
    classes: tuple[str, ...]
    is_scored_list: bool
    """Whether the data's list of videos equals the scored one; names may match even where it does not."""
    network: VideoResNet | None = None
    """The network that was scored, if its weights are at hand."""

    def read_clip(self, video: str, view: int, explained_class: str | None = None) -> ClipFrames:
        """Read the frames of one planned view, above them again with the evidence for a class if the network is at hand.

        Raises VideoError if they cannot be read or the data lacks the video.
        """
        index = self.video_indices.get(video)
        if index is None:
            raise VideoError("missing", "the data has no video of this name")
        times = read_segment_times(self.source, self.manifest, index)
        preprocessing = self.protocol.preprocessing
        num_crops = self.protocol.num_crops
        clip_index, crop_index = divmod(view, num_crops)
        clip_times = sample_uniform_clips(times, preprocessing, self.protocol.clips)[clip_index]
        ticks = clip_times.ticks.reshape(preprocessing.clip_length, -1)[:, 0]
        path = self.manifest.get_path(index)
        frames = read_display_frames(
            self.source, path, clip_times.ticks, preprocessing, num_crops=num_crops, crop_index=crop_index
        )
        if self.network is not None and explained_class is not None:
            label = self.classes.index(explained_class)
            inputs = self._read_inputs(index, clip_times, crop_index)
            (evidence_thw,) = compute_grad_cam(self.network, inputs, torch.tensor([label])).numpy()
            frames = np.concatenate([frames, draw_evidence(frames, evidence_thw)], axis=1)
        steps = np.diff(ticks)
        step = float(np.median(steps[steps > 0])) * float(times.tick_seconds) if np.any(steps > 0) else 0.04
        return ClipFrames(frames, max(MIN_FRAME_MILLISECONDS, round(1000 * step)))

    def _read_inputs(self, index: int, clip: ClipTimes, crop_index: int) -> Tensor:
        """The network's input (1, C, T, H, W) of one crop of a clip, read as in evaluation: stored flow where there is."""
        reader = open_clip_reader(self.manifest.root, self.protocol.preprocessing, self.protocol.time_origin)
        path = reader.select_videos(self.manifest).get_path(index)
        view = list(reader.read_evaluation_views(path, [clip], num_crops=self.protocol.num_crops))[crop_index]
        if isinstance(view, VideoError):
            raise view
        return prepare_network_input(collate_views([view]), self.protocol.preprocessing, torch.device("cpu"))

    def find_group(self, video: str) -> str | None:
        """The group of a video, None if it has none."""
        index = self.video_indices.get(video)
        return None if index is None else self.manifest.table["group"][index].as_py()


def open_scored_clips(address: str, header: ScoresHeader, **options: Unpack[DataOptions]) -> ScoredClipReader:
    """Open a reader of all videos of a data address. Raises ValueError if the data cannot be read.

    `options` are those of `open_data` apart from the fold and the time origin, which the scores record.
    """
    time_origin = header.protocol.time_origin
    options["fold"], options["time_origin"] = header.fold, time_origin
    manifest = open_data(address, **options)
    source = open_frame_source(manifest.root, make_display_preprocessing(header.protocol.preprocessing), time_origin)
    video_indices = {name: index for index, name in enumerate(manifest.table["video"].to_pylist())}
    is_scored_list = _is_scored_list(manifest, header)
    return ScoredClipReader(manifest, source, header.protocol, video_indices, header.classes, is_scored_list)


def _is_scored_list(manifest: Manifest, header: ScoresHeader) -> bool:
    try:
        scored = manifest.select_split(header.split).remap_labels(header.classes)
    except ValueError:
        return False  # the data has other classes
    return scored.compute_sha256() == header.manifest_sha256


def encode_animation(clip: ClipFrames) -> str:
    """Encode a clip as a looping animated WebP in a data URI."""
    thumbnails = _make_thumbnails(clip.frames_thwc)
    durations = [clip.frame_milliseconds] * (len(thumbnails) - 1) + [
        clip.frame_milliseconds + LAST_FRAME_EXTRA_MILLISECONDS
    ]
    target = io.BytesIO()
    thumbnails[0].save(
        target,
        format="WEBP",
        save_all=True,
        append_images=thumbnails[1:],
        duration=durations,
        loop=0,
        quality=WEBP_QUALITY,
        method=4,
    )
    return _make_data_uri(target.getvalue(), "webp")


def encode_still(clip: ClipFrames) -> str:
    """Encode four frames of a clip, two by two in the size of one, as a WebP in a data URI."""
    thumbnails = _make_thumbnails(clip.frames_thwc)
    width, height = thumbnails[0].size
    sheet = Image.new("RGB", (width, height))
    for quadrant, frame_index in enumerate(np.linspace(0, len(thumbnails) - 1, 4).round().astype(int).tolist()):
        quarter = thumbnails[frame_index].resize((width // 2, height // 2), Image.Resampling.LANCZOS)
        sheet.paste(quarter, (quadrant % 2 * (width - width // 2), quadrant // 2 * (height - height // 2)))
    target = io.BytesIO()
    sheet.save(target, format="WEBP", quality=WEBP_QUALITY, method=4)
    return _make_data_uri(target.getvalue(), "webp")


def encode_png(pixels: NDArray[np.uint8]) -> str:
    """Encode gray (H, W) or RGB (H, W, 3) pixels as a PNG in a data URI."""
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format="PNG")
    return _make_data_uri(target.getvalue(), "png")


def _make_thumbnails(frames_thwc: NDArray[np.uint8]) -> Sequence[Image.Image]:
    thumbnails = [Image.fromarray(frame) for frame in frames_thwc]
    for thumbnail in thumbnails:
        # Two frames above each other where evidence is shown.
        thumbnail.thumbnail((MAX_SIDE_PIXELS, 2 * MAX_SIDE_PIXELS), Image.Resampling.LANCZOS)
    return thumbnails


def _make_data_uri(content: bytes, image_format: str) -> str:
    return f"data:image/{image_format};base64,{base64.b64encode(content).decode()}"
