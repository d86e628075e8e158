"""3x3 convolutions with a quarter of the multiplications: Winograd's minimal filtering F(4x4, 3x3), on a CPU.

Enters: clips (N, C, T, H, W) and the weight of a t x 3 x 3 convolution of spatial stride 1. Leaves: its maps, up to
rounding. Four outputs of a filter of three taps are six products of transformed inputs and filters (Lavin and Gray, "Fast
Algorithms for Convolutional Neural Networks", 2016); in two dimensions a tile of 4x4 outputs is 36 products instead of 144:

    tiles of 6x6 pixels     (frames, tiles, 36, C)   every fourth pixel, overlapping by two
    B . tile                (frames, tiles, 36, C)   what the filters were transformed to meet
    each of the 36          (frames, tiles, 36, K)   its own matrix C x K, and t taps in time: one convolution in 36 groups
    A . products            (frames, tiles, 16, K)   4x4 outputs

so that all the arithmetic is done by torch's kernels. Tiles are taken in portions that stay in the cache. In training the
gradient of the input is such a convolution too; that of the weight is torch's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

OUTPUTS = 4  # a side of a tile of outputs
SPAN = OUTPUTS + 2  # a side of the tile of inputs that they are made of
# The polynomials are evaluated at these points and at infinity: those that lose least in floating point (Barabasz et al.,
# "Error analysis and improving the accuracy of Winograd convolution for deep neural networks", 2020, F(4, 3)).
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
ONE = POINTS.index(1.0)

# Measured (docs/performance.md): with less, the transforms cost more than is saved, or the filters, four times as large, do.
LEAST_USE = 38.0  # multiplications a transformed number is used for: 64 to 96 channels with one tap in time
CHANNEL_MULTIPLE = 16  # what oneDNN's grouped kernels are fast for
FEWEST_TILES = 32  # of a clip
LEAST_FILLED = 0.75  # of the pixels of its tiles: maps of 5x5 pixels took twice as long in tiles of 4x4
FEWEST_TILES_OF_A_STEP = 256  # of all clips together, where the filters change with every step
PORTION_BYTES = 8 * 2**20  # of transformed inputs and products


def applies(weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]) -> bool:
    """Whether a convolution with this weight (K, C, t, k, k) has the form, and channels enough to gain."""
    leaving, entering, taps = weight.shape[:3]
    has_form = (*weight.shape[3:], *stride[1:], *padding[1:]) == (3, 3, 1, 1, 1, 1)
    use = taps * leaving * entering / (leaving + entering)
    return has_form and use >= LEAST_USE and leaving % CHANNEL_MULTIPLE == 0 == entering % CHANNEL_MULTIPLE


def tiles_of(clips: Tensor) -> tuple[int, int]:
    """Rows and columns of tiles in a frame of clips (N, C, T, H, W)."""
    return -(-clips.shape[3] // OUTPUTS), -(-clips.shape[4] // OUTPUTS)


def pays(clips: Tensor) -> bool:
    """Whether clips (N, C, T, H, W) are large enough, and fill their tiles. How many they are does not matter."""
    tiles = math.prod(tiles_of(clips))
    filled = clips.shape[3] * clips.shape[4] / (OUTPUTS**2 * tiles)
    return clips.shape[2] * tiles >= FEWEST_TILES and filled >= LEAST_FILLED


def pays_in_training(clips: Tensor) -> bool:
    """The same where the filters are to be transformed for this one use."""
    return pays(clips) and clips.shape[0] * clips.shape[2] * math.prod(tiles_of(clips)) >= FEWEST_TILES_OF_A_STEP


@functools.cache
def transforms() -> tuple[Tensor, Tensor, Tensor]:
    """A (4, 6), G (6, 3) and B (6, 6), float64, with A @ ((G @ filter) * (B @ inputs)) the 4 outputs of 3 taps over 6 inputs.

    Toom and Cook's product of polynomials, transposed: values at `POINTS`, products, and interpolation.
    """

    def values(coefficients: int) -> Tensor:
        powers = [[point**power for power in range(coefficients)] for point in POINTS]
        at_infinity = [0.0] * (coefficients - 1) + [1.0]
        return torch.tensor([*powers, at_infinity], dtype=torch.float64)

    # What interpolation divides by goes with the filters, which are transformed once.
    divisors = [math.prod(point - other for other in POINTS if other != point) for point in POINTS]
    scale = torch.tensor([*divisors, 1.0], dtype=torch.float64)[:, None]
    return values(OUTPUTS).T, values(3) / scale, torch.linalg.inv(values(SPAN)).T * scale


def transformed_filters(weight: Tensor) -> Tensor:
    """Filters (K, C, t, 3, 3) -> (36 K, C, t, 1), in the precision of `weight`."""
    _, filters, _ = transforms()
    squares = torch.kron(filters, filters).to(weight.dtype)  # (36, 9)
    return torch.mm(squares, weight.reshape(-1, 9).t()).view(-1, *weight.shape[1:3], 1)


class WinogradConvolution:
    """The convolution of `transformed_filters` with taps in time, and perhaps a bias (K,), by the way above."""

    def __init__(self, filters: Tensor, bias: Tensor | None = None) -> None:
        outputs, _, inputs = transforms()
        self._filters = filters
        self._out_channels, self._taps = len(filters) // SPAN**2, filters.shape[2]
        self._inputs = torch.kron(inputs, inputs).to(filters.dtype)  # (36, 36)
        self._outputs = torch.kron(outputs, outputs).to(filters.dtype)  # (16, 36)
        self._shift: Tensor | None = None
        if bias is not None:
            # The product at the point (1, 1) enters every output once: what is added there is added to each.
            shift = bias.new_zeros(SPAN, SPAN, len(bias))
            shift[ONE, ONE] = bias
            self._shift = shift.flatten()
        self._packed: Tensor | None = None

    def __call__(
        self, clips: Tensor, *, stride: int, padding: int, relu: bool = False, residual: Tensor | None = None
    ) -> Tensor:
        """Channels-last (N, C, T, H, W) -> (N, K, T', H, W); stride and padding in time; `residual` is added before ReLU."""
        pixels = clips.permute(0, 2, 3, 4, 1)  # (N, T, H, W, C)
        added = None if residual is None else residual.permute(0, 2, 3, 4, 1)
        num_clips, num_frames, height, width, _ = pixels.shape
        num_rows, num_columns = tiles_of(clips)
        steps = (num_frames + 2 * padding - self._taps) // stride + 1
        maps = pixels.new_empty(num_clips, steps, height, width, self._out_channels)
        channels = pixels.shape[-1] + self._out_channels
        most = PORTION_BYTES // (SPAN**2 * channels * pixels.element_size() * num_frames * num_columns)  # rows at once
        for portion in _parts(num_clips, most // num_rows):
            tiles = tiled(pixels[portion], num_rows, num_columns)
            for rows in _parts(num_rows, most):
                products = self._products(tiles[:, :, rows], stride, padding)
                here = (portion, slice(None), slice(rows.start * OUTPUTS, min(rows.stop * OUTPUTS, height)))
                self._finish(products, maps[here], relu=relu, added=None if added is None else added[here])
        return maps.permute(0, 4, 1, 2, 3)

    def _products(self, tiles: Tensor, stride: int, padding: int) -> Tensor:
        """Tiles (n, T, rows, columns, 6, 6, C) -> their products with the filters (n, T', rows, columns, 36, K)."""
        num_clips, num_frames, num_rows, num_columns, *_, channels = tiles.shape
        given = tiles.reshape(-1, SPAN * SPAN, channels)
        values = torch.bmm(self._inputs.expand(len(given), -1, -1), given)
        view = values.view(num_clips, num_frames, num_rows * num_columns, -1).permute(0, 3, 1, 2)
        shape = (self._shift, [padding, 0], [stride, 1], [1, 1], SPAN * SPAN)
        if self._packed is None:
            reorder: Any = torch.ops.aten.mkldnn_reorder_conv2d_weight
            self._packed = reorder(self._filters.to_mkldnn(), *shape[1:], list(view.shape))
        operators: Any = torch.ops.mkldnn
        products: Tensor = operators._convolution_pointwise(view, self._packed, *shape, "none", [], "")
        laid_out = products.permute(0, 2, 3, 1)
        return laid_out.reshape(num_clips, -1, num_rows, num_columns, SPAN * SPAN, self._out_channels)

    def _finish(self, products: Tensor, target: Tensor, *, relu: bool, added: Tensor | None) -> None:
        """Products to outputs in their places (n, T', H, W, K) in `target`."""
        num_rows, num_columns = products.shape[2:4]
        given = products.flatten(0, 3)
        outputs = torch.bmm(self._outputs.expand(len(given), -1, -1), given)
        tiles = outputs.view(*products.shape[:4], OUTPUTS, OUTPUTS, -1).transpose(3, 4)  # rows, 4, columns, 4
        height, width = target.shape[2:4]
        if (height, width) == (num_rows * OUTPUTS, num_columns * OUTPUTS):
            target, added = _by_tiles(target), None if added is None else _by_tiles(added)
        else:
            tiles = tiles.flatten(2, 3).flatten(3, 4)[:, :, :height, :width]
        if added is not None:
            torch.add(tiles, added, out=target)
            tiles = target
        if relu:
            torch.clamp_min(tiles, 0.0, out=target)
        elif added is None:
            target.copy_(tiles)


def tiled(pixels: Tensor, num_rows: int, num_columns: int) -> Tensor:
    """Pixels (N, T, H, W, C) as overlapping tiles (N, T, rows, columns, 6, 6, C) of a copy with zeros around."""
    below, right = num_rows * OUTPUTS + 1 - pixels.shape[2], num_columns * OUTPUTS + 1 - pixels.shape[3]
    padded = functional.pad(pixels, (0, 0, 1, right, 1, below))
    return padded.unfold(2, SPAN, OUTPUTS).unfold(3, SPAN, OUTPUTS).movedim(4, -1)


def _parts(length: int, most: int) -> Iterator[slice]:
    """Slices of one length, at most `most` (but 1 at least), over all of `length`; the last one may overlap."""
    size = -(-length // -(-length // max(1, min(most, length))))
    for begin in range(0, length, size):
        first = min(begin, length - size)
        yield slice(first, first + size)


def _by_tiles(pixels: Tensor) -> Tensor:
    """(n, T, H, W, K) as (n, T, rows, 4, columns, 4, K)."""
    return torch.unflatten(torch.unflatten(pixels, 3, (-1, OUTPUTS)), 2, (-1, OUTPUTS))


def winograd_convolution(maps: Tensor, weight: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
    """Frames (F, C, H, W) and (K, C, 3, 3), or clips (N, C, T, H, W) and (K, C, t, 3, 3); stride and padding in time.

    The same as conv2d or conv3d up to rounding, gradients and theirs included. Channels lie last in what enters and leaves.
    """
    found: Tensor = _Winograd.apply(maps, weight, stride, padding)  # type: ignore[no-untyped-call]
    return found


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(maps, weight)
        ctx.stride, ctx.padding = stride, padding
        return _convolved(maps, weight, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        maps, weight = ctx.saved_tensors
        for_maps, for_weight = ctx.needs_input_grad[:2]
        # A stride in time, and what is to be differentiated again, is left to torch.
        ours = for_maps and ctx.stride == 1 and not torch.is_grad_enabled()
        in_time = maps.dim() == 5
        strides, paddings = ([ctx.stride] * in_time + [1, 1], [ctx.padding] * in_time + [1, 1])
        maps_gradient, weight_gradient, _ = torch.ops.aten.convolution_backward(
            gradient, maps, weight, None, strides, paddings, [1] * len(strides), False, [0] * len(strides), 1,
            (for_maps and not ours, for_weight, False),
        )  # fmt: skip
        if ours:
            turned = weight.transpose(0, 1).flip(*range(2, weight.dim()))
            padding = weight.shape[2] - 1 - ctx.padding if in_time else 0
            maps_gradient = _convolved(_channels_last(gradient), turned, 1, padding)
        return maps_gradient, weight_gradient, None, None


def _convolved(maps: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    if maps.dim() == 5:
        return WinogradConvolution(transformed_filters(weight))(maps, stride=stride, padding=padding)
    convolve = WinogradConvolution(transformed_filters(weight.unsqueeze(2)))
    return convolve(maps.unsqueeze(2), stride=1, padding=0).squeeze(2)


def _channels_last(maps: Tensor) -> Tensor:
    return maps.contiguous(memory_format=torch.channels_last if maps.dim() == 4 else torch.channels_last_3d)
