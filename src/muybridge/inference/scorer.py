"""A network as a `Scorer`: what turns clips into logits when nothing is to be learnt.

Enter: normalised clips on any device. Leave: logits on the CPU. Evaluation, validation during training and prediction all
score through here, so none of them can forget evaluation mode: batch norm would then use, and change, its statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from muybridge.inference.folded import optimize
from muybridge.inference.onnx import OnnxScorer
from muybridge.models.network import VideoResNet
from muybridge.records import Scorer
from muybridge.weights.address import load_weights
from muybridge.weights.card import Card


@dataclass(frozen=True)
class NetworkScorer:
    """A `Scorer` that runs `network`, which lies on `device` and stays in the mode it is in, in float32."""

    network: nn.Module
    device: torch.device

    def __call__(self, clips_ncthw: Tensor) -> Tensor:
        """Normalised float clips (N, C, T, H, W) -> logits (N, classes) on the CPU, float32."""
        with eval_mode(self.network):
            logits: Tensor = self.network(clips_ncthw.to(self.device))
        return logits.float().cpu()


@dataclass(frozen=True)
class LoadedScorer:
    """What an address of weights gave: who scores, by which papers; `network` is None where there is only a graph."""

    scorer: Scorer
    card: Card
    network: VideoResNet | None


def load_scorer(address: str | Path, device: torch.device) -> LoadedScorer:
    """A scorer from a run folder, a .safetensors or an .onnx file, or a name of the catalogue; ValueError as of these."""
    if Path(address).suffix == ".onnx":
        if not Path(address).is_file():
            raise ValueError(f"there is no file {address}; `muybridge weights export` writes .onnx files")
        scorer = OnnxScorer(Path(address), device)
        return LoadedScorer(scorer, scorer.card, None)
    network, card = load_weights(address, device)
    return LoadedScorer(NetworkScorer(optimize(network), device), card, network)


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients inside; afterwards every module is in the mode it was in, frozen ones too."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def resolve_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one; a device that is not there is a ValueError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is unknown; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name} is not there; this machine has {torch.cuda.device_count()} CUDA devices")
    return device
