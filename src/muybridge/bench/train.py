"""Benchmark of `muybridge bench train`: a training step (forward, backward, SGD) beside torchvision's, alternating."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from muybridge.bench.measure import (
    TimedFunction,
    describe_machine,
    measure_gemm_gflops,
    measure_peak_bytes,
    run_in_fresh_process,
    time_interleaved,
)
from muybridge.bench.peers import UnavailablePeer, create_torchvision_network, to_channels_last
from muybridge.bench.results import BenchmarkResult, BenchmarkRow
from muybridge.kernels.convolution import set_channel_multiple, set_execution
from muybridge.models.cost import cost
from muybridge.models.network import VideoResNet, create_model

REFERENCE = "muybridge"


def measure_training(
    name: str, clips_shape: Sequence[int], *, device: torch.device, repeats: int, precision: str, compiled: bool
) -> BenchmarkResult:
    """Measure seconds and peak memory of a step on clips (N, C, T, H, W); `precision` is fp32 or bf16 (autocast)."""
    shape = tuple(clips_shape)
    net, clips = create_network_and_clips(name, shape, device)
    absent: dict[str, str] = {}
    runs: dict[str, TimedFunction] = {}
    for variant in _list_variants(device, compiled=compiled):
        network = build_variant(variant, net)
        if isinstance(network, UnavailablePeer):
            absent[variant] = network.reason
        else:
            runs[variant] = make_step(network, clips, variant, precision)
    seconds = time_interleaved(runs, repeats, device)
    gflop = compute_step_gflop(net, shape)
    peaks = {
        variant: run_in_fresh_process(_measure_step_peak_bytes, variant, name, shape, str(device), precision)
        for variant in runs
    }
    rows = [BenchmarkRow(variant, seconds[variant], gflop, peaks[variant]) for variant in runs]
    limit = measure_gemm_gflops(device, torch.bfloat16 if precision == "bf16" else torch.float32)
    size = "x".join(str(number) for number in shape)
    return BenchmarkResult(
        f"training step, {name}, {size}, {precision}", describe_machine(device), limit, REFERENCE, rows, absent
    )


def create_network_and_clips(name: str, shape: Sequence[int], device: torch.device) -> tuple[VideoResNet, Tensor]:
    """Create a network with torchvision's settings and random weights, and random clips."""
    torch.manual_seed(0)
    net = create_model(name, mid_channel_rule="per_block", norm_epsilon=1e-5).train().to(device)
    return net, torch.randn(tuple(shape), device=device)


def compute_step_gflop(net: nn.Module, clips_shape: Sequence[int]) -> float:
    """Arithmetic of a step in GFLOP: the forward pass and the gradients of inputs and weights cost the same."""
    _, channels, frames, height, width = clips_shape
    return 3 * 2 * cost(net, (channels, frames, height, width)).multiply_adds * clips_shape[0] / 1e9


def _list_variants(device: torch.device, *, compiled: bool) -> list[str]:
    """Names of the variants that are measured on a device."""
    alternative = "muybridge, unpadded" if device.type == "cuda" else "muybridge, plain conv3d"
    variants = [REFERENCE, alternative, "muybridge, checkpointing", "torchvision", "torchvision, channels_last_3d"]
    return [*variants, "muybridge, compiled", "torchvision, compiled"] if compiled else variants


def build_variant(variant: str, net: VideoResNet) -> nn.Module | UnavailablePeer:
    """Build a network with a copy of the weights of `net` that runs as the variant says."""
    if variant.startswith("torchvision"):
        torchvision_net = create_torchvision_network(net)
        if isinstance(torchvision_net, UnavailablePeer):
            return torchvision_net
        network = torchvision_net.to(net.fc.weight.device)
        network = to_channels_last(network) if "channels_last" in variant else network
    else:
        own_net = copy.deepcopy(net)
        own_net.activation_checkpointing = "checkpointing" in variant
        set_execution(own_net, "plain" if "plain" in variant else "fast")
        set_channel_multiple(own_net, 1 if "unpadded" in variant else None)
        network = own_net
    if "compiled" in variant:
        network.compile()
    return network


def _measure_step_peak_bytes(variant: str, name: str, shape: Sequence[int], device: str, precision: str) -> int:
    """Peak memory of a step beyond the network, its optimizer and the clips."""
    torch.set_num_threads(1)
    net, clips = create_network_and_clips(name, shape, torch.device(device))
    network = build_variant(variant, net)
    assert not isinstance(network, UnavailablePeer), "the caller has built it before"
    return measure_peak_bytes(make_step(network, clips, variant, precision), torch.device(device))


def make_step(network: nn.Module, clips: Tensor, variant: str, precision: str) -> TimedFunction:
    """Make a function that runs one SGD step on `clips`, in channels-last memory if the variant says so."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9, nesterov=True)
    labels = torch.arange(len(clips), device=clips.device)
    inputs = clips.to(memory_format=torch.channels_last_3d) if "channels_last" in variant else clips

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = network(inputs)
        torch.autograd.backward(functional.cross_entropy(logits.float(), labels))
        optimizer.step()

    return step
