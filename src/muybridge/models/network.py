"""Build the network of a `Specification`.

Input: normalised float clips (N, C, T, H, W). Output: logits (N, classes), or the features before the classifier. Section 3
and Table 1 of Tran et al., CVPR 2018; batch norm, shortcuts and bottlenecks follow the authors' code. Parameters have the
names and shapes of torchvision's video ResNets, so state dicts are exchanged without renaming.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import NamedTuple, Unpack, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from muybridge.kernels.convolution import Convolution3d, FactorizedConvolution, NormalizedConvolution, Triple
from muybridge.models.family import (
    BOTTLENECK_EXPANSION,
    ConvolutionKind,
    Specification,
    SpecificationOptions,
    build_specification,
    compute_mid_channels,
)

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")  # conv1 to conv5: names of modules, as in state dicts
PARTS = (*STAGES, "fc")


class VideoResNet(nn.Module):
    """conv1, four stages of residual blocks, a global average over time and space, a linear classifier."""

    def __init__(self, spec: Specification) -> None:
        super().__init__()
        self.specification = spec
        # Sizes as in Table 1: R3D or R(2+1)D of 18 or 34 layers, clips of 3 x L x 112 x 112.
        self.stem = _build_stem(spec)  # conv1, 64 x L x 56 x 56
        self.layer1 = _build_stage(spec, 0)  # conv2_x, 64 x L x 56 x 56
        self.layer2 = _build_stage(spec, 1)  # conv3_x, 128 x L/2 x 28 x 28
        self.layer3 = _build_stage(spec, 2)  # conv4_x, 256 x L/4 x 14 x 14
        self.layer4 = _build_stage(spec, 3)  # conv5_x, 512 x L/8 x 7 x 7
        self.fc = nn.Linear(spec.feature_channels, spec.num_classes)
        # In training, store only the input of each block and recompute the rest: less memory, a third more time.
        self.activation_checkpointing = False
        self.dropout = 0.0  # share of the classifier's inputs that training sets to 0 (Srivastava et al., JMLR 2014)
        _initialize_weights(self)

    @property
    def stages(self) -> tuple[nn.Sequential, ...]:
        """conv1 to conv5 in order; `STAGES` has their names."""
        return self.stem, self.layer1, self.layer2, self.layer3, self.layer4

    def split(self) -> NetworkParts:
        """The parts in order of execution; between the last block and the head is the average over time and space."""
        blocks = cast(list[ResidualBlock], [block for stage in self.stages[1:] for block in stage])
        return NetworkParts(self.stem, blocks, self.fc)

    def forward(self, clips_ncthw: Tensor) -> Tensor:
        """Clips (N, C, T, H, W) -> logits (N, classes). ValueError for clips of another shape or dtype."""
        features = self.features(clips_ncthw)
        if self.dropout and self.training:
            features = functional.dropout(features, self.dropout)
        logits: Tensor = self.fc(features)
        return logits

    def features(self, clips_ncthw: Tensor) -> Tensor:
        """Clips (N, C, T, H, W) -> input of the classifier: (N, 512) at width 64, (N, 2048) with bottleneck blocks."""
        check_clips(clips_ncthw, self.specification, self.fc.weight.dtype)
        maps = clips_ncthw
        if self.activation_checkpointing and self.training and torch.is_grad_enabled():
            maps = _run_checkpointed(self, maps)
        else:
            for stage in self.stages:
                maps = stage(maps)
        return maps.mean(dim=(2, 3, 4))


class NetworkParts(NamedTuple):
    """A `VideoResNet` from input to output."""

    stem: nn.Sequential  # conv1
    blocks: list[ResidualBlock]  # of conv2 to conv5
    head: nn.Linear


def _run_checkpointed(net: VideoResNet, maps: Tensor) -> Tensor:
    """Run stem and blocks; each runs a second time in the backward pass, so that its activations need not be stored."""
    stem, blocks, _ = net.split()
    for block in (stem, *blocks):
        contexts = partial(_make_checkpoint_contexts, block)
        maps = checkpoint(block, maps, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return maps


def _make_checkpoint_contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _freeze_running_statistics(block)


@contextmanager
def _freeze_running_statistics(block: nn.Module) -> Iterator[None]:
    """Keep batch norm from updating its running statistics: in a recomputation the first run has updated them already."""
    norms = [module for module in block.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, (_, num_batches) in zip(norms, before, strict=True):
        norm.momentum = 0.0
        norm.num_batches_tracked = None if num_batches is None else num_batches.clone()
    try:
        yield
    finally:
        for norm, (momentum, num_batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, num_batches


def _build_stem(spec: Specification) -> nn.Sequential:
    """conv1: C x T x H x W -> width x T x H/2 x W/2 (T becomes 1 where the stem takes time as channels)."""
    inputs, width, frames = spec.input_channels, spec.width, spec.stem_frames
    following: list[nn.Module] = [_build_norm(width, spec), nn.ReLU(inplace=True)]
    if spec.stem_pool:
        following.append(_build_stem_pool(spec.stem_pool_time_stride))
    match spec.stem:
        case ConvolutionKind.FULL_3D:
            padding = (frames // 2, 3, 3)
            first = Convolution3d(inputs, width, kernel_size=(frames, 7, 7), stride=(1, 2, 2), padding=padding)
        case ConvolutionKind.FRAME_2D:
            first = Convolution3d(inputs, width, kernel_size=(1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3))
        case ConvolutionKind.TIME_AS_CHANNELS:
            length = spec.clip_length
            first = Convolution3d(inputs, width, kernel_size=(length, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3))
        case ConvolutionKind.SPATIAL_THEN_TEMPORAL:
            mid = spec.stem_mid_channels
            spatial = Convolution3d(inputs, mid, kernel_size=(1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3))
            temporal = Convolution3d(mid, width, kernel_size=(frames, 1, 1), padding=(frames // 2, 0, 0))
            return FactorizedConvolution(spatial, _build_norm(mid, spec), temporal, *following, relu=spec.middle_relu)
        case ConvolutionKind.TEMPORAL_THEN_SPATIAL:
            raise AssertionError("a specification has this kind in its stages only")
    return NormalizedConvolution(first, *following)


def _build_stem_pool(time_stride: int) -> nn.MaxPool3d:
    """A max-pool over 3x3 pixels of stride 2; of stride 2 in time too, it is over 3 frames."""
    if time_stride == 1:
        return nn.MaxPool3d(kernel_size=(1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
    return nn.MaxPool3d(kernel_size=(3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1))


def _build_stage(spec: Specification, index: int) -> nn.Sequential:
    """conv2_x to conv5_x for `index` 0 to 3; the first block changes size and channels."""
    block = BottleneckBlock if spec.block == "bottleneck" else BasicBlock
    kind, channels = spec.stages[index], spec.width * 2**index
    out_channels = channels * block.expansion
    in_channels = spec.width if index == 0 else out_channels // 2
    stride = (spec.temporal_strides[index], spec.spatial_strides[index], spec.spatial_strides[index])
    first = block(in_channels, channels, kind=kind, stride=stride, spec=spec)
    rest = [
        block(out_channels, channels, kind=kind, stride=(1, 1, 1), spec=spec) for _ in range(spec.blocks[index] - 1)
    ]
    return nn.Sequential(first, *rest)


class ResidualBlock(nn.Module):
    """A chain of convolutions added to the input, or to its projection; then ReLU."""

    downsample: NormalizedConvolution | FactorizedConvolution | None  # the projection, None for the identity

    @property
    def convolutions(self) -> tuple[NormalizedConvolution, ...]:
        """Convolutions with batch norm in order, all but the last with ReLU."""
        raise NotImplementedError

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C', T', H', W')."""
        residual = maps if self.downsample is None else self.downsample(maps)
        *first, last = self.convolutions
        for convolution in first:
            maps = convolution(maps)
        out: Tensor = last(maps, residual)
        return out


