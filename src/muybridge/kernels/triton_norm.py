"""Batch norm, residual sum and ReLU in one pass over memory, forward and backward, as Triton kernels.

Activations are channels-last: M rows of C channels, M = N*T*H*W, one flat array in which element e belongs to channel e mod C.
With per-channel mean and inverse deviation i of the batch (or of the running statistics), weight w and bias b:

    forward    scale = w i,  shift = b - mean scale,  y = relu(x scale + shift + residual)
    backward   g = dy where the input of the ReLU is positive, else 0;   x^ = (x - mean) i
               db = sum g,  dw = sum g x^
               dx = scale g - scale/M (db + x^ dw)  =  g_factor g + x_factor x + constant      (per channel)
               d residual = g

Four kernels: sums (statistics), apply, backward sums, backward apply. Arithmetic on C numbers is torch's, in float64. Only
the input is kept for the backward pass; with a residual the output is kept too, since the sign of the sum decides the ReLU's
gradient.

Every kernel converts to float32 when it loads and back when it stores, since Triton's interpreter computes bfloat16
arithmetic wrongly. ReLU is `where(y < 0, 0, y)`, which keeps NaN. Sums use a fixed number of programs and no atomics, so they
are the same in every run. Sizes follow rates measured on an H100 (docs/performance.md): flat blocks of 4096 elements run at
2.6 to 2.85 TB/s, tiles of rows x channels with one sum at the end at 1.7 to 2.0 TB/s.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_ELEMENTS = 4096  # of the flat array, for each program of an element-wise kernel
TILE_ROWS, TILE_CHANNELS = 16, 128
NUM_PROGRAMS = 1024  # of a reduction, over rows and blocks of channels


@triton.jit
def _sum_kernel(x_ptr, sums_ptr, num_rows, num_channels, TILE_ROWS: tl.constexpr, TILE_CHANNELS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Sums of x - k and (x - k)^2 for the rows of one program, where k is the first row: no cancellation for large means."""
    channels = tl.program_id(1) * TILE_CHANNELS + tl.arange(0, TILE_CHANNELS)
    is_channel = channels < num_channels
    origin = tl.load(x_ptr + channels, mask=is_channel, other=0.0).to(tl.float32)
    total = tl.zeros((TILE_ROWS, TILE_CHANNELS), tl.float32)
    square = tl.zeros((TILE_ROWS, TILE_CHANNELS), tl.float32)
    for start in range(tl.program_id(0) * TILE_ROWS, num_rows, tl.num_programs(0) * TILE_ROWS):
        rows = start + tl.arange(0, TILE_ROWS)
        mask = (rows < num_rows)[:, None] & is_channel[None, :]
        places = rows.to(tl.int64)[:, None] * num_channels + channels[None, :]
        x = tl.load(x_ptr + places, mask=mask, other=0.0).to(tl.float32)
        centered = tl.where(mask, x - origin[None, :], 0.0)
        total += centered
        square += centered * centered
    target = sums_ptr + tl.program_id(0) * 2 * num_channels + channels
    tl.store(target, tl.sum(total, 0), mask=is_channel)
    tl.store(target + num_channels, tl.sum(square, 0), mask=is_channel)


