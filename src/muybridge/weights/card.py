"""Weights with their papers: one safetensors file that says what it is.

Enters: a network, the names of its classes and what was done to its frames. Leaves: a safetensors file with a `Card` as JSON
in the metadata key `muybridge` (docs/weights.md), from which the same network is built again, on any machine. Nothing in the
file can run; tensors are plain float32 under torchvision's names (design decisions 2 and 12).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from muybridge.files.atomic import atomic_write
from muybridge.models.family import Specification
from muybridge.models.network import VideoResNet
from muybridge.records import Preprocessing

FORMAT = 1
METADATA_KEY = "muybridge"
SUFFIX = ".safetensors"
MAX_LISTED_PROBLEMS = 3  # problems spelled out in a message; a wrong network has hundreds


@dataclass(frozen=True)
class Card:
    """What travels with weights. `tensors_sha256` is `tensors_sha256(...)` of the tensors beside it."""

    specification: Specification
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    source: str
    licence: str
    source_sha256: str | None  # of the file they were imported from, where there was one
    tensors_sha256: str
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"a card of format {self.format} was found, this version reads format {FORMAT}")
        check_classes(self.classes, self.specification.num_classes)
        name, preprocessing = self.specification.name, self.preprocessing
        if preprocessing.input_channels != self.specification.input_channels:
            raise ValueError(
                f"{name} takes {self.specification.input_channels} channels, "
                f"but {preprocessing.modality} frames have {preprocessing.input_channels}"
            )
        if preprocessing.clip_length != self.specification.clip_length:
            raise ValueError(
                f"{name} is specified for clips of {self.specification.clip_length} frames, "
                f"but the preprocessing cuts clips of {preprocessing.clip_length}"
            )

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {
            "format": self.format,
            "specification": self.specification.to_json(),
            "classes": list(self.classes),
            "preprocessing": self.preprocessing.to_json(),
            "source": self.source,
            "licence": self.licence,
            "source_sha256": self.source_sha256,
            "tensors_sha256": self.tensors_sha256,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Card:
        """The record from JSON values; another format, an unknown or a missing key is a ValueError."""
        if values.get("format") != FORMAT:  # first: another format may well have other keys
            raise ValueError(f"a card of format {values.get('format')} was found, this version reads format {FORMAT}")
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            raise ValueError(f"the card has the keys {sorted(values)}, expected {sorted(names)}")
        if not isinstance(values["classes"], list):
            raise ValueError(f"the card's classes are {values['classes']!r}, expected a list of names")
        return cls(
            **{
                **values,
                "specification": Specification.from_json(values["specification"]),
                "classes": tuple(values["classes"]),
                "preprocessing": Preprocessing.from_json(values["preprocessing"]),
            }
        )


def check_classes(classes: Sequence[str], num_classes: int) -> None:
    """Refuse names that a network with `num_classes` outputs cannot be labelled with."""
    unnamed = [name for name in classes if not (isinstance(name, str) and name.strip())]
    if unnamed:
        raise ValueError(f"every class needs a name, not {unnamed[0]!r}")
    if len(classes) != num_classes:
        raise ValueError(f"{len(classes)} class names were given, but the network tells {num_classes} classes apart")
    if len(set(classes)) != len(classes):
        duplicate = next(name for name in classes if classes.count(name) > 1)
        raise ValueError(f"two classes are called {duplicate!r}; every class needs a name of its own")


def save(
    network: VideoResNet,
    path: str | Path,
    *,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    source: str = "trained with Muybridge",
    licence: str = "unknown",
    source_sha256: str | None = None,
) -> Card:
    """Write `network` with its card to `path`, whole or not at all; ValueError where the parts do not fit together."""
    path = Path(path)
    if not isinstance(network, VideoResNet):
        raise ValueError(f"only a network as create_model builds it can be saved, not a {type(network).__name__}")
    if path.suffix != SUFFIX:
        raise ValueError(f"weights are saved as {SUFFIX} files, not as {path.name}; name it {path.stem}{SUFFIX}")
    tensors = {name: _to_plain_tensor(tensor) for name, tensor in network.state_dict().items()}
    card = Card(
        specification=network.specification,
        classes=tuple(classes),
        preprocessing=preprocessing,
        source=source,
        licence=licence,
        source_sha256=source_sha256,
        tensors_sha256=compute_tensors_sha256(tensors),
    )
    metadata = {METADATA_KEY: json.dumps(card.to_json())}
    with atomic_write(path) as temporary:
        # Not safetensors' own save_file: a full or read-only disk then is an OSError, as everywhere else.
        temporary.write_bytes(safetensors.torch.save(tensors, metadata))
    return card


def _to_plain_tensor(tensor: Tensor) -> Tensor:
    """On the CPU, contiguous, float32 where it is a float."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous()


