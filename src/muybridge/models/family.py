"""The family of networks as one table of convolution kinds by depth.

Input: the name of a network (`r2plus1d_18`) and options. Output: a frozen `Specification`, from which the network is built
(`muybridge.models.network`). Figure 1, Table 1 and section 3 of Tran et al., "A Closer Look at Spatiotemporal Convolutions for
Action Recognition", CVPR 2018. This module does not import torch.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, TypedDict, Unpack

from annotated_types import Interval

from muybridge.bounds import (
    ClipLength,
    InputChannels,
    NetworkWidth,
    NormEpsilon,
    NumClasses,
    StemFrames,
    StemMidChannels,
    check_fields,
    check_values,
)


class ConvolutionKind(StrEnum):
    """The extent of a stage's filters; t is time, d is space."""

    FULL_3D = "full_3d"  # t x d x d
    FRAME_2D = "frame_2d"  # 1 x d x d: single frames
    SPATIAL_THEN_TEMPORAL = "spatial_then_temporal"  # (2+1)D: 1 x d x d, batch norm, ReLU, t x 1 x 1
    TEMPORAL_THEN_SPATIAL = (
        "temporal_then_spatial"  # PyTorchVideo's R(2+1)D: t x 1 x 1 first, no more channels in between
    )
    TIME_AS_CHANNELS = "time_as_channels"  # L x d x d over all L frames, after which there is no time; stem only


Block = Literal["basic", "bottleneck"]
MidChannelRule = Literal["per_convolution", "per_block"]

_FLAT = ConvolutionKind.TIME_AS_CHANNELS
_2D = ConvolutionKind.FRAME_2D
_3D = ConvolutionKind.FULL_3D
_21D = ConvolutionKind.SPATIAL_THEN_TEMPORAL

# Figure 1. MCx: groups x and above are 2D. rMCx: the groups below x are, including conv1.
FAMILIES: dict[str, tuple[ConvolutionKind, ...]] = {
    # name     conv1  conv2  conv3  conv4  conv5
    "r2d":      (_FLAT, _2D, _2D,  _2D,  _2D),
    "f_r2d":    (_2D,  _2D,  _2D,  _2D,  _2D),
    "r3d":      (_3D,  _3D,  _3D,  _3D,  _3D),
    "mc2":      (_3D,  _2D,  _2D,  _2D,  _2D),
    "mc3":      (_3D,  _3D,  _2D,  _2D,  _2D),
    "mc4":      (_3D,  _3D,  _3D,  _2D,  _2D),
    "mc5":      (_3D,  _3D,  _3D,  _3D,  _2D),
    "rmc2":     (_2D,  _3D,  _3D,  _3D,  _3D),
    "rmc3":     (_2D,  _2D,  _3D,  _3D,  _3D),
    "rmc4":     (_2D,  _2D,  _2D,  _3D,  _3D),
    "rmc5":     (_2D,  _2D,  _2D,  _2D,  _3D),
    "r2plus1d": (_21D, _21D, _21D, _21D, _21D),
}  # fmt: skip

# Table 1 (18 and 34 layers); the other depths are those of the authors' code.
DEPTHS: dict[int, tuple[Block, tuple[int, ...]]] = {
    # blocks of    conv2 conv3 conv4 conv5
    10:  ("basic",      (1, 1, 1, 1)),
    18:  ("basic",      (2, 2, 2, 2)),
    34:  ("basic",      (3, 4, 6, 3)),
    50:  ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}  # fmt: skip

PAPER_NAMES = {
    "r2d": "R2D", "f_r2d": "f-R2D", "r3d": "R3D", "r2plus1d": "R(2+1)D",
    "mc2": "MC2", "mc3": "MC3", "mc4": "MC4", "mc5": "MC5",
    "rmc2": "rMC2", "rmc3": "rMC3", "rmc4": "rMC4", "rmc5": "rMC5",
}  # fmt: skip

BOTTLENECK_EXPANSION = 4  # output channels of a bottleneck block by its base channels
STRIDES = (1, 2, 2, 2)  # of the first block of conv2..conv5, in space, and in time unless the stage is 2D
PAPER_WIDTH = 64
PAPER_STEM_MID_CHANNELS = 45  # of R(2+1)D's conv1: a constant of the authors' code; the rule M_i gives 83


