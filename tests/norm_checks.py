"""Fused batch norm beside float64 autograd. Run as a program it uses Triton's interpreter on the CPU.

`python norm_checks.py` prints one JSON object for every case: the case, and the largest error of output and gradients relative
to the largest expected value. `python norm_checks.py network` does so for whole networks and ways of training, `python
norm_checks.py family` for the batch norms of all networks.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from dataclasses import replace
from itertools import product
from typing import Any

if __name__ == "__main__":
    os.environ["TRITON_INTERPRET"] = "1"  # before the kernels' module is imported

import torch
from torch import Tensor
from torch.nn import functional

# Odd sizes, one clip, one row of pixels, channels that are a multiple of nothing, more channels than a tile, several programs.
SHAPES = (
    *((2, 5, 3, 7, 6), (2, 8, 3, 5, 4), (1, 64, 2, 4, 4), (1, 3, 1, 5, 1)),
    *((2, 130, 1, 3, 5), (3, 45, 2, 9, 9), (1, 1, 1, 2, 1)),
)
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOLERANCES = {"float32": 2e-4, "bfloat16": 2e-2}


def cases() -> list[dict[str, Any]]:
    names = ("shape", "dtype", "residual", "relu", "is_batch_statistics")
    return [dict(zip(names, case, strict=True)) for case in product(SHAPES, TYPES, *[(False, True)] * 3)]


def expected(maps: Tensor, residual: Tensor | None, norm: dict[str, Tensor], *, relu: bool, statistics: Any) -> Tensor:
    """The same in torch's own operators."""
    out = functional.batch_norm(maps, *statistics, norm["weight"], norm["bias"], statistics[0] is None, 0.1, 1e-3)
    out = out if residual is None else out + residual
    return functional.relu(out) if relu else out


def errors_of(case: dict[str, Any], device: str) -> dict[str, float]:
    """The largest relative error of the output and of each gradient."""
    from muybridge.kernels.triton_norm import NormAddRelu, RunningStatistics

    draw = torch.Generator().manual_seed(0)
    shape, dtype, channels = case["shape"], TYPES[case["dtype"]], case["shape"][1]
    layout = {"memory_format": torch.channels_last_3d}
    maps = (torch.randn(shape, generator=draw) * 2 + 30).to(device, dtype).contiguous(**layout)
    residual = torch.randn(shape, generator=draw).to(device, dtype).contiguous(**layout) if case["residual"] else None
    norm = {
        "weight": torch.rand(channels, generator=draw).to(device),
        "bias": torch.randn(channels, generator=draw).to(device),
    }
    gradient = torch.randn(shape, generator=draw).to(device, dtype)
    running = (torch.full((channels,), 30.0), torch.rand(channels, generator=draw) + 1)
    leaves = {"maps": maps, "residual": residual, **norm}
    leaves = {name: tensor.requires_grad_() for name, tensor in leaves.items() if tensor is not None}
    doubles = {name: tensor.detach().double().cpu().requires_grad_() for name, tensor in leaves.items()}

    is_batch = case["is_batch_statistics"]
    statistics = None if is_batch else RunningStatistics(*(value.to(device) for value in running), None)
    out = NormAddRelu.apply(maps, residual, norm["weight"], norm["bias"], statistics, 1e-3, case["relu"], is_batch)
    out.backward(gradient)
    moments = (None, None) if is_batch else [value.double() for value in running]
    reference = expected(doubles["maps"], doubles.get("residual"), doubles, relu=case["relu"], statistics=moments)
    reference.backward(gradient.double().cpu())
    pairs = {"output": (out, reference), **{name: (leaves[name].grad, doubles[name].grad) for name in leaves}}
    return {
        name: float((ours.double().cpu() - theirs).abs().max() / theirs.abs().max().clamp_min(1e-3))
        for name, (ours, theirs) in pairs.items()
    }


def family_channels() -> list[int]:
    """The channels of every batch norm of every network, as stored and as padded for tensor cores."""
    from muybridge.models.family import list_models
    from muybridge.models.network import create_model

    sizes = set()
    for name in list_models():
        if name.endswith(("_18", "_50")):  # other depths repeat their blocks
            with torch.device("meta"):
                modules = create_model(name).modules()
            sizes |= {module.num_features for module in modules if isinstance(module, torch.nn.BatchNorm3d)}
    return sorted(sizes | {number + -number % 8 for number in sizes})


def family_error(channels: int, device: str) -> float:
    """The largest relative error of `apply_norm` on maps that are a view with strides of their own, with gradients."""
    from muybridge.kernels import batch_norm

    draw = torch.Generator().manual_seed(channels)
    whole = torch.randn(2, 2 * channels, 3, 3, 4, generator=draw)
    residual, gradient = (torch.randn(2, channels, 1, 3, 2, generator=draw) for _ in range(2))
    results = []
    for fused in (True, False):
        kind = {"device": device} if fused else {"dtype": torch.float64}
        norm = torch.nn.BatchNorm3d(channels).to(**kind).train()
        leaves = [tensor.to(**kind).requires_grad_() for tensor in (whole, residual)]
        maps = leaves[0][:, ::2, 1:2, :, ::2]  # every other channel and pixel of a frame in the middle
        if fused:
            batch_norm.FUSED_DEVICE_TYPES.add(device)
            out = batch_norm.apply_norm(norm, maps, relu=True, residual=leaves[1])
            batch_norm.FUSED_DEVICE_TYPES.discard("cpu")
            assert "NormAddRelu" in str(out.grad_fn), "torch's operators ran"
        else:
            out = functional.relu(norm(maps) + leaves[1])
        parameters = (norm.weight, norm.bias)
        gradients = torch.autograd.grad(out, (*leaves, *parameters), gradient.to(**kind))
        results.append([out.detach(), *gradients, norm.running_mean, norm.running_var])
    pairs = zip(*results, strict=True)
    return max(float((ours.double().cpu() - theirs).abs().max() / theirs.abs().max()) for ours, theirs in pairs)


