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

OUTPUT_TILE_SIZE = 4  # a side of a tile of outputs
INPUT_TILE_SIZE = OUTPUT_TILE_SIZE + 2  # a side of the tile of inputs that they are made of
# The polynomials are evaluated at these points and at infinity: those that lose least in floating point (Barabasz et al.,
# "Error analysis and improving the accuracy of Winograd convolution for deep neural networks", 2020, F(4, 3)).
INTERPOLATION_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
INDEX_OF_ONE = INTERPOLATION_POINTS.index(1.0)

# Measured (docs/performance.md): with less, the transforms cost more than is saved, or the filters, four times as large, do.
MIN_REUSE = 38.0  # multiplications a transformed number is used for: 64 to 96 channels with one tap in time
CHANNEL_MULTIPLE = 16  # what oneDNN's grouped kernels are fast for
MIN_TILES_PER_CLIP = 32  # of a clip
MIN_TILE_FILL = 0.75  # of the pixels of its tiles: maps of 5x5 pixels took twice as long in tiles of 4x4
MIN_TILES_PER_STEP = 256  # of all clips together, where the filters change with every step
CHUNK_BYTES = 8 * 2**20  # of transformed inputs and products


def is_applicable(weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]) -> bool:
    """Whether a convolution with this weight (K, C, t, k, k) has the form, and channels enough to gain."""
    out_channels, in_channels, taps = weight.shape[:3]
    has_form = (*weight.shape[3:], *stride[1:], *padding[1:]) == (3, 3, 1, 1, 1, 1)
    reuse = taps * out_channels * in_channels / (out_channels + in_channels)
    return has_form and reuse >= MIN_REUSE and out_channels % CHANNEL_MULTIPLE == 0 == in_channels % CHANNEL_MULTIPLE


