"""`muybridge bench model`: inference, ours and every peer's, in one process and in turn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from muybridge.bench.measure import gemm_gflops, in_turn, machine
from muybridge.bench.peers import Absent, Network, exported_peers, in_channels_last, torchvision_network
from muybridge.bench.tables import Measured, Row
from muybridge.inference.folded import optimize
from muybridge.inference.int8 import has_fast_int8, quantize
from muybridge.models.cost import cost
from muybridge.models.network import VideoResNet, create_model

OURS = "muybridge.optimize"


def measure_model(
    name: str, clips_shape: Sequence[int], *, device: torch.device, repeats: int, compiled: bool, peers: bool = True
) -> Measured:
    """Seconds a batch of clips (N, C, T, H, W) in float32. `compiled` adds what torch.compile makes of ours and of theirs."""
    torch.manual_seed(0)
    net = create_model(name, mid_channel_rule="per_block", norm_epsilon=1e-5).eval().to(device)
    clips = torch.randn(tuple(clips_shape), device=device)
    networks, absent = ways(net, clips, compiled=compiled, peers=peers)
    gflop = 2 * cost(net, tuple(clips_shape[1:])).multiply_adds * clips_shape[0] / 1e9  # type: ignore[arg-type]
    with torch.inference_mode():
        expected = net(clips)
        differences = {way: difference(network(clips), expected) for way, network in networks.items()}
        runs = {way: (lambda network=network: network(clips)) for way, network in networks.items()}
        seconds = in_turn(runs, repeats, device)
        rows = [Row(way, seconds[way], gflop, difference=differences[way]) for way in networks]
        limit = gemm_gflops(device)
    size = "x".join(str(number) for number in clips_shape)
    return Measured(f"inference, {name}, {size}, fp32", machine(device), limit, OURS, rows, absent)


def ways(net: VideoResNet, clips: Tensor, *, compiled: bool, peers: bool) -> tuple[dict[str, Network], dict[str, str]]:
    """Every way to the same logits, and why some are missing."""
    found: dict[str, Network | Absent] = {OURS: optimize(net), "muybridge, not optimized": net}
    if clips.device.type == "cpu":
        found["muybridge.quantize, 8 bits"] = (
            quantize(net, clips) if has_fast_int8() else Absent("no 8-bit dot products")
        )
    if compiled:
        found["muybridge.optimize, compiled"] = optimize(net, compile=True)
    theirs = torchvision_network(net) if peers else Absent("not asked for")
    found["torchvision"] = theirs
    if not isinstance(theirs, Absent):
        theirs.to(clips.device)
        other = torchvision_network(net)
        assert not isinstance(other, Absent), "it was there a moment ago"
        other = in_channels_last(other.to(clips.device))
        found["torchvision, channels_last_3d"] = lambda clips: other(clips.to(memory_format=torch.channels_last_3d))
        if compiled:
            found["torchvision, compiled"] = torch.compile(theirs)
    if peers and clips.device.type == "cpu":
        # Their own exporters start from torchvision's form: plain convolutions, no views.
        found |= exported_peers(net if isinstance(theirs, Absent) else theirs, clips)
    absent = {way: network.reason for way, network in found.items() if isinstance(network, Absent)}
    return {way: network for way, network in found.items() if not isinstance(network, Absent)}, absent


def difference(got: Tensor, expected: Tensor) -> float:
    """The largest difference relative to the largest expected value."""
    return float((got.to(expected.device) - expected).abs().max() / expected.abs().max())
