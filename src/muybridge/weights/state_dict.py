"""Plain state dicts brought to where `predict` can use them: `muybridge weights import`.

Enters: a file of tensors under our names, which are torchvision's, written by torch.save or as safetensors. Leaves: a weights
file with a card, and in words what was assumed about it. Nothing of the file is ever run: it is read with
`weights_only=True`, and what holds more than tensors is refused (design decision 12).
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from muybridge.models.family import Specification
from muybridge.records import FLOW_MEAN, FLOW_STD, Preprocessing
from muybridge.weights.card import METADATA_KEY, Card, check_classes, listed, network_of, save
from muybridge.weights.recognition import recognise

WRAPPINGS = ("state_dict", "model_state_dict", "model")  # where a checkpoint keeps its network
PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
)  # what DistributedDataParallel, torch.compile and Lightning put before names
COUNTER = "num_batches_tracked"  # of batch norm; unused at momentum 0.1, absent from some files
PAPER_EPSILON, TORCHVISION_EPSILON = 1e-3, 1e-5
TORCHVISION_PLAIN = ("r3d_18", "mc3_18")  # same shapes in torchvision and here

# What torch.load and its unpickler raise for bytes that are damaged or not theirs, found by feeding it such bytes.
UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    AssertionError,
    TypeError,
    AttributeError,
)


@dataclass(frozen=True)
class ImportOptions:
    """What weights do not show, and who brings them may say. None: assumed, and the assumption is told."""

    classes: Sequence[str] | Path | None = None  # the names in the order of the outputs, or a file of them, one a line
    preprocessing: Preprocessing | None = None
    norm_epsilon: float | None = None
    stem_pool: bool = False
    source: str | None = None
    licence: str = "unknown"


@dataclass(frozen=True)
class Imported:
    """What became of a file: the card it was given, and what that card takes for granted, a sentence each."""

    card: Card
    assumptions: tuple[str, ...]


def import_weights(file: str | Path, output: str | Path, options: ImportOptions | None = None) -> Imported:
    """Recognise the network in `file` and write it with a card to `output` (.safetensors), whole or not at all.

    ValueError: the file holds something else than the tensors of one network of the family, or the options do not fit it.
    """
    file, options = Path(file), options or ImportOptions()
    tensors = read_state_dict(file)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    preprocessing = options.preprocessing
    try:
        found = recognise(
            shapes,
            clip_length=(preprocessing or Preprocessing()).clip_length,
            norm_epsilon=PAPER_EPSILON if options.norm_epsilon is None else options.norm_epsilon,
            stem_pool=options.stem_pool,
        )
        if options.norm_epsilon is None and _is_torchvisions(found):
            found = replace(found, norm_epsilon=TORCHVISION_EPSILON)
        card = save(
            network_of(found, tensors),
            output,
            classes=class_names(options.classes, found.num_classes),
            preprocessing=preprocessing or default_preprocessing(found),
            source=options.source or f"imported from {file.name}",
            licence=options.licence,
            source_sha256=file_sha256(file),
        )
    except ValueError as error:
        raise ValueError(f"{file} cannot be imported: {error}") from error
    return Imported(card, tuple(_assumptions(card, options)))


def _is_torchvisions(found: Specification) -> bool:
    return found.mid_channel_rule == "per_block" or found.name in TORCHVISION_PLAIN


def default_preprocessing(found: Specification) -> Preprocessing:
    """The paper's, for frames of as many channels as the network takes."""
    match found.input_channels:
        case 3:
            return Preprocessing(clip_length=found.clip_length)
        case 2:
            return Preprocessing(modality="flow", clip_length=found.clip_length, mean=FLOW_MEAN, std=FLOW_STD)
        case channels:
            raise ValueError(f"it takes frames of {channels} channels; there are 3 for RGB and 2 for optical flow")


