"""Infer the network from the names and shapes of its tensors.

Input: the shapes of a state dict with torchvision's names. Output: the `Specification` of the network with exactly these
tensors. Families differ in the temporal size of their kernels (Figure 1 of the paper), depths in their numbers of blocks, and
the two rules for mid-channels of R(2+1)D in the first block of a stage.

Shapes do not determine epsilon of batch norm, a max-pool after the stem, strides and the clip length, which are arguments; only
an R2D's stem shows its clip length. An R2D of 3 frames has the shapes of MC2 and is recognised as MC2; one of 1 frame has those
of f-R2D, which computes the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from muybridge.models.family import (
    DEPTHS,
    FAMILIES,
    ConvolutionKind,
    MidChannelRule,
    Specification,
    build_specification,
)
from muybridge.models.network import STAGES
from muybridge.weights.card import find_mismatches
from muybridge.weights.naming import Traits
from muybridge.weights.tensor_checks import format_problems

Shapes = Mapping[str, tuple[int, ...]]

RESIDUAL_STAGES = STAGES[1:]  # conv2..conv5
MID_CHANNEL_RULES: tuple[MidChannelRule, ...] = ("per_convolution", "per_block")  # the paper's first, where both fit


@dataclass(frozen=True)
class _Stem:
    kind: ConvolutionKind
    input_channels: int
    width: int
    clip_length: int | None  # frames; None unless the stem takes time as channels
    mid_channels: int | None  # None unless the stem is factorized
    frames: int = Specification.stem_frames  # that the filters of a full_3d or factorized stem see


def infer_specification(
    shapes: Shapes,
    *,
    clip_length: int = Specification.clip_length,
    norm_epsilon: float = Specification.norm_epsilon,
    stem_pool: bool = Specification.stem_pool,
    traits: Traits | None = None,
) -> Specification:
    """The specification of the network with exactly these tensors.

    `clip_length` (frames) is ignored where the weights determine it. `traits` are those of other projects' networks. ValueError
    if no network of the family has these tensors.
    """
    _check_dimensions(shapes, "stem.0.weight", 5)
    _check_dimensions(shapes, "fc.weight", 2)
    stages = tuple(_infer_stage_kind(shapes, stage) for stage in RESIDUAL_STAGES)
    stem = _infer_stem(shapes, stages)
    family = _infer_family(stem.kind, stages)
    name = f"{family}_{_infer_depth(shapes)}"
    candidates = [
        replace(
            build_specification(
                name,
                num_classes=shapes["fc.weight"][0],
                clip_length=stem.clip_length or clip_length,
                input_channels=stem.input_channels,
                width=stem.width,
                mid_channel_rule=rule,
                norm_epsilon=norm_epsilon,
                stem_pool=stem_pool,
                stem_mid_channels=stem.mid_channels,
            ),
            stem=stem.kind,
            stages=stages,
            stem_frames=stem.frames,
            factorized_shortcuts="layer2.0.downsample.3.weight" in shapes,
            **(traits or {}),
        )
        for rule in (MID_CHANNEL_RULES if family == "r2plus1d" else MID_CHANNEL_RULES[:1])
    ]
    problems = [find_mismatches(shapes, candidate) for candidate in candidates]
    best = min(range(len(candidates)), key=lambda index: len(problems[index]))
    if problems[best]:
        raise ValueError(
            f"the tensors look like those of {name}, but not all of them: {format_problems(problems[best])}"
        )
    return candidates[best]


def _check_dimensions(shapes: Shapes, name: str, num_dimensions: int) -> None:
    if name not in shapes:
        first = ", ".join(sorted(shapes)[:3]) or "none"
        raise ValueError(
            f"no tensor is called {name}, so this is not a network with torchvision's names; "
            f"the first of {len(shapes)} names are {first}"
        )
    if len(shapes[name]) != num_dimensions:
        raise ValueError(f"{name} has the shape {shapes[name]}, expected {num_dimensions} dimensions")


def _infer_stage_kind(shapes: Shapes, stage: str) -> ConvolutionKind:
    """The kind of the second convolution of a stage's first block, which is the stage's in both types of block."""
    if f"{stage}.0.conv2.0.3.weight" in shapes:
        is_time_first = shapes.get(f"{stage}.0.conv2.0.0.weight", ())[2:] == (3, 1, 1)
        return ConvolutionKind.TEMPORAL_THEN_SPATIAL if is_time_first else ConvolutionKind.SPATIAL_THEN_TEMPORAL
    shape = shapes.get(f"{stage}.0.conv2.0.weight", ())
    match shape[2:]:
        case (3, 3, 3):
            return ConvolutionKind.FULL_3D
        case (1, 3, 3):
            return ConvolutionKind.FRAME_2D
        case _:
            raise ValueError(
                f"{stage}.0.conv2.0.weight has the shape {shape or 'of nothing: it is missing'}, "
                "expected filters of 3x3x3 or 1x3x3"
            )


def _infer_stem(shapes: Shapes, stages: tuple[ConvolutionKind, ...]) -> _Stem:
    channels, inputs, time, *_ = shapes["stem.0.weight"]
    if "stem.3.weight" in shapes:
        _check_dimensions(shapes, "stem.3.weight", 5)
        width, _, frames, *_ = shapes["stem.3.weight"]
        return _Stem(ConvolutionKind.SPATIAL_THEN_TEMPORAL, inputs, width, None, channels, frames)
    kinds = {1: ConvolutionKind.FRAME_2D, 3: ConvolutionKind.FULL_3D}
    if time in kinds:
        return _Stem(kinds[time], inputs, channels, clip_length=None, mid_channels=None)
    if time % 2 and set(stages) == {ConvolutionKind.FULL_3D}:
        return _Stem(ConvolutionKind.FULL_3D, inputs, channels, None, None, time)
    if set(stages) != {ConvolutionKind.FRAME_2D}:
        raise ValueError(
            f"stem.0.weight has the shape {shapes['stem.0.weight']}: filters of {time} frames are those of R2D, "
            f"but the stages after it are {_format_kinds(stages)}"
        )
    return _Stem(ConvolutionKind.TIME_AS_CHANNELS, inputs, channels, clip_length=time, mid_channels=None)


def _infer_family(stem: ConvolutionKind, stages: tuple[ConvolutionKind, ...]) -> str:
    if (stem, set(stages)) == (ConvolutionKind.FRAME_2D, {ConvolutionKind.TEMPORAL_THEN_SPATIAL}):
        return "r2plus1d"
    for family, kinds in FAMILIES.items():
        if kinds == (stem, *stages):
            return family
    raise ValueError(f"no network of the family has a stem of {stem} and stages of {_format_kinds(stages)}")


def _format_kinds(stages: tuple[ConvolutionKind, ...]) -> str:
    return ", ".join(str(kind) for kind in stages)


def _infer_depth(shapes: Shapes) -> int:
    block = "bottleneck" if f"{RESIDUAL_STAGES[0]}.0.conv3.0.weight" in shapes else "basic"
    blocks = tuple(
        len({name.split(".")[1] for name in shapes if name.startswith(f"{stage}.")}) for stage in RESIDUAL_STAGES
    )
    for depth, layout in DEPTHS.items():
        if layout == (block, blocks):
            return depth
    known = "; ".join(f"{block_type} {counts}" for block_type, counts in DEPTHS.values())
    raise ValueError(f"there are {blocks} {block} blocks, which no depth of the family has; depths have {known}")
