"""Batch norm, residual sum and ReLU in one pass over memory, forward and backward, as Triton kernels.

Activations are channels-last: M rows of C channels, M = N*T*H*W, one flat array in which element e belongs to channel e mod C.
With per-channel mean and inverse deviation i of the batch (or of the running statistics), weight w and bias b:

    forward    scale = w i,  shift = b - mean scale,  y = relu(x scale + shift + residual)
    backward   g = dy where the input of the ReLU is positive, else 0;   x^ = (x - mean) i
               db = sum g,  dw = sum g x^
               dx = scale g - scale/M (db + x^ dw)  =  scale g + x_factor x + constant          (per channel)
               d residual = g

Six kernels, three in each direction: partial sums over the maps, the arithmetic on C numbers (in float64; forward it updates
the running statistics too), and a pass that applies the result. Only the input is kept for the backward pass; with a residual
the output is kept too, since the sign of the sum decides the ReLU's gradient.

How the maps are split: BLOCK consecutive elements have the channels of the block `phases` blocks later, where `phases` is the
least number for which phases * BLOCK is a multiple of C. A program keeps one phase: its lanes keep their channels, so that
factors are loaded and sums accumulated in registers while it reads memory in whole lines, whatever C is.

Every kernel converts to float32 when it loads and back when it stores, since Triton's interpreter computes bfloat16
arithmetic wrongly. ReLU is `where(y < 0, 0, y)`, which keeps NaN. The split depends on the size of the maps alone and nothing
is added by atomics, so that sums are the same in every run. Rates on an H100 are in docs/performance.md.
"""

from __future__ import annotations

from math import gcd
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK, NUM_WARPS = 2048, 8  # elements of a block; 16 bytes a thread in bf16
SUM_PROGRAMS, SUM_BLOCKS = 528, 4  # programs of a reduction, and blocks that each reads at once
APPLY_PROGRAMS, APPLY_BLOCKS = 2112, 2  # of an element-wise pass
_FINISH_ROWS, _FINISH_CHANNELS = 256, 16  # a tile of partial sums
_MIN_WIDTH = 64  # channels for which a program adds up the lanes of each
# Arguments for whose values a kernel is not compiled anew: only the alignment of maps decides how they are read.
_SIZES = ("num_rounds", "sums_size", "num_sums", "num_rows", "num_own_channels")
_SCALE, _SHIFT, _MEAN, _INVERSE = range(4)  # rows of the factors


