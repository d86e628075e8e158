"""Inference in 8-bit integers on a CPU: not the same function as the network, but close to it, and several times as fast.

Enters: a network as `optimize` makes it and clips like those it will see. Leaves: a module of the same use whose convolutions
multiply bytes. Weights are int8 with a scale for each filter; what flows between convolutions is uint8 with one scale and zero
a tensor, from the smallest and largest value that the given clips cause there (post-training static quantisation: Jacob et
al., CVPR 2018). Sums are 32-bit. Ours is only which tensor has which levels: the kernels are oneDNN's, the operators those that
torch.compile emits for quantised networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from muybridge.inference.folded import FoldedBlock, FoldedConvolution, InferenceNetwork, optimize
from muybridge.kernels.convolution import flattened, unflattened
from muybridge.models.network import VideoResNet, check_clips

_LARGEST_WEIGHT = 127
_LARGEST_CODE = 255
_CAPABILITIES = ("avx512_vnni", "avx_vnni", "amx_int8")


@dataclass(frozen=True)
class Levels:
    """Which values the bytes of a tensor stand for: (code - zero) * step."""

    step: float
    zero: int

    @staticmethod
    def covering(smallest: float, largest: float) -> Levels:
        """256 levels from `smallest` to `largest`, zero exactly among them: padding is zeros."""
        smallest, largest = min(smallest, 0.0), max(largest, 0.0)
        step = (largest - smallest) / _LARGEST_CODE or 1.0
        return Levels(step, round(-smallest / step))

    def codes(self, values: Tensor) -> Tensor:
        """Float -> uint8 of the same shape and layout."""
        return (values / self.step).round_().add_(self.zero).clamp_(0, _LARGEST_CODE).to(torch.uint8)

    def values(self, codes: Tensor) -> Tensor:
        """uint8 -> float32."""
        return (codes.float() - self.zero) * self.step


class QuantizedConvolution(nn.Module):
    """A `FoldedConvolution` on bytes. What enters has the levels `entering`, what leaves `leaving`."""

    def __init__(self, convolution: FoldedConvolution, entering: Levels, leaving: Levels) -> None:
        super().__init__()
        self.form, self.relu = convolution.form, convolution.relu
        self.stride, self.padding = convolution.stride, convolution.padding
        self.entering, self.leaving = entering, leaving
        weight = convolution.weight.float().contiguous()
        steps = weight.flatten(1).abs().amax(1).clamp_min(1e-12) / _LARGEST_WEIGHT
        by_filter = steps.view(-1, *[1] * (weight.ndim - 1))
        codes = (weight / by_filter).round_().clamp_(-_LARGEST_WEIGHT, _LARGEST_WEIGHT).to(torch.int8)
        self.register_buffer("steps", steps)
        self.register_buffer("bias", convolution.bias.float())
        self.register_buffer("zeros", torch.zeros_like(steps, dtype=torch.int64))
        prepack: Any = torch.ops.onednn.qconv_prepack
        self._packed = prepack(codes, steps, entering.step, entering.zero, *self._geometry(), None)

    def _geometry(self) -> tuple[list[int], list[int], list[int], int]:
        return self.stride, self.padding, [1] * len(self.stride), 1

    def forward(self, codes: Tensor, residual: Tensor | None = None, levels: Levels | None = None) -> Tensor:
        """uint8 (N, C, T, H, W), channels last -> (N, C', T', H', W'); `residual`, of `levels`, may be overwritten."""
        view = flattened(codes, self.form)
        if residual is None:
            maps = self._convolved(view, self.leaving, torch.uint8, relu=self.relu)
        elif self.form == "conv3d":  # oneDNN's operator adds in two dimensions only
            assert levels is not None, "a residual has levels"
            maps = self._convolved(view, Levels(1.0, 0), torch.float32, relu=False).add_(levels.values(residual))
            maps = self.leaving.codes(maps.relu_() if self.relu else maps)
        else:
            assert levels is not None, "a residual has levels"
            maps = self._added(view, flattened(residual, self.form), levels)
        return unflattened(maps, codes, self.form)

    def _convolved(self, view: Tensor, levels: Levels, dtype: torch.dtype, *, relu: bool) -> Tensor:
        operator: Any = torch.ops.onednn.qconv_pointwise
        given = (view, self.entering.step, self.entering.zero, self._packed, self.steps, self.zeros, self.bias)
        # In three dimensions oneDNN's operator knows no ReLU; bytes whose smallest value is 0 end there by themselves.
        after = "relu" if relu and self.form != "conv3d" else "none"
        assert not relu or levels.zero == 0, "nothing below zero leaves a ReLU"
        maps: Tensor = operator(*given, *self._geometry(), levels.step, levels.zero, dtype, after, [], "")
        return maps

    def _added(self, view: Tensor, residual: Tensor, levels: Levels) -> Tensor:
        operator: Any = torch.ops.onednn.qconv2d_pointwise.binary
        given = (
            view,
            self.entering.step,
            self.entering.zero,
            self._packed,
            self.steps,
            self.zeros,
            residual,
            self.bias,
        )
        after: tuple[Any, ...] = (levels.step, levels.zero, "sum", 1.0, "relu" if self.relu else "none", [], "")
        maps: Tensor = operator(*given, *self._geometry(), self.leaving.step, self.leaving.zero, torch.uint8, *after)
        return maps


class QuantizedBlock(nn.Module):
    """A `FoldedBlock` on bytes."""

    def __init__(self, block: FoldedBlock, entering: Levels, levels: dict[nn.Module, Levels]) -> None:
        super().__init__()
        self.entering = entering
        self.convolutions = nn.ModuleList(_chain(block.convolutions, entering, levels))
        shortcut = block.shortcut
        assert shortcut is None or isinstance(shortcut, FoldedConvolution), "a shortcut is a convolution"
        self.shortcut = None if shortcut is None else QuantizedConvolution(shortcut, entering, levels[shortcut])

    def forward(self, codes: Tensor) -> Tensor:
        """uint8 (N, C, T, H, W) -> (N, C', T', H', W')."""
        residual, levels = codes, self.entering  # overwritten by the last convolution, when the first has read them
        if self.shortcut is not None:
            residual, levels = self.shortcut(codes), self.shortcut.leaving
        for convolution in self.convolutions[:-1]:
            codes = convolution(codes)
        out: Tensor = self.convolutions[-1](codes, residual, levels)
        return out


class QuantizedNetwork(nn.Module):
    """What `quantize` gives: clips in, logits or features out, without gradients."""

    classifier_weight: Tensor
    classifier_bias: Tensor

    def __init__(self, fast: InferenceNetwork, entering: Levels, levels: dict[nn.Module, Levels]) -> None:
        super().__init__()
        self.specification, self.entering = fast.specification, entering
        self.stem = nn.Sequential(*_chain(fast.stem, entering, levels))
        leaving = levels[[module for module in fast.stem if isinstance(module, FoldedConvolution)][-1]]
        blocks = []
        for block in fast.blocks:
            assert isinstance(block, FoldedBlock), "stages are made of blocks"
            blocks.append(QuantizedBlock(block, leaving, levels))
            leaving = levels[block.convolutions[-1]]
        self.blocks, self.leaving = nn.Sequential(*blocks), leaving
        self.register_buffer("classifier_weight", fast.classifier_weight)
        self.register_buffer("classifier_bias", fast.classifier_bias)
        self.eval()

    @torch.no_grad()
    def forward(self, clips_ncthw: Tensor) -> Tensor:
        """Normalised float32 clips (N, C, T, H, W) -> logits (N, classes)."""
        return functional.linear(self.features(clips_ncthw), self.classifier_weight, self.classifier_bias)

    @torch.no_grad()
    def features(self, clips_ncthw: Tensor) -> Tensor:
        """Normalised float32 clips (N, C, T, H, W) -> what enters the classifier, (N, features)."""
        check_clips(clips_ncthw, self.specification, self.classifier_weight.dtype)
        codes = self.entering.codes(clips_ncthw.contiguous(memory_format=torch.channels_last_3d))
        return self.leaving.values(self.blocks(self.stem(codes))).mean(dim=(2, 3, 4))


def _chain(modules: nn.Module, entering: Levels, levels: dict[nn.Module, Levels]) -> list[nn.Module]:
    """Folded convolutions one behind the other, on bytes; a max-pool keeps the levels of what it gets."""
    chain: list[nn.Module] = []
    for module in modules.children():
        if isinstance(module, FoldedConvolution):
            chain.append(QuantizedConvolution(module, entering, levels[module]))
            entering = levels[module]
        else:
            assert isinstance(module, nn.MaxPool3d), "a stem is convolutions and perhaps a max-pool"
            chain.append(_CodesPool(module))
    return chain


class _CodesPool(nn.Module):
    """A max-pool of codes, by way of floats: torch has none for bytes, and the largest value has the largest code."""

    def __init__(self, pool: nn.MaxPool3d) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, codes: Tensor) -> Tensor:
        """uint8 (N, C, T, H, W) -> (N, C, T', H', W')."""
        maps: Tensor = self.pool(codes.float())
        return maps.to(torch.uint8)


def quantize(net: VideoResNet, clips_ncthw: Tensor) -> QuantizedNetwork:
    """An 8-bit form of `net` for inference on a CPU; logits differ from the network's (docs/performance.md says how far).

    `clips_ncthw` (N, C, T, H, W), normalised, are like those it will see, some dozens: they decide which values 8 bits can
    stand for. ValueError where `net` is no VideoResNet on a CPU or the clips do not fit, RuntimeError where the processor has
    no instructions for it, since results could then overflow.
    """
    if not has_fast_int8():
        raise RuntimeError(
            "this processor has no 8-bit dot products (AVX-512 VNNI, AVX-VNNI or AMX); run the network in float32 with optimize"
        )
    if isinstance(net, VideoResNet) and net.fc.weight.device.type != "cpu":
        raise ValueError("8-bit inference is for a CPU; move the network there first, or use optimize on a GPU")
    fast = optimize(net)
    check_clips(clips_ncthw, fast.specification, fast.classifier_weight.dtype)
    ranges: dict[nn.Module, tuple[float, float]] = {}

    def saw(module: nn.Module, given: object, maps: Tensor) -> None:
        smallest, largest = ranges.get(module, (0.0, 0.0))
        ranges[module] = min(smallest, float(maps.min())), max(largest, float(maps.max()))

    hooks = [m.register_forward_hook(saw) for m in fast.modules() if isinstance(m, FoldedConvolution)]
    for clip in torch.split(clips_ncthw, 1):
        fast(clip)
    for hook in hooks:
        hook.remove()
    levels = {module: Levels.covering(*found) for module, found in ranges.items()}
    return QuantizedNetwork(fast, Levels.covering(float(clips_ncthw.min()), float(clips_ncthw.max())), levels)


def has_fast_int8() -> bool:
    """Whether this processor multiplies bytes without overflow, and this build of torch has the kernels."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) is True for name in _CAPABILITIES) and hasattr(
        torch.ops.onednn, "qconv_pointwise"
    )
