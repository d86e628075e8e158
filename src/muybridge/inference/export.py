"""Export weights to other software: `muybridge weights export`.

Input: an address of weights. Output: a file in one of the formats below, and a JSON file with labels and preprocessing. The
file is read back and its outputs are compared with the network's before both get their names; a failed export leaves none.

    onnx          a graph, for ONNX Runtime and most other engines (`onnx.py`)
    torch-export  a torch.export program (.pt2), for torch, AOTInductor, ExecuTorch
    torchvision   a state dict for torchvision's VideoResNet (docs/weights.md shows the class)
    state-dict    the plain tensors, for code that builds the same network

Weights without a classifier are exported without one, as a state dict, and their features are compared.
"""

from __future__ import annotations

import copy
import io
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from muybridge.files.atomic import atomic_write, check_output_file
from muybridge.inference.finite import check_finite_outputs
from muybridge.inference.onnx import OnnxScorer, write_onnx
from muybridge.inference.two_dimensional import convert_to_two_dimensional
from muybridge.kernels.convolution import set_execution
from muybridge.models.family import ConvolutionKind
from muybridge.models.network import VideoResNet
from muybridge.weights.address import load_weights
from muybridge.weights.card import Card, build_network
from muybridge.weights.importing import TORCHVISION_EPSILON
from muybridge.weights.transfer import CLASSIFIER

ExportFormat = Literal["onnx", "torchvision", "torch-export", "state-dict"]
SUFFIXES: dict[ExportFormat, tuple[str, ...]] = {
    "onnx": (".onnx",),
    "torchvision": (".pth", ".pt"),
    "torch-export": (".pt2",),
    "state-dict": (".pth", ".pt"),
}
TORCHVISION_FAMILIES = ("r3d", "mc3", "r2plus1d")  # those that its VideoResNet can build
TOLERANCE = 1e-4  # of the largest output; folding and another order of summation cost about 1e-6
BATCH_SIZES = (1, 3)  # of the clips compared; two, since the batch size is not fixed

ScoreFunction = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ExportResult:
    """An exported file, and the difference between its outputs and the network's."""

    file: Path
    json_file: Path
    largest_difference: float
    largest_output: float
    notes: tuple[str, ...]


def export_weights(
    address: str | Path, output: str | Path, *, export_format: ExportFormat, two_dimensional: bool = False
) -> ExportResult:
    """Write the weights at `address` to `output`, and verify the outputs of the written file.

    ValueError if the format cannot represent the network; RuntimeError if outputs differ, in which case no file is written.
    """
    output = Path(output)
    json_file = output.with_name(f"{output.name}.json")
    _check_output(output, json_file, export_format)
    if two_dimensional and export_format not in ("onnx", "torch-export"):
        raise ValueError(
            f"--two-dimensional needs a format with operators, but {export_format} has weights only; leave it out"
        )
    network, card = load_weights(address)
    if not card.has_classifier and export_format in ("onnx", "torch-export"):
        raise ValueError(
            f"the weights have no classifier, so --to {export_format} would write a network without logits; use --to state-dict"
        )
    with atomic_write(json_file) as temporary_json, atomic_write(output) as temporary:
        score, notes = _write_format(network, card, temporary, export_format, two_dimensional=two_dimensional)
        difference, largest = _compare_outputs(network, score, card)
        result = ExportResult(output, json_file, difference, largest, tuple(notes))
        description = _build_description(result, card, export_format, two_dimensional=two_dimensional)
        temporary_json.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return result


def _check_output(output: Path, json_file: Path, export_format: ExportFormat) -> None:
    """Raise ValueError where one of the two files cannot be written under its name."""
    if output.suffix not in SUFFIXES[export_format]:
        raise ValueError(
            f"{export_format} files end in {' or '.join(SUFFIXES[export_format])}, not in {output.suffix or 'no suffix'}"
        )
    check_output_file(output)
    if json_file.is_dir():
        raise ValueError(f"card and labels go to {json_file}, which is a folder; give the output another name")


