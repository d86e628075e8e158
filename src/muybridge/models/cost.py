"""What a network costs: parameters and multiply-adds, layer by layer.

Enters: a network and the size of one clip. Leaves: exact integers. A copy without data (torch's meta device) is run once,
so nothing is computed and the network itself is not touched. Multiply-adds are those of convolutions and the classifier,
as the paper and its authors' code count them (they print them as FLOPs); batch norm, pooling and sums are left out.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from muybridge.kernels.convolution import IntTuple, Triple

LayerKind = Literal["convolution", "linear"]


@dataclass(frozen=True)
class LayerCost:
    """One convolution or linear layer, for one clip."""

    name: str  # as in the state dict: "layer1.0.conv1.0"
    kind: LayerKind
    kernel: IntTuple  # time, height, width; (1, 1, 1) for a linear layer, as is the stride
    stride: IntTuple
    output_cthw: tuple[int, ...]  # channels, time, height, width; (classes, 1, 1, 1) for a linear layer
    weights: int
    parameters: int  # weights and biases
    multiply_adds: int


@dataclass(frozen=True)
class Cost:
    """What one clip costs."""

    parameters: int  # all that is learned: weights, biases, batch norm's scales and shifts
    layers: tuple[LayerCost, ...]  # in the order of execution

    @property
    def weights(self) -> int:
        """Weights of convolutions and the classifier alone: what the paper's tables count as parameters."""
        return sum(layer.weights for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Of convolutions and the classifier."""
        return sum(layer.multiply_adds for layer in self.layers)


def cost(net: nn.Module, clip_cthw: tuple[int, int, int, int]) -> Cost:
    """Count `net` for one clip of size (C, T, H, W), such as (3, 16, 112, 112).

    ValueError where the network cannot take such a clip.
    """
    if len(clip_cthw) != 4 or min(clip_cthw) < 1:
        raise ValueError(f"a clip's size is (C, T, H, W), all at least 1, not {tuple(clip_cthw)}")
    meta_net = copy_to_meta(net).eval()
    layers: list[LayerCost] = []
    for name, module in meta_net.named_modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            module.register_forward_hook(
                lambda layer, _, output, name=name: layers.append(compute_layer_cost(name, layer, output))
            )
        elif isinstance(module, nn.BatchNorm3d):
            # It keeps the shape, and on the meta device torch takes it apart in Python: most of the time of a count.
            module.forward = lambda clips: clips  # type: ignore[assignment, method-assign]
    dtype = next(meta_net.parameters()).dtype
    with torch.no_grad():
        meta_net(torch.empty(1, *clip_cthw, dtype=dtype, device="meta"))
    return Cost(parameters=sum(p.numel() for p in meta_net.parameters()), layers=tuple(layers))


def copy_to_meta(net: nn.Module) -> nn.Module:
    """A copy of `net` on the meta device: shapes, no numbers, and no memory for them at any time."""
    tensors = [*net.parameters(), *net.buffers()]
    # deepcopy takes from its memo what is already copied: here every tensor, so that data is never duplicated.
    memo: dict[int, object] = {id(tensor): _make_meta_tensor(tensor) for tensor in tensors}
    return copy.deepcopy(net, memo)


def _make_meta_tensor(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def compute_layer_cost(name: str, layer: nn.Conv3d | nn.Linear, output: Tensor) -> LayerCost:
    """The cost of one layer from the shape of what it gave, (1, C, T, H, W) or (1, classes)."""
    one: Triple = (1, 1, 1)
    is_convolution = isinstance(layer, nn.Conv3d)
    positions = math.prod(output.shape[2:])  # 1 for a linear layer
    weights = layer.weight.numel()
    return LayerCost(
        name=name,
        kind="convolution" if is_convolution else "linear",
        kernel=layer.kernel_size if isinstance(layer, nn.Conv3d) else one,
        stride=layer.stride if isinstance(layer, nn.Conv3d) else one,
        output_cthw=(*output.shape[1:], *one)[:4],
        weights=weights,
        parameters=sum(parameter.numel() for parameter in layer.parameters()),
        multiply_adds=weights * positions,
    )