def load_card(path: str | Path) -> Card:
    """The card of a weights file, without reading its tensors; ValueError where there is none or it is not understood."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}; give a {SUFFIX} file")
    try:
        with safetensors.safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file, or not a whole one ({error}); fetch it again") from error
    if text is None:
        raise ValueError(
            f"{path} has no card, so nobody knows its classes and preprocessing; run `muybridge weights import {path}` first"
        )
    try:
        return Card.from_json(_parse_json_object(text))
    except (ValueError, TypeError) as error:  # TypeError: a value of a kind that no comparison above was made for
        raise ValueError(f"the card of {path} is not understood: {error}") from error


def _parse_json_object(text: str) -> dict[str, Any]:
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    return values


def load_network(path: str | Path, device: torch.device | str = "cpu") -> tuple[VideoResNet, Card]:
    """The network of a weights file in evaluation mode on `device`, and its card.

    ValueError where the file is foreign or damaged, or its tensors are not the card's. torch's random state stays as it was.
    """
    card = load_card(path)
    tensors = safetensors.torch.load_file(path)
    problems = find_mismatches({name: tuple(tensor.shape) for name, tensor in tensors.items()}, card.specification)
    if problems:
        raise ValueError(f"{path} does not hold the {card.specification.name} of its card: {format_problems(problems)}")
    if compute_tensors_sha256(tensors) != card.tensors_sha256:
        raise ValueError(f"{path} is damaged: its tensors are not those that its card was written for; fetch it again")
    return build_network(card.specification, tensors).to(device), card


def build_network(specification: Specification, tensors: Mapping[str, Tensor]) -> VideoResNet:
    """The network with copies of these tensors, which must be all of its own, in evaluation mode on the CPU."""
    with torch.device("meta"):  # no time spent on drawing weights that are about to be overwritten
        network = VideoResNet(specification)
    network.to_empty(device="cpu").load_state_dict(tensors)
    return network.eval()


def compute_tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """A hash of names, types, shapes and values: the same wherever and in whatever order the tensors are stored."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).numpy().data)
    return digest.hexdigest()


def find_mismatches(shapes: Mapping[str, tuple[int, ...]], specification: Specification) -> list[str]:
    """What keeps tensors of these shapes from being the network's, a clause each; empty where they are all of it."""
    with torch.device("meta"):
        state = VideoResNet(specification).state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in state.items()}
    return (
        [
            f"{name} has the shape {shapes[name]}, expected {shape}"
            for name, shape in expected.items()
            if name in shapes and shapes[name] != shape
        ]
        + [f"{name} {shape} is missing" for name, shape in expected.items() if name not in shapes]
        + [f"{name} {shape} is not part of it" for name, shape in shapes.items() if name not in expected]
    )


def format_problems(problems: Sequence[str]) -> str:
    """The first problems in words, and how many more there are."""
    num_hidden = len(problems) - MAX_LISTED_PROBLEMS
    return "; ".join(problems[:MAX_LISTED_PROBLEMS]) + (f"; and {num_hidden} more" if num_hidden > 0 else "")
