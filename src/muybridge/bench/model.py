"""Inference benchmark of `muybridge bench model`: this package and its peers, alternating in one process."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from muybridge.bench.measure import describe_machine, measure_gemm_gflops, time_interleaved
from muybridge.bench.peers import (
    NetworkFunction,
    UnavailablePeer,
    build_exported_peers,
    create_torchvision_network,
    to_channels_last,
)
from muybridge.bench.results import BenchmarkResult, BenchmarkRow
from muybridge.inference.folded import optimize
from muybridge.inference.int8 import has_fast_int8, quantize
from muybridge.models.cost import cost
from muybridge.models.network import VideoResNet, create_model

REFERENCE = "muybridge.optimize"


def measure_model(
    name: str, clips_shape: Sequence[int], *, device: torch.device, repeats: int, compiled: bool, peers: bool = True
) -> BenchmarkResult:
    """Measure seconds a batch of clips (N, C, T, H, W) in float32. `compiled` adds variants with torch.compile."""
    torch.manual_seed(0)
    net = create_model(name, mid_channel_rule="per_block", norm_epsilon=1e-5).eval().to(device)
    clips = torch.randn(tuple(clips_shape), device=device)
    networks, absent = _build_networks(net, clips, compiled=compiled, peers=peers)
    gflop = 2 * cost(net, tuple(clips_shape[1:])).multiply_adds * clips_shape[0] / 1e9  # type: ignore[arg-type]
    with torch.inference_mode():
        expected = net(clips)
        differences = {
            variant: compute_relative_difference(network(clips), expected) for variant, network in networks.items()
        }
        runs = {variant: (lambda network=network: network(clips)) for variant, network in networks.items()}
        seconds = time_interleaved(runs, repeats, device)
        rows = [BenchmarkRow(variant, seconds[variant], gflop, difference=differences[variant]) for variant in networks]
        limit = measure_gemm_gflops(device)
    size = "x".join(str(number) for number in clips_shape)
    return BenchmarkResult(f"inference, {name}, {size}, fp32", describe_machine(device), limit, REFERENCE, rows, absent)


def _build_networks(
    net: VideoResNet, clips: Tensor, *, compiled: bool, peers: bool
) -> tuple[dict[str, NetworkFunction], dict[str, str]]:
    """Build all variants of `net`, and for unavailable ones the reason."""
    candidates: dict[str, NetworkFunction | UnavailablePeer] = {
        REFERENCE: optimize(net),
        "muybridge, not optimized": net,
    }
    if clips.device.type == "cpu":
        candidates["muybridge.quantize, 8 bits"] = (
            quantize(net, clips) if has_fast_int8() else UnavailablePeer("no 8-bit dot products")
        )
    if compiled:
        candidates["muybridge.optimize, compiled"] = optimize(net, compile=True)
    torchvision_net = create_torchvision_network(net) if peers else UnavailablePeer("not requested")
    candidates["torchvision"] = torchvision_net
    if not isinstance(torchvision_net, UnavailablePeer):
        torchvision_net.to(clips.device)
        channels_last_net = create_torchvision_network(net)
        assert not isinstance(channels_last_net, UnavailablePeer), "it was available above"
        channels_last_net = to_channels_last(channels_last_net.to(clips.device))
        candidates["torchvision, channels_last_3d"] = lambda clips: channels_last_net(
            clips.to(memory_format=torch.channels_last_3d)
        )
        if compiled:
            candidates["torchvision, compiled"] = torch.compile(torchvision_net)
    if peers and clips.device.type == "cpu":
        # Export torchvision's network where possible: plain convolutions without views, which peers optimize best.
        candidates |= build_exported_peers(
            net if isinstance(torchvision_net, UnavailablePeer) else torchvision_net, clips
        )
    absent = {
        variant: network.reason for variant, network in candidates.items() if isinstance(network, UnavailablePeer)
    }
    return {
        variant: network for variant, network in candidates.items() if not isinstance(network, UnavailablePeer)
    }, absent


def compute_relative_difference(actual: Tensor, expected: Tensor) -> float:
    """The largest absolute difference relative to the largest absolute expected value."""
    return float((actual.to(expected.device) - expected).abs().max() / expected.abs().max())
