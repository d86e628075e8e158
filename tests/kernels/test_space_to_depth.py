"""The stem over blocks of pixels, which a CPU can run as well: values and gradients of torch's conv3d."""

import pytest
import torch
from torch.nn import functional

from muybridge.kernels.cuda import ConvolutionGeometry, convolve_blocks
from muybridge.kernels.space_to_depth import has_blocks, to_block_filters, to_blocks


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(8, 12), (7, 9), (1, 2), (17, 16)])
@pytest.mark.parametrize("time", [(1, 1, 0), (3, 1, 1), (3, 2, 1)])
def test_it_is_the_strided_convolution(channels: int, size: tuple[int, int], time: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    taps, stride, padding = time
    clips = torch.randn(2, channels, 4, *size, dtype=torch.float64)
    weight = torch.randn(5, channels, taps, 7, 7, dtype=torch.float64, requires_grad=True)
    geometry = ConvolutionGeometry(tuple(weight.shape), (stride, 2, 2), (padding, 3, 3))
    maps = convolve_blocks(clips, weight, geometry)
    expected = functional.conv3d(clips, weight, None, geometry.stride, geometry.padding)
    torch.testing.assert_close(maps, expected)
    gradient = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad(out, weight, gradient)[0] for out in (maps, expected))
    torch.testing.assert_close(ours, theirs)


def test_memory_is_channels_last_and_channels_are_a_multiple_of_eight() -> None:
    for clips in (torch.randn(2, 3, 4, 8, 6), torch.randn(2, 4, 8, 6, 3).permute(0, 4, 1, 2, 3)):
        blocks = to_blocks(clips, torch.bfloat16)
        assert blocks.shape == (2, 16, 4, 7, 6)
        assert blocks.dtype == torch.bfloat16
        assert blocks.is_contiguous(memory_format=torch.channels_last_3d)
    filters = to_block_filters(torch.randn(5, 3, 1, 7, 7))
    assert filters.shape == (5, 16, 1, 4, 4)
    assert filters.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize(
    ("shape", "stride", "padding", "expected"),
    [
        ((45, 3, 1, 7, 7), (1, 2, 2), (0, 3, 3), True),
        ((64, 2, 3, 7, 7), (1, 2, 2), (1, 3, 3), True),
        ((64, 24, 1, 7, 7), (1, 2, 2), (0, 3, 3), False),
        ((64, 3, 1, 7, 7), (1, 1, 1), (0, 3, 3), False),
        ((64, 3, 1, 3, 3), (1, 2, 2), (0, 1, 1), False),
    ],
)
def test_it_is_for_stems_over_few_channels(
    shape: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], expected: bool
) -> None:
    assert has_blocks(shape, stride, padding) == expected


def test_autocast_decides_the_type() -> None:
    weight = torch.randn(4, 3, 1, 7, 7, requires_grad=True)
    geometry = ConvolutionGeometry(tuple(weight.shape), (1, 2, 2), (0, 3, 3))
    with torch.autocast("cpu", torch.bfloat16):
        maps = convolve_blocks(torch.randn(1, 3, 2, 8, 8), weight, geometry)
    assert maps.dtype == torch.bfloat16
    maps.float().sum().backward()
    assert weight.grad is not None and weight.grad.dtype == torch.float32