def _write_format(
    network: VideoResNet, card: Card, path: Path, export_format: ExportFormat, *, two_dimensional: bool
) -> tuple[ScoreFunction, list[str]]:
    """Writes the network to `path`; returns what computes its outputs from that file, and sentences on the file."""
    match export_format:
        case "onnx":
            write_onnx(network, card, path, two_dimensional=two_dimensional)
            return OnnxScorer(path, torch.device("cpu")), []
        case "torch-export":
            return _write_program(network, card, path, two_dimensional=two_dimensional), []
        case "torchvision":
            tensors = _convert_to_torchvision(network)
            score = _write_tensors(tensors, card, path, norm_epsilon=TORCHVISION_EPSILON)
            return score, _list_torchvision_notes(card)
        case "state-dict":
            epsilon = card.specification.norm_epsilon
            notes = [f"the file has no epsilon of batch norm; set it to {epsilon:g}"]
            notes += [] if card.has_classifier else ["the file has no classifier, since the weights have none"]
            return _write_tensors(network.state_dict(), card, path, norm_epsilon=epsilon), notes


def _compare_outputs(network: VideoResNet, score: ScoreFunction, card: Card) -> tuple[float, float]:
    """The largest difference between outputs of `network` and `score` for random clips, and the network's largest output.

    RuntimeError if the difference exceeds `TOLERANCE` times the largest output.
    """
    compute, kind = (network, "logits") if card.has_classifier else (network.features, "features")
    generator = torch.Generator().manual_seed(0)
    difference = largest = 0.0
    for num_clips in BATCH_SIZES:
        clips = torch.randn((num_clips, *_get_clip_size(card)), generator=generator)
        with torch.inference_mode():
            expected = check_finite_outputs(compute(clips), f"{kind} of the network")
        actual = check_finite_outputs(score(clips), f"{kind} of the exported file")
        if actual.shape != expected.shape:
            raise RuntimeError(
                f"the exported network has outputs of shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
            )
        difference = max(difference, float((actual - expected).abs().max()))
        largest = max(largest, float(expected.abs().max()))
    if not difference <= TOLERANCE * largest:
        raise RuntimeError(
            f"the exported network's outputs differ from ours by {difference:.2g}, and the largest is {largest:.2g}; "
            "nothing was written"
        )
    return difference, largest


def _get_clip_size(card: Card) -> tuple[int, int, int, int]:
    preprocessing = card.preprocessing
    return preprocessing.input_channels, preprocessing.clip_length, preprocessing.crop, preprocessing.crop


def _convert_to_torchvision(network: VideoResNet) -> dict[str, Tensor]:
    """A state dict with the same outputs under torchvision's epsilon of 1e-5.

    Batch norm divides by sqrt(variance + epsilon), so the excess of our epsilon is added to the running variance. ValueError
    for a network that torchvision's VideoResNet cannot represent.
    """
    spec = network.specification
    family = spec.name.rpartition("_")[0]
    problems = [
        problem
        for applies, problem in (
            (family not in TORCHVISION_FAMILIES, f"it has only the families {', '.join(TORCHVISION_FAMILIES)}"),
            (spec.width != 64, f"its width is 64, not {spec.width}"),
            (spec.input_channels != 3, f"its stem takes 3 channels, not {spec.input_channels}"),
            (spec.stem_pool, "it has no max-pool after the stem"),
            (family == "r2plus1d" and spec.stem_mid_channels != 45, "its R(2+1)D stem has 45 mid-channels"),
            (not spec.middle_relu, "it has ReLU between the halves of (2+1)D"),
            (spec.stem_frames != 3, f"its stem sees 3 frames, not {spec.stem_frames}"),
            (spec.factorized_shortcuts, "its shortcuts are not factorized"),
            (ConvolutionKind.TEMPORAL_THEN_SPATIAL in spec.stages, "its (2+1)D convolves space first"),
        )
        if applies
    ]
    if problems:
        raise ValueError(f"torchvision's VideoResNet cannot hold this {spec.name}: {'; '.join(problems)}")
    extra_epsilon = spec.norm_epsilon - TORCHVISION_EPSILON
    if extra_epsilon < 0:
        raise ValueError(
            f"epsilon {spec.norm_epsilon:g} is below torchvision's {TORCHVISION_EPSILON:g}, so variances could be negative; "
            "export with --to state-dict"
        )
    return {
        name: (tensor.double() + extra_epsilon).float() if extra_epsilon and name.endswith("running_var") else tensor
        for name, tensor in network.state_dict().items()
    }


