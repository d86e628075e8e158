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
from muybridge.kernels.convolution import flatten_clips, unflatten_maps
from muybridge.models.network import VideoResNet, check_clips

_MAX_WEIGHT_CODE = 127
_MAX_CODE = 255
_CAPABILITIES = ("avx512_vnni", "avx_vnni", "amx_int8")


@dataclass(frozen=True)
class QuantizationParams:
    """Which values the bytes of a tensor stand for: (code - zero) * step."""

    scale: float
    zero_point: int

    @staticmethod
    def from_range(smallest: float, largest: float) -> QuantizationParams:
        """256 levels from `smallest` to `largest`, zero exactly among them: padding is zeros."""
        smallest, largest = min(smallest, 0.0), max(largest, 0.0)
        step = (largest - smallest) / _MAX_CODE or 1.0
        return QuantizationParams(step, round(-smallest / step))

    def quantize(self, values: Tensor) -> Tensor:
        """Float -> uint8 of the same shape and layout."""
        return (values / self.scale).round_().add_(self.zero_point).clamp_(0, _MAX_CODE).to(torch.uint8)

    def dequantize(self, codes: Tensor) -> Tensor:
        """uint8 -> float32."""
        return (codes.float() - self.zero_point) * self.scale


class QuantizedConvolution(nn.Module):
    """A `FoldedConvolution` on bytes. What enters has the levels `entering`, what leaves `leaving`."""

    def __init__(
        self, convolution: FoldedConvolution, input_params: QuantizationParams, output_params: QuantizationParams
    ) -> None:
        super().__init__()
        self.form, self.relu = convolution.form, convolution.relu
        self.stride, self.padding = convolution.stride, convolution.padding
        self.input_params, self.output_params = input_params, output_params
        weight = convolution.weight.float().contiguous()
        weight_scales = weight.flatten(1).abs().amax(1).clamp_min(1e-12) / _MAX_WEIGHT_CODE
        scales_by_filter = weight_scales.view(-1, *[1] * (weight.ndim - 1))
        codes = (weight / scales_by_filter).round_().clamp_(-_MAX_WEIGHT_CODE, _MAX_WEIGHT_CODE).to(torch.int8)
        self.register_buffer("weight_scales", weight_scales)
        self.register_buffer("bias", convolution.bias.float())
        self.register_buffer("weight_zero_points", torch.zeros_like(weight_scales, dtype=torch.int64))
        prepack: Any = torch.ops.onednn.qconv_prepack
        self._packed = prepack(
            codes, weight_scales, input_params.scale, input_params.zero_point, *self._geometry(), None
        )

    def _geometry(self) -> tuple[list[int], list[int], list[int], int]:
        return self.stride, self.padding, [1] * len(self.stride), 1

    def forward(
        self, codes: Tensor, residual: Tensor | None = None, residual_params: QuantizationParams | None = None
    ) -> Tensor:
        """uint8 (N, C, T, H, W), channels last -> (N, C', T', H', W'); `residual`, of `levels`, may be overwritten."""
        view = flatten_clips(codes, self.form)
        if residual is None:
            maps = self._convolve(view, self.output_params, torch.uint8, relu=self.relu)
        elif self.form == "conv3d":  # oneDNN's operator adds in two dimensions only
            assert residual_params is not None, "a residual has levels"
            maps = self._convolve(view, QuantizationParams(1.0, 0), torch.float32, relu=False).add_(
                residual_params.dequantize(residual)
            )
            maps = self.output_params.quantize(maps.relu_() if self.relu else maps)
        else:
            assert residual_params is not None, "a residual has levels"
            maps = self._convolve_and_add(view, flatten_clips(residual, self.form), residual_params)
        return unflatten_maps(maps, codes, self.form)

    def _convolve(self, view: Tensor, output_params: QuantizationParams, dtype: torch.dtype, *, relu: bool) -> Tensor:
        operator: Any = torch.ops.onednn.qconv_pointwise
        inputs = (
            view,
            self.input_params.scale,
            self.input_params.zero_point,
            self._packed,
            self.weight_scales,
            self.weight_zero_points,
            self.bias,
        )
        # In three dimensions oneDNN's operator knows no ReLU; bytes whose smallest value is 0 end there by themselves.
        activation = "relu" if relu and self.form != "conv3d" else "none"
        assert not relu or output_params.zero_point == 0, "nothing below zero leaves a ReLU"
        maps: Tensor = operator(
            *inputs, *self._geometry(), output_params.scale, output_params.zero_point, dtype, activation, [], ""
        )
        return maps

    def _convolve_and_add(self, view: Tensor, residual: Tensor, residual_params: QuantizationParams) -> Tensor:
        operator: Any = torch.ops.onednn.qconv2d_pointwise.binary
        inputs = (
            view,
            self.input_params.scale,
            self.input_params.zero_point,
            self._packed,
            self.weight_scales,
            self.weight_zero_points,
            residual,
            self.bias,
        )
        after: tuple[Any, ...] = (
            residual_params.scale,
            residual_params.zero_point,
            "sum",
            1.0,
            "relu" if self.relu else "none",
            [],
            "",
        )
        maps: Tensor = operator(
            *inputs, *self._geometry(), self.output_params.scale, self.output_params.zero_point, torch.uint8, *after
        )
        return maps