class BasicBlock(ResidualBlock):
    """Two convolutions of the stage's kind; the first one has the stride."""

    expansion = 1

    def __init__(
        self, in_channels: int, channels: int, *, kind: ConvolutionKind, stride: Triple, spec: Specification
    ) -> None:
        super().__init__()
        mid1 = compute_mid_channels(in_channels, channels)
        mid2 = mid1 if spec.mid_channel_rule == "per_block" else compute_mid_channels(channels, channels)
        self.conv1 = NormalizedConvolution(
            _build_convolution(in_channels, channels, kind=kind, mid_channels=mid1, stride=stride, spec=spec),
            _build_norm(channels, spec),
            nn.ReLU(inplace=True),
        )
        self.conv2 = NormalizedConvolution(
            _build_convolution(channels, channels, kind=kind, mid_channels=mid2, stride=(1, 1, 1), spec=spec),
            _build_norm(channels, spec),
        )
        self.downsample = _build_shortcut(in_channels, channels, kind=kind, stride=stride, spec=spec)

    @property
    def convolutions(self) -> tuple[NormalizedConvolution, ...]:
        """conv1 to conv2."""
        return self.conv1, self.conv2


class BottleneckBlock(ResidualBlock):
    """1x1x1, a convolution of the stage's kind with the stride, 1x1x1 to four times the channels."""

    expansion = BOTTLENECK_EXPANSION

    def __init__(
        self, in_channels: int, channels: int, *, kind: ConvolutionKind, stride: Triple, spec: Specification
    ) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        # The authors' code uses the convolution's own input channels, torchvision those of the block.
        mid = compute_mid_channels(in_channels if spec.mid_channel_rule == "per_block" else channels, channels)
        self.conv1 = NormalizedConvolution(
            _build_pointwise(in_channels, channels), _build_norm(channels, spec), nn.ReLU(inplace=True)
        )
        self.conv2 = NormalizedConvolution(
            _build_convolution(channels, channels, kind=kind, mid_channels=mid, stride=stride, spec=spec),
            _build_norm(channels, spec),
            nn.ReLU(inplace=True),
        )
        self.conv3 = NormalizedConvolution(_build_pointwise(channels, out_channels), _build_norm(out_channels, spec))
        self.downsample = _build_shortcut(in_channels, out_channels, kind=kind, stride=stride, spec=spec)

    @property
    def convolutions(self) -> tuple[NormalizedConvolution, ...]:
        """conv1 to conv3."""
        return self.conv1, self.conv2, self.conv3