def _list_torchvision_notes(card: Card) -> list[str]:
    spec, notes = card.specification, []
    if spec.norm_epsilon != TORCHVISION_EPSILON:
        notes.append(
            f"{spec.norm_epsilon - TORCHVISION_EPSILON:g} was added to every running variance, so that outputs agree at "
            f"torchvision's epsilon {TORCHVISION_EPSILON:g}; to import it again, use --source torchvision"
        )
    if spec.name.startswith("r2plus1d") and spec.mid_channel_rule == "per_convolution":
        count = "three" if spec.block == "basic" else "some"
        notes.append(f"in torchvision's class, {count} convolutions must be replaced: docs/weights.md shows them")
    if not card.has_classifier:
        notes.append(
            "the file has no classifier; in torchvision's class, set fc to torch.nn.Identity() before loading it"
        )
    return notes


def _write_tensors(tensors: dict[str, Tensor], card: Card, path: Path, *, norm_epsilon: float) -> ScoreFunction:
    """Writes a state dict, without a classifier if the weights have none. The result computes logits, or features."""
    classifier = {} if card.has_classifier else {name: tensors[name] for name in CLASSIFIER}
    stored = {name: tensor.contiguous() for name, tensor in tensors.items() if name not in classifier}
    buffer = io.BytesIO()  # torch's own writing of files aborts the process where the disk is full
    torch.save(stored, buffer)
    path.write_bytes(buffer.getbuffer())
    spec = replace(card.specification, norm_epsilon=norm_epsilon)
    reloaded = build_network(spec, {**classifier, **torch.load(path, weights_only=True)})
    return _make_score_function(reloaded if card.has_classifier else reloaded.features)


def _write_program(network: VideoResNet, card: Card, path: Path, *, two_dimensional: bool) -> ScoreFunction:
    module: nn.Module
    if two_dimensional:
        module = convert_to_two_dimensional(network)
    else:
        module = copy.deepcopy(network)
        set_execution(module, "plain")  # torch's own operators, which every compiler knows
    clips = torch.zeros(2, *_get_clip_size(card))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.13's exporter warns about its own use of pytree
        program = torch.export.export(module, (clips,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        path.write_bytes(buffer.getbuffer())
        with path.open("rb") as file:
            reloaded = torch.export.load(file).module()
    return _make_score_function(reloaded)


def _make_score_function(compute: ScoreFunction) -> ScoreFunction:
    def score(clips_ncthw: Tensor) -> Tensor:
        with torch.inference_mode():
            return compute(clips_ncthw)

    return score


def _build_description(
    result: ExportResult, card: Card, export_format: ExportFormat, *, two_dimensional: bool
) -> dict[str, object]:
    spec = card.specification
    output = ("logits", spec.num_classes) if card.has_classifier else ("features", spec.feature_channels)
    return {
        "file": result.file.name,
        "format": export_format,
        "two_dimensional": two_dimensional,
        "input": {
            "name": "clips",
            "shape": ["N", *_get_clip_size(card)],
            "range": "pixels 0 to 255, less the mean, divided by std, channels in the order of the means"
            if card.preprocessing.modality == "rgb"
            else "displacements in pixels, x then y, less the mean, divided by std",
        },
        "output": {"name": output[0], "shape": ["N", output[1]]},
        "largest_difference": result.largest_difference,
        "largest_output": result.largest_output,
        "notes": list(result.notes),
        "card": card.to_json(),
    }
