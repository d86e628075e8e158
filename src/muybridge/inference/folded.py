"""Prepare a network for inference: `optimize`.

Input: a `VideoResNet`. Output: a module with the same logits and features up to rounding. Every batch norm is folded into the
convolution before it (its scale into the filters, its shift into a bias), and weights are stored in the layout of their form
of execution (`muybridge.kernels.convolution`). On a CPU, the convolution kernel also applies ReLU and the sum of a block
while its output is in the cache, and 3x3 filters run by Winograd's algorithm (`muybridge.kernels.winograd`) where it pays.
On a GPU every convolution runs as conv3d, whose cuDNN kernel applies bias, ReLU and sum, and the stem over blocks of pixels
(`muybridge.kernels.space_to_depth`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from muybridge.inference.finite import check_finite_clips, check_finite_outputs, find_unusable, invalidate
from muybridge.kernels import winograd
from muybridge.kernels.convolution import Triple, choose_execution_form, has_onednn
from muybridge.kernels.forms import flatten_clips, unflatten_maps
from muybridge.kernels.graphs import GraphCache
from muybridge.kernels.precision import Precision
from muybridge.kernels.space_to_depth import has_blocks, to_block_filters, to_blocks
from muybridge.models.family import Specification
from muybridge.models.network import (
    ConvolutionStep,
    ResidualBlock,
    VideoResNet,
    check_clips,
    list_convolution_steps,
)
from muybridge.weights.tensor_checks import check_network, describe_extremes

_BLOCK_DEVICE_TYPES = {"cuda"}  # tests add "cpu"
TENSOR_CORE_CHANNELS = 8  # bf16 tensor cores work on multiples of it; see FactorizedConvolution


class FoldedConvolution(nn.Module):
    """Convolution, batch norm and perhaps ReLU as one convolution with a bias.

    It takes `extra_in` and returns `extra_out` additional channels, which are zero.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, step: ConvolutionStep, *, extra_in: int = 0, extra_out: int = 0) -> None:
        super().__init__()
        convolution = step.convolution
        assert not isinstance(convolution.padding, str), "padding is three numbers"
        stride, padding = convolution.stride, convolution.padding
        self.temporal_geometry: Triple = (convolution.kernel_size[0], stride[0], padding[0])
        self.relu = step.relu
        weight, bias = fold_batch_norm(step)
        weight = functional.pad(weight, (0, 0) * 3 + (0, extra_in) + (0, extra_out))
        self.takes_blocks = weight.device.type in _BLOCK_DEVICE_TYPES and has_blocks(
            tuple(weight.shape), stride, padding
        )
        if self.takes_blocks:
            weight, stride, padding = to_block_filters(weight), (stride[0], 1, 1), (padding[0], 0, 0)
        form = choose_execution_form(tuple(weight.shape[2:]), stride, padding)
        self.form = form if self.takes_blocks or not weight.is_cuda else "conv3d"
        self.is_winograd_applicable = winograd.is_applicable(weight, stride, padding)
        axes = {"frames": (1, 2), "pixels": (0,), "conv3d": (0, 1, 2)}[self.form]
        if self.form == "conv3d":
            weight = weight.contiguous(memory_format=torch.channels_last_3d)
        else:
            weight = weight.squeeze(2 if self.form == "frames" else 4)
            weight = weight.contiguous(memory_format=torch.channels_last)
        self.stride = [stride[axis] for axis in axes] + [1] * (self.form == "pixels")
        self.padding = [padding[axis] for axis in axes] + [0] * (self.form == "pixels")
        self.register_buffer("weight", weight)
        self.register_buffer("bias", functional.pad(bias, (0, extra_out)))
        # Set by `optimize`: ReLU and sum inside oneDNN's kernel, or Winograd's algorithm; or inside cuDNN's kernel.
        self.is_fused = self.uses_cudnn = False
        self._packed: Tensor | None = None
        self._winograd: list[winograd.WinogradConvolution] = []  # empty or one; copies without padding share the list

    def forward(self, clips: Tensor, residual: Tensor | None = None) -> Tensor:
        """Channels-last (N, C, T, H, W) -> (N, C', T', H', W'); `residual` is added before ReLU and may be overwritten."""
        if self.is_fused and self.is_winograd_applicable and winograd.is_worthwhile(clips):
            return self._run_winograd(clips, residual)
        if self.takes_blocks:
            clips = to_blocks(clips, self.weight.dtype)
        view = flatten_clips(clips, self.form)
        residual_view = None if residual is None else flatten_clips(residual, self.form)
        if self.uses_cudnn and self.relu and view.is_cuda and view.numel():
            maps = self._run_cudnn(view, residual_view)
        else:
            maps = self._run_fused(view, residual_view) if self.is_fused else self._run_unfused(view, residual_view)
        return unflatten_maps(maps, clips, self.form)

    def copy_without_temporal_padding(self) -> FoldedConvolution:
        """A copy that shares the filters and computes only the frames where every tap meets a frame of the input."""
        clone = copy.copy(self)
        clone.padding = list(self.padding) if self.form == "frames" else [0, *self.padding[1:]]
        clone._winograd = self._winograd
        return clone

    def __getstate__(self) -> dict[str, Any]:
        """State for copies and pickles, without oneDNN's packed weights: they cannot be read and are packed again."""
        return {**self.__dict__, "_packed": None, "_winograd": []}

    def _run_winograd(self, clips: Tensor, residual: Tensor | None) -> Tensor:
        has_time = self.form == "conv3d"
        if not self._winograd:
            weight = self.weight if has_time else self.weight.unsqueeze(2)
            filters = winograd.transform_filters(weight.double()).to(weight.dtype)
            self._winograd.append(winograd.WinogradConvolution(filters, self.bias))
        (convolve,) = self._winograd
        if has_time:
            stride, padding = self.stride[0], self.padding[0]
            return convolve(clips, stride=stride, padding=padding, relu=self.relu, residual=residual)
        # Frames as clips of one frame: a padded frame is then still in the cache when its tiles are read.
        frames = flatten_clips(clips, "frames").unsqueeze(2)
        residual_frames = None if residual is None else flatten_clips(residual, "frames").unsqueeze(2)
        maps = convolve(frames, stride=1, padding=0, relu=self.relu, residual=residual_frames)
        return unflatten_maps(maps.squeeze(2), clips, "frames")

    def _run_unfused(self, view: Tensor, residual: Tensor | None) -> Tensor:
        convolve = functional.conv3d if self.form == "conv3d" else functional.conv2d
        maps = convolve(view, self.weight, self.bias, self.stride, self.padding)
        if residual is not None:
            maps += residual
        return maps.relu_() if self.relu else maps

    def _run_cudnn(self, view: Tensor, residual: Tensor | None) -> Tensor:
        """Convolution, bias, sum and ReLU in one kernel of cuDNN."""
        operators: Any = torch.ops.aten
        shape = (self.bias, self.stride, self.padding, [1] * len(self.stride), 1)
        if residual is None:
            maps: Tensor = operators.cudnn_convolution_relu(view, self.weight, *shape)
        else:
            residual = residual.contiguous(memory_format=torch.channels_last_3d)
            maps = operators.cudnn_convolution_add_relu(view, self.weight, residual, 1.0, *shape)
        return maps

    def _run_fused(self, view: Tensor, residual: Tensor | None) -> Tensor:
        """The operators that torch.compile emits for this, called without compiling."""
        operators: Any = torch.ops.mkldnn
        if self._packed is None:
            self._packed = self._pack_weight(view)
        ones = [1] * len(self.stride)
        shape = (self.bias, self.padding, self.stride, ones, 1)
        activation = "relu" if self.relu else "none"
        if residual is None:
            maps: Tensor = operators._convolution_pointwise(view, self._packed, *shape, activation, [], "")
        else:
            add = operators._convolution_pointwise_.binary
            maps = add(residual, view, self._packed, *shape, "add", 1.0, activation, [], "")
        return maps

    def _pack_weight(self, view: Tensor) -> Tensor:
        aten: Any = torch.ops.aten
        reorder = aten.mkldnn_reorder_conv3d_weight if self.form == "conv3d" else aten.mkldnn_reorder_conv2d_weight
        ones = [1] * len(self.stride)
        weight = self.weight.contiguous().to_mkldnn()
        packed: Tensor = reorder(weight, self.padding, self.stride, ones, 1, list(view.shape))
        return packed


