"""The vocabulary: what flows between the stages of the journey file -> clip -> logits -> score -> accuracy.

Small frozen records that validate themselves, and the only two interfaces of the package: `FrameSource` (where frames come
from) and `Scorer` (what turns clips into logits). Nothing here imports torch or numpy when it runs, so
every stage and every verb may import it and `--help` stays quick.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, get_args

from annotated_types import Interval

from muybridge.bounds import ClipLength, FlowGap, FrameSize, FramesPerSecond, FrameStep, check_fields

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

Modality = Literal["rgb", "flow"]
Split = Literal["train", "validation", "test", "unused"]
Status = Literal["ok", "missing", "unreadable", "truncated", "no_video", "timed_out", "too_short"]
ColorMatrix = Literal["bt601", "bt709"]

SPLITS: tuple[str, ...] = get_args(Split)
STATUSES: tuple[str, ...] = get_args(Status)

# Kinetics statistics of the authors' code, in RGB order on the 0-255 scale (facebookresearch/VMZ: video_input_op.h).
RGB_MEAN = (110.201, 100.64, 95.9966)
RGB_STD = (58.1489, 56.4701, 55.3324)
# Farneback flow in pixels, x then y (facebookresearch/VMZ: video_input_op.h).
FLOW_MEAN = (0.0046635, 0.0046261)
FLOW_STD = (0.972347, 0.755146)
FLOW_KEYS = ("flow_gap", "flow_chain")  # of a preprocessing and a protocol: absent from files about RGB


class VideoError(Exception):
    """One video cannot be used. It is recorded with its status and reason; it never ends a run by itself."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status: Status = status
        self.reason = reason

    def __reduce__(self) -> tuple[type[VideoError], tuple[Status, str]]:
        return VideoError, (self.status, self.reason)  # two arguments must survive the way out of a worker process


@dataclass(frozen=True)
class Preprocessing:
    """What happens between a decoded frame and the network. It travels with the weights on their card."""

    modality: Modality = "rgb"
    clip_length: ClipLength = 16
    frame_stride: FrameStep = 1
    frames_per_second: FramesPerSecond | None = None  # None: the file's own rate
    scale_height: FrameSize = 128
    scale_width: FrameSize = 171
    interpolation: Literal["bilinear"] = "bilinear"
    crop: FrameSize = 112
    mean: tuple[Annotated[float, Interval(ge=-1_000_000, le=1_000_000)], ...] = RGB_MEAN
    # A deviation below 0.001 would make every input huge: the network then answers, and what it says means nothing.
    std: tuple[Annotated[float, Interval(ge=0.001, le=1_000_000)], ...] = RGB_STD
    flow_gap: FlowGap = 1  # frames from the first to the second picture of a flow; `frame_stride` lies between flows
    flow_chain: bool = False  # over a gap above 1, follow the flows from frame to frame

    def __post_init__(self) -> None:
        check_fields(self)
        if self.modality == "rgb" and (self.flow_gap, self.flow_chain) != (1, False):
            raise ValueError(
                f"flow_gap {self.flow_gap} and flow_chain {self.flow_chain} do not suit rgb; only modality flow has a gap"
            )
        if self.crop > min(self.scale_height, self.scale_width):
            raise ValueError(
                f"a crop of {self.crop} does not fit into frames scaled to {self.scale_height}x{self.scale_width}; "
                "lower clips.crop or raise clips.scale"
            )
        if len(self.mean) != self.input_channels or len(self.std) != self.input_channels:
            raise ValueError(
                f"{self.modality} has {self.input_channels} channels, "
                f"but {len(self.mean)} means and {len(self.std)} deviations"
            )

    @property
    def input_channels(self) -> int:
        """3 for RGB, 2 for optical flow."""
        return 3 if self.modality == "rgb" else 2

    @property
    def frame_offsets(self) -> tuple[int, ...]:
        """What each of a clip's moments is made of, in frames after it: (0,) for RGB, (0, 1) for the flow to the next frame."""
        if self.modality == "rgb":
            return (0,)
        return tuple(range(self.flow_gap + 1)) if self.flow_chain else (0, self.flow_gap)

    @property
    def clip_span(self) -> int:
        """Frames from the first to the last frame that a clip needs, both counted; L flows of stride 1 need L + gap."""
        return (self.clip_length - 1) * self.frame_stride + 1 + self.frame_offsets[-1]

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values; `flow_` keys are there for flow only."""
        return {name: value for name, value in asdict(self).items() if name not in list_omitted_keys(self.modality)}


def list_omitted_keys(modality: object) -> set[str]:
    """The fields that a record of this modality does not write: RGB has no gap."""
    return set() if modality == "flow" else set(FLOW_KEYS)


@dataclass(frozen=True)
class FrameTimes:
    """When each frame of one video is shown: `ticks` int64 (N,), strictly increasing, `tick_seconds` a tick's length.

    `end_tick` is where the last frame ends. Ticks are the container's own integers, so that placing a clip is exact.
    """

    ticks: NDArray[np.int64]
    tick_seconds: Fraction
    end_tick: int

    def __post_init__(self) -> None:
        if len(self.ticks) == 0:
            raise VideoError("no_video", "the video has no frames")
        assert self.ticks.ndim == 1, "ticks are one row"
        assert bool((self.ticks[1:] > self.ticks[:-1]).all()), "ticks increase strictly"
        assert self.end_tick > self.ticks[-1], "the last frame has a duration"

    def __len__(self) -> int:
        return len(self.ticks)

    def to_seconds(self, tick: int) -> float:
        """Seconds from the first frame to `tick`."""
        return float((int(tick) - int(self.ticks[0])) * self.tick_seconds)

    @property
    def duration_seconds(self) -> float:
        """From the start of the first frame to the end of the last."""
        return self.to_seconds(self.end_tick)


@dataclass(frozen=True)
class ClipTimes:
    """Where one clip lies: the ticks of its frames in order, int64 (L,); they start again where a short video loops.

    For flow the ticks of all frames that each of its L flows is made of, `Preprocessing.frame_offsets`, flow by flow.
    """

    ticks: NDArray[np.int64]
    start_seconds: float
    end_seconds: float
    looped: bool


@dataclass(frozen=True)
class YuvClip:
    """Scaled frames as the decoder left them: 4:2:0 planes, 8 bits.

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


@dataclass(frozen=True)
class PlannedView:
    """One view (one clip of one video) of an evaluation plan, and what became of it. `labels` may be empty: unknown."""

    video: str
    view: int
    start_seconds: float | None  # None: the video could not be opened, so the view could not be placed
    labels: tuple[int, ...]
    status: Status = "ok"
    reason: str = ""


class FrameSource(Protocol):
    """Where frames come from. `video` is the manifest's name of a video. Both methods raise `VideoError`."""

    def read_frame_times(self, video: str) -> FrameTimes:
        """The time stamps of every frame, without decoding them where the container allows it."""

    def read(self, video: str, ticks: NDArray[np.int64]) -> YuvClip:
        """The frames at `ticks` (L,), in that order, repeats included, scaled."""


class Scorer(Protocol):
    """What turns clips into logits."""

    def __call__(self, clips_ncthw: torch.Tensor) -> torch.Tensor:
        """Normalised float clips (N, C, T, H, W) -> logits (N, classes) on the CPU, float32."""
