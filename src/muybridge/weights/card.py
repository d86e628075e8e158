"""Save and load weights with their metadata, the card, in one safetensors file.

Input: a network, the names of its classes and its preprocessing. Output: a safetensors file with a `Card` as JSON in the
metadata key `muybridge` (docs/weights.md), from which the network is rebuilt on any machine. The file contains no code; tensors
are float32 under torchvision's names (design decisions 2 and 12).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from muybridge.files.atomic import atomic_write
from muybridge.models.family import OPTIONAL_FIELDS, Specification
from muybridge.models.heads import Head, make_ordinal_outputs
from muybridge.models.network import VideoResNet
from muybridge.parsing import parse_json_object, parse_record
from muybridge.records import FLOW_FIELDS, Preprocessing, Task
from muybridge.text import format_count, join_names
from muybridge.weights.safetensors_file import read_metadata, read_safetensors
from muybridge.weights.tensor_checks import check_usable, format_problems

FORMAT = 1
HEAD_FORMAT = 2  # of cards with a head
METADATA_KEY = "muybridge"
SUFFIX = ".safetensors"
NO_CLASSIFIER = ("no_classifier",)  # the classes of weights for features only, whose one output is 0


@dataclass(frozen=True)
class Card:
    """The metadata of weights. `tensors_sha256` is `compute_tensors_sha256` of the tensors in the file.

    `head` says what the outputs mean, for another task than single_label. Then `classes` are the names of the outputs, or the
    levels of an ordinal target from the lowest.
    """

    specification: Specification
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    source: str
    licence: str
    source_sha256: str | None  # of the file they were imported from, None for others
    tensors_sha256: str
    format: int = FORMAT
    head: Head | None = None

    def __post_init__(self) -> None:
        _check_format(self.format)
        if (self.format == HEAD_FORMAT) != (self.head is not None):
            raise ValueError(f"a card of format {self.format} {'lacks its' if self.head is None else 'has no'} head")
        if self.head is None:
            check_classes(self.classes, self.specification.num_classes)
        else:
            _check_head(self.head, self.classes, self.specification.num_classes)
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

    @property
    def task(self) -> Task:
        """What the network was trained for."""
        return self.head.task if self.head else "single_label"

    @property
    def has_classifier(self) -> bool:
        """Whether the outputs mean anything: not those of weights for features only."""
        return self.head is not None or self.classes != NO_CLASSIFIER

    @property
    def is_imported(self) -> bool:
        """Whether the weights were imported from a file without a card: public ones, or any other that was exported."""
        return self.source_sha256 is not None

    def check_single_label(self, what: str) -> None:
        """Raise ValueError for another task than single_label; `what` is for it alone, such as "int8"."""
        if self.head:
            raise ValueError(f"{what} is for the task single_label, but the weights are of the task {self.task}")

    def check_classifier(self) -> None:
        """Raise ValueError for one class of task single_label: the softmax of one output is always 1."""
        if self.head:
            return
        if not self.has_classifier:
            raise ValueError(
                "the weights have no classifier, so they name no class; use them with `extract` or `train --init`"
            )
        if len(self.classes) < 2:
            raise ValueError(
                f"the network has one output, {self.classes[0]!r}, whose softmax is always 100 %, so it names no class; "
                "use weights with two classes or more, or `extract` for its features"
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
            **({"head": self.head.to_json()} if self.head else {}),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Card:
        """The record from JSON values. ValueError for another format and for unknown or missing keys."""
        _check_format(values.get("format"))  # first, since another format may have other keys
        return parse_record(cls, values, "the card", optional=(*OPTIONAL_FIELDS, "head", *FLOW_FIELDS))


def _check_format(number: object) -> None:
    if number not in (FORMAT, HEAD_FORMAT):
        raise ValueError(f"a card of format {number} was found, this version reads format {FORMAT} and {HEAD_FORMAT}")


def _check_head(head: Head, classes: tuple[str, ...], num_outputs: int) -> None:
    """Raise ValueError unless `classes` are those of the head, and the network has its number of outputs."""
    if len(head.outputs) != num_outputs:
        raise ValueError(
            f"the head names {format_count(len(head.outputs), 'output')}, but the network has {num_outputs}"
        )
    check_classes(classes, num_outputs + 1 if head.task == "ordinal" else num_outputs)
    expected = make_ordinal_outputs(classes) if head.task == "ordinal" else classes
    if head.outputs != expected:
        raise ValueError(f"the head's outputs are {join_names(head.outputs)}, expected {join_names(expected)}")


def check_classes(classes: Sequence[str], num_classes: int) -> None:
    """Raise ValueError unless `classes` are `num_classes` different names."""
    unnamed = [name for name in classes if not (isinstance(name, str) and name.strip())]
    if unnamed:
        raise ValueError(f"every class needs a name, not {unnamed[0]!r}")
    if len(classes) != num_classes:
        raise ValueError(
            f"{format_count(len(classes), 'class name', 'was')} given, but the network has {format_count(num_classes, 'class')}"
        )
    if len(set(classes)) != len(classes):
        duplicate = next(name for name in classes if classes.count(name) > 1)
        raise ValueError(f"two classes are called {duplicate!r}; every class needs a name of its own")


def save(  # noqa: PLR0913  (it mirrors the card)
    network: VideoResNet,
    path: str | Path,
    *,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    source: str = "trained with Muybridge",
    licence: str = "unknown",
    source_sha256: str | None = None,
    head: Head | None = None,
) -> Card:
    """Write `network` with its card to `path`, atomically. ValueError if network, classes and preprocessing do not match."""
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
        format=FORMAT if head is None else HEAD_FORMAT,
        head=head,
    )
    metadata = {METADATA_KEY: json.dumps(card.to_json())}
    with atomic_write(path) as temporary:
        # Not safetensors' own save_file, whose errors on a full or read-only disk are not OSErrors.
        temporary.write_bytes(safetensors.torch.save(tensors, metadata))
    return card


def _to_plain_tensor(tensor: Tensor) -> Tensor:
    """Copy to the CPU, contiguous, floats as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous()