def fold_batch_norm(step: ConvolutionStep) -> tuple[Tensor, Tensor]:
    """Weight (out, in, t, k, k) and bias (out,) of one convolution equal to convolution and batch norm in evaluation mode.

    Computed in float64 and rounded once. ValueError if the results are not finite, or too large.
    """
    convolution, norm, _ = step
    assert norm.running_var is not None and norm.running_mean is not None, "the norm keeps statistics"
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    weight = convolution.weight.double() * scale[:, None, None, None, None]
    bias = norm.bias.double() - norm.running_mean.double() * scale
    weight, bias = weight.detach().to(convolution.weight.dtype), bias.detach().to(convolution.weight.dtype)
    if problem := describe_extremes(weight) or describe_extremes(bias):
        raise ValueError(
            f"a convolution of {tuple(weight.shape)} {problem} once its batch norm is folded into it; the weights are too "
            "large, or damaged"
        )
    return weight, bias


class FoldedBlock(nn.Module):
    """A `ResidualBlock` of folded convolutions."""

    def __init__(self, block: ResidualBlock, channel_multiple: int) -> None:
        super().__init__()
        folded = _fold_steps(list_convolution_steps(*block.convolutions), channel_multiple)
        folded[-1].relu = True  # after the sum
        self.convolutions = nn.ModuleList(folded)
        self.shortcut = None
        if block.downsample is not None:
            self.shortcut = nn.Sequential(*_fold_steps(list_convolution_steps(block.downsample), channel_multiple))

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C', T', H', W')."""
        residual = maps if self.shortcut is None else self.shortcut(maps)
        for convolution in self.convolutions[:-1]:
            maps = convolution(maps)
        out: Tensor = self.convolutions[-1](maps, residual)
        return out


def _fold_steps(steps: Sequence[ConvolutionStep], channel_multiple: int) -> list[FoldedConvolution]:
    """Convolutions with batch norm and ReLU, each folded; channels between two of them are padded to a multiple."""
    folded: list[FoldedConvolution] = []
    extra_in = 0
    for index, step in enumerate(steps):
        # The output of the last one has the size that other blocks expect.
        extra_out = -step.convolution.out_channels % channel_multiple if index < len(steps) - 1 else 0
        folded.append(FoldedConvolution(step, extra_in=extra_in, extra_out=extra_out))
        extra_in = extra_out
    return folded


class ClipClassifier(nn.Module):
    """Features of clips and a linear classifier, for inference without gradients."""

    classifier_weight: Tensor
    classifier_bias: Tensor

    def __init__(self, spec: Specification, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.specification = spec
        self.register_buffer("classifier_weight", weight)
        self.register_buffer("classifier_bias", bias)

    @torch.no_grad()
    def forward(self, clips_ncthw: Tensor) -> Tensor:
        """Normalised float32 clips (N, C, T, H, W) -> logits (N, classes)."""
        return self.classify(self.features(clips_ncthw))

    def classify(self, features: Tensor) -> Tensor:
        """Features (N, F) -> logits (N, classes)."""
        return check_finite_outputs(self.compute_logits(features), "logits")

    def compute_logits(self, features: Tensor) -> Tensor:
        """As `classify`, of numbers that need not be finite."""
        return functional.linear(features, self.classifier_weight, self.classifier_bias)

    def features(self, clips_ncthw: Tensor) -> Tensor:
        """Normalised float32 clips (N, C, T, H, W) -> input of the classifier, (N, F)."""
        raise NotImplementedError


class InferenceNetwork(ClipClassifier):
    """The result of `optimize`; clips may be in any memory format."""

    def __init__(self, net: VideoResNet, channel_multiple: int, precision: Precision = "fp32") -> None:
        stem, blocks, head = net.split()
        super().__init__(net.specification, head.weight.detach().clone(), head.bias.detach().clone())
        pools = [module for module in stem if isinstance(module, nn.MaxPool3d)]
        self.stem = nn.Sequential(*_fold_steps(list_convolution_steps(stem), channel_multiple), *pools)
        self.blocks = nn.Sequential(*(FoldedBlock(block, channel_multiple) for block in blocks))
        self.precision = precision
        if precision == "bf16":  # the average over time and space and the classifier stay float32
            self.stem, self.blocks = self.stem.to(torch.bfloat16), self.blocks.to(torch.bfloat16)
        self.graphs: GraphCache | None = None  # set by `optimize`
        self.eval()

    @torch.no_grad()
    def forward(self, clips_ncthw: Tensor) -> Tensor:
        """Normalised float32 clips (N, C, T, H, W) -> logits (N, classes)."""
        if torch.compiler.is_compiling():
            return super().forward(clips_ncthw)
        return check_finite_outputs(self.score(clips_ncthw), "logits", clips_ncthw)

    @torch.no_grad()
    def score(self, clips_ncthw: Tensor) -> Tensor:
        """As `forward` without waiting for the device: logits are NaN where `forward` raises an error for the numbers."""
        check_clips(clips_ncthw, self.specification, self.classifier_weight.dtype)
        graphs = self.graphs
        return self._score(clips_ncthw) if graphs is None else graphs.run(self._score, clips_ncthw)

    def _score(self, clips_ncthw: Tensor) -> Tensor:
        logits = self.compute_logits(self._compute_features(clips_ncthw))
        return invalidate(logits, find_unusable(clips_ncthw))

    @torch.no_grad()
    def features(self, clips_ncthw: Tensor) -> Tensor:
        """Normalised clips (N, C, T, H, W) -> input of the classifier, (N, F)."""
        check_clips(clips_ncthw, self.specification, self.classifier_weight.dtype)
        check_finite_clips(clips_ncthw)
        return check_finite_outputs(self._compute_features(clips_ncthw), "features")

    def _compute_features(self, clips_ncthw: Tensor) -> Tensor:
        maps: Tensor = self.blocks(self.stem(self.lay_out(clips_ncthw)))
        return maps.mean(dim=(2, 3, 4), dtype=self.classifier_weight.dtype)

    def lay_out(self, clips_ncthw: Tensor) -> Tensor:
        """Clips in the precision and the memory format of the first convolution, unless it takes them as they are."""
        if getattr(self.stem[0], "takes_blocks", False):
            return clips_ncthw
        clips = clips_ncthw if self.precision == "fp32" else clips_ncthw.to(torch.bfloat16)
        return clips.contiguous(memory_format=torch.channels_last_3d)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> InferenceNetwork:
        """Behind `to`, `half` and the like, which replace the weights that graphs read."""
        if self.graphs is not None:
            self.graphs.clear()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def optimize(
    net: VideoResNet, *, compile: bool = False, precision: Precision = "fp32", cuda_graphs: bool = True
) -> InferenceNetwork:
    """Return `net` in evaluation mode, folded and laid out for inference on its current device.

    Outputs agree with those of `net` up to rounding; `net` is not changed and shares no memory with the result. `precision`
    "bf16" rounds weights and maps to bfloat16, which GPUs since Ampere compute several times as fast; clips and logits stay
    float32. `compile` uses torch.compile, which takes a minute at the first clip of every shape. `cuda_graphs` launches the
    kernels of small batches of a shape together on a GPU from its fourth call on (`kernels.graphs`); hooks do not run then.
    ValueError if `net` is not a VideoResNet, its weights are not finite, or `precision` is "bf16" and they are not float32.
    """
    if not isinstance(net, VideoResNet):
        raise ValueError(f"only a network as create_model builds it can be optimized, not a {type(net).__name__}")
    check_network(net, net.specification.name)
    weight = net.fc.weight
    if precision == "bf16" and weight.dtype != torch.float32:
        raise ValueError(f"precision bf16 needs a float32 network, but the weights are {weight.dtype}; use fp32")
    optimized = InferenceNetwork(net, TENSOR_CORE_CHANNELS if weight.is_cuda else 1, precision)
    if compile:
        optimized.stem.compile()  # not the whole: its checks of finite numbers read values
        optimized.blocks.compile()
        return optimized
    optimized.graphs = GraphCache() if cuda_graphs else None
    for module in optimized.modules():
        if isinstance(module, FoldedConvolution):
            module.uses_cudnn = _has_fused_cudnn(module.weight)
            module.is_fused = weight.device.type == "cpu" and module.weight.dtype == torch.float32 and has_onednn()
    return optimized


def _has_fused_cudnn(weight: Tensor) -> bool:
    """Whether cuDNN's convolutions with bias, sum and ReLU take these weights."""
    available: bool = torch.backends.cudnn.is_available()  # type: ignore[no-untyped-call]
    return weight.is_cuda and weight.dtype != torch.float64 and available
