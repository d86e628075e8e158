"""A network made ready to be used and no longer learnt: `optimize`.

Enters: a `VideoResNet` with its weights. Leaves: a module that gives the same logits and features up to rounding. Every batch
norm is folded into the convolution before it (its scale into the filters, its shift into a bias), weights are laid out once
for the form that runs them (`muybridge.kernels.convolution`), and on a CPU ReLU and the sum of a block are done by the
convolution's own kernel while its output is still in the cache, or 3x3 filters by a quarter of the multiplications
(`muybridge.kernels.winograd`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from muybridge.kernels import winograd
from muybridge.kernels.convolution import (
    Convolution3d,
    Triple,
    choose_execution_form,
    flatten_clips,
    has_onednn,
    unflatten_maps,
)
from muybridge.models.network import BasicBlock, BottleneckBlock, VideoResNet, check_clips

TENSOR_CORE_CHANNELS = 8  # bf16 tensor cores work on multiples of it; see FactorisedConvolution


class FoldedConvolution(nn.Module):
    """Convolution, batch norm and, with `relu`, what follows them, as one convolution with a bias.

    `extra_in` and `extra_out` channels of zeros are added to what enters and leaves.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self, convolution: Convolution3d, norm: nn.Module, *, relu: bool, extra_in: int = 0, extra_out: int = 0
    ) -> None:
        super().__init__()
        assert not isinstance(convolution.padding, str), "padding is three numbers"
        self.form = choose_execution_form(convolution.kernel_size, convolution.stride, convolution.padding)
        self.temporal_geometry: Triple = (convolution.kernel_size[0], convolution.stride[0], convolution.padding[0])
        self.relu = relu
        weight, bias = fold_batch_norm(convolution, norm)
        weight = functional.pad(weight, (0, 0) * 3 + (0, extra_in) + (0, extra_out))
        self.is_winograd_applicable = winograd.is_applicable(weight, convolution.stride, convolution.padding)
        axes = {"frames": (1, 2), "pixels": (0,), "conv3d": (0, 1, 2)}[self.form]
        if self.form == "conv3d":
            weight = weight.contiguous(memory_format=torch.channels_last_3d)
        else:
            weight = weight.squeeze(2 if self.form == "frames" else 4)
            weight = weight.contiguous(memory_format=torch.channels_last)
        self.stride = [convolution.stride[axis] for axis in axes] + [1] * (self.form == "pixels")
        self.padding = [convolution.padding[axis] for axis in axes] + [0] * (self.form == "pixels")
        self.register_buffer("weight", weight)
        self.register_buffer("bias", functional.pad(bias, (0, extra_out)))
        self.is_fused = False  # set by `optimize`: ReLU and sum inside oneDNN's kernel, or Winograd's way
        self._packed: Tensor | None = None
        self._winograd: list[winograd.WinogradConvolution] = []  # none yet, or one, which twins share

    def forward(self, clips: Tensor, residual: Tensor | None = None) -> Tensor:
        """Channels-last (N, C, T, H, W) -> (N, C', T', H', W'); `residual` is added before ReLU, and may be overwritten."""
        if self.is_fused and self.is_winograd_applicable and winograd.is_worthwhile(clips):
            return self._run_winograd(clips, residual)
        view = flatten_clips(clips, self.form)
        residual_view = None if residual is None else flatten_clips(residual, self.form)
        maps = self._run_fused(view, residual_view) if self.is_fused else self._run_unfused(view, residual_view)
        return unflatten_maps(maps, clips, self.form)

    def copy_without_temporal_padding(self) -> FoldedConvolution:
        """The same filters, sharing their memory, over those frames alone where all of them lie on something."""
        clone = copy.copy(self)
        clone.padding = list(self.padding) if self.form == "frames" else [0, *self.padding[1:]]
        clone._winograd = self._winograd
        return clone

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: what is laid out for this machine is memory that cannot be read, and is made again."""
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
        # Frames as clips of one: what a frame is padded to is still in the cache when its tiles are taken.
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

    def _run_fused(self, view: Tensor, residual: Tensor | None) -> Tensor:
        """The operators that torch.compile calls for this, called without compiling."""
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


def fold_batch_norm(convolution: nn.Conv3d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does what convolution and batch norm in evaluation mode do.

    Computed in float64: the product of two rounded numbers is rounded once.
    """
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm), "a convolution is followed by batch norm"
    assert norm.running_var is not None and norm.running_mean is not None, "the norm keeps statistics"
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    weight = convolution.weight.double() * scale[:, None, None, None, None]
    bias = norm.bias.double() - norm.running_mean.double() * scale
    return weight.detach().to(convolution.weight.dtype), bias.detach().to(convolution.weight.dtype)


