"""The stem's convolution over blocks of 2x2 pixels, for GPUs.

Input: clips (N, C, T, H, W) of at most four channels and a weight (C', C, t, 7, 7) with stride 2 and padding 3 in height and
width. A block's pixels become its channels, a row and a column of zeros are put before the filters, and the convolution is one
with stride 1 of (C', 4 C, t, 4, 4): the same sums, over enough channels for tensor cores (channels are padded to a multiple of
8). The border is written into the blocks, so that no padding is left to do.

    x index 2 i + k - 3, k = 0..6   =   2 (i + a - 2) + p,   k + 1 = 2 a + p,   a = 0..3, p = 0, 1
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from muybridge.kernels.forms import IntTuple

_MAX_CHANNELS = 4
_BORDER = 2  # blocks before the first pixel


def has_blocks(weight_shape: IntTuple, stride: IntTuple, padding: IntTuple) -> bool:
    """Whether a convolution, with (time, height, width), can run over blocks."""
    in_channels, kernel_size = weight_shape[1], weight_shape[3:]
    return (*kernel_size, *stride[1:], *padding[1:]) == (7, 7, 2, 2, 3, 3) and in_channels <= _MAX_CHANNELS


def to_blocks(clips: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, C, T, H, W) -> channels-last (N, 4 C'', T, H'' + 3, W'' + 3), C'' even, H'' = (H + 1) // 2. Without gradients."""
    num_clips, num_channels, num_frames, height, width = clips.shape
    if height % 2 or width % 2:
        return to_blocks(functional.pad(clips, (0, width % 2, 0, height % 2)), dtype)
    rows, columns = height // 2, width // 2
    shape = (num_clips, num_frames, rows + 3, columns + 3, 2, 2, num_channels + num_channels % 2)
    blocks = torch.zeros(shape, dtype=dtype, device=clips.device)
    pixels = torch.unflatten(torch.unflatten(clips.detach(), 4, (columns, 2)), 3, (rows, 2))
    blocks[:, :, _BORDER : _BORDER + rows, _BORDER : _BORDER + columns, :, :, :num_channels] = pixels.permute(
        0, 2, 3, 5, 4, 6, 1
    )
    return blocks.flatten(4).permute(0, 4, 1, 2, 3)


def to_block_filters(weight: Tensor) -> Tensor:
    """(C', C, t, 7, 7) -> channels-last (C', 4 C'', t, 4, 4), with gradients."""
    filters = torch.unflatten(torch.unflatten(functional.pad(weight, (1, 0, 1, 0)), 4, (4, 2)), 3, (4, 2))
    filters = functional.pad(filters.permute(0, 2, 3, 5, 4, 6, 1), (0, weight.shape[1] % 2))
    return filters.flatten(4).permute(0, 4, 1, 2, 3)
