"""The same network with 2-D convolutions alone, for runtimes that have no others (ExecuTorch, many mobile engines).

Enters: a `VideoResNet`. Leaves: a module that computes the same in evaluation mode, up to rounding. A t x k x k convolution is
a 2-D one over single frames, each with its t neighbours laid side by side as channels; batch norm, a fixed scale and shift
in evaluation, is folded into it. Maps stay (N * T, C, H, W) from the stem to the pool, so no operator sees five dimensions
but the change from clips to frames and the mean at the end.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from muybridge.models.network import BasicBlock, BottleneckBlock, VideoResNet


def fold_batch_norm(convolution: nn.Conv3d, norm: nn.BatchNorm3d) -> tuple[Tensor, Tensor]:
    """Weight (out, in, t, k, k) and bias (out,) of the convolution that does what both do in evaluation mode."""
    assert norm.running_mean is not None and norm.running_var is not None, "batch norm keeps statistics"
    with torch.no_grad():
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        return convolution.weight * scale[:, None, None, None, None], norm.bias - norm.running_mean * scale


def move_frames_to_channels(weight: Tensor) -> Tensor:
    """(out, in, t, k, k) -> (out, t * in, k, k), for frames with their neighbours laid side by side as channels."""
    return weight.permute(0, 2, 1, 3, 4).flatten(1, 2)


def list_convolutions_with_norms(module: nn.Module) -> list[tuple[nn.Conv3d, nn.BatchNorm3d, bool]]:
    """The convolutions of a stem, a shortcut or a block's path in order, each with its batch norm, and whether ReLU follows."""
    layers = [part for part in module.modules() if not any(part.children())]
    steps = []
    for index, convolution in enumerate(layers):
        if isinstance(convolution, nn.Conv3d):
            norm, following = layers[index + 1], layers[index + 2 : index + 3]
            assert isinstance(norm, nn.BatchNorm3d), "a convolution is followed by batch norm"
            steps.append((convolution, norm, any(isinstance(part, nn.ReLU) for part in following)))
    return steps


def build_block_path(block: BasicBlock | BottleneckBlock) -> nn.Sequential:
    """What a block adds to what entered it."""
    return nn.Sequential(block.conv1, block.conv2, *([block.conv3] if isinstance(block, BottleneckBlock) else []))


def list_residual_blocks(network: VideoResNet) -> list[BasicBlock | BottleneckBlock]:
    """The blocks of conv2 to conv5 in order."""
    stages = (network.layer1, network.layer2, network.layer3, network.layer4)
    return [block for stage in stages for block in stage if isinstance(block, BasicBlock | BottleneckBlock)]


class TwoDimensionalConvolution(nn.Module):
    """A bias-free `nn.Conv3d` and the batch norm after it, as one 2-D convolution with a bias."""

    def __init__(self, convolution: nn.Conv3d, norm: nn.BatchNorm3d) -> None:
        super().__init__()
        self.time_kernel = convolution.kernel_size[0]
        self.time_stride, *stride = convolution.stride
        assert not isinstance(convolution.padding, str), "padding is three numbers"
        self.time_padding, *padding = convolution.padding
        self.stride, self.padding = tuple(stride), tuple(padding)
        weight, bias = fold_batch_norm(convolution, norm)
        self.weight = nn.Parameter(move_frames_to_channels(weight))
        self.bias = nn.Parameter(bias)

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
        return functional.conv2d(maps, self.weight, self.bias, self.stride, self.padding), out_length


class TwoDimensionalPath(nn.Module):
    """A sequence of convolutions with batch norm, and ReLU where the sequence has it."""

    def __init__(self, modules: nn.Module) -> None:
        super().__init__()
        found = list_convolutions_with_norms(modules)
        self.steps = nn.ModuleList(TwoDimensionalConvolution(convolution, norm) for convolution, norm, _ in found)
        self.relus = [relu for _, _, relu in found]

    def forward(self, maps: Tensor, length: int) -> tuple[Tensor, int]:
        """As `TwoDimensionalConvolution`."""
        for step, relu in zip(self.steps, self.relus, strict=True):
            maps, length = step(maps, length)
            if relu:
                maps = functional.relu(maps)
        return maps, length


class TwoDimensionalBlock(nn.Module):
    """A residual block."""

    def __init__(self, block: BasicBlock | BottleneckBlock) -> None:
        super().__init__()
        self.path = TwoDimensionalPath(build_block_path(block))
        self.shortcut = None if block.downsample is None else TwoDimensionalPath(block.downsample)

    def forward(self, maps: Tensor, length: int) -> tuple[Tensor, int]:
        """As `TwoDimensionalConvolution`."""
        residual = maps if self.shortcut is None else self.shortcut(maps, length)[0]
        out, length = self.path(maps, length)
        return functional.relu(out + residual), length


class TwoDimensionalNetwork(nn.Module):
    """What `two_dimensional` makes."""

    def __init__(self, network: VideoResNet) -> None:
        super().__init__()
        self.stem = TwoDimensionalPath(network.stem)
        self.stem_pool = network.specification.stem_pool
        self.blocks = nn.ModuleList(TwoDimensionalBlock(block) for block in list_residual_blocks(network))
        self.fc = network.fc

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
    """A copy of `network` for inference, on the CPU, without 3-D convolutions; `network` stays as it is."""
    return TwoDimensionalNetwork(network).eval()
