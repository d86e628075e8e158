"""Inference in 8-bit integers on a CPU: an approximation of the network that is several times as fast.

Input: a `VideoResNet` and calibration clips. Output: a module with the interface of `InferenceNetwork` whose convolutions use
8-bit integers (post-training static quantization: Jacob et al., CVPR 2018). Weights are int8 with a scale for each filter.
Activations are uint8 with one scale and zero point for each tensor, from its smallest and largest value on the calibration
clips. Sums are 32-bit. The kernels are oneDNN's, the operators those that torch.compile emits for quantized networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from muybridge.inference.finite import check_finite_clips, check_finite_outputs
from muybridge.inference.folded import ClipClassifier, FoldedBlock, FoldedConvolution, InferenceNetwork, optimize
from muybridge.kernels.forms import flatten_clips, unflatten_maps
from muybridge.models.network import VideoResNet, check_clips

_MAX_WEIGHT_CODE = 127
_MAX_CODE = 255
_CAPABILITIES = ("avx512_vnni", "avx_vnni", "amx_int8")


@dataclass(frozen=True)
class QuantizationParams:
    """The values that the codes of a tensor represent: (code - zero_point) * scale."""

    scale: float
    zero_point: int

    @staticmethod
    def from_range(smallest: float, largest: float) -> QuantizationParams:
        """256 levels from `smallest` to `largest`, one of them exactly 0, since convolutions pad with zeros."""
        smallest, largest = min(smallest, 0.0), max(largest, 0.0)
        scale = (largest - smallest) / _MAX_CODE or 1.0
        return QuantizationParams(scale, round(-smallest / scale))

    def quantize(self, values: Tensor) -> Tensor:
        """Float -> uint8, in the same shape and memory layout."""
        return (values / self.scale).round_().add_(self.zero_point).clamp_(0, _MAX_CODE).to(torch.uint8)

    def dequantize(self, codes: Tensor) -> Tensor:
        """uint8 -> float32."""
        return (codes.float() - self.zero_point) * self.scale


class QuantizedConvolution(nn.Module):
    """A `FoldedConvolution` of codes. `input_params` and `output_params` are those of its input and output."""

    weight_scales: Tensor
    weight_zero_points: Tensor
    bias: Tensor

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

    def _operands(self) -> tuple[float, int, Tensor, Tensor, Tensor]:
        params = self.input_params
        return params.scale, params.zero_point, self._packed, self.weight_scales, self.weight_zero_points

    def _geometry(self) -> tuple[list[int], list[int], list[int], int]:
        return self.stride, self.padding, [1] * len(self.stride), 1

    def forward(
        self, codes: Tensor, residual: Tensor | None = None, residual_params: QuantizationParams | None = None
    ) -> Tensor:
        """uint8 (N, C, T, H, W), channels last -> (N, C', T', H', W'); `residual` may be overwritten."""
        view = flatten_clips(codes, self.form)
        if residual is None or residual_params is None:
            maps = self._convolve(view, self.output_params, torch.uint8, relu=self.relu)
        elif self.form == "conv3d":  # oneDNN's operator adds in two dimensions only
            maps = self._convolve(view, QuantizationParams(1.0, 0), torch.float32, relu=False)
            maps += residual_params.dequantize(residual)
            maps = self.output_params.quantize(maps.relu_() if self.relu else maps)
        else:
            maps = self._convolve_and_add(view, flatten_clips(residual, self.form), residual_params)
        return unflatten_maps(maps, codes, self.form)

    def _convolve(self, view: Tensor, output_params: QuantizationParams, dtype: torch.dtype, *, relu: bool) -> Tensor:
        operator: Any = torch.ops.onednn.qconv_pointwise
        # In three dimensions oneDNN's operator has no ReLU; codes with zero point 0 are clamped there anyway.
        activation = "relu" if relu and self.form != "conv3d" else "none"
        assert not relu or output_params.zero_point == 0, "outputs of ReLU are not negative"
        output = (output_params.scale, output_params.zero_point, dtype)
        maps: Tensor = operator(view, *self._operands(), self.bias, *self._geometry(), *output, activation, [], "")
        return maps

    def _convolve_and_add(self, view: Tensor, residual: Tensor, residual_params: QuantizationParams) -> Tensor:
        operator: Any = torch.ops.onednn.qconv2d_pointwise.binary
        output = (self.output_params.scale, self.output_params.zero_point, torch.uint8)
        addition = (residual_params.scale, residual_params.zero_point, "sum", 1.0, "relu" if self.relu else "none")
        operands = (view, *self._operands(), residual, self.bias)
        maps: Tensor = operator(*operands, *self._geometry(), *output, *addition, [], "")
        return maps


class QuantizedBlock(nn.Module):
    """A `FoldedBlock` of codes."""

    def __init__(
        self,
        block: FoldedBlock,
        input_params: QuantizationParams,
        params_by_module: dict[nn.Module, QuantizationParams],
    ) -> None:
        super().__init__()
        self.input_params = input_params
        self.convolutions = nn.ModuleList(_quantize_chain(block.convolutions, input_params, params_by_module))
        self.shortcut, self.shortcut_params = None, input_params
        if block.shortcut is not None:
            (*_, last) = block.shortcut
            self.shortcut = nn.Sequential(*_quantize_chain(block.shortcut, input_params, params_by_module))
            self.shortcut_params = params_by_module[last]

    def forward(self, codes: Tensor) -> Tensor:
        """uint8 (N, C, T, H, W) -> (N, C', T', H', W')."""
        # The last convolution overwrites the residual; the first one has read it by then.
        residual = codes if self.shortcut is None else self.shortcut(codes)
        for convolution in self.convolutions[:-1]:
            codes = convolution(codes)
        out: Tensor = self.convolutions[-1](codes, residual, self.shortcut_params)
        return out


class QuantizedNetwork(ClipClassifier):
    """The result of `quantize`."""

    def __init__(
        self,
        optimized: InferenceNetwork,
        input_params: QuantizationParams,
        params_by_module: dict[nn.Module, QuantizationParams],
    ) -> None:
        super().__init__(optimized.specification, optimized.classifier_weight, optimized.classifier_bias)
        self.input_params = input_params
        self.stem = nn.Sequential(*_quantize_chain(optimized.stem, input_params, params_by_module))
        (*_, last) = (module for module in optimized.stem if isinstance(module, FoldedConvolution))
        output_params = params_by_module[last]
        blocks = []
        for block in optimized.blocks:
            assert isinstance(block, FoldedBlock), "an optimized network has folded blocks"
            blocks.append(QuantizedBlock(block, output_params, params_by_module))
            output_params = params_by_module[block.convolutions[-1]]
        self.blocks, self.output_params = nn.Sequential(*blocks), output_params
        self.eval()

    @torch.no_grad()
    def features(self, clips_ncthw: Tensor) -> Tensor:
        """Normalised float32 clips (N, C, T, H, W) -> input of the classifier, (N, features)."""
        check_clips(clips_ncthw, self.specification, self.classifier_weight.dtype)
        check_finite_clips(clips_ncthw)
        codes = self.input_params.quantize(clips_ncthw.contiguous(memory_format=torch.channels_last_3d))
        features = self.output_params.dequantize(self.blocks(self.stem(codes))).mean(dim=(2, 3, 4))
        return check_finite_outputs(features, "features")


def _quantize_chain(
    modules: nn.Module, input_params: QuantizationParams, params_by_module: dict[nn.Module, QuantizationParams]
) -> list[nn.Module]:
    """A sequence of folded convolutions, quantized; a max-pool keeps the parameters of its input."""
    chain: list[nn.Module] = []
    for module in modules.children():
        if isinstance(module, FoldedConvolution):
            chain.append(QuantizedConvolution(module, input_params, params_by_module[module]))
            input_params = params_by_module[module]
        else:
            assert isinstance(module, nn.MaxPool3d), "a stem has convolutions and perhaps a max-pool"
            chain.append(_QuantizedMaxPool(module))
    return chain


class _QuantizedMaxPool(nn.Module):
    """A max-pool of codes, computed in float since torch has none for uint8; codes have the order of values."""

    def __init__(self, pool: nn.MaxPool3d) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, codes: Tensor) -> Tensor:
        """uint8 (N, C, T, H, W) -> (N, C, T', H', W')."""
        maps: Tensor = self.pool(codes.float())
        return maps.to(torch.uint8)


def quantize(net: VideoResNet, clips_ncthw: Tensor) -> QuantizedNetwork:
    """Return an 8-bit approximation of `net` for inference on a CPU; docs/performance.md has its accuracy.

    `clips_ncthw` (N, C, T, H, W), normalised, are for calibration: some dozens like those the network will see. ValueError if
    `net` is not a VideoResNet on a CPU or the clips do not fit; RuntimeError if the processor lacks the instructions, since
    sums could then overflow.
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

    def record_range(module: nn.Module, inputs: object, maps: Tensor) -> None:
        smallest, largest = ranges.get(module, (0.0, 0.0))
        ranges[module] = min(smallest, float(maps.min())), max(largest, float(maps.max()))

    check_finite_clips(clips_ncthw)
    hooks = [m.register_forward_hook(record_range) for m in optimized.modules() if isinstance(m, FoldedConvolution)]
    for clip in torch.split(clips_ncthw, 1):
        optimized(clip)
    for hook in hooks:
        hook.remove()
    params_by_module = {module: QuantizationParams.from_range(*limits) for module, limits in ranges.items()}
    return QuantizedNetwork(
        optimized, QuantizationParams.from_range(float(clips_ncthw.min()), float(clips_ncthw.max())), params_by_module
    )


def has_fast_int8() -> bool:
    """Whether this processor has 8-bit dot products that do not overflow, and this build of torch has the kernels."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) is True for name in _CAPABILITIES) and hasattr(
        torch.ops.onednn, "qconv_pointwise"
    )
