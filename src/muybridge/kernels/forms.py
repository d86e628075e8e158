"""Views of channels-last clips by which a 3-D convolution runs as another one.

In channels-last memory (N, T, H, W, C) a 1 x k x k convolution is a 2-D one on a view of the frames ("frames") and a t x 1 x 1
convolution a 2-D one on a view of the pixels ("pixels"); "conv3d" is the clips themselves.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

ExecutionForm = Literal["frames", "pixels", "conv3d"]
IntTuple = tuple[int, ...]  # (time, height, width), as nn.Conv3d types it


def flatten_clips(clips: Tensor, form: ExecutionForm) -> Tensor:
    """Clips (N, C, T, H, W) as the 4-D view of a form: frames (N*T, C, H, W), pixels (N, C, T, H*W)."""
    # Flatten (N, T, H, W, C) and not (N, C, T, H, W): for N = 1 the latter has a batch stride by which torch does not
    # recognise channels-last, and torch would copy the clip (measured: a sixth of R(2+1)D's time).
    pixels = clips.permute(0, 2, 3, 4, 1)  # (N, T, H, W, C)
    match form:
        case "frames":
            return pixels.flatten(0, 1).permute(0, 3, 1, 2)
        case "pixels":
            return pixels.flatten(2, 3).permute(0, 3, 1, 2)
        case "conv3d":
            return clips


def unflatten_maps(maps: Tensor, clips: Tensor, form: ExecutionForm) -> Tensor:
    """Inverse of `flatten_clips` for the output of a convolution: a view as (N, C', T', H', W')."""
    num_clips, _, num_frames, height, width = clips.shape
    match form:
        case "frames":
            pixels = torch.unflatten(maps.permute(0, 2, 3, 1), 0, (num_clips, num_frames))
        case "pixels":
            pixels = torch.unflatten(maps.permute(0, 2, 3, 1), 2, (height, width))
        case "conv3d":
            return maps
    return pixels.permute(0, 4, 1, 2, 3)