def keeps_nan(device: str) -> bool:
    """Whether a value that is not a number leaves ReLU as such: `maximum(x, 0)` would make it 0."""
    from muybridge.kernels.triton_norm import NormAddRelu, RunningStatistics

    maps = torch.ones(1, 2, 1, 2, 2, device=device).contiguous(memory_format=torch.channels_last_3d)
    maps[0, 1, 0, 0, 0] = torch.nan
    one, zero = torch.ones(2, device=device), torch.zeros(2, device=device)
    out = NormAddRelu.apply(maps, None, one, zero, RunningStatistics(zero, one, None), 0.0, True, False)
    return bool(out.isnan().sum() == 1)


NETWORK_CASES = (
    *("plain", "padded", "frozen", "checkpointing"),
    *("accumulation", "bottleneck", "no relu in the middle", "evaluation"),
)
NETWORK_TOLERANCE = 2e-3


def network_of(case: str) -> Any:
    from muybridge.kernels.convolution import set_channel_multiple
    from muybridge.models.family import build_specification
    from muybridge.models.network import VideoResNet

    torch.manual_seed(0)
    extra = {"middle_relu": False} if case == "no relu in the middle" else {}
    spec = build_specification("r2plus1d_10", width=4, num_classes=3, clip_length=4, **extra)
    net = VideoResNet(replace(spec, block="bottleneck") if case == "bottleneck" else spec)
    if case == "padded":
        set_channel_multiple(net, 8)
    net.activation_checkpointing = case == "checkpointing"
    return net


def network_errors(case: str, device: str) -> dict[str, float]:
    """The largest relative error of logits, gradients and running statistics of a step with fused kernels.

    "calls" is how many times the fused kernels ran for each batch norm.
    """
    from muybridge.kernels import batch_norm, triton_norm
    from muybridge.kernels.precision import exact_float32

    fused = network_of(case).to(device)
    reference = copy.deepcopy(fused).double().cpu()
    reference.activation_checkpointing = False
    clips = torch.randn(4, 3, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    apply, calls = triton_norm.NormAddRelu.apply, []
    batch_norm.FUSED_DEVICE_TYPES.add(device)
    triton_norm.NormAddRelu.apply = lambda *values: (calls.append(1), apply(*values))[1]
    try:
        clips_there = clips.to(device)
        assert batch_norm.find_fusion_problem(clips_there.device) is None  # "cuda" is another device than "cuda:0"
        calls.clear()
        with exact_float32(clips_there.device):
            own = step_of(fused, clips_there, case)
    finally:
        triton_norm.NormAddRelu.apply = apply
        batch_norm.FUSED_DEVICE_TYPES.discard("cpu")
    theirs = step_of(reference, clips.double(), case)
    num_norms = sum(isinstance(module, torch.nn.BatchNorm3d) for module in fused.modules())
    errors = {
        name: float((own[name].double().cpu() - value).abs().max() / value.abs().max().clamp_min(1e-2))
        for name, value in theirs.items()
    }
    return {"worst": max(errors.values()), "calls": len(calls) / num_norms}


def step_of(net: Any, clips: Tensor, case: str) -> dict[str, Tensor]:
    """Logits, gradients and buffers after a step."""
    net.train(case != "evaluation")
    if case == "frozen":
        for stage in (net.stem, net.layer1):
            stage.eval().requires_grad_(False)
    for part in clips.chunk(2 if case == "accumulation" else 1):
        logits = net(part)
        functional.cross_entropy(logits, torch.arange(len(part), device=clips.device) % 3).backward()
    gradients = {name: value.grad for name, value in net.named_parameters() if value.grad is not None}
    buffers = {f"buffer {name}": value.clone().float() for name, value in net.named_buffers()}
    return {"logits": logits.detach(), **gradients, **buffers}


if __name__ == "__main__":
    if "family" in sys.argv[1:]:
        for channels in family_channels():
            print(json.dumps({"channels": channels, "error": family_error(channels, "cpu")}), flush=True)
        raise SystemExit
    if "network" in sys.argv[1:]:
        for case in sys.argv[2:] or NETWORK_CASES:
            print(json.dumps({"case": case, **network_errors(case, "cpu")}), flush=True)
        raise SystemExit
    for case in cases():
        print(json.dumps({"case": case, "errors": errors_of(case, "cpu")}))
    print(json.dumps({"keeps_nan": keeps_nan("cpu")}))