@dataclass(frozen=True)
class Specification:
    """Everything that determines the shape of a network. Built by `build_specification` and saved with the weights."""

    name: str
    stem: ConvolutionKind
    stages: tuple[ConvolutionKind, ...]  # conv2..conv5
    block: Block
    blocks: tuple[Annotated[int, Interval(ge=1, le=256)], ...]  # in conv2..conv5
    # Of the first block of conv2..conv5, independent of the clip length.
    temporal_strides: tuple[Annotated[int, Interval(ge=1, le=2)], ...]
    stem_mid_channels: StemMidChannels = PAPER_STEM_MID_CHANNELS  # between the halves of a (2+1)D stem
    stem_pool: bool = False  # a 1x3x3 max-pool of stride 1x2x2 after the stem; the paper has none
    mid_channel_rule: MidChannelRule = "per_convolution"  # "per_block" is torchvision's
    input_channels: InputChannels = 3  # 3 for RGB, 2 for optical flow
    num_classes: NumClasses = 400
    width: NetworkWidth = PAPER_WIDTH  # channels of conv2; doubled in each later stage
    norm_epsilon: NormEpsilon = 1e-3  # 1e-3 in the authors' code, 1e-5 in torchvision
    clip_length: ClipLength = 16  # frames; part of the shape only for TIME_AS_CHANNELS, else the default for sampling
    middle_relu: bool = True  # ReLU between the halves of (2+1)D, one of its two advantages in the paper (section 3.5)
    # How networks of other projects differ (weights/naming.py). The paper's have none of it.
    stem_frames: StemFrames = 3  # frames that a full_3d or (2+1)D stem sees
    stem_pool_time_stride: Annotated[int, Interval(ge=1, le=2)] = 1  # 2: the pool is 3x3x3, of stride 2 in time too
    factorized_shortcuts: bool = False  # projections of (2+1)D stages are (2+1)D, of 1x1x1 filters
    spatial_strides: tuple[Annotated[int, Interval(ge=1, le=2)], ...] = STRIDES  # of the first block of conv2..conv5

    def __post_init__(self) -> None:
        check_fields(self)
        _check_shape(self)

    @property
    def feature_channels(self) -> int:
        """Input channels of the classifier: 512 at width 64, four times that with bottleneck blocks."""
        return 8 * self.width * (BOTTLENECK_EXPANSION if self.block == "bottleneck" else 1)

    def compute_last_map(self, length: int, crop: int) -> tuple[int, int]:
        """Time and side of the last stage's maps, of clips of `length` frames and `crop` pixels a side; strides round up."""
        is_flat = self.stem is ConvolutionKind.TIME_AS_CHANNELS
        time_stride, side_stride = math.prod(self.temporal_strides), 2 * math.prod(self.spatial_strides)
        if self.stem_pool:
            time_stride, side_stride = time_stride * self.stem_pool_time_stride, 2 * side_stride
        return 1 if is_flat else math.ceil(length / time_stride), math.ceil(crop / side_stride)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values; `OPTIONAL_FIELDS` are included only if they are not the paper's."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()} | {
            "stem": str(self.stem),
            "stages": [str(kind) for kind in self.stages],
        }
        paper = {field.name: field.default for field in fields(self) if field.name in OPTIONAL_FIELDS}
        return {key: value for key, value in values.items() if key not in paper or getattr(self, key) != paper[key]}


# Absent from files written before they existed, and from those of networks that have the paper's.
OPTIONAL_FIELDS = ("middle_relu", "stem_frames", "stem_pool_time_stride", "factorized_shortcuts", "spatial_strides")


def _check_shape(spec: Specification) -> None:
    """Raise ValueError for stages from which no network can be built."""
    if not spec.name:
        raise ValueError("a network needs a name, not an empty one")
    for name in ("stages", "blocks", "temporal_strides", "spatial_strides"):
        if len(getattr(spec, name)) != 4:
            raise ValueError(f"{name} must have one entry for each of conv2 to conv5, not {getattr(spec, name)}")
    if _FLAT in spec.stages or (spec.stem is _FLAT and set(spec.stages) != {_2D}):
        raise ValueError(
            f"{_FLAT} is only for a stem, with stages of {_2D} after it, not {[str(s) for s in spec.stages]}"
        )
    if any(stride != 1 for kind, stride in zip(spec.stages, spec.temporal_strides, strict=True) if kind is _2D):
        raise ValueError(f"a {_2D} stage must have temporal stride 1, not {spec.temporal_strides} for {spec.stages}")
    if spec.stem is ConvolutionKind.TEMPORAL_THEN_SPATIAL:
        raise ValueError(f"{spec.stem} is only for stages; the stem in front of them is {_2D}")
    if spec.stem_frames % 2 == 0:
        raise ValueError(
            f"stem_frames must be odd, so that a frame has as many before as after it, not {spec.stem_frames}"
        )
    if spec.stem_pool_time_stride != 1 and not spec.stem_pool:
        raise ValueError("stem_pool_time_stride 2 needs stem_pool true")