@triton.jit
def _store_sums(sums_ptr, first, second, sums_size, WIDTH: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Store two partial sums of one program, for each channel or lane."""
    target = sums_ptr + (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)) * WIDTH + tl.arange(0, WIDTH)
    tl.store(target, tl.sum(tl.reshape(first, (BLOCK // WIDTH, WIDTH)), 0))
    tl.store(target + sums_size, tl.sum(tl.reshape(second, (BLOCK // WIDTH, WIDTH)), 0))


@triton.jit(do_not_specialize=_SIZES)
def _sum_kernel(  # type: ignore[no-untyped-def]
    x_ptr, sums_ptr, num_elements, num_channels, num_rounds, sums_size,
    WIDTH: tl.constexpr, BLOCKS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums of x - k and (x - k)^2 for the blocks of one program, where k is the first row: no cancellation for large means."""
    lanes = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    origin = tl.load(x_ptr + lanes % num_channels).to(tl.float32)
    period = tl.num_programs(0).to(tl.int64) * BLOCK
    first, stride = tl.program_id(1) * period, tl.num_programs(1) * period
    total = tl.zeros((BLOCK,), tl.float32)
    square = tl.zeros((BLOCK,), tl.float32)
    for _ in range(num_rounds):
        for block in tl.static_range(BLOCKS):
            places = first + block * stride + lanes
            mask = places < num_elements
            x = tl.load(x_ptr + places, mask=mask, other=0.0).to(tl.float32)
            centered = tl.where(mask, x - origin, 0.0)
            total += centered
            square += centered * centered
        first += BLOCKS * stride
    _store_sums(sums_ptr, total, square, sums_size, WIDTH, BLOCK)


@triton.jit
def _add_partial_sums(sums_ptr, num_sums, channels, num_channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Sums over the rows of an array (num_sums, num_channels) for some channels, in float64."""
    total = tl.zeros((ROWS, CHANNELS), tl.float64)
    for start in range(0, num_sums, ROWS):
        rows = start + tl.arange(0, ROWS)
        mask = (rows < num_sums)[:, None] & (channels < num_channels)[None, :]
        total += tl.load(sums_ptr + rows[:, None] * num_channels + channels[None, :], mask=mask, other=0.0).to(
            tl.float64
        )
    return tl.sum(total, 0)


@triton.jit(do_not_specialize=_SIZES)
def _factors_kernel(  # type: ignore[no-untyped-def]
    x_ptr, sums_ptr, weight_ptr, bias_ptr, running_mean_ptr, running_var_ptr, factors_ptr,
    num_sums, num_rows, num_channels, num_own_channels, epsilon, momentum,
    IS_BATCH: tl.constexpr, UPDATES: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Scale, shift, mean and inverse deviation, from sums or running statistics, which are updated."""
    channels = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    is_channel, is_own = channels < num_channels, channels < num_own_channels
    if IS_BATCH:
        origin = tl.load(x_ptr + channels, mask=is_channel, other=0.0).to(tl.float32).to(tl.float64)
        sums_size = num_sums * num_channels
        offset = _add_partial_sums(sums_ptr, num_sums, channels, num_channels, ROWS, CHANNELS) / num_rows
        square = _add_partial_sums(sums_ptr + sums_size, num_sums, channels, num_channels, ROWS, CHANNELS) / num_rows
        mean, variance = origin + offset, square - offset * offset
        variance = tl.where(variance < 0, 0.0, variance)
        if UPDATES:
            old_mean = tl.load(running_mean_ptr + channels, mask=is_own, other=0.0).to(tl.float64)
            old_var = tl.load(running_var_ptr + channels, mask=is_own, other=0.0).to(tl.float64)
            unbiased = variance * num_rows / (num_rows - 1)
            new_mean, new_var = old_mean + momentum * (mean - old_mean), old_var + momentum * (unbiased - old_var)
            tl.store(running_mean_ptr + channels, new_mean.to(running_mean_ptr.dtype.element_ty), mask=is_own)
            tl.store(running_var_ptr + channels, new_var.to(running_var_ptr.dtype.element_ty), mask=is_own)
    else:
        mean = tl.load(running_mean_ptr + channels, mask=is_own, other=0.0).to(tl.float64)
        variance = tl.load(running_var_ptr + channels, mask=is_own, other=1.0).to(tl.float64)
    inverse = 1.0 / tl.sqrt(variance + epsilon)
    scale = tl.load(weight_ptr + channels, mask=is_own, other=0.0) * inverse
    shift = tl.load(bias_ptr + channels, mask=is_own, other=0.0) - mean * scale
    tl.store(factors_ptr + channels, scale.to(tl.float32), mask=is_channel)
    tl.store(factors_ptr + num_channels + channels, shift.to(tl.float32), mask=is_channel)
    tl.store(factors_ptr + 2 * num_channels + channels, mean.to(tl.float32), mask=is_channel)
    tl.store(factors_ptr + 3 * num_channels + channels, inverse.to(tl.float32), mask=is_channel)


@triton.jit(do_not_specialize=_SIZES)
def _apply_kernel(  # type: ignore[no-untyped-def]
    x_ptr, residual_ptr, factors_ptr, y_ptr, num_elements, num_channels, num_rounds,
    HAS_RESIDUAL: tl.constexpr, RELU: tl.constexpr, BLOCKS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """y = relu(x scale + shift + residual)."""
    lanes = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    factors = factors_ptr + lanes % num_channels
    scale, shift = tl.load(factors), tl.load(factors + num_channels)
    period = tl.num_programs(0).to(tl.int64) * BLOCK
    first, stride = tl.program_id(1) * period, tl.num_programs(1) * period
    for _ in range(num_rounds):
        for block in tl.static_range(BLOCKS):
            places = first + block * stride + lanes
            mask = places < num_elements
            y = tl.load(x_ptr + places, mask=mask, other=0.0).to(tl.float32) * scale + shift
            if HAS_RESIDUAL:
                y += tl.load(residual_ptr + places, mask=mask, other=0.0).to(tl.float32)
            if RELU:
                y = tl.where(y < 0, 0.0, y)
            tl.store(y_ptr + places, y.to(y_ptr.dtype.element_ty), mask=mask)
        first += BLOCKS * stride


@triton.jit
def _load_gradient(  # type: ignore[no-untyped-def]
    dy_ptr, x_ptr, y_ptr, places, mask, scale, shift, HAS_RESIDUAL: tl.constexpr, RELU: tl.constexpr
):  # fmt: skip
    """g and x; both are 0 where `mask` is false."""
    gradient = tl.load(dy_ptr + places, mask=mask, other=0.0).to(tl.float32)
    x = tl.load(x_ptr + places, mask=mask, other=0.0).to(tl.float32)
    if RELU:
        if HAS_RESIDUAL:
            y = tl.load(y_ptr + places, mask=mask, other=0.0).to(tl.float32)
        else:
            y = x * scale + shift
        gradient = tl.where(y > 0, gradient, 0.0)
    return gradient, x


@triton.jit(do_not_specialize=_SIZES)
def _backward_sum_kernel(  # type: ignore[no-untyped-def]
    dy_ptr, x_ptr, y_ptr, factors_ptr, sums_ptr, num_elements, num_channels, num_rounds, sums_size,
    HAS_RESIDUAL: tl.constexpr, RELU: tl.constexpr, WIDTH: tl.constexpr, BLOCKS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums of g and g (x - mean) for the blocks of one program."""
    lanes = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    factors = factors_ptr + lanes % num_channels
    scale, shift, mean = tl.load(factors), tl.load(factors + num_channels), tl.load(factors + 2 * num_channels)
    period = tl.num_programs(0).to(tl.int64) * BLOCK
    first, stride = tl.program_id(1) * period, tl.num_programs(1) * period
    bias_sum = tl.zeros((BLOCK,), tl.float32)
    weight_sum = tl.zeros((BLOCK,), tl.float32)
    for _ in range(num_rounds):
        for block in tl.static_range(BLOCKS):
            places = first + block * stride + lanes
            mask = places < num_elements
            gradient, x = _load_gradient(dy_ptr, x_ptr, y_ptr, places, mask, scale, shift, HAS_RESIDUAL, RELU)
            bias_sum += gradient
            weight_sum += gradient * (x - mean)  # 0 beyond the end, where the gradient is 0
        first += BLOCKS * stride
    _store_sums(sums_ptr, bias_sum, weight_sum, sums_size, WIDTH, BLOCK)


@triton.jit(do_not_specialize=_SIZES)
def _backward_factors_kernel(  # type: ignore[no-untyped-def]
    sums_ptr, factors_ptr, weight_gradient_ptr, bias_gradient_ptr, x_factors_ptr,
    num_sums, num_rows, num_channels, num_own_channels,
    IS_BATCH: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """dw and db, and x_factor and constant, which are 0 with running statistics."""
    channels = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    is_channel, is_own = channels < num_channels, channels < num_own_channels
    scale = tl.load(factors_ptr + channels, mask=is_channel, other=0.0).to(tl.float64)
    mean = tl.load(factors_ptr + 2 * num_channels + channels, mask=is_channel, other=0.0).to(tl.float64)
    inverse = tl.load(factors_ptr + 3 * num_channels + channels, mask=is_channel, other=0.0).to(tl.float64)
    sums_size = num_sums * num_channels
    bias_gradient = _add_partial_sums(sums_ptr, num_sums, channels, num_channels, ROWS, CHANNELS)
    weight_gradient = (
        _add_partial_sums(sums_ptr + sums_size, num_sums, channels, num_channels, ROWS, CHANNELS) * inverse
    )
    tl.store(bias_gradient_ptr + channels, bias_gradient.to(tl.float32), mask=is_own)
    tl.store(weight_gradient_ptr + channels, weight_gradient.to(tl.float32), mask=is_own)
    x_factor = tl.zeros((CHANNELS,), tl.float64)
    constant = tl.zeros((CHANNELS,), tl.float64)
    if IS_BATCH:
        x_factor = -scale / num_rows * weight_gradient * inverse
        constant = -scale / num_rows * bias_gradient - x_factor * mean
    tl.store(x_factors_ptr + channels, x_factor.to(tl.float32), mask=is_channel)
    tl.store(x_factors_ptr + num_channels + channels, constant.to(tl.float32), mask=is_channel)


@triton.jit(do_not_specialize=_SIZES)
def _backward_apply_kernel(  # type: ignore[no-untyped-def]
    dy_ptr, x_ptr, y_ptr, factors_ptr, x_factors_ptr, dx_ptr, dresidual_ptr, num_elements, num_channels, num_rounds,
    HAS_RESIDUAL: tl.constexpr, RELU: tl.constexpr, BLOCKS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """dx = scale g + x_factor x + constant, and g as the gradient of the residual."""
    lanes = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channels = lanes % num_channels
    scale, shift = tl.load(factors_ptr + channels), tl.load(factors_ptr + num_channels + channels)
    x_factor, constant = tl.load(x_factors_ptr + channels), tl.load(x_factors_ptr + num_channels + channels)
    period = tl.num_programs(0).to(tl.int64) * BLOCK
    first, stride = tl.program_id(1) * period, tl.num_programs(1) * period
    for _ in range(num_rounds):
        for block in tl.static_range(BLOCKS):
            places = first + block * stride + lanes
            mask = places < num_elements
            gradient, x = _load_gradient(dy_ptr, x_ptr, y_ptr, places, mask, scale, shift, HAS_RESIDUAL, RELU)
            dx = scale * gradient + x_factor * x + constant
            tl.store(dx_ptr + places, dx.to(dx_ptr.dtype.element_ty), mask=mask)
            if HAS_RESIDUAL:
                tl.store(dresidual_ptr + places, gradient.to(dresidual_ptr.dtype.element_ty), mask=mask)
        first += BLOCKS * stride


class RunningStatistics(NamedTuple):
    """Mean and variance (C,) of a norm, and how fast they follow a batch; `momentum` None leaves them as they are."""

    mean: Tensor
    variance: Tensor
    momentum: float | None


class NormAddRelu(torch.autograd.Function):
    """relu(batch_norm(maps) + residual) of channels-last maps with at least one value a channel."""

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor,
        running: RunningStatistics | None, epsilon: float, relu: bool, is_batch: bool,
    ) -> Tensor:  # fmt: skip
        """(N, C, T, H, W) -> maps of the same type, by statistics of the batch or running ones.

        `weight`, `bias` (float32) and `running` have at most C channels; maps of the others are zero and stay zero.
        """
        sums, num_sums = maps, 0
        if is_batch:
            split = _split(maps, SUM_PROGRAMS, SUM_BLOCKS)
            sums, num_sums = split.allocate_sums(maps)
            _sum_kernel[split.grid](
                maps, sums, *split.sizes, sums[0].numel(), split.width, SUM_BLOCKS, BLOCK, num_warps=NUM_WARPS
            )
        updates = is_batch and running is not None and running.momentum is not None
        factors = maps.new_empty(4, maps.shape[1], dtype=torch.float32)
        mean, variance = (running.mean, running.variance) if running else (factors, factors)
        _factors_kernel[_finish_grid(maps)](
            maps, sums, weight, bias, mean, variance, factors, num_sums, maps.numel() // maps.shape[1], maps.shape[1],
            len(weight), epsilon, running.momentum if running and updates else 0.0,
            is_batch, updates, _FINISH_ROWS, _FINISH_CHANNELS,
        )  # fmt: skip
        out = torch.empty_like(maps)
        split = _split(maps, APPLY_PROGRAMS, APPLY_BLOCKS)
        _apply_kernel[split.grid](
            maps, maps if residual is None else residual, factors, out, *split.sizes,
            residual is not None, relu, APPLY_BLOCKS, BLOCK, num_warps=NUM_WARPS,
        )  # fmt: skip
        ctx.save_for_backward(maps, out if residual is not None and relu else None, factors)
        ctx.num_own_channels = len(weight)
        ctx.has_residual, ctx.relu, ctx.is_batch = residual is not None, relu, is_batch
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of maps, residual, weight and bias."""
        maps, out, factors = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last_3d)
        needs_mask = ctx.relu and ctx.has_residual
        output = out if needs_mask else maps
        split = _split(maps, SUM_PROGRAMS, SUM_BLOCKS)
        sums, num_sums = split.allocate_sums(maps)
        _backward_sum_kernel[split.grid](
            gradient, maps, output, factors, sums, *split.sizes, sums[0].numel(),
            needs_mask, ctx.relu, split.width, SUM_BLOCKS, BLOCK, num_warps=NUM_WARPS,
        )  # fmt: skip
        weight_gradient, bias_gradient = factors.new_empty(2, ctx.num_own_channels)
        x_factors = torch.empty_like(factors[:2])
        _backward_factors_kernel[_finish_grid(maps)](
            sums, factors, weight_gradient, bias_gradient, x_factors,
            num_sums, maps.numel() // maps.shape[1], maps.shape[1], ctx.num_own_channels,
            ctx.is_batch, _FINISH_ROWS, _FINISH_CHANNELS,
        )  # fmt: skip
        maps_gradient = torch.empty_like(maps)
        masked_gradient = torch.empty_like(maps) if needs_mask else gradient
        split = _split(maps, APPLY_PROGRAMS, APPLY_BLOCKS)
        _backward_apply_kernel[split.grid](
            gradient, maps, output, factors, x_factors, maps_gradient, masked_gradient, *split.sizes,
            needs_mask, ctx.relu, APPLY_BLOCKS, BLOCK, num_warps=NUM_WARPS,
        )  # fmt: skip
        residual_gradient = masked_gradient if ctx.has_residual else None
        return maps_gradient, residual_gradient, weight_gradient, bias_gradient, None, None, None, None


class _Split(NamedTuple):
    """How maps are divided between programs: (phases, groups), each with `num_rounds` rounds of some blocks."""

    num_elements: int
    num_channels: int
    num_phases: int
    num_groups: int
    num_rounds: int

    @property
    def grid(self) -> tuple[int, int]:
        return self.num_phases, self.num_groups

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self.num_elements, self.num_channels, self.num_rounds

    @property
    def width(self) -> int:
        """Partial sums that a program leaves: one for each channel where many divide a block, else for each lane."""
        return self.num_channels if self.num_phases == 1 and self.num_channels >= _MIN_WIDTH else BLOCK

    def allocate_sums(self, maps: Tensor) -> tuple[Tensor, int]:
        """An array float32 (2, rows * C) for two partial sums, and its number of rows."""
        size = self.num_phases * self.num_groups * self.width
        return maps.new_empty(2, size, dtype=torch.float32), size // self.num_channels


def _split(maps: Tensor, num_programs: int, num_blocks: int) -> _Split:
    num_channels = maps.shape[1]
    num_phases = num_channels // gcd(num_channels, BLOCK)
    num_periods = triton.cdiv(maps.numel(), num_phases * BLOCK)
    num_groups = max(1, min(num_periods, num_programs // num_phases))
    return _Split(maps.numel(), num_channels, num_phases, num_groups, triton.cdiv(num_periods, num_groups * num_blocks))


def _finish_grid(maps: Tensor) -> tuple[int]:
    return (triton.cdiv(maps.shape[1], _FINISH_CHANNELS),)