class ConvolutionStep(NamedTuple):
    """A convolution and what follows it."""

    convolution: Convolution3d
    norm: nn.modules.batchnorm._BatchNorm
    relu: bool


def list_convolution_steps(*modules: nn.Module) -> list[ConvolutionStep]:
    """The convolutions of a stem, a shortcut or `ResidualBlock.convolutions`, in order of execution."""
    layers = [layer for module in modules for layer in module.modules() if not any(layer.children())]
    steps = []
    for index, layer in enumerate(layers):
        if isinstance(layer, Convolution3d):
            norm, relu = layers[index + 1], layers[index + 2 : index + 3]
            assert isinstance(norm, nn.modules.batchnorm._BatchNorm), "a convolution is followed by batch norm"
            steps.append(ConvolutionStep(layer, norm, any(isinstance(module, nn.ReLU) for module in relu)))
    return steps


def _build_convolution(
    in_channels: int,
    out_channels: int,
    *,
    kind: ConvolutionKind,
    mid_channels: int,
    stride: Triple,
    spec: Specification,
) -> nn.Module:
    """A convolution of `kind` with 3x3x3, 1x3x3 or 1x3x3 and 3x1x1 filters; padding 1, so odd and short lengths round up."""
    match kind:
        case ConvolutionKind.FULL_3D:
            return Convolution3d(in_channels, out_channels, kernel_size=(3, 3, 3), stride=stride, padding=(1, 1, 1))
        case ConvolutionKind.FRAME_2D:
            return Convolution3d(in_channels, out_channels, kernel_size=(1, 3, 3), stride=stride, padding=(0, 1, 1))
        case ConvolutionKind.SPATIAL_THEN_TEMPORAL:
            time, height, width = stride
            return FactorizedConvolution(
                Convolution3d(
                    in_channels, mid_channels, kernel_size=(1, 3, 3), stride=(1, height, width), padding=(0, 1, 1)
                ),
                _build_norm(mid_channels, spec),
                Convolution3d(
                    mid_channels, out_channels, kernel_size=(3, 1, 1), stride=(time, 1, 1), padding=(1, 0, 0)
                ),
                relu=spec.middle_relu,
            )
        case ConvolutionKind.TEMPORAL_THEN_SPATIAL:
            time, height, width = stride
            return FactorizedConvolution(
                Convolution3d(in_channels, out_channels, kernel_size=(3, 1, 1), stride=(time, 1, 1), padding=(1, 0, 0)),
                _build_norm(out_channels, spec),
                Convolution3d(
                    out_channels, out_channels, kernel_size=(1, 3, 3), stride=(1, height, width), padding=(0, 1, 1)
                ),
                relu=spec.middle_relu,
            )
        case ConvolutionKind.TIME_AS_CHANNELS:
            raise AssertionError("a specification has this kind in its stem only")