def list_models(pattern: str = "*") -> list[str]:
    """List the names of networks by family and depth: `r2d_10`, `r2d_18`, ..., `r2plus1d_152`.

    `pattern` selects some of them, as file names are: `r2plus1d*`, `*_18`.
    """
    names = [f"{family}_{depth}" for family in FAMILIES for depth in DEPTHS]
    return [name for name in names if fnmatchcase(name, pattern)]


class SpecificationOptions(TypedDict, total=False):
    """The fields of `Specification` that a user may change; those left out have its defaults."""

    num_classes: NumClasses
    clip_length: ClipLength
    input_channels: InputChannels
    width: NetworkWidth
    mid_channel_rule: MidChannelRule
    norm_epsilon: NormEpsilon
    stem_pool: bool
    stem_mid_channels: (
        StemMidChannels | None
    )  # None: 45 at width 64, as in the paper, and in proportion at other widths (11 at 16)
    middle_relu: bool


def build_specification(name: str, **options: Unpack[SpecificationOptions]) -> Specification:
    """The row of the table for `name` with some options changed; ValueError for an unknown name."""
    if name not in list_models():
        raise ValueError(_format_unknown_name(name))
    check_values(options, SpecificationOptions)
    family, _, depth = name.rpartition("_")
    stem, *stages = FAMILIES[family]
    block, blocks = DEPTHS[int(depth)]
    if options.get("stem_mid_channels") is None:
        options["stem_mid_channels"] = _scale_stem_mid_channels(options.get("width", Specification.width))
    return Specification(
        name=name,
        stem=stem,
        stages=tuple(stages),
        block=block,
        blocks=blocks,
        # Down-sampling in time is a stride of the convolution, so a 2D stage has none (paper, section 3).
        temporal_strides=tuple(1 if kind is _2D else stride for kind, stride in zip(stages, STRIDES, strict=True)),
        **options,  # type: ignore[arg-type]  # stem_mid_channels is set by now
    )


def change_specification(base: Specification, **options: Unpack[SpecificationOptions]) -> Specification:
    """`base` with some options changed. At another width, the stem's mid-channels are those of that width."""
    check_values(options, SpecificationOptions)
    if options.get("stem_mid_channels") is None:
        width = options.get("width", base.width)
        options["stem_mid_channels"] = (
            base.stem_mid_channels if width == base.width else _scale_stem_mid_channels(width)
        )
    return replace(base, **options)  # type: ignore[arg-type]  # stem_mid_channels is set by now


def _scale_stem_mid_channels(width: int) -> int:
    return max(1, round(PAPER_STEM_MID_CHANNELS * width / PAPER_WIDTH))


def compute_mid_channels(in_channels: int, out_channels: int, *, t: int = 3, d: int = 3) -> int:
    """M_i, the channels between the halves of a (2+1)D convolution (section 3.5 of the paper).

    M_i = floor(t d^2 N_in N_out / (d^2 N_in + t N_out)); both halves together then have the weights of a t x d x d convolution.
    """
    return (t * d * d * in_channels * out_channels) // (d * d * in_channels + t * out_channels)


def format_paper_name(network: Specification | str) -> str:
    """The paper's name of a network or a family: `r2plus1d_18` -> "R(2+1)D-18", `f_r2d` -> "f-R2D"."""
    name = network.name if isinstance(network, Specification) else network
    if name in PAPER_NAMES:
        return PAPER_NAMES[name]
    if name not in list_models():
        raise ValueError(_format_unknown_name(name))
    family, _, depth = name.rpartition("_")
    return f"{PAPER_NAMES[family]}-{depth}"


def _format_unknown_name(name: str) -> str:
    """The error message for an unknown name, with similar names."""
    names_by_spelling = {_normalize_name(known): known for known in list_models()}
    spelling = _normalize_name(name)
    exact = [names_by_spelling[spelling]] if spelling in names_by_spelling else []
    prefixed = [known for bare, known in names_by_spelling.items() if spelling and bare.startswith(spelling)][:3]
    close = [names_by_spelling[bare] for bare in difflib.get_close_matches(spelling, names_by_spelling, n=3)]
    guesses = exact or prefixed or close or ["a name such as r2plus1d_18"]
    return f"no network is called {name!r}; did you mean {' or '.join(guesses)}? `muybridge models` lists all"


def _normalize_name(name: str) -> str:
    """A name without differences in spelling: R(2+1)D-18, r2.5d_18 and r2plus1d_18 are the same."""
    bare = re.sub(r"[^a-z0-9]", "", re.sub(r"2\+1|2\.5", "2plus1", name.lower()))
    return re.sub("^r2df", "fr2d", bare)  # the authors' code says r2df and r2.5d
