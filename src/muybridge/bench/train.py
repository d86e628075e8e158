"""`muybridge bench train`: a training step (forward, backward, SGD), ours and torchvision's, in one process and in turn."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from muybridge.bench.measure import Run, alone, gemm_gflops, in_turn, machine, peak_bytes
from muybridge.bench.peers import Absent, in_channels_last, torchvision_network
from muybridge.bench.tables import Measured, Row
from muybridge.kernels.convolution import set_channel_multiple, set_execution
from muybridge.models.cost import cost
from muybridge.models.network import VideoResNet, create_model

OURS = "muybridge"


def measure_training(
    name: str, clips_shape: Sequence[int], *, device: torch.device, repeats: int, precision: str, compiled: bool
) -> Measured:
    """Seconds a step on clips (N, C, T, H, W), and its peak memory; `precision` fp32 or bf16 (autocast)."""
    shape = tuple(clips_shape)
    net, clips = network_and_clips(name, shape, device)
    absent: dict[str, str] = {}
    runs: dict[str, Run] = {}
    for way in ways(device, compiled=compiled):
        network = built(way, net)
        if isinstance(network, Absent):
            absent[way] = network.reason
        else:
            runs[way] = step_of(network, clips, way, precision)
    seconds = in_turn(runs, repeats, device)
    gflop = step_gflop(net, shape)
    peaks = {way: alone(peak_of_a_step, way, name, shape, str(device), precision) for way in runs}
    rows = [Row(way, seconds[way], gflop, peaks[way]) for way in runs]
    limit = gemm_gflops(device, torch.bfloat16 if precision == "bf16" else torch.float32)
    size = "x".join(str(number) for number in shape)
    return Measured(f"training step, {name}, {size}, {precision}", machine(device), limit, OURS, rows, absent)


def network_and_clips(name: str, shape: Sequence[int], device: torch.device) -> tuple[VideoResNet, Tensor]:
    """A network that torchvision has too, with random weights, and clips to train it on."""
    torch.manual_seed(0)
    net = create_model(name, mid_channel_rule="per_block", norm_epsilon=1e-5).train().to(device)
    return net, torch.randn(tuple(shape), device=device)


def step_gflop(net: nn.Module, clips_shape: Sequence[int]) -> float:
    """Forward, gradient of what enters and gradient of the weights: three times the forward pass, in GFLOP."""
    _, channels, frames, height, width = clips_shape
    return 3 * 2 * cost(net, (channels, frames, height, width)).multiply_adds * clips_shape[0] / 1e9


def ways(device: torch.device, *, compiled: bool) -> list[str]:
    """What is measured on this device."""
    ours = ["muybridge, unpadded"] if device.type == "cuda" else ["muybridge, plain conv3d"]
    found = [OURS, *ours, "muybridge, checkpointing", "torchvision", "torchvision, channels_last_3d"]
    return [*found, "muybridge, compiled", "torchvision, compiled"] if compiled else found


def built(way: str, net: VideoResNet) -> nn.Module | Absent:
    """A network with the weights of `net` that runs that way; it shares nothing with `net`."""
    if way.startswith("torchvision"):
        theirs = torchvision_network(net)
        if isinstance(theirs, Absent):
            return theirs
        network = theirs.to(net.fc.weight.device)
        network = in_channels_last(network) if "channels_last" in way else network
    else:
        ours = copy.deepcopy(net)
        ours.activation_checkpointing = "checkpointing" in way
        set_execution(ours, "plain" if "plain" in way else "fast")
        set_channel_multiple(ours, 1 if "unpadded" in way else None)
        network = ours
    if "compiled" in way:
        network.compile()
    return network


def peak_of_a_step(way: str, name: str, shape: Sequence[int], device: str, precision: str) -> int:
    """Bytes that a step takes at its peak beyond the network, its optimiser and the clips."""
    torch.set_num_threads(1)
    net, clips = network_and_clips(name, shape, torch.device(device))
    network = built(way, net)
    assert not isinstance(network, Absent), "it was there a moment ago"
    return peak_bytes(step_of(network, clips, way, precision), torch.device(device))


def step_of(network: nn.Module, clips: Tensor, way: str, precision: str) -> Run:
    """One step of SGD on `clips`, with made-up labels. Channels-last input is part of torchvision's way that uses it."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9, nesterov=True)
    labels = torch.arange(len(clips), device=clips.device)
    given = clips.to(memory_format=torch.channels_last_3d) if "channels_last" in way else clips

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = network(given)
        torch.autograd.backward(functional.cross_entropy(logits.float(), labels))
        optimizer.step()

    return step