def _build_pointwise(in_channels: int, out_channels: int, *, stride: Triple = (1, 1, 1)) -> Convolution3d:
    """A 1x1x1 convolution."""
    return Convolution3d(in_channels, out_channels, kernel_size=(1, 1, 1), stride=stride, padding=(0, 0, 0))


def _build_shortcut(
    in_channels: int, out_channels: int, *, kind: ConvolutionKind, stride: Triple, spec: Specification
) -> NormalizedConvolution | FactorizedConvolution | None:
    """1x1x1 with the block's stride and batch norm; None where size and channels stay the same.

    Never factorised in the paper's networks; in MMAction2's, two 1x1x1 with the mid-channels that its formula gives for d = 1.
    """
    if in_channels == out_channels and stride == (1, 1, 1):
        return None
    if spec.factorized_shortcuts and kind is ConvolutionKind.SPATIAL_THEN_TEMPORAL:
        mid = compute_mid_channels(in_channels, out_channels, d=1)
        return FactorizedConvolution(
            _build_pointwise(in_channels, mid, stride=(1, *stride[1:])),
            _build_norm(mid, spec),
            _build_pointwise(mid, out_channels, stride=(stride[0], 1, 1)),
            _build_norm(out_channels, spec),
            relu=spec.middle_relu,
        )
    return NormalizedConvolution(
        _build_pointwise(in_channels, out_channels, stride=stride), _build_norm(out_channels, spec)
    )


def _build_norm(channels: int, spec: Specification) -> nn.BatchNorm3d:
    """Batch norm with torch's momentum 0.1, which is Caffe2's 0.9."""
    return nn.BatchNorm3d(channels, eps=spec.norm_epsilon, momentum=0.1)


def _initialize_weights(net: nn.Module) -> None:
    """Draw weights as the authors' code does, from torch's global generator.

    Convolutions N(0, 2 / fan_out) (Caffe2's MSRAFill), classifier U(+-sqrt(3 / fan_in)) (its XavierFill) and bias 0; batch
    norm starts as 1 and 0.
    """
    if next(net.parameters()).is_meta:
        return  # nothing to draw, and initializers take a while even on the meta device
    for module in net.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            bound = math.sqrt(3 / module.in_features)
            nn.init.uniform_(module.weight, -bound, bound)
            nn.init.zeros_(module.bias)


def check_clips(clips: Tensor, spec: Specification, dtype: torch.dtype) -> None:
    """Raise ValueError unless `clips` fit `spec` and weights of `dtype`."""
    if clips.dim() != 5 or clips.shape[1] != spec.input_channels or 0 in clips.shape[2:]:
        expected = f"(N, {spec.input_channels}, T, H, W)"
        raise ValueError(f"{spec.name} takes clips of shape {expected}, not {tuple(clips.shape)}")
    if clips.dtype != dtype and not torch.is_autocast_enabled(clips.device.type):
        raise ValueError(
            f"{spec.name} has weights of {dtype}, but the clips are {clips.dtype}; normalise them and convert them to {dtype}"
        )
    if spec.stem is ConvolutionKind.TIME_AS_CHANNELS and clips.shape[2] != spec.clip_length:
        raise ValueError(
            f"{spec.name} was built for clips of {spec.clip_length} frames, not {clips.shape[2]}; "
            "it takes the frames as channels, so build another network for another length"
        )


def create_model(name: str, **options: Unpack[SpecificationOptions]) -> VideoResNet:
    """A network of the family with random weights, by its name in `list_models()`; ValueError for an unknown name.

    Options are num_classes, clip_length, input_channels, width, mid_channel_rule, norm_epsilon, stem_pool, stem_mid_channels
    and middle_relu; `Specification` describes them and has their defaults. `clip_length` (frames) is a shape for R2D only,
    other networks take clips of any length. `mid_channel_rule` "per_block" with `norm_epsilon` 1e-5 is torchvision's R(2+1)D.
    """
    return VideoResNet(build_specification(name, **options))
