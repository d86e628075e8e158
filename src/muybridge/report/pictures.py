"""Clips of videos as small pictures that move: what the network saw when it was mistaken.

Enter: a data address, a protocol and a view. Leave: an animated WebP at the clip's own speed and a still one of four of its
frames, for paper and for those who want nothing to move. Frames are read as evaluation reads them and cut to the same crop;
of an optical-flow clip the frames are shown that its flow begins at.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from muybridge.datasets.manifest import Manifest
from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.evaluation.scores import ScoresHeader
from muybridge.loading.loader import frame_source, frame_times
from muybridge.loading.open_data import open_data
from muybridge.records import FLOW_MEAN, FLOW_STD, FrameSource, Preprocessing, VideoError
from muybridge.video.sampling import uniform_clips
from muybridge.video.views import batched, evaluation_view, network_input

SIDE = 128  # pixels of a picture at most; ten clips of 8 frames of 64x64 are 33 kB together
QUALITY = 60
FASTEST_MILLISECONDS = 20  # browsers slow down what is faster
LAST_FRAME_MILLISECONDS = 400  # so that the eye finds where the clip begins again


@dataclass(frozen=True)
class ClipFrames:
    """A clip to look at: RGB uint8 (T, H, W, 3), and how long each of its frames is shown."""

    frames_thwc: NDArray[np.uint8]
    milliseconds: int


@dataclass(frozen=True)
class ClipReader:
    """Reads the clips of a score file's videos from the data it was made of."""

    manifest: Manifest
    source: FrameSource
    protocol: EvaluationProtocol
    places: dict[str, int]
    is_the_scored_list: bool
    """Whether the data's list of videos is still the one that was scored, and not only some of its names."""

    def clip(self, video: str, view: int) -> ClipFrames:
        """The frames of one planned view. Raises VideoError where they cannot be read, or the data has no such video."""
        index = self.places.get(video)
        if index is None:
            raise VideoError("missing", "the data has no video of this name")
        times = frame_times(self.source, self.manifest, index)
        placing, showing = _preprocessings(self.protocol)
        place = uniform_clips(times, placing, self.protocol.clips)[view]
        ticks = place.ticks.reshape(placing.clip_length, -1)[:, 0]
        planes = self.source.read(self.manifest.path(index), ticks)
        batch = batched([evaluation_view(planes, showing.crop)])
        seen = network_input(batch, showing, torch.device("cpu"))[0].permute(1, 2, 3, 0)
        frames = (seen * torch.tensor(showing.std) + torch.tensor(showing.mean)).round().clamp(0, 255)
        steps = np.diff(ticks)
        step = float(np.median(steps[steps > 0])) * float(times.tick_seconds) if np.any(steps > 0) else 0.04
        return ClipFrames(frames.to(torch.uint8).numpy(), max(FASTEST_MILLISECONDS, round(1000 * step)))

    def group(self, video: str) -> str | None:
        """The group of a video, if it has one."""
        index = self.places.get(video)
        return None if index is None else self.manifest.table["group"][index].as_py()


def clip_reader(address: str, header: ScoresHeader, *, seed: int) -> ClipReader:
    """A reader of all videos of a data address. ValueError says why the data cannot be read."""
    manifest = open_data(address, fold=header.fold, seed=seed)
    source = frame_source(manifest.root, _preprocessings(header.protocol)[1])
    places = {name: place for place, name in enumerate(manifest.table["video"].to_pylist())}
    return ClipReader(manifest, source, header.protocol, places, _is_scored_list(manifest, header))


def _is_scored_list(manifest: Manifest, header: ScoresHeader) -> bool:
    try:
        scored = manifest.select(header.split).relabelled(header.classes)
    except ValueError:
        return False  # other classes
    return scored.sha256() == header.manifest_sha256


def moving_picture(clip: ClipFrames) -> str:
    """An animated WebP that loops, as a data URI."""
    pictures = _pictures(clip.frames_thwc)
    durations = [clip.milliseconds] * (len(pictures) - 1) + [clip.milliseconds + LAST_FRAME_MILLISECONDS]
    target = io.BytesIO()
    pictures[0].save(
        target,
        format="WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=durations,
        loop=0,
        quality=QUALITY,
        method=4,
    )
    return _data_uri(target.getvalue(), "webp")


def still_picture(clip: ClipFrames) -> str:
    """Four frames of the clip, two by two, in the size of one, as a data URI."""
    pictures = _pictures(clip.frames_thwc)
    width, height = pictures[0].size
    sheet = Image.new("RGB", (width, height))
    for place, number in enumerate(np.linspace(0, len(pictures) - 1, 4).round().astype(int).tolist()):
        small = pictures[number].resize((width // 2, height // 2), Image.Resampling.LANCZOS)
        sheet.paste(small, (place % 2 * (width - width // 2), place // 2 * (height - height // 2)))
    target = io.BytesIO()
    sheet.save(target, format="WEBP", quality=QUALITY, method=4)
    return _data_uri(target.getvalue(), "webp")


def plain_picture(pixels: NDArray[np.uint8]) -> str:
    """Gray (H, W) or RGB (H, W, 3) pixels, exactly, as a data URI."""
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format="PNG")
    return _data_uri(target.getvalue(), "png")


def _pictures(frames_thwc: NDArray[np.uint8]) -> Sequence[Image.Image]:
    pictures = [Image.fromarray(frame) for frame in frames_thwc]
    for picture in pictures:
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return pictures


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _preprocessings(protocol: EvaluationProtocol) -> tuple[Preprocessing, Preprocessing]:
    """What places the clips as the evaluation did, and what shows their frames in colour."""
    showing = Preprocessing(
        clip_length=protocol.clip_length,
        frame_stride=protocol.frame_stride,
        frames_per_second=protocol.frames_per_second,
        scale_height=protocol.scale_height,
        scale_width=protocol.scale_width,
        crop=protocol.crop_size,
    )
    if protocol.modality == "rgb":
        return showing, showing
    values = {**showing.to_json(), "modality": "flow", "mean": FLOW_MEAN, "std": FLOW_STD}
    flow = {"flow_gap": protocol.flow_gap, "flow_chain": protocol.flow_chain}
    return Preprocessing.from_json({**values, **flow}), showing
