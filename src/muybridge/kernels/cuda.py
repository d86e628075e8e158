"""Forms of execution of convolutions on CUDA, by a rule from measurements on an H100 (docs/performance.md).

cuDNN's 3-D kernels in channels_last_3d are the fastest form of most convolutions, unlike on CPUs; the exceptions are few, and
differ between the forward pass and the two gradients. The stem runs over blocks of pixels
(`muybridge.kernels.space_to_depth`). A rule and no timing at the first step: it is the same on all ranks and in a resumed run.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from muybridge.kernels.forms import ExecutionForm, IntTuple, flatten_clips, unflatten_maps
from muybridge.kernels.space_to_depth import has_blocks, to_block_filters, to_blocks

_logger = logging.getLogger(__name__)


class ConvolutionForms(NamedTuple):
    """The forms of the forward pass, the gradient of the input and that of the weight of one convolution."""

    forward: ExecutionForm
    input_gradient: ExecutionForm
    weight_gradient: ExecutionForm


class ConvolutionGeometry(NamedTuple):
    """What a rule may ask about a convolution: weight (out, in, t, h, w), stride and padding as (time, height, width)."""

    weight_shape: IntTuple
    stride: IntTuple
    padding: IntTuple

    @property
    def is_per_frame(self) -> bool:
        """Whether every frame is convolved by itself, with filters larger than a pixel."""
        return (self.weight_shape[2], self.stride[0], self.padding[0]) == (1, 1, 0) and self.weight_shape[3:] != (1, 1)

    @property
    def is_per_pixel(self) -> bool:
        """Whether every pixel is convolved by itself along time, with more than one tap."""
        space = (self.weight_shape[3:], self.stride[1:], self.padding[1:])
        return space == ((1, 1), (1, 1), (0, 0)) and self.weight_shape[2] > 1


@cache
def choose_cuda_forms(geometry: ConvolutionGeometry) -> ConvolutionForms:
    """The fastest forms on CUDA. Logged once for each geometry, at level INFO of this module's logger."""
    out_channels, in_channels = geometry.weight_shape[:2]
    forward: ExecutionForm = "conv3d"
    input_gradient: ExecutionForm = "conv3d"
    weight_gradient: ExecutionForm = "conv3d"
    if geometry.is_per_frame:
        has_stride = geometry.stride[1:] != (1, 1)
        if in_channels <= 64 and not has_stride:
            input_gradient = "frames"
        if 128 <= in_channels < 256 or in_channels >= 512:
            forward = weight_gradient = "frames"
        elif in_channels == 64 and has_stride:
            weight_gradient = "frames"
    elif geometry.is_per_pixel and out_channels <= 64:
        if in_channels >= 128:
            forward = weight_gradient = "pixels"
        else:
            forward = input_gradient = "pixels"
    forms = ConvolutionForms(forward, input_gradient, weight_gradient)
    _logger.info(
        "convolution %s runs as %s", tuple(geometry), ", ".join(f"{k}: {v}" for k, v in forms._asdict().items())
    )
    return forms


def convolve_on_cuda(clips: Tensor, weight: Tensor, geometry: ConvolutionGeometry) -> Tensor:
    """Convolve clips (N, C, T, H, W) of any memory format with a 5-D weight -> channels-last maps, by the rule."""
    if has_blocks(*geometry) and not clips.requires_grad:
        return convolve_blocks(clips, weight, geometry)
    clips = clips.contiguous(memory_format=torch.channels_last_3d)
    return convolve_in_forms(clips, weight, geometry, choose_cuda_forms(geometry))


def convolve_blocks(clips: Tensor, weight: Tensor, geometry: ConvolutionGeometry) -> Tensor:
    """The stem over blocks of pixels; clips get no gradient."""
    kind = clips.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    blocks, filters = to_blocks(clips, dtype), to_block_filters(weight).to(dtype)
    time_stride, time_padding = geometry.stride[0], geometry.padding[0]
    over_blocks = ConvolutionGeometry(tuple(filters.shape), (time_stride, 1, 1), (time_padding, 0, 0))
    return _convolve(blocks, filters, over_blocks, "frames" if over_blocks.is_per_frame else "conv3d")


def convolve_in_forms(clips: Tensor, weight: Tensor, geometry: ConvolutionGeometry, forms: ConvolutionForms) -> Tensor:
    """Convolve channels-last clips (N, C, T, H, W) with a 5-D weight, with a form for each direction.

    Under a compiler, which differentiates by itself, all directions run in the form of the forward pass.
    """
    if torch.is_autocast_enabled(clips.device.type):
        dtype = torch.get_autocast_dtype(clips.device.type)
        clips, weight = clips.to(dtype), weight.to(dtype)
    if len(set(forms)) == 1 or torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return _convolve(clips, weight, geometry, forms.forward)
    out: Tensor = _ConvolutionInForms.apply(clips, weight, geometry, forms)  # type: ignore[no-untyped-call]
    return out


class _ConvolutionInForms(torch.autograd.Function):
    """A convolution whose gradients are computed in other forms than its output."""

    @staticmethod
    def forward(
        ctx: Any, clips: Tensor, weight: Tensor, geometry: ConvolutionGeometry, forms: ConvolutionForms
    ) -> Tensor:
        ctx.save_for_backward(clips, weight)
        ctx.geometry, ctx.forms = geometry, forms
        return _convolve(clips, weight, geometry, forms.forward)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Gradients of clips and weight."""
        clips, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last_3d)
        clips_gradient = weight_gradient = None
        if ctx.needs_input_grad[0]:
            form = ctx.forms.input_gradient
            view, _ = _differentiate(gradient, clips, weight, ctx.geometry, form, (True, False))
            clips_gradient = unflatten_maps(view, clips, form)
        if ctx.needs_input_grad[1]:
            form = ctx.forms.weight_gradient
            _, filters = _differentiate(gradient, clips, weight, ctx.geometry, form, (False, True))
            weight_gradient = filters.reshape(weight.shape)
        return clips_gradient, weight_gradient, None, None


def _differentiate(
    gradient: Tensor,
    clips: Tensor,
    weight: Tensor,
    geometry: ConvolutionGeometry,
    form: ExecutionForm,
    needs: tuple[bool, bool],
) -> tuple[Tensor, Tensor]:
    """Gradients of the view of the clips and of the filters of a form; what is not needed is undefined."""
    stride, padding, filters = _to_form(geometry, weight, form)
    views = [flatten_clips(maps, form) for maps in (gradient, clips)]
    ones, zeros = [1] * len(stride), [0] * len(stride)
    view, filters_gradient, _ = torch.ops.aten.convolution_backward(
        *views, filters, None, stride, padding, ones, False, zeros, 1, [*needs, False]
    )
    return view, filters_gradient


def _convolve(clips: Tensor, weight: Tensor, geometry: ConvolutionGeometry, form: ExecutionForm) -> Tensor:
    stride, padding, filters = _to_form(geometry, weight, form)
    view = flatten_clips(clips, form)
    convolve = functional.conv3d if form == "conv3d" else functional.conv2d
    return unflatten_maps(convolve(view, filters, None, stride, padding), clips, form)


def _to_form(geometry: ConvolutionGeometry, weight: Tensor, form: ExecutionForm) -> tuple[IntTuple, IntTuple, Tensor]:
    """Stride, padding and weight of a form."""
    _, stride, padding = geometry
    match form:
        case "frames":
            return stride[1:], padding[1:], weight.squeeze(2)
        case "pixels":
            return (stride[0], 1), (padding[0], 0), weight.squeeze(4)
        case "conv3d":
            return stride, padding, weight
