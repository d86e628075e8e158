"""Forms of execution of convolutions on CUDA, by a rule from measurements on an H100 (docs/performance.md).

cuDNN's 3-D kernels in channels_last_3d are the fastest form of nearly every convolution, unlike on CPUs. Two are exceptions:
the gradients of the stem's 1 x 7 x 7 filters over a few input channels, and the forward pass of t x 1 x 1 filters from many
channels to at most 64. A rule and no timing at the first step: it is the same on all ranks and in a resumed run.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from muybridge.kernels.forms import ExecutionForm, IntTuple, flatten_clips, unflatten_maps

_FEW_INPUT_CHANNELS, _MANY_INPUT_CHANNELS, _FEW_OUTPUT_CHANNELS = 8, 128, 64
_logger = logging.getLogger(__name__)


class ConvolutionForms(NamedTuple):
    """The forms of the forward pass and of the two gradients of one convolution."""

    forward: ExecutionForm
    backward: ExecutionForm


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
    forms = ConvolutionForms("conv3d", "conv3d")
    if geometry.is_per_frame and in_channels <= _FEW_INPUT_CHANNELS:
        forms = ConvolutionForms("conv3d", "frames")
    elif geometry.is_per_pixel and in_channels >= _MANY_INPUT_CHANNELS and out_channels <= _FEW_OUTPUT_CHANNELS:
        forms = ConvolutionForms("pixels", "conv3d")
    _logger.info("convolution %s runs forward as %s, backward as %s", tuple(geometry), forms.forward, forms.backward)
    return forms


def convolve_in_forms(clips: Tensor, weight: Tensor, geometry: ConvolutionGeometry, forms: ConvolutionForms) -> Tensor:
    """Convolve channels-last clips (N, C, T, H, W) with a 5-D weight, with a form for each direction.

    Under a compiler, which differentiates by itself, both directions run in the form of the forward pass.
    """
    if torch.is_autocast_enabled(clips.device.type):
        dtype = torch.get_autocast_dtype(clips.device.type)
        clips, weight = clips.to(dtype), weight.to(dtype)
    if forms.forward == forms.backward or torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return _convolve(clips, weight, geometry, forms.forward)
    out: Tensor = _TwoFormConvolution.apply(clips, weight, geometry, forms)  # type: ignore[no-untyped-call]
    return out


class _TwoFormConvolution(torch.autograd.Function):
    """A convolution whose gradients are computed in another form than its output."""

    @staticmethod
    def forward(
        ctx: Any, clips: Tensor, weight: Tensor, geometry: ConvolutionGeometry, forms: ConvolutionForms
    ) -> Tensor:
        ctx.save_for_backward(clips, weight)
        ctx.geometry, ctx.form = geometry, forms.backward
        return _convolve(clips, weight, geometry, forms.forward)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Gradients of clips and weight."""
        clips, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last_3d)
        stride, padding, filters = _to_form(ctx.geometry, weight, ctx.form)
        views = [flatten_clips(maps, ctx.form) for maps in (gradient, clips)]
        ones, zeros = [1] * len(stride), [0] * len(stride)
        needs = [*ctx.needs_input_grad[:2], False]
        clips_gradient, filters_gradient, _ = torch.ops.aten.convolution_backward(
            *views, filters, None, stride, padding, ones, False, zeros, 1, needs
        )
        if clips_gradient is not None:
            clips_gradient = unflatten_maps(clips_gradient, clips, ctx.form)
        if filters_gradient is not None:
            filters_gradient = filters_gradient.reshape(weight.shape)
        return clips_gradient, filters_gradient, None, None


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
