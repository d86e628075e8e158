"""torchvision's video ResNets as an oracle, and a plain evaluation of the same functions that stands in where it is absent."""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-5  # of torchvision's batch norm


@cache
def torchvision_models() -> Any:
    """`torchvision.models.video`, or None where it is not installed.

    Beside a CPU build of torch its package looks for operators that only its CUDA build brings: they are declared first.
    """
    if importlib.util.find_spec("torchvision") is None:
        return None
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _KEPT.append(library)
    import torchvision.models.video

    return torchvision.models.video


_KEPT: list[torch.library.Library] = []  # a library that is collected takes its operators with it


def plain_logits(state: dict[str, Tensor], clips: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Logits of the network whose state dict has torchvision's names, operator by operator, without any of our code."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return functional.batch_norm(
            x, mean, variance, state[f"{name}.weight"], state[f"{name}.bias"], False, 0.0, epsilon
        )

    def conv(x: Tensor, name: str, stride: tuple[int, int, int]) -> Tensor:
        weight = state[f"{name}.weight"]
        padding = tuple(size // 2 for size in weight.shape[2:])
        return functional.conv3d(x, weight, None, stride, padding)

    def maker(x: Tensor, name: str, stride: int) -> Tensor:
        if f"{name}.3.weight" in state:
            x = norm(conv(x, f"{name}.0", (1, stride, stride)), f"{name}.1").relu()
            return conv(x, f"{name}.3", (stride, 1, 1))
        return conv(x, name, (stride if state[f"{name}.weight"].shape[2] == 3 else 1, stride, stride))

    x = norm(conv(clips, "stem.0", (1, 2, 2)), "stem.1").relu()
    if "stem.3.weight" in state:
        x = norm(conv(x, "stem.3", (1, 1, 1)), "stem.4").relu()
    for stage in (1, 2, 3, 4):
        block = 0
        while f"layer{stage}.{block}.conv1.1.weight" in state:
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = norm(maker(x, f"{name}.conv1.0", stride), f"{name}.conv1.1").relu()
            y = norm(maker(y, f"{name}.conv2.0", 1), f"{name}.conv2.1")
            if f"{name}.downsample.0.weight" in state:
                time = y.shape[2] != x.shape[2] or x.shape[2] == 1
                strides = (2 if time and stride == 2 and y.shape[2] < x.shape[2] else 1, stride, stride)
                x = norm(conv(x, f"{name}.downsample.0", strides), f"{name}.downsample.1")
            x = (x + y).relu()
            block += 1
    return functional.linear(x.mean((2, 3, 4)), state["fc.weight"], state["fc.bias"])


def randomize(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Statistics of batch norm that are not the initial ones, some of them so small that epsilon shows."""
    chance = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            shape = module.running_mean.shape  # type: ignore[union-attr]
            module.running_mean.copy_(torch.randn(shape, generator=chance) * 0.2)  # type: ignore[union-attr, operator]
            module.running_var.copy_(torch.rand(shape, generator=chance) + 0.02)  # type: ignore[union-attr, operator]
            module.num_batches_tracked.fill_(7)  # type: ignore[union-attr, operator]
    return network.eval()
