"""Weights of others brought to where `predict` can use them: `muybridge weights import`.

Enters: a file; its format is recognised by its content:

    Caffe2 pickle of the authors (VMZ)      arrays by blob name                      epsilon 1e-3
    torchvision's state dict                mid-channels per block in R(2+1)D        epsilon 1e-5
    ig65m-pytorch's and VMZ/pt's            mid-channels per convolution             epsilon 1e-3

Leaves: a weights file with a card, and in words what was found and what was assumed. Every tensor of the file is used once,
none is left over, and none of the network is left as it was drawn.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from muybridge.models.family import Specification
from muybridge.records import FLOW_MEAN, FLOW_STD, Preprocessing
from muybridge.weights.card import Card, check_classes, network_of, save
from muybridge.weights.recognition import recognise
from muybridge.weights.state_dict import check_usable, read_state_dict
from muybridge.weights.vmz import read_blobs, state_dict_of

Source = Literal["torchvision", "ig65m", "vmz", "muybridge"]

PAPER_EPSILON, TORCHVISION_EPSILON = 1e-3, 1e-5
EPSILONS: dict[Source, float] = {
    "torchvision": TORCHVISION_EPSILON,
    "ig65m": PAPER_EPSILON,
    "vmz": PAPER_EPSILON,
    "muybridge": PAPER_EPSILON,
}
# The authors' released models and torchvision's saw 15 frames a second.
RATES: dict[Source, float | None] = {"torchvision": 15.0, "ig65m": None, "vmz": 15.0, "muybridge": None}
TORCHVISION_PLAIN = ("r3d_18", "mc3_18")  # same shapes in torchvision and here
# How torch.save begins: a zip, or in its old format a pickle that starts with this number.
ZIP, OLD_TORCH = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


@dataclass(frozen=True)
class ImportOptions:
    """What weights do not show, and who brings them may say. None: assumed, and the assumption is told."""

    source: Source | None = None
    classes: Sequence[str] | Path | None = None  # the names in the order of the outputs, or a file of them, one a line
    preprocessing: Preprocessing | None = None
    clip_length: int | None = None  # frames; where no preprocessing is given
    norm_epsilon: float | None = None
    stem_pool: bool | None = None
    origin: str | None = None  # a line for the card: where the file is from
    licence: str = "unknown"


@dataclass(frozen=True)
class Imported:
    """What became of a file: what it was, the card it was given, and what that card takes for granted, a sentence each."""

    format: str
    card: Card
    assumptions: tuple[str, ...]


def import_weights(file: str | Path, output: str | Path, options: ImportOptions | None = None) -> Imported:
    """Recognise the network in `file` and write it with a card to `output` (.safetensors), whole or not at all.

    ValueError: the file holds something else than the tensors of one network of the family, or the options do not fit it.
    """
    file, options = Path(file), options or ImportOptions()
    kind, tensors = read_tensors(file)
    if kind == "Caffe2 pickle of VMZ" and options.source is None:
        options = replace(options, source="vmz")  # no assumption: its blob names say so
    try:
        found = _recognised(tensors, options)
        preprocessing = options.preprocessing or default_preprocessing(found, options.source)
        card = save(
            network_of(found, tensors),
            output,
            classes=class_names(options.classes, found.num_classes),
            preprocessing=preprocessing,
            source=options.origin or f"imported from {file.name}",
            licence=options.licence,
            source_sha256=file_sha256(file),
        )
    except ValueError as error:
        raise ValueError(f"{file} cannot be imported: {error}") from error
    return Imported(kind, card, tuple(_assumptions(card, options)))


def read_tensors(file: Path) -> tuple[str, dict[str, Tensor]]:
    """What kind of file it is, in words, and its tensors under our names, all of them numbers that weights can be."""
    if not file.is_file():
        raise ValueError(f"there is no file {file}; give a state dict (.pt, .pth), a .safetensors file or a VMZ .pkl")
    with io.FileIO(file) as opened:
        head = opened.read(len(OLD_TORCH))
    if head.startswith(b"\x80") and head != OLD_TORCH:
        try:
            tensors = state_dict_of(read_blobs(file))
        except ValueError as error:
            raise error if str(file) in str(error) else ValueError(f"{file} cannot be imported: {error}") from error
        check_usable(file, tensors)
        return "Caffe2 pickle of VMZ", tensors
    return "state dict", read_state_dict(file)


def _recognised(tensors: dict[str, Tensor], options: ImportOptions) -> Specification:
    """The network, its epsilon as told, as its source has it, or as networks of these shapes usually have it."""
    given = options.preprocessing
    if options.clip_length is not None and given is not None and given.clip_length != options.clip_length:
        raise ValueError(
            f"clips of {options.clip_length} frames were asked for, the preprocessing cuts {given.clip_length}"
        )
    found = recognise(
        {name: tuple(tensor.shape) for name, tensor in tensors.items()},
        clip_length=options.clip_length or (given or Preprocessing()).clip_length,
        stem_pool=bool(options.stem_pool),
    )
    if options.norm_epsilon is not None:
        return replace(found, norm_epsilon=options.norm_epsilon)
    if options.source is not None:
        return replace(found, norm_epsilon=EPSILONS[options.source])
    return replace(found, norm_epsilon=TORCHVISION_EPSILON if _is_torchvisions(found) else PAPER_EPSILON)


def _is_torchvisions(found: Specification) -> bool:
    return found.mid_channel_rule == "per_block" or found.name in TORCHVISION_PLAIN


def default_preprocessing(found: Specification, source: Source | None = None) -> Preprocessing:
    """The paper's, for frames of as many channels as the network takes, at the rate that the source's models saw."""
    rate = RATES[source] if source else None
    match found.input_channels:
        case 3:
            return Preprocessing(clip_length=found.clip_length, frames_per_second=rate)
        case 2:
            return Preprocessing(
                modality="flow",
                clip_length=found.clip_length,
                frames_per_second=rate,
                mean=FLOW_MEAN,
                std=FLOW_STD,
            )
        case channels:
            raise ValueError(f"it takes frames of {channels} channels; there are 3 for RGB and 2 for optical flow")


def _assumptions(card: Card, options: ImportOptions) -> list[str]:
    given, found = card.preprocessing, card.specification
    sentences = []
    if options.norm_epsilon is None and options.source is None:
        owner = "torchvision's" if _is_torchvisions(found) else "the paper's authors'"
        sentences.append(
            f"epsilon of batch norm is taken to be {owner}, {found.norm_epsilon:g} (--source says otherwise)"
        )
    if options.stem_pool is None:
        pooled = " (VMZ/pt's own 152-layer network has one: add --stem-pool)" if found.name.endswith("_152") else ""
        sentences.append(f"no max-pool is taken to follow the stem{pooled}")
    if options.preprocessing is None:
        rate = given.frames_per_second
        sentences.append(
            f"clips are taken to be {given.clip_length} {given.modality} frames at "
            f"{'the rate of the file' if rate is None else f'{rate:g} a second'}, "
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


def file_sha256(file: Path) -> str:
    """The hash of a file's bytes."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
