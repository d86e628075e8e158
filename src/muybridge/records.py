"""Records passed between the stages video file -> clip -> logits -> score -> accuracy.

Small frozen dataclasses that validate themselves, and two of the three interfaces of the package: `FrameSource` (where frames
come from) and `Scorer` (clips to logits); the third is `loading.clip_reader.ClipReader`. Nothing here imports torch or numpy
at run time, so that `--help` stays quick.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, get_args

from annotated_types import Interval

from muybridge.bounds import ClipLength, FlowGap, FrameSize, FramesPerSecond, FrameStep, check_fields
from muybridge.text import format_count

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

Modality = Literal["rgb", "flow"]
Split = Literal["train", "validation", "test", "unused"]
Status = Literal["ok", "missing", "unreadable", "truncated", "no_video", "timed_out", "too_short"]
ColorMatrix = Literal["bt601", "bt709"]
Task = Literal["single_label", "multi_label", "regression", "ordinal"]  # what a network is trained for
Checkpoint = Literal["best", "last"]  # of a run folder: chosen by its validation videos, or the newest
TimeOrigin = Literal["picture", "container"]  # seconds count from the first frame, or as in a player

SPLITS: tuple[str, ...] = get_args(Split)
TASKS: tuple[Task, ...] = get_args(Task)
STATUSES: tuple[str, ...] = get_args(Status)

# Mean and deviation of each channel. RGB: Kinetics, on the 0-255 scale. Flow: Farneback, in pixels, x then y. Both are from
# the authors' code (facebookresearch/VMZ: video_input_op.h).
RGB_MEAN = (110.201, 100.64, 95.9966)
RGB_STD = (58.1489, 56.4701, 55.3324)
FLOW_MEAN = (0.0046635, 0.0046261)
FLOW_STD = (0.972347, 0.755146)
STATISTICS: dict[Modality, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "rgb": (RGB_MEAN, RGB_STD),
    "flow": (FLOW_MEAN, FLOW_STD),
}


class VideoError(Exception):
    """A video cannot be used. It is recorded with its status and reason, and by itself never ends a run."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status: Status = status
        self.reason = reason

    def __reduce__(self) -> tuple[type[VideoError], tuple[Status, str]]:
        return VideoError, (self.status, self.reason)  # pickled when it leaves a worker process


