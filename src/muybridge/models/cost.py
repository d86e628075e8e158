"""Count parameters and multiply-adds of a network, layer by layer.

Input: a network and the size of one clip. Output: exact integers. A copy on the meta device runs once, so nothing is computed
and the network is not changed. Multiply-adds are those of convolutions and the classifier, as the paper and its authors' code
count them (and print as FLOPs), without batch norm, pooling and sums.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from muybridge.kernels.convolution import Triple
from muybridge.kernels.forms import IntTuple

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
    """The cost of one clip."""

    parameters: int  # all: weights, biases, scales and shifts of batch norm
    layers: tuple[LayerCost, ...]  # in the order of execution

    @property
    def weights(self) -> int:
        """Weights of convolutions and the classifier, which the paper's tables count as parameters."""
        return sum(layer.weights for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of convolutions and the classifier."""
        return sum(layer.multiply_adds for layer in self.layers)


def cost(net: nn.Module, clip_cthw: tuple[int, int, int, int]) -> Cost:
    """Count parameters and multiply-adds of `net` for one clip of size (C, T, H, W), such as (3, 16, 112, 112).

    ValueError if the network does not take such a clip.
    """
    if len(clip_cthw) != 4 or min(clip_cthw) < 1:
        raise ValueError(f"the size of a clip must be (C, T, H, W), all at least 1, not {tuple(clip_cthw)}")
    meta_net = _copy_to_meta(net).eval()
    layers: list[LayerCost] = []
    for name, module in meta_net.named_modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            module.register_forward_hook(
                lambda layer, _, output, name=name: layers.append(_compute_layer_cost(name, layer, output))
            )
        elif isinstance(module, nn.BatchNorm3d):
            # It keeps the shape, and torch decomposes it in Python on the meta device, which is most of the time of a count.
            module.forward = lambda clips: clips  # type: ignore[assignment, method-assign]
    dtype = next(meta_net.parameters()).dtype
    with torch.no_grad():
        meta_net(torch.empty(1, *clip_cthw, dtype=dtype, device="meta"))
    return Cost(parameters=sum(p.numel() for p in meta_net.parameters()), layers=tuple(layers))


def _copy_to_meta(net: nn.Module) -> nn.Module:
    """Copy `net` to the meta device without copying its data first."""
    tensors = [*net.parameters(), *net.buffers()]
    # deepcopy looks up copies in its memo: with every tensor in it, no data is copied.
    memo: dict[int, object] = {id(tensor): _make_meta_tensor(tensor) for tensor in tensors}
    return copy.deepcopy(net, memo)


def _make_meta_tensor(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _compute_layer_cost(name: str, layer: nn.Conv3d | nn.Linear, output: Tensor) -> LayerCost:
    """The cost of one layer, from the shape of its output, (1, C, T, H, W) or (1, classes)."""
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
