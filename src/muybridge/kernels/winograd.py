"""Winograd's algorithm F(4x4, 3x3) on a CPU: 3x3 convolutions with a quarter of the multiplications.

Input: clips (N, C, T, H, W) and the weight of a t x 3 x 3 convolution of spatial stride 1. Output: its maps, up to rounding.
Four outputs of a filter of three taps take six products of transformed inputs and filters (Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", 2016); in two dimensions a tile of 4x4 outputs takes 36 products instead of 144:

    tiles of 6x6 pixels     (frames, tiles, 36, C)   at every fourth pixel, overlapping by two
    B . tile                (frames, tiles, 36, C)   transformed inputs
    grouped convolution     (frames, tiles, 36, K)   36 groups, each a matrix C x K with t taps in time
    A . products            (frames, tiles, 16, K)   4x4 outputs

All arithmetic is in torch's kernels. Tiles are processed in chunks that fit the cache. In training, the gradient of the input
is computed in the same way, and the gradient of the weight by torch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from muybridge.kernels.transforms import is_transformed, map_over_batch

OUTPUT_TILE_SIZE = 4  # side of a tile of outputs
INPUT_TILE_SIZE = OUTPUT_TILE_SIZE + 2  # side of its tile of inputs
# Polynomials are evaluated at these points and at infinity; they have the smallest rounding error (Barabasz et al., "Error
# analysis and improving the accuracy of Winograd convolution for deep neural networks", 2020, F(4, 3)).
INTERPOLATION_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
INDEX_OF_ONE = INTERPOLATION_POINTS.index(1.0)

# Measured (docs/performance.md): below these, the transforms or the four times larger filters cost more than is saved.
MIN_REUSE = 38.0  # multiplications for each transformed number: that of 64 to 96 channels with one tap in time
CHANNEL_MULTIPLE = 16  # oneDNN's grouped kernels are slow for others
MIN_TILES_PER_CLIP = 32
MIN_TILE_FILL = 0.75  # share of output pixels that exist: maps of 5x5 pixels took twice as long
MIN_TILES_PER_STEP = 256  # of a batch in training, where filters are transformed in every step
CHUNK_BYTES = 8 * 2**20  # of transformed inputs and products


def is_applicable(weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]) -> bool:
    """Whether a convolution with this weight (K, C, t, k, k) can use the algorithm and has enough channels to gain."""
    out_channels, in_channels, taps = weight.shape[:3]
    has_shape = (*weight.shape[3:], *stride[1:], *padding[1:]) == (3, 3, 1, 1, 1, 1)
    reuse = taps * out_channels * in_channels / (out_channels + in_channels)
    return has_shape and reuse >= MIN_REUSE and out_channels % CHANNEL_MULTIPLE == 0 == in_channels % CHANNEL_MULTIPLE


def _count_tiles(clips: Tensor) -> tuple[int, int]:
    """The number of rows and columns of tiles in a frame of clips (N, C, T, H, W)."""
    return -(-clips.shape[3] // OUTPUT_TILE_SIZE), -(-clips.shape[4] // OUTPUT_TILE_SIZE)


def is_worthwhile(clips: Tensor) -> bool:
    """Whether the frames of clips (N, C, T, H, W) are large enough and fill their tiles, for any N."""
    tiles = math.prod(_count_tiles(clips))
    fill = clips.shape[3] * clips.shape[4] / (OUTPUT_TILE_SIZE**2 * tiles)
    return clips.shape[2] * tiles >= MIN_TILES_PER_CLIP and fill >= MIN_TILE_FILL


def is_worthwhile_in_training(clips: Tensor) -> bool:
    """The same for filters that are transformed for this call only."""
    return (
        is_worthwhile(clips) and clips.shape[0] * clips.shape[2] * math.prod(_count_tiles(clips)) >= MIN_TILES_PER_STEP
    )


@functools.cache
def build_transforms() -> tuple[Tensor, Tensor, Tensor]:
    """A (4, 6), G (6, 3) and B (6, 6) in float64: A @ ((G @ filter) * (B @ inputs)) are the 4 outputs of 3 taps over 6 inputs.

    The transposed Toom-Cook algorithm: evaluation at `INTERPOLATION_POINTS`, products, interpolation.
    """

    def evaluate_polynomials(num_coefficients: int) -> Tensor:
        powers = [[point**power for power in range(num_coefficients)] for point in INTERPOLATION_POINTS]
        at_infinity = [0.0] * (num_coefficients - 1) + [1.0]
        return torch.tensor([*powers, at_infinity], dtype=torch.float64)

    # The divisors of interpolation are applied to the filters, which are transformed once.
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
    """Filters (K, C, t, 3, 3) -> (36 K, C, t, 1), in the dtype of `weight`."""
    _, filter_transform, _ = build_transforms()
    squares = torch.kron(filter_transform, filter_transform).to(weight.dtype)  # (36, 9)
    return torch.mm(squares, weight.reshape(-1, 9).t()).view(-1, *weight.shape[1:3], 1)


class WinogradConvolution:
    """A convolution with the result of `transform_filters` and an optional bias (K,)."""

    def __init__(self, filters: Tensor, bias: Tensor | None = None) -> None:
        outputs, _, inputs = build_transforms()
        self._filters = filters
        self._out_channels, self._num_taps = len(filters) // INPUT_TILE_SIZE**2, filters.shape[2]
        self._input_transform = torch.kron(inputs, inputs).to(filters.dtype)  # (36, 36)
        self._output_transform = torch.kron(outputs, outputs).to(filters.dtype)  # (16, 36)
        self._product_bias: Tensor | None = None
        if bias is not None:
            # Every output contains the product at the point (1, 1) with factor 1: what is added there is added to each output.
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
        num_rows, num_columns = _count_tiles(clips)
        out_frames = (num_frames + 2 * padding - self._num_taps) // stride + 1
        maps = pixels.new_empty(num_clips, out_frames, height, width, self._out_channels)
        channels = pixels.shape[-1] + self._out_channels
        row_bytes = INPUT_TILE_SIZE**2 * channels * pixels.element_size() * num_frames * num_columns
        max_rows = CHUNK_BYTES // row_bytes
        for clip_slice in _iterate_slices(num_clips, max_rows // num_rows):
            tiles = _extract_tiles(pixels[clip_slice], num_rows, num_columns)
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
        """Transform products to outputs, written to `target` (n, T', H, W, K)."""
        num_rows, num_columns = products.shape[2:4]
        flat_products = products.flatten(0, 3)
        outputs = torch.bmm(self._output_transform.expand(len(flat_products), -1, -1), flat_products)
        tiles = outputs.view(*products.shape[:4], OUTPUT_TILE_SIZE, OUTPUT_TILE_SIZE, -1)
        tiles = tiles.transpose(3, 4)  # (n, T', rows, 4, columns, 4, K)
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


def _extract_tiles(pixels: Tensor, num_rows: int, num_columns: int) -> Tensor:
    """Pixels (N, T, H, W, C) -> overlapping tiles (N, T, rows, columns, 6, 6, C), a view of a zero-padded copy."""
    bottom = num_rows * OUTPUT_TILE_SIZE + 1 - pixels.shape[2]
    right = num_columns * OUTPUT_TILE_SIZE + 1 - pixels.shape[3]
    padded = functional.pad(pixels, (0, 0, 1, right, 1, bottom))
    rows = padded.unfold(2, INPUT_TILE_SIZE, OUTPUT_TILE_SIZE)
    return rows.unfold(3, INPUT_TILE_SIZE, OUTPUT_TILE_SIZE).movedim(4, -1)


def _iterate_slices(length: int, max_size: int) -> Iterator[slice]:
    """Slices of equal size, at most `max_size` but at least 1, that cover `length`; the last one may overlap."""
    size = -(-length // -(-length // max(1, min(max_size, length))))
    for begin in range(0, length, size):
        first = min(begin, length - size)
        yield slice(first, first + size)


def _view_as_tiles(pixels: Tensor) -> Tensor:
    """(n, T, H, W, K) as (n, T, rows, 4, columns, 4, K)."""
    return torch.unflatten(torch.unflatten(pixels, 3, (-1, OUTPUT_TILE_SIZE)), 2, (-1, OUTPUT_TILE_SIZE))


def convolve_winograd(maps: Tensor, weight: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
    """Frames (F, C, H, W) and (K, C, 3, 3), or clips (N, C, T, H, W) and (K, C, t, 3, 3); stride and padding in time.

    Equal to conv2d or conv3d up to rounding, differentiable any number of times. Input and output are channels-last.
    """
    outputs: Tensor = _WinogradFunction.apply(maps, weight, stride, padding)  # type: ignore[no-untyped-call]
    return outputs


class _WinogradFunction(torch.autograd.Function):
    @staticmethod
    def forward(maps: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        return _convolve(maps, weight, stride, padding)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, int], output: Tensor) -> None:
        """Keep what `backward` needs; apart from `forward`, as torch.func requires."""
        maps, weight, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(maps, weight)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], maps: Tensor, weight: Tensor, stride: int, padding: int
    ) -> tuple[Tensor, int]:
        """The convolution under torch.func.vmap."""

        def convolve(maps: Tensor, weight: Tensor) -> Tensor:
            return convolve_winograd(maps, weight, stride=stride, padding=padding)

        return map_over_batch(convolve, info.batch_size, in_dims, maps, weight)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        maps, weight = ctx.saved_tensors
        needs_maps_gradient, needs_weight_gradient = ctx.needs_input_grad[:2]
        # torch computes the gradient for a stride in time, under torch.func, and if it is to be differentiated again.
        uses_winograd = needs_maps_gradient and ctx.stride == 1 and not torch.is_grad_enabled() and not is_transformed()
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
