"""A network with 2-D convolutions only, for runtimes without 3-D ones (ExecuTorch, many mobile engines).

Input: a `VideoResNet`. Output: a module with the same logits in evaluation mode, up to rounding. A t x k x k convolution
becomes a 2-D one over single frames, with each frame's t neighbours as additional channels; batch norm is folded into it. Maps
are (N * T, C, H, W) from the stem to the pool, so only the first reshape and the last mean have five dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from muybridge.inference.folded import fold_batch_norm
from muybridge.models.network import ConvolutionStep, ResidualBlock, VideoResNet, list_convolution_steps


def move_frames_to_channels(weight: Tensor) -> Tensor:
    """(out, in, t, k, k) -> (out, t * in, k, k), for frames with their neighbours as additional channels."""
    return weight.permute(0, 2, 1, 3, 4).flatten(1, 2)


def check_pools_per_frame(network: VideoResNet) -> None:
    """Raise ValueError for a network with a max-pool over time, which has no 2-D form here."""
    if network.specification.stem_pool_time_stride != 1:
        raise ValueError(
            f"this {network.specification.name} has a max-pool over time after its stem, which has no form in 2-D; "
            "leave out --two-dimensional"
        )


class TwoDimensionalConvolution(nn.Module):
    """A 3-D convolution, batch norm and perhaps ReLU as one 2-D convolution with a bias."""

    def __init__(self, step: ConvolutionStep) -> None:
        super().__init__()
        convolution = step.convolution
        self.time_kernel = convolution.kernel_size[0]
        self.time_stride, *stride = convolution.stride
        assert not isinstance(convolution.padding, str), "padding is three numbers"
        self.time_padding, *padding = convolution.padding
        self.stride, self.padding = tuple(stride), tuple(padding)
        weight, bias = fold_batch_norm(step)
        self.weight = nn.Parameter(move_frames_to_channels(weight))
        self.bias = nn.Parameter(bias)
        self.relu = step.relu

    def forward(self, maps: Tensor, length: int) -> tuple[Tensor, int]:
        """Frames (N * T, C, H, W) of clips of T = `length` -> (N * T', C', H', W'), T'."""
        out_length = (length + 2 * self.time_padding - self.time_kernel) // self.time_stride + 1
        if (self.time_kernel, self.time_stride) != (1, 1):
            clips = torch.unflatten(maps, 0, (-1, length)).flatten(2)  # (N, T, C * H * W)
            clips = functional.pad(clips, (0, 0, self.time_padding, self.time_padding))
            last = self.time_stride * (out_length - 1) + 1
            shifted = [clips[:, shift : shift + last : self.time_stride] for shift in range(self.time_kernel)]
            stacked = torch.cat(shifted, dim=2)  # (N, T', t * C * H * W)
            maps = stacked.reshape(-1, self.time_kernel * maps.shape[1], maps.shape[2], maps.shape[3])
        maps = functional.conv2d(maps, self.weight, self.bias, self.stride, self.padding)
        return functional.relu(maps) if self.relu else maps, out_length


class TwoDimensionalChain(nn.ModuleList):
    """Convolutions, one after another."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(TwoDimensionalConvolution(step) for step in list_convolution_steps(*modules))

    def forward(self, maps: Tensor, length: int) -> tuple[Tensor, int]:
        """As `TwoDimensionalConvolution`."""
        for convolution in self:
            maps, length = convolution(maps, length)
        return maps, length


class TwoDimensionalBlock(nn.Module):
    """A `ResidualBlock`."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.convolutions = TwoDimensionalChain(*block.convolutions)
        self.shortcut = None if block.downsample is None else TwoDimensionalChain(block.downsample)

    def forward(self, maps: Tensor, length: int) -> tuple[Tensor, int]:
        """As `TwoDimensionalConvolution`."""
        residual = maps if self.shortcut is None else self.shortcut(maps, length)[0]
        out, length = self.convolutions(maps, length)
        return functional.relu(out + residual), length


class TwoDimensionalNetwork(nn.Module):
    """The result of `convert_to_two_dimensional`."""

    def __init__(self, network: VideoResNet) -> None:
        super().__init__()
        stem, blocks, self.fc = network.split()
        self.stem = TwoDimensionalChain(stem)
        self.stem_pool = network.specification.stem_pool
        self.blocks = nn.ModuleList(TwoDimensionalBlock(block) for block in blocks)

    def forward(self, clips_ncthw: Tensor) -> Tensor:
        """Clips (N, C, T, H, W) -> logits (N, classes)."""
        length = clips_ncthw.shape[2]
        maps, length = self.stem(clips_ncthw.transpose(1, 2).flatten(0, 1), length)
        if self.stem_pool:
            maps = functional.max_pool2d(maps, 3, 2, 1)
        for block in self.blocks:
            maps, length = block(maps, length)
        features = torch.unflatten(maps.mean(dim=(2, 3)), 0, (-1, length)).mean(dim=1)
        logits: Tensor = self.fc(features)
        return logits


def convert_to_two_dimensional(network: VideoResNet) -> TwoDimensionalNetwork:
    """Return a copy of `network` for inference on the CPU without 3-D convolutions; it shares the classifier's weights.

    ValueError for a network with a max-pool over time.
    """
    check_pools_per_frame(network)
    return TwoDimensionalNetwork(network).eval()