def load_card(path: str | Path) -> Card:
    """Read the card of a weights file without its tensors. ValueError if there is no card or it is invalid."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}; give a {SUFFIX} file")
    text = read_metadata(path).get(METADATA_KEY)
    if text is None:
        raise ValueError(
            f"{path} has no card, so its classes and preprocessing are unknown; run `muybridge weights import {path}` first"
        )
    return parse_card(text, path)


def parse_card(text: str, path: Path) -> Card:
    """Parse the card of `path` from JSON. ValueError if it is invalid."""
    try:
        return Card.from_json(parse_json_object(text, "its JSON"))
    except ValueError as error:
        raise ValueError(f"the card of {path} is not understood: {error}") from error


def load_network(path: str | Path, device: torch.device | str = "cpu") -> tuple[VideoResNet, Card]:
    """Load the network of a weights file, in evaluation mode on `device`, and its card.

    ValueError if the file is damaged, has no card, or its tensors are not those of the card. Does not use torch's random state.
    """
    path = Path(path)
    card = load_card(path)
    tensors = read_safetensors(path)
    problems = find_mismatches({name: tuple(tensor.shape) for name, tensor in tensors.items()}, card.specification)
    if problems:
        raise ValueError(f"{path} does not hold the {card.specification.name} of its card: {format_problems(problems)}")
    check_usable(path, tensors)
    converted = [
        f"{name} holds {tensor.dtype}, expected {torch.float32}"
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and tensor.dtype != torch.float32
    ]
    if converted:
        raise ValueError(
            f"{path} was converted after it had its card: {format_problems(converted)}; use the file that it was made from"
        )
    if compute_tensors_sha256(tensors) != card.tensors_sha256:
        raise ValueError(f"{path} is damaged: its tensors do not have the hash in its card; download it again")
    return build_network(card.specification, tensors).to(device), card


def build_network(specification: Specification, tensors: Mapping[str, Tensor]) -> VideoResNet:
    """Build a network with copies of these tensors, in evaluation mode on the CPU. `tensors` must be its whole state dict."""
    with torch.device("meta"):  # skips drawing weights that are overwritten below
        network = VideoResNet(specification)
    network.to_empty(device="cpu").load_state_dict(tensors)
    return network.eval()


def compute_tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, dtypes, shapes and values, independent of order and device."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).numpy().data)
    return digest.hexdigest()


def find_mismatches(shapes: Mapping[str, tuple[int, ...]], specification: Specification) -> list[str]:
    """The differences between these shapes and the state dict of the network, one clause each; empty if there are none."""
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
