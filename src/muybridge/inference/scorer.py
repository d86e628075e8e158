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

from muybridge.inference.finite import check_finite_outputs, find_unusable, invalidate
from muybridge.inference.folded import InferenceNetwork, optimize
from muybridge.inference.onnx import OnnxScorer
from muybridge.kernels.precision import Precision, RequestedPrecision, choose_inference_precision, exact_float32
from muybridge.models.network import VideoResNet
from muybridge.records import Scorer
from muybridge.weights.address import load_weights
from muybridge.weights.card import Card
from muybridge.weights.tensor_checks import check_network


@dataclass(frozen=True)
class NetworkScorer:
    """A `Scorer` that runs `network`, whose weights are on `device`. Its training mode is restored after each call.

    `precision` is that of the arithmetic: with fp32 TF32 is off. A network that is not optimized runs bf16 under autocast.
    ValueError for weights that are not finite when it is made, and for clips and logits that are not when it is called.
    """

    network: nn.Module
    device: torch.device
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        specification = getattr(self.network, "specification", None)
        check_network(self.network, getattr(specification, "name", type(self.network).__name__))

    def __call__(self, clips_ncthw: Tensor) -> Tensor:
        """Normalised float clips (N, C, T, H, W) -> logits (N, classes) on the CPU, float32."""
        with eval_mode(self.network), inference_precision(self.network, self.device, self.precision):
            clips = clips_ncthw.to(self.device)
            if isinstance(self.network, InferenceNetwork):
                logits = self.network.score(clips)
            else:
                logits = invalidate(self.network(clips), find_unusable(clips))
        # Fetching the logits waits for the GPU, nothing before it does.
        return check_finite_outputs(logits.float().cpu(), "logits", clips)


@contextmanager
def inference_precision(network: nn.Module, device: torch.device, precision: Precision) -> Iterator[None]:
    """Context manager in which `network` computes in `precision`: fp32 without TF32, or bf16."""
    if precision == "fp32":
        with exact_float32(device):
            yield
        return
    has_own_precision = isinstance(network, InferenceNetwork)  # its weights are bf16
    with torch.autocast(device.type, torch.bfloat16, enabled=not has_own_precision):
        yield


@dataclass(frozen=True)
class LoadedScorer:
    """A scorer, its card, the network it was made from, and the precision; `network` is None for an ONNX file."""

    scorer: Scorer
    card: Card
    network: VideoResNet | None
    precision: Precision = "fp32"


def load_scorer(address: str | Path, device: torch.device, precision: RequestedPrecision = "auto") -> LoadedScorer:
    """Load a scorer from a run folder, a .safetensors or .onnx file, or a catalogue name.

    `precision` auto is bf16 on a GPU that computes it in hardware, else fp32. ValueError as `load_weights`, and for bf16 where
    it has no fast path or the file is ONNX.
    """
    chosen = choose_inference_precision(precision, device)
    if Path(address).suffix == ".onnx":
        if not Path(address).is_file():
            raise ValueError(f"there is no file {address}; `muybridge weights export` writes .onnx files")
        if precision == "bf16":
            raise ValueError(
                f"{address} is an ONNX file, which runs in fp32; leave out the precision, or use the weights"
            )
        scorer = OnnxScorer(Path(address), device)
        return LoadedScorer(scorer, scorer.card, None)
    network, card = load_weights(address, device)
    scorer_network = optimize(network, precision=chosen)
    return LoadedScorer(NetworkScorer(scorer_network, device, chosen), card, network, chosen)


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Context manager for evaluation mode without gradients; the mode of every module is restored afterwards."""
    training = [module for module in network.modules() if module.training]
    if training:
        network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


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