class QuantizedBlock(nn.Module):
    """A `FoldedBlock` on bytes."""

    def __init__(
        self,
        block: FoldedBlock,
        input_params: QuantizationParams,
        params_by_module: dict[nn.Module, QuantizationParams],
    ) -> None:
        super().__init__()
        self.input_params = input_params
        self.convolutions = nn.ModuleList(_quantize_chain(block.convolutions, input_params, params_by_module))
        shortcut = block.shortcut
        assert shortcut is None or isinstance(shortcut, FoldedConvolution), "a shortcut is a convolution"
        self.shortcut = (
            None if shortcut is None else QuantizedConvolution(shortcut, input_params, params_by_module[shortcut])
        )

    def forward(self, codes: Tensor) -> Tensor:
        """uint8 (N, C, T, H, W) -> (N, C', T', H', W')."""
        residual, residual_params = (
            codes,
            self.input_params,
        )  # overwritten by the last convolution, when the first has read them
        if self.shortcut is not None:
            residual, residual_params = self.shortcut(codes), self.shortcut.output_params
        for convolution in self.convolutions[:-1]:
            codes = convolution(codes)
        out: Tensor = self.convolutions[-1](codes, residual, residual_params)
        return out


class QuantizedNetwork(nn.Module):
    """What `quantize` gives: clips in, logits or features out, without gradients."""

    classifier_weight: Tensor
    classifier_bias: Tensor

    def __init__(
        self,
        optimized: InferenceNetwork,
        input_params: QuantizationParams,
        params_by_module: dict[nn.Module, QuantizationParams],
    ) -> None:
        super().__init__()
        self.specification, self.input_params = optimized.specification, input_params
        self.stem = nn.Sequential(*_quantize_chain(optimized.stem, input_params, params_by_module))
        output_params = params_by_module[
            [module for module in optimized.stem if isinstance(module, FoldedConvolution)][-1]
        ]
        blocks = []
        for block in optimized.blocks:
            assert isinstance(block, FoldedBlock), "stages are made of blocks"
            blocks.append(QuantizedBlock(block, output_params, params_by_module))
            output_params = params_by_module[block.convolutions[-1]]
        self.blocks, self.output_params = nn.Sequential(*blocks), output_params
        self.register_buffer("classifier_weight", optimized.classifier_weight)
        self.register_buffer("classifier_bias", optimized.classifier_bias)
        self.eval()

    @torch.no_grad()
    def forward(self, clips_ncthw: Tensor) -> Tensor:
        """Normalised float32 clips (N, C, T, H, W) -> logits (N, classes)."""
        return functional.linear(self.features(clips_ncthw), self.classifier_weight, self.classifier_bias)

    @torch.no_grad()
    def features(self, clips_ncthw: Tensor) -> Tensor:
        """Normalised float32 clips (N, C, T, H, W) -> what enters the classifier, (N, features)."""
        check_clips(clips_ncthw, self.specification, self.classifier_weight.dtype)
        codes = self.input_params.quantize(clips_ncthw.contiguous(memory_format=torch.channels_last_3d))
        return self.output_params.dequantize(self.blocks(self.stem(codes))).mean(dim=(2, 3, 4))


def _quantize_chain(
    modules: nn.Module, input_params: QuantizationParams, params_by_module: dict[nn.Module, QuantizationParams]
) -> list[nn.Module]:
    """Folded convolutions one behind the other, on bytes; a max-pool keeps the levels of what it gets."""
    chain: list[nn.Module] = []
    for module in modules.children():
        if isinstance(module, FoldedConvolution):
            chain.append(QuantizedConvolution(module, input_params, params_by_module[module]))
            input_params = params_by_module[module]
        else:
            assert isinstance(module, nn.MaxPool3d), "a stem is convolutions and perhaps a max-pool"
            chain.append(_QuantizedMaxPool(module))
    return chain


class _QuantizedMaxPool(nn.Module):
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
    optimized = optimize(net)
    check_clips(clips_ncthw, optimized.specification, optimized.classifier_weight.dtype)
    ranges: dict[nn.Module, tuple[float, float]] = {}

    def record_range(module: nn.Module, given: object, maps: Tensor) -> None:
        smallest, largest = ranges.get(module, (0.0, 0.0))
        ranges[module] = min(smallest, float(maps.min())), max(largest, float(maps.max()))

    hooks = [m.register_forward_hook(record_range) for m in optimized.modules() if isinstance(m, FoldedConvolution)]
    for clip in torch.split(clips_ncthw, 1):
        optimized(clip)
    for hook in hooks:
        hook.remove()
    params_by_module = {module: QuantizationParams.from_range(*found) for module, found in ranges.items()}
    return QuantizedNetwork(
        optimized, QuantizationParams.from_range(float(clips_ncthw.min()), float(clips_ncthw.max())), params_by_module
    )


def has_fast_int8() -> bool:
    """Whether this processor multiplies bytes without overflow, and this build of torch has the kernels."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) is True for name in _CAPABILITIES) and hasattr(
        torch.ops.onednn, "qconv_pointwise"
    )
