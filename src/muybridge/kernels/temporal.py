"""Convolution over time whose weight gradient is computed by matrix products.

Input: rows (N, C, T, P) in channels-last memory, P pixels in a frame, and a weight (K, C, t, 1). Output: (N, K, T', P). The
forward pass and the gradient of the input use torch's 2-D convolution, which was fastest. torch's kernel for the gradient of
the weight is slow; here, every tap of the filter is one product of the output's gradient with the rows shifted by that tap,

    weight gradient of tap j (K, C)  =  sum over t of  gradient[t] (K, P)  @  rows[t * stride + j - padding] (P, C)

which is 1.3 to 3 times as fast (docs/performance.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from muybridge.kernels.transforms import is_transformed, map_over_batch


def convolve_temporal(rows: Tensor, weight: Tensor, *, stride: int, padding: int) -> Tensor:
    """(N, C, T, P), (K, C, t, 1) -> (N, K, T', P), as conv2d; differentiable any number of times."""
    maps: Tensor = _TemporalConvolutionFunction.apply(rows, weight, stride, padding)  # type: ignore[no-untyped-call]
    return maps


class _TemporalConvolutionFunction(torch.autograd.Function):
    @staticmethod
    def forward(rows: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        return functional.conv2d(rows, weight, None, (stride, 1), (padding, 0))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, int], output: Tensor) -> None:
        """Keep what `backward` needs; apart from `forward`, as torch.func requires."""
        rows, weight, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(rows, weight)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], rows: Tensor, weight: Tensor, stride: int, padding: int
    ) -> tuple[Tensor, int]:
        """The convolution under torch.func.vmap."""

        def convolve(rows: Tensor, weight: Tensor) -> Tensor:
            return convolve_temporal(rows, weight, stride=stride, padding=padding)

        return map_over_batch(convolve, info.batch_size, in_dims, rows, weight)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        rows, weight = ctx.saved_tensors
        grad_rows = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_rows = _compute_rows_gradient(grad_output, rows, weight, stride=ctx.stride, padding=ctx.padding)
        if ctx.needs_input_grad[1] and is_transformed():  # sums in place cannot be mapped
            grad_weight = torch.ops.aten.convolution_backward(
                grad_output, rows, weight, None, (ctx.stride, 1), (ctx.padding, 0), (1, 1), False, (0, 0), 1,
                (False, True, False),
            )[1]  # fmt: skip
        elif ctx.needs_input_grad[1]:
            grad_weight = compute_weight_gradient(
                rows, grad_output, weight.shape[2], stride=ctx.stride, padding=ctx.padding
            )
        return grad_rows, grad_weight, None, None


def _compute_rows_gradient(grad_output: Tensor, rows: Tensor, weight: Tensor, *, stride: int, padding: int) -> Tensor:
    """As torch.nn.grad.conv2d_input, but in the memory format of `rows`; converting it later would cost more."""
    grad_rows: Tensor = torch.ops.aten.convolution_backward(
        grad_output, rows, weight, None, (stride, 1), (padding, 0), (1, 1), False, (0, 0), 1, (True, False, False)
    )[0]
    return grad_rows


def compute_weight_gradient(rows: Tensor, grad_output: Tensor, num_taps: int, *, stride: int, padding: int) -> Tensor:
    """(N, C, T, P) and the gradient (N, K, T', P) of the output -> (K, C, taps, 1)."""
    pixels = rows.permute(0, 2, 3, 1)  # (N, T, P, C)
    grad_pixels = grad_output.permute(0, 2, 3, 1).contiguous()  # (N, T', P, K)
    taps = [_compute_tap_gradient(pixels, grad_pixels, tap - padding, stride) for tap in range(num_taps)]
    return torch.stack(taps, dim=2).unsqueeze(3)


def _compute_tap_gradient(pixels: Tensor, grad_pixels: Tensor, shift: int, stride: int) -> Tensor:
    """The gradient of one tap, over output frames q for which input frame q * stride + shift exists."""
    num_clips, num_frames, _, in_channels = pixels.shape
    first = max(0, -(shift // stride))  # ceil(-shift / stride)
    last = min(grad_pixels.shape[1], (num_frames - 1 - shift) // stride + 1)
    total = pixels.new_zeros(grad_pixels.shape[3], in_channels)
    # Consecutive frames are one product without a copy; with a stride, every frame is a product.
    step = max(1, last - first) if stride == 1 else 1
    for clip in range(num_clips):
        for frame in range(first, last, step):
            begin = frame * stride + shift
            grad_frames = grad_pixels[clip, frame : frame + step].flatten(0, 1)
            total = total.addmm_(grad_frames.t(), pixels[clip, begin : begin + step].flatten(0, 1))
    return total