def count_tiles(clips: Tensor) -> tuple[int, int]:
    """Rows and columns of tiles in a frame of clips (N, C, T, H, W)."""
    return -(-clips.shape[3] // OUTPUT_TILE_SIZE), -(-clips.shape[4] // OUTPUT_TILE_SIZE)


def is_worthwhile(clips: Tensor) -> bool:
    """Whether clips (N, C, T, H, W) are large enough, and fill their tiles. How many they are does not matter."""
    tiles = math.prod(count_tiles(clips))
    filled = clips.shape[3] * clips.shape[4] / (OUTPUT_TILE_SIZE**2 * tiles)
    return clips.shape[2] * tiles >= MIN_TILES_PER_CLIP and filled >= MIN_TILE_FILL


def is_worthwhile_in_training(clips: Tensor) -> bool:
    """The same where the filters are to be transformed for this one use."""
    return (
        is_worthwhile(clips) and clips.shape[0] * clips.shape[2] * math.prod(count_tiles(clips)) >= MIN_TILES_PER_STEP
    )


@functools.cache
def build_transforms() -> tuple[Tensor, Tensor, Tensor]:
    """A (4, 6), G (6, 3) and B (6, 6), float64, with A @ ((G @ filter) * (B @ inputs)) the 4 outputs of 3 taps over 6 inputs.

    Toom and Cook's product of polynomials, transposed: values at `INTERPOLATION_POINTS`, products, and interpolation.
    """

    def evaluate_polynomials(num_coefficients: int) -> Tensor:
        powers = [[point**power for power in range(num_coefficients)] for point in INTERPOLATION_POINTS]
        at_infinity = [0.0] * (num_coefficients - 1) + [1.0]
        return torch.tensor([*powers, at_infinity], dtype=torch.float64)

    # What interpolation divides by goes with the filters, which are transformed once.
    divisors = [
        math.prod(point - other for other in INTERPOLATION_POINTS if other != point) for point in INTERPOLATION_POINTS
    ]
    scale = torch.tensor([*divisors, 1.0], dtype=torch.float64)[:, None]
    return (
        evaluate_polynomials(OUTPUT_TILE_SIZE).T,
        evaluate_polynomials(3) / scale,
        torch.linalg.inv(evaluate_polynomials(INPUT_TILE_SIZE)).T * scale,
    )


def transform_filters(weight: Tensor) -> Tensor:
    """Filters (K, C, t, 3, 3) -> (36 K, C, t, 1), in the precision of `weight`."""
    _, filter_transform, _ = build_transforms()
    squares = torch.kron(filter_transform, filter_transform).to(weight.dtype)  # (36, 9)
    return torch.mm(squares, weight.reshape(-1, 9).t()).view(-1, *weight.shape[1:3], 1)


class WinogradConvolution:
    """The convolution of `transform_filters` with taps in time, and perhaps a bias (K,), by the way above."""

    def __init__(self, filters: Tensor, bias: Tensor | None = None) -> None:
        outputs, _, inputs = build_transforms()
        self._filters = filters
        self._out_channels, self._num_taps = len(filters) // INPUT_TILE_SIZE**2, filters.shape[2]
        self._input_transform = torch.kron(inputs, inputs).to(filters.dtype)  # (36, 36)
        self._output_transform = torch.kron(outputs, outputs).to(filters.dtype)  # (16, 36)
        self._product_bias: Tensor | None = None
        if bias is not None:
            # The product at the point (1, 1) enters every output once: what is added there is added to each.
            product_bias = bias.new_zeros(INPUT_TILE_SIZE, INPUT_TILE_SIZE, len(bias))
            product_bias[INDEX_OF_ONE, INDEX_OF_ONE] = bias
            self._product_bias = product_bias.flatten()
        self._packed_filters: Tensor | None = None

    def __call__(
        self, clips: Tensor, *, stride: int, padding: int, relu: bool = False, residual: Tensor | None = None
    ) -> Tensor:
        """Channels-last (N, C, T, H, W) -> (N, K, T', H, W); stride and padding in time; `residual` is added before ReLU."""
        pixels = clips.permute(0, 2, 3, 4, 1)  # (N, T, H, W, C)
        residual_pixels = None if residual is None else residual.permute(0, 2, 3, 4, 1)
        num_clips, num_frames, height, width, _ = pixels.shape
        num_rows, num_columns = count_tiles(clips)
        out_frames = (num_frames + 2 * padding - self._num_taps) // stride + 1
        maps = pixels.new_empty(num_clips, out_frames, height, width, self._out_channels)
        channels = pixels.shape[-1] + self._out_channels
        max_rows = CHUNK_BYTES // (
            INPUT_TILE_SIZE**2 * channels * pixels.element_size() * num_frames * num_columns
        )  # rows at once
        for clip_slice in _iterate_slices(num_clips, max_rows // num_rows):
            tiles = extract_tiles(pixels[clip_slice], num_rows, num_columns)
            for row_slice in _iterate_slices(num_rows, max_rows):
                products = self._compute_products(tiles[:, :, row_slice], stride, padding)
                target_slice = (
                    clip_slice,
                    slice(None),
                    slice(row_slice.start * OUTPUT_TILE_SIZE, min(row_slice.stop * OUTPUT_TILE_SIZE, height)),
                )
                self._write_outputs(
                    products,
                    maps[target_slice],
                    relu=relu,
                    residual=None if residual_pixels is None else residual_pixels[target_slice],
                )
        return maps.permute(0, 4, 1, 2, 3)

    def _compute_products(self, tiles: Tensor, stride: int, padding: int) -> Tensor:
        """Tiles (n, T, rows, columns, 6, 6, C) -> their products with the filters (n, T', rows, columns, 36, K)."""
        num_clips, num_frames, num_rows, num_columns, *_, channels = tiles.shape
        flat_tiles = tiles.reshape(-1, INPUT_TILE_SIZE * INPUT_TILE_SIZE, channels)
        values = torch.bmm(self._input_transform.expand(len(flat_tiles), -1, -1), flat_tiles)
        view = values.view(num_clips, num_frames, num_rows * num_columns, -1).permute(0, 3, 1, 2)
        shape = (self._product_bias, [padding, 0], [stride, 1], [1, 1], INPUT_TILE_SIZE * INPUT_TILE_SIZE)
        if self._packed_filters is None:
            reorder: Any = torch.ops.aten.mkldnn_reorder_conv2d_weight
            self._packed_filters = reorder(self._filters.to_mkldnn(), *shape[1:], list(view.shape))
        operators: Any = torch.ops.mkldnn
        products: Tensor = operators._convolution_pointwise(view, self._packed_filters, *shape, "none", [], "")
        channels_last = products.permute(0, 2, 3, 1)
        return channels_last.reshape(
            num_clips, -1, num_rows, num_columns, INPUT_TILE_SIZE * INPUT_TILE_SIZE, self._out_channels
        )

    def _write_outputs(self, products: Tensor, target: Tensor, *, relu: bool, residual: Tensor | None) -> None:
        """Products to outputs in their places (n, T', H, W, K) in `target`."""
        num_rows, num_columns = products.shape[2:4]
        flat_products = products.flatten(0, 3)
        outputs = torch.bmm(self._output_transform.expand(len(flat_products), -1, -1), flat_products)
        tiles = outputs.view(*products.shape[:4], OUTPUT_TILE_SIZE, OUTPUT_TILE_SIZE, -1).transpose(
            3, 4
        )  # rows, 4, columns, 4
        height, width = target.shape[2:4]
        if (height, width) == (num_rows * OUTPUT_TILE_SIZE, num_columns * OUTPUT_TILE_SIZE):
            target, residual = _view_as_tiles(target), None if residual is None else _view_as_tiles(residual)
        else:
            tiles = tiles.flatten(2, 3).flatten(3, 4)[:, :, :height, :width]
        if residual is not None:
            torch.add(tiles, residual, out=target)
            tiles = target
        if relu:
            torch.clamp_min(tiles, 0.0, out=target)
        elif residual is None:
            target.copy_(tiles)


def extract_tiles(pixels: Tensor, num_rows: int, num_columns: int) -> Tensor:
    """Pixels (N, T, H, W, C) as overlapping tiles (N, T, rows, columns, 6, 6, C) of a copy with zeros around."""
    below, right = (
        num_rows * OUTPUT_TILE_SIZE + 1 - pixels.shape[2],
        num_columns * OUTPUT_TILE_SIZE + 1 - pixels.shape[3],
    )
    padded = functional.pad(pixels, (0, 0, 1, right, 1, below))
    return (
        padded.unfold(2, INPUT_TILE_SIZE, OUTPUT_TILE_SIZE).unfold(3, INPUT_TILE_SIZE, OUTPUT_TILE_SIZE).movedim(4, -1)
    )


def _iterate_slices(length: int, max_size: int) -> Iterator[slice]:
    """Slices of one length, at most `most` (but 1 at least), over all of `length`; the last one may overlap."""
    size = -(-length // -(-length // max(1, min(max_size, length))))
    for begin in range(0, length, size):
        first = min(begin, length - size)
        yield slice(first, first + size)


def _view_as_tiles(pixels: Tensor) -> Tensor:
    """(n, T, H, W, K) as (n, T, rows, 4, columns, 4, K)."""
    return torch.unflatten(torch.unflatten(pixels, 3, (-1, OUTPUT_TILE_SIZE)), 2, (-1, OUTPUT_TILE_SIZE))


def convolve_winograd(maps: Tensor, weight: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
    """Frames (F, C, H, W) and (K, C, 3, 3), or clips (N, C, T, H, W) and (K, C, t, 3, 3); stride and padding in time.

    The same as conv2d or conv3d up to rounding, gradients and theirs included. Channels lie last in what enters and leaves.
    """
    outputs: Tensor = _WinogradFunction.apply(maps, weight, stride, padding)  # type: ignore[no-untyped-call]
    return outputs


class _WinogradFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(maps, weight)
        ctx.stride, ctx.padding = stride, padding
        return _convolve(maps, weight, stride, padding)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        maps, weight = ctx.saved_tensors
        needs_maps_gradient, needs_weight_gradient = ctx.needs_input_grad[:2]
        # A stride in time, and what is to be differentiated again, is left to torch.
        uses_winograd = needs_maps_gradient and ctx.stride == 1 and not torch.is_grad_enabled()
        has_time = maps.dim() == 5
        strides, paddings = ([ctx.stride] * has_time + [1, 1], [ctx.padding] * has_time + [1, 1])
        maps_gradient, weight_gradient, _ = torch.ops.aten.convolution_backward(
            grad_output, maps, weight, None, strides, paddings, [1] * len(strides), False, [0] * len(strides), 1,
            (needs_maps_gradient and not uses_winograd, needs_weight_gradient, False),
        )  # fmt: skip
        if uses_winograd:
            flipped = weight.transpose(0, 1).flip(*range(2, weight.dim()))
            padding = weight.shape[2] - 1 - ctx.padding if has_time else 0
            maps_gradient = _convolve(_to_channels_last(grad_output), flipped, 1, padding)
        return maps_gradient, weight_gradient, None, None


def _convolve(maps: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    if maps.dim() == 5:
        return WinogradConvolution(transform_filters(weight))(maps, stride=stride, padding=padding)
    convolve = WinogradConvolution(transform_filters(weight.unsqueeze(2)))
    return convolve(maps.unsqueeze(2), stride=1, padding=0).squeeze(2)


def _to_channels_last(maps: Tensor) -> Tensor:
    return maps.contiguous(memory_format=torch.channels_last if maps.dim() == 4 else torch.channels_last_3d)