@dataclass(frozen=True)
class Preprocessing:
    """The steps between a decoded frame and the network: the one record of them, with their defaults and checks.

    It travels with the weights on their card. `settings.ClipSettings` (what a user may set) and `EvaluationProtocol` (what a
    score file says) are derived from it.
    """

    modality: Modality = "rgb"
    clip_length: ClipLength = 16
    frame_stride: FrameStep = 1
    frames_per_second: FramesPerSecond | None = None  # None: the file's own rate
    scale_height: FrameSize = 128
    scale_width: FrameSize = 171
    interpolation: Literal["bilinear"] = "bilinear"
    crop: FrameSize = 112
    mean: tuple[
        Annotated[float, Interval(ge=-1_000_000, le=1_000_000)], ...
    ] = ()  # empty: `STATISTICS` of the modality
    # Likewise. A deviation below 0.001 would make every input huge: the network would answer, and mean nothing by it.
    std: tuple[Annotated[float, Interval(ge=0.001, le=1_000_000)], ...] = ()
    flow_gap: FlowGap = 1  # frames from the first to the second frame of a flow; `frame_stride` is from flow to flow
    flow_chain: bool = False  # over a gap above 1, chain the flows from frame to frame

    def __post_init__(self) -> None:
        check_fields(self)
        for name, default in zip(("mean", "std"), STATISTICS[self.modality], strict=True):
            object.__setattr__(self, name, getattr(self, name) or default)
        if self.modality == "rgb" and (self.flow_gap, self.flow_chain) != (1, False):
            raise ValueError(
                f"clips.flow_gap {self.flow_gap} and clips.flow_chain {str(self.flow_chain).lower()} do not suit rgb; "
                "add --modality flow, or leave them out"
            )
        if self.crop > min(self.scale_height, self.scale_width):
            raise ValueError(
                f"clips.crop {self.crop} does not fit into clips.scale {self.scale_height}x{self.scale_width}; "
                "lower the crop or raise the scale"
            )
        if len(self.mean) != self.input_channels or len(self.std) != self.input_channels:
            raise ValueError(
                f"{self.modality} has {self.input_channels} channels, "
                f"but {format_count(len(self.mean), 'mean')} and {format_count(len(self.std), 'deviation')}"
            )

    @property
    def input_channels(self) -> int:
        """3 for RGB, 2 for optical flow."""
        return len(STATISTICS[self.modality][0])

    @property
    def frame_offsets(self) -> tuple[int, ...]:
        """The frames that a timestep of a clip is made of, counted from it: (0,) for RGB, (0, 1) for flow to the next frame."""
        if self.modality == "rgb":
            return (0,)
        return tuple(range(self.flow_gap + 1)) if self.flow_chain else (0, self.flow_gap)

    @property
    def clip_span(self) -> int:
        """Frames from the first to the last frame of a clip, both counted; L flows of stride 1 need L + gap."""
        return (self.clip_length - 1) * self.frame_stride + 1 + self.frame_offsets[-1]

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values; fields of FLOW_FIELDS are written for flow only."""
        return {name: value for name, value in asdict(self).items() if name in _list_json_keys(self.modality)}


FLOW_FIELDS = ("flow_gap", "flow_chain")


def _list_json_keys(modality: object) -> list[str]:
    """The keys of a `Preprocessing` of this modality in a file, in order."""
    names = [field.name for field in fields(Preprocessing)]
    return names if modality == "flow" else [name for name in names if name not in FLOW_FIELDS]


@dataclass(frozen=True)
class FrameTimes:
    """The presentation times of one video's frames: `ticks` int64 (N,), strictly increasing, of `tick_seconds` each.

    `end_tick` is the end of the last frame. Ticks are the container's own integers, so that placing a clip is exact.
    `has_assumed_rate`: nothing stored gives the rate (frames in a folder), so `tick_seconds` is a default. `lead_seconds`: how
    much earlier than the first frame the seconds begin to count that people give and are told (`TimeOrigin`).
    """

    ticks: NDArray[np.int64]
    tick_seconds: Fraction
    end_tick: int
    has_assumed_rate: bool = False
    lead_seconds: float = 0.0

    def __post_init__(self) -> None:
        if len(self.ticks) == 0:
            raise VideoError("no_video", "the video has no frames")
        assert self.ticks.ndim == 1, "ticks have one dimension"
        assert bool((self.ticks[1:] > self.ticks[:-1]).all()), "ticks increase strictly"
        assert self.end_tick > self.ticks[-1], "the last frame has a duration"

    def __len__(self) -> int:
        return len(self.ticks)

    def has_frames_at(self, ticks: NDArray[np.int64]) -> bool:
        """Whether a frame begins at each of `ticks`; as fast for a video of hours as for a clip."""
        positions = self.ticks.searchsorted(ticks)
        return bool((self.ticks.take(positions, mode="clip") == ticks).all())

    def to_seconds(self, tick: int) -> float:
        """Seconds from the first frame to `tick`."""
        return float((int(tick) - int(self.ticks[0])) * self.tick_seconds)

    @property
    def duration_seconds(self) -> float:
        """From the start of the first frame to the end of the last."""
        return self.to_seconds(self.end_tick)


@dataclass(frozen=True)
class ClipTimes:
    """The ticks of a clip's frames in order, int64 (L,); they repeat from the start if a short video loops.

    For flow, the ticks (L * G,) of the G frames that each flow is made of (`Preprocessing.frame_offsets`), flow by flow.
    """

    ticks: NDArray[np.int64]
    start_seconds: float
    end_seconds: float
    looped: bool


@dataclass(frozen=True)
class YuvClip:
    """Scaled frames in the decoder's 4:2:0 planes, 8 bits.

    luma_thw uint8 (T, H, W); chroma_cthw uint8 (2, T, ceil(H/2), ceil(W/2)), Cb then Cr.
    """

    luma_thw: NDArray[np.uint8]
    chroma_cthw: NDArray[np.uint8]
    matrix: ColorMatrix
    full_range: bool

    def __post_init__(self) -> None:
        num_frames, height, width = self.luma_thw.shape
        expected = (2, num_frames, (height + 1) // 2, (width + 1) // 2)
        assert self.chroma_cthw.shape == expected, f"chroma {self.chroma_cthw.shape} beside luma {self.luma_thw.shape}"
        assert self.luma_thw.dtype == "uint8", "luma has 8 bits"
        assert self.chroma_cthw.dtype == "uint8", "chroma has 8 bits"

    def __len__(self) -> int:
        return len(self.luma_thw)

    def select(self, frame_indices: NDArray[np.int64]) -> YuvClip:
        """The frames at `frame_indices` (L,), repeats included, as a clip."""
        luma_thw, chroma_cthw = self.luma_thw[frame_indices], self.chroma_cthw[:, frame_indices]
        return YuvClip(luma_thw, chroma_cthw, self.matrix, self.full_range)


@dataclass(frozen=True)
class PlannedView:
    """One view (one clip of one video) of an evaluation, and whether it could be read. `labels` is empty if unknown.

    `targets` are those of another task than single_label, NaN where unknown (`loading.targets`).
    """

    video: str
    view: int
    start_seconds: float | None  # None: the video could not be opened, so the view has no place
    labels: tuple[int, ...]
    status: Status = "ok"
    reason: str = ""
    targets: tuple[float, ...] = ()


class FrameSource(Protocol):
    """Where frames come from. `video` is what the manifest calls the video's path. Both methods raise `VideoError`."""

    def read_frame_times(self, video: str) -> FrameTimes:
        """The time stamps of every frame, read without decoding if the container allows it."""

    def read(self, video: str, ticks: NDArray[np.int64]) -> YuvClip:
        """The frames at `ticks` (L,), in that order, repeats included, scaled."""


class Scorer(Protocol):
    """A network, in any form, that turns clips into logits."""

    def __call__(self, clips_ncthw: torch.Tensor) -> torch.Tensor:
        """Normalised float clips (N, C, T, H, W) -> logits (N, classes) on the CPU, float32."""


def parse_validation_share(rule: str) -> float | None:
    """The share of training groups that `--validation` holds out where the data gives no validation split.

    auto is a tenth, none is 0, and None stands for given. Raises ValueError for anything else but a share.
    """
    match rule:
        case "auto":
            return 0.1
        case "none":
            return 0.0
        case "given":
            return None
    try:
        share = float(rule)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise ValueError(f"--validation is {rule!r}, expected auto, none, given, or a share above 0 and below 1")
    return share