def _assumptions(card: Card, options: ImportOptions) -> list[str]:
    given = card.preprocessing
    sentences = []
    if options.norm_epsilon is None:
        owner = "torchvision's" if _is_torchvisions(card.specification) else "the paper's authors'"
        sentences.append(f"epsilon of batch norm is taken to be {owner}, {card.specification.norm_epsilon:g}")
    if not options.stem_pool:
        sentences.append("no max-pool is taken to follow the stem")
    if options.preprocessing is None:
        sentences.append(
            f"clips are taken to be {given.clip_length} {given.modality} frames at the file's own rate, "
            f"scaled to {given.scale_height}x{given.scale_width} and cropped to {given.crop}x{given.crop}"
        )
    if options.classes is None:
        sentences.append(f"classes are called {card.classes[0]} to {card.classes[-1]}, since nobody gave their names")
    return sentences


def class_names(given: Sequence[str] | Path | None, num_classes: int) -> tuple[str, ...]:
    """The names of a network's classes as given, from a file with one a line, or numbers where nobody knows them."""
    if given is None:
        digits = max(3, len(str(num_classes - 1)))
        return tuple(f"class_{index:0{digits}d}" for index in range(num_classes))
    if isinstance(given, Path):
        if not given.is_file():
            raise ValueError(f"there is no file of class names {given}; write one name a line")
        given = given.read_text(encoding="utf-8").splitlines()
    names = tuple(name.strip() for name in given)
    check_classes(names, num_classes)
    return names


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """The tensors of one network, by name, floats as float32; wrappings and prefixes of names are taken off."""
    if not file.is_file():
        raise ValueError(f"there is no file {file}; give a state dict (.pt, .pth) or a .safetensors file")
    tensors = _without_prefixes(_unwrapped(file, _read(file)))
    problems = [
        f"{name} {problem}" for name, tensor in tensors.items() if (problem := _unusable(tensor, name)) is not None
    ]
    if problems:
        raise ValueError(f"{file} holds tensors that no network can use: {listed(problems)}")
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    for name in [name for name in tensors if name.endswith("running_var")]:
        tensors.setdefault(f"{name.removesuffix('running_var')}{COUNTER}", torch.tensor(0))
    return tensors


def _read(file: Path) -> Any:
    with file.open("rb") as opened:
        head = opened.read(9)
    if head[8:9] == b"{":  # eight bytes of length, then a header in JSON
        return _read_safetensors(file)
    if not head.startswith((b"PK\x03\x04", b"\x80")):  # a zip, or a pickle of protocol 2 and above
        raise ValueError(f"{file} is neither a state dict written by torch.save nor a safetensors file")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise ValueError(
                f"{file} holds more than tensors ({refused[1]}), and reading it could run code; it was not run. "
                "Save network.state_dict() alone"
            ) from error
        raise ValueError(f"{file} is damaged, or not a state dict written by torch.save; fetch it again") from error


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        with safetensors.safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
        tensors: dict[str, Tensor] = safetensors.torch.load_file(file)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file} is not a whole safetensors file ({error}); fetch it again") from error
    if METADATA_KEY in metadata:
        raise ValueError(f"{file} has its card already; use it as it is")
    return tensors


def _unwrapped(file: Path, content: Any) -> dict[str, Tensor]:
    """The state dict inside what a training script saved."""
    while isinstance(content, Mapping):
        inner = [key for key in WRAPPINGS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = content[inner[0]]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{file} holds a {type(content).__name__}, expected a state dict: tensors by name")
    foreign = [
        f"{name!r} is a {type(value).__name__}"
        for name, value in content.items()
        if not (isinstance(name, str) and isinstance(value, Tensor))
    ]
    if foreign:
        raise ValueError(f"{file} is not a state dict, which has tensors by name and nothing else: {listed(foreign)}")
    return dict(content)


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    while common := [prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in tensors)]:
        tensors = {name.removeprefix(common[0]): tensor for name, tensor in tensors.items()}
    return tensors


def _unusable(tensor: Tensor, name: str) -> str | None:
    """What keeps a tensor from being a weight, in words."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
        return f"is stored in a special form ({tensor.dtype}, {tensor.layout}), expected plain numbers"
    if tensor.is_floating_point() == name.endswith(COUNTER):
        return f"holds {tensor.dtype}, expected {'whole numbers' if name.endswith(COUNTER) else 'floats'}"
    if not bool(torch.isfinite(tensor).all()):
        return "holds numbers that are not finite"
    return None


def file_sha256(file: Path) -> str:
    """The hash of a file's bytes."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