@triton.jit
def _apply_kernel(  # type: ignore[no-untyped-def]
    x_ptr, residual_ptr, scale_ptr, shift_ptr, y_ptr, num_elements, num_channels,
    HAS_RESIDUAL: tl.constexpr, RELU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """y = relu(x scale + shift + residual)."""
    first = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    mask = lane < num_elements - first
    channels = ((first % num_channels).to(tl.int32) + lane) % num_channels
    x = tl.load(x_ptr + first + lane, mask=mask, other=0.0).to(tl.float32)
    y = x * tl.load(scale_ptr + channels) + tl.load(shift_ptr + channels)
    if HAS_RESIDUAL:
        y += tl.load(residual_ptr + first + lane, mask=mask, other=0.0).to(tl.float32)
    if RELU:
        y = tl.where(y < 0, 0.0, y)
    tl.store(y_ptr + first + lane, y.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _backward_sum_kernel(  # type: ignore[no-untyped-def]
    dy_ptr, x_ptr, y_ptr, scale_ptr, shift_ptr, mean_ptr, inverse_ptr, sums_ptr, num_rows, num_channels,
    HAS_RESIDUAL: tl.constexpr, RELU: tl.constexpr, TILE_ROWS: tl.constexpr, TILE_CHANNELS: tl.constexpr,
):  # fmt: skip
    """Sums of g and g x^ for the rows of one program."""
    channels = tl.program_id(1) * TILE_CHANNELS + tl.arange(0, TILE_CHANNELS)
    is_channel = channels < num_channels
    scale = tl.load(scale_ptr + channels, mask=is_channel, other=0.0)[None, :]
    shift = tl.load(shift_ptr + channels, mask=is_channel, other=0.0)[None, :]
    mean = tl.load(mean_ptr + channels, mask=is_channel, other=0.0)[None, :]
    inverse = tl.load(inverse_ptr + channels, mask=is_channel, other=0.0)[None, :]
    bias_sum = tl.zeros((TILE_ROWS, TILE_CHANNELS), tl.float32)
    weight_sum = tl.zeros((TILE_ROWS, TILE_CHANNELS), tl.float32)
    for start in range(tl.program_id(0) * TILE_ROWS, num_rows, tl.num_programs(0) * TILE_ROWS):
        rows = start + tl.arange(0, TILE_ROWS)
        mask = (rows < num_rows)[:, None] & is_channel[None, :]
        places = rows.to(tl.int64)[:, None] * num_channels + channels[None, :]
        gradient = tl.load(dy_ptr + places, mask=mask, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + places, mask=mask, other=0.0).to(tl.float32)
        if RELU:
            if HAS_RESIDUAL:
                y = tl.load(y_ptr + places, mask=mask, other=0.0).to(tl.float32)
            else:
                y = x * scale + shift
            gradient = tl.where(y > 0, gradient, 0.0)
        bias_sum += gradient
        weight_sum += tl.where(mask, gradient * (x - mean) * inverse, 0.0)
    target = sums_ptr + tl.program_id(0) * 2 * num_channels + channels
    tl.store(target, tl.sum(bias_sum, 0), mask=is_channel)
    tl.store(target + num_channels, tl.sum(weight_sum, 0), mask=is_channel)


@triton.jit
def _backward_apply_kernel(  # type: ignore[no-untyped-def]
    dy_ptr, x_ptr, y_ptr, scale_ptr, shift_ptr, x_factor_ptr, constant_ptr, dx_ptr, dresidual_ptr, num_elements, num_channels,
    HAS_RESIDUAL: tl.constexpr, RELU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """dx = scale g + x_factor x + constant, and g as the gradient of the residual."""
    first = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    mask = lane < num_elements - first
    channels = ((first % num_channels).to(tl.int32) + lane) % num_channels
    scale = tl.load(scale_ptr + channels)
    gradient = tl.load(dy_ptr + first + lane, mask=mask, other=0.0).to(tl.float32)
    x = tl.load(x_ptr + first + lane, mask=mask, other=0.0).to(tl.float32)
    if RELU:
        if HAS_RESIDUAL:
            y = tl.load(y_ptr + first + lane, mask=mask, other=0.0).to(tl.float32)
        else:
            y = x * scale + tl.load(shift_ptr + channels)
        gradient = tl.where(y > 0, gradient, 0.0)
    dx = scale * gradient + tl.load(x_factor_ptr + channels) * x + tl.load(constant_ptr + channels)
    tl.store(dx_ptr + first + lane, dx.to(dx_ptr.dtype.element_ty), mask=mask)
    if HAS_RESIDUAL:
        tl.store(dresidual_ptr + first + lane, gradient.to(dresidual_ptr.dtype.element_ty), mask=mask)


def compute_statistics(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance, float64 (C,), of channels-last maps (N, C, T, H, W) with at least one value a channel."""
    num_rows, num_channels = maps.numel() // maps.shape[1], maps.shape[1]
    sums, grid = _allocate_sums(maps, num_rows)
    _sum_kernel[grid](maps, sums, num_rows, num_channels, TILE_ROWS, TILE_CHANNELS)
    total, square = sums.double().sum(0)
    shift = total / num_rows
    origin = maps[0, :, 0, 0, 0].double()
    return origin + shift, (square / num_rows - shift.square()).clamp_min(0)


class NormAddRelu(torch.autograd.Function):
    """relu(batch_norm(maps) + residual) of channels-last maps; `mean` and `variance` are the batch's or constants."""

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor,
        mean: Tensor, variance: Tensor, epsilon: float, relu: bool, is_batch_statistics: bool,
    ) -> Tensor:  # fmt: skip
        """(N, C, T, H, W), weight and bias float32 (C,), mean and variance float64 (C,) -> maps of the same type."""
        inverse = (variance + epsilon).rsqrt()
        scale = weight.double() * inverse
        shift = (bias.double() - mean * scale).float()
        inverse, scale, mean = inverse.float(), scale.float(), mean.float()
        out = torch.empty_like(maps)
        added = maps if residual is None else residual
        grid = (triton.cdiv(maps.numel(), BLOCK_ELEMENTS),)
        _apply_kernel[grid](
            maps, added, scale, shift, out, maps.numel(), maps.shape[1], residual is not None, relu, BLOCK_ELEMENTS
        )
        ctx.save_for_backward(maps, out if residual is not None and relu else None, scale, shift, mean, inverse)
        ctx.has_residual, ctx.relu, ctx.is_batch_statistics = residual is not None, relu, is_batch_statistics
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of maps, residual, weight and bias."""
        maps, out, scale, shift, mean, inverse = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last_3d)
        num_rows, num_channels = maps.numel() // maps.shape[1], maps.shape[1]
        needs_mask = ctx.relu and ctx.has_residual
        output = out if needs_mask else maps
        sums, grid = _allocate_sums(maps, num_rows)
        _backward_sum_kernel[grid](
            gradient, maps, output, scale, shift, mean, inverse, sums, num_rows, num_channels,
            needs_mask, ctx.relu, TILE_ROWS, TILE_CHANNELS,
        )  # fmt: skip
        bias_gradient, weight_gradient = sums.double().sum(0)
        x_factor = constant = torch.zeros_like(scale)
        if ctx.is_batch_statistics:
            wide = scale.double() / num_rows
            x_factor = -wide * weight_gradient * inverse
            constant = (-wide * bias_gradient - x_factor * mean).float()
            x_factor = x_factor.float()
        maps_gradient = torch.empty_like(maps)
        masked_gradient = torch.empty_like(maps) if needs_mask else gradient
        blocks = (triton.cdiv(maps.numel(), BLOCK_ELEMENTS),)
        _backward_apply_kernel[blocks](
            gradient, maps, output, scale, shift, x_factor, constant, maps_gradient, masked_gradient,
            maps.numel(), num_channels, needs_mask, ctx.relu, BLOCK_ELEMENTS,
        )  # fmt: skip
        residual_gradient = masked_gradient if ctx.has_residual else None
        return (
            maps_gradient, residual_gradient, weight_gradient.float(), bias_gradient.float(), None, None, None, None, None
        )  # fmt: skip


def _allocate_sums(maps: Tensor, num_rows: int) -> tuple[Tensor, tuple[int, int]]:
    """Partial sums float32 (programs, 2, C), and the grid of a reduction: it depends on the size of `maps` alone."""
    num_blocks = triton.cdiv(maps.shape[1], TILE_CHANNELS)
    num_programs = min(triton.cdiv(num_rows, TILE_ROWS), max(1, NUM_PROGRAMS // num_blocks))
    sums = torch.empty(num_programs, 2, maps.shape[1], dtype=torch.float32, device=maps.device)
    return sums, (num_programs, num_blocks)