class FoldedBlock(nn.Module):
    """A residual block: its convolutions one after the other, the shortcut, their sum, ReLU."""

    def __init__(self, block: BasicBlock | BottleneckBlock, channel_multiple: int) -> None:
        super().__init__()
        parts = [block.conv1, block.conv2, *([block.conv3] if isinstance(block, BottleneckBlock) else [])]
        self.convolutions = nn.ModuleList(fold_chain(parts, channel_multiple))
        last = self.convolutions[-1]
        assert isinstance(last, FoldedConvolution), "a block ends in a convolution"
        last.relu = True  # after the sum
        self.shortcut = None if block.downsample is None else fold_chain([block.downsample], channel_multiple)[0]

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C', T', H', W')."""
        residual = maps if self.shortcut is None else self.shortcut(maps)
        for convolution in self.convolutions[:-1]:
            maps = convolution(maps)
        out: Tensor = self.convolutions[-1](maps, residual)
        return out


def fold_chain(parts: Iterable[nn.Module], channel_multiple: int) -> list[nn.Module]:
    """Sequences of convolution, batch norm and perhaps ReLU as folded convolutions; what else there is stays as it is."""
    modules = [module for part in parts for module in part.modules() if not any(module.children())]
    pairs = [(number, module) for number, module in enumerate(modules) if isinstance(module, Convolution3d)]
    chain: list[nn.Module] = []
    extra_in = 0
    for index, convolution in pairs:
        following = modules[index + 1 : index + 3]
        relu = len(following) == 2 and isinstance(following[1], nn.ReLU)
        # Only channels between two convolutions of one chain can be padded: what leaves a block has its own size.
        extra_out = -convolution.out_channels % channel_multiple if index != pairs[-1][0] else 0
        chain.append(FoldedConvolution(convolution, following[0], relu=relu, extra_in=extra_in, extra_out=extra_out))
        extra_in = extra_out
    return chain + [module for module in modules if isinstance(module, nn.MaxPool3d)]


class InferenceNetwork(nn.Module):
    """What `optimize` gives: clips in, logits or features out, without gradients."""

    classifier_weight: Tensor
    classifier_bias: Tensor

    def __init__(self, net: VideoResNet, channel_multiple: int) -> None:
        super().__init__()
        self.specification = net.specification
        self.stem = nn.Sequential(*fold_chain([net.stem], channel_multiple))
        stages = (net.layer1, net.layer2, net.layer3, net.layer4)
        self.blocks = nn.Sequential(
            *(FoldedBlock(_require_residual_block(block), channel_multiple) for stage in stages for block in stage)
        )
        weight, bias = net.fc.weight.detach().clone(), net.fc.bias.detach().clone()
        self.register_buffer("classifier_weight", weight)
        self.register_buffer("classifier_bias", bias)
        self.eval()

    @torch.no_grad()
    def forward(self, clips_ncthw: Tensor) -> Tensor:
        """Normalised clips (N, C, T, H, W) in any memory format -> logits (N, classes)."""
        return functional.linear(self.features(clips_ncthw), self.classifier_weight, self.classifier_bias)

    @torch.no_grad()
    def features(self, clips_ncthw: Tensor) -> Tensor:
        """Normalised clips (N, C, T, H, W) -> what enters the classifier, (N, features)."""
        check_clips(clips_ncthw, self.specification, self.classifier_weight.dtype)
        maps: Tensor = clips_ncthw.contiguous(memory_format=torch.channels_last_3d)
        maps = self.blocks(self.stem(maps))
        return maps.mean(dim=(2, 3, 4))


def _require_residual_block(module: nn.Module) -> BasicBlock | BottleneckBlock:
    assert isinstance(module, BasicBlock | BottleneckBlock), "stages are made of residual blocks"
    return module


def optimize(net: VideoResNet, *, compile: bool = False) -> InferenceNetwork:
    """The same function as `net` in evaluation mode, for inference on the device where `net` lies now.

    Results are the same up to rounding; `net` is left as it is and shares no memory with what is returned. `compile` hands
    the result to torch.compile: it takes a minute at the first clip of every shape. ValueError for what is no VideoResNet.
    """
    if not isinstance(net, VideoResNet):
        raise ValueError(f"only a network as create_model builds it can be optimized, not a {type(net).__name__}")
    weight = net.fc.weight
    optimized = InferenceNetwork(net, TENSOR_CORE_CHANNELS if weight.is_cuda else 1)
    if compile:
        optimized.compile()
    elif weight.device.type == "cpu" and weight.dtype == torch.float32 and has_onednn():
        for module in optimized.modules():
            if isinstance(module, FoldedConvolution):
                module.is_fused = True
    return optimized
