"""How a convolution is executed, apart from how it is stored.

Enters: clips (N, C, T, H, W) and the 5-D weight of a bias-free `nn.Conv3d`. Leaves: the same maps whatever the form, up to
rounding. In channels-last memory (N, T, H, W, C) a 1 x k x k convolution is a 2-D one on a free view of the frames and a
t x 1 x 1 convolution a 2-D one on a free view of the pixels, and torch's 2-D kernels are better than its 3-D ones for such
filters. `choose_form` is the one place that decides which form runs.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Execution = Literal["fast", "plain"]
Form = Literal["frames", "pixels", "conv3d"]
Triple = tuple[int, int, int]  # time, height, width
Triples = tuple[int, ...]  # the same, as nn.Conv3d types it


class Convolution3d(nn.Conv3d):
    """A bias-free `nn.Conv3d` in parameters and result. `execution` is how it runs: "plain" is torch's own conv3d."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: Triple, stride: Triple = (1, 1, 1), padding: Triple
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.execution: Execution = "fast"

    def forward(self, clips: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, out_channels, T', H', W'), in channels-last memory unless "plain"."""
        if self.execution == "plain":
            return super().forward(clips)
        assert not isinstance(self.padding, str), "padding is three numbers"
        # The first convolution lays the clips out; batch norm, ReLU and sums keep that layout through the network.
        clips = clips.contiguous(memory_format=torch.channels_last_3d)
        match choose_form(self.kernel_size, self.stride, self.padding):
            case "frames":
                return convolve_frames(clips, self.weight, stride=self.stride, padding=self.padding)
            case "pixels":
                return convolve_pixels(clips, self.weight, stride=self.stride, padding=self.padding)
            case "conv3d":
                return super().forward(clips)


def choose_form(kernel: Triples, stride: Triples, padding: Triples) -> Form:
    """The form that is measured fastest: (2+1)D gains most, and full 3-D filters gain by the memory layout alone."""
    per_frame = (kernel[0], stride[0], padding[0]) == (1, 1, 0)
    per_pixel = (kernel[1:], stride[1:], padding[1:]) == ((1, 1), (1, 1), (0, 0))
    if per_frame == per_pixel:  # neither: full 3-D or a strided shortcut; both: 1 x 1 x 1
        return "conv3d"
    return "frames" if per_frame else "pixels"


def convolve_frames(clips: Tensor, weight: Tensor, *, stride: Triples, padding: Triples) -> Tensor:
    """A 1 x k x k convolution, frame by frame. Channels-last clips (N, C, T, H, W) are not copied."""
    # Flattening (N, T, H, W, C) and not (N, C, T, H, W): for N = 1 the latter leaves a batch stride by which torch no
    # longer sees that channels lie last, and it would copy the clip (measured: a sixth of R(2+1)D's time).
    pixels = clips.permute(0, 2, 3, 4, 1)  # (N, T, H, W, C)
    frames = pixels.flatten(0, 1).permute(0, 3, 1, 2)  # (N*T, C, H, W)
    maps = functional.conv2d(frames, weight.squeeze(2), None, stride[1:], padding[1:])  # (N*T, C', H', W')
    return torch.unflatten(maps.permute(0, 2, 3, 1), 0, pixels.shape[:2]).permute(0, 4, 1, 2, 3)


def convolve_pixels(clips: Tensor, weight: Tensor, *, stride: Triples, padding: Triples) -> Tensor:
    """A t x 1 x 1 convolution, pixel by pixel. Channels-last clips (N, C, T, H, W) are not copied."""
    pixels = clips.permute(0, 2, 3, 4, 1)  # (N, T, H, W, C)
    rows = pixels.flatten(2, 3).permute(0, 3, 1, 2)  # (N, C, T, H*W)
    maps = functional.conv2d(rows, weight.squeeze(4), None, (stride[0], 1), (padding[0], 0))  # (N, C', T', H*W)
    return torch.unflatten(maps.permute(0, 2, 3, 1), 2, pixels.shape[2:4]).permute(0, 4, 1, 2, 3)


def set_execution(net: nn.Module, execution: Execution) -> None:
    """Run every convolution of `net` as `execution` says: "plain" is the reference that tests compare with."""
    for module in net.modules():
        if isinstance(module, Convolution3d):
            module.execution = execution
