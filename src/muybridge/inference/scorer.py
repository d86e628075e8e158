"""Scorers: networks as functions from clips to logits, for evaluation, validation and prediction.

Input: normalised clips on any device. Output: logits on the CPU. All scoring goes through here and is therefore in evaluation
mode; in training mode batch norm would use batch statistics and update its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from muybridge.inference.finite import check_finite_clips, check_finite_outputs
from muybridge.inference.folded import ClipClassifier, optimize
from muybridge.inference.onnx import OnnxScorer
from muybridge.models.network import VideoResNet
from muybridge.records import Scorer
from muybridge.weights.address import load_weights
from muybridge.weights.card import Card
from muybridge.weights.tensor_checks import check_network


@dataclass(frozen=True)
class NetworkScorer:
    """A `Scorer` that runs `network`, whose weights are on `device`. Its training mode is restored after each call.

    ValueError for weights that are not finite when it is made, and for clips and logits that are not when it is called.
    """

    network: nn.Module
    device: torch.device

    def __post_init__(self) -> None:
        specification = getattr(self.network, "specification", None)
        check_network(self.network, getattr(specification, "name", type(self.network).__name__))

    def __call__(self, clips_ncthw: Tensor) -> Tensor:
        """Normalised float clips (N, C, T, H, W) -> logits (N, classes) on the CPU, float32."""
        with eval_mode(self.network):
            if not isinstance(self.network, ClipClassifier):  # which checks its clips itself
                check_finite_clips(clips_ncthw)
            logits: Tensor = self.network(clips_ncthw.to(self.device))
        return check_finite_outputs(logits.float().cpu(), "logits")


@dataclass(frozen=True)
class LoadedScorer:
    """A scorer, its card, and the network it was made from; `network` is None for an ONNX file."""

    scorer: Scorer
    card: Card
    network: VideoResNet | None


def load_scorer(address: str | Path, device: torch.device) -> LoadedScorer:
    """Load a scorer from a run folder, a .safetensors or .onnx file, or a catalogue name. ValueError as `load_weights`."""
    if Path(address).suffix == ".onnx":
        if not Path(address).is_file():
            raise ValueError(f"there is no file {address}; `muybridge weights export` writes .onnx files")
        scorer = OnnxScorer(Path(address), device)
        return LoadedScorer(scorer, scorer.card, None)
    network, card = load_weights(address, device)
    return LoadedScorer(NetworkScorer(optimize(network), device), card, network)


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Context manager for evaluation mode without gradients; the mode of every module is restored afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def resolve_device(name: str) -> torch.device:
    """The device of this name; `auto` is the GPU if there is one, else the CPU. ValueError if it does not exist."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is unknown; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name} does not exist; this machine has {torch.cuda.device_count()} CUDA devices")
    return device
