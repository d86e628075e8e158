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
from muybridge.weights.architecture import infer_specification
from muybridge.weights.card import Card, build_network, check_classes, save
from muybridge.weights.state_dict import check_usable, read_state_dict
from muybridge.weights.vmz import convert_blobs, read_blobs

WeightsSource = Literal["torchvision", "ig65m", "vmz", "muybridge"]

PAPER_EPSILON, TORCHVISION_EPSILON = 1e-3, 1e-5
NORM_EPSILONS: dict[WeightsSource, float] = {
    "torchvision": TORCHVISION_EPSILON,
    "ig65m": PAPER_EPSILON,
    "vmz": PAPER_EPSILON,
    "muybridge": PAPER_EPSILON,
}
# The authors' released models and torchvision's saw 15 frames a second.
FRAME_RATES: dict[WeightsSource, float | None] = {"torchvision": 15.0, "ig65m": None, "vmz": 15.0, "muybridge": None}
TORCHVISION_SAME_SHAPES = ("r3d_18", "mc3_18")  # same shapes in torchvision and here
# How torch.save begins: a zip, or in its old format a pickle that starts with this number.
ZIP_MAGIC, LEGACY_TORCH_MAGIC = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


@dataclass(frozen=True)
class ImportOptions:
    """What weights do not show, and who brings them may say. None: assumed, and the assumption is told."""

    source: WeightsSource | None = None
    classes: Sequence[str] | Path | None = None  # the names in the order of the outputs, or a file of them, one a line
    preprocessing: Preprocessing | None = None
    clip_length: int | None = None  # frames; where no preprocessing is given
    norm_epsilon: float | None = None
    stem_pool: bool | None = None
    origin: str | None = None  # a line for the card: where the file is from
    licence: str = "unknown"


@dataclass(frozen=True)
class ImportResult:
    """What became of a file: what it was, the card it was given, and what that card takes for granted, a sentence each."""

    format: str
    card: Card
    assumptions: tuple[str, ...]


def import_weights(file: str | Path, output: str | Path, options: ImportOptions | None = None) -> ImportResult:
    """Recognise the network in `file` and write it with a card to `output` (.safetensors), whole or not at all.

    ValueError: the file holds something else than the tensors of one network of the family, or the options do not fit it.
    """
    file, options = Path(file), options or ImportOptions()
    file_format, tensors = read_tensors(file)
    if file_format == "Caffe2 pickle of VMZ" and options.source is None:
        options = replace(options, source="vmz")  # no assumption: its blob names say so
    try:
        spec = _resolve_specification(tensors, options)
        preprocessing = options.preprocessing or make_default_preprocessing(spec, options.source)
        card = save(
            build_network(spec, tensors),
            output,
            classes=resolve_class_names(options.classes, spec.num_classes),
            preprocessing=preprocessing,
            source=options.origin or f"imported from {file.name}",
            licence=options.licence,
            source_sha256=file_sha256(file),
        )
    except ValueError as error:
        raise ValueError(f"{file} cannot be imported: {error}") from error
    return ImportResult(file_format, card, tuple(_list_assumptions(card, options)))


def read_tensors(file: Path) -> tuple[str, dict[str, Tensor]]:
    """What kind of file it is, in words, and its tensors under our names, all of them numbers that weights can be."""
    if not file.is_file():
        raise ValueError(f"there is no file {file}; give a state dict (.pt, .pth), a .safetensors file or a VMZ .pkl")
    with io.FileIO(file) as opened:
        head = opened.read(len(LEGACY_TORCH_MAGIC))
    if head.startswith(b"\x80") and head != LEGACY_TORCH_MAGIC:
        try:
            tensors = convert_blobs(read_blobs(file))
        except ValueError as error:
            raise error if str(file) in str(error) else ValueError(f"{file} cannot be imported: {error}") from error
        check_usable(file, tensors)
        return "Caffe2 pickle of VMZ", tensors
    return "state dict", read_state_dict(file)


def _resolve_specification(tensors: dict[str, Tensor], options: ImportOptions) -> Specification:
    """The network, its epsilon as told, as its source has it, or as networks of these shapes usually have it."""
    preprocessing = options.preprocessing
    if (
        options.clip_length is not None
        and preprocessing is not None
        and preprocessing.clip_length != options.clip_length
    ):
        raise ValueError(
            f"clips of {options.clip_length} frames were asked for, the preprocessing cuts {preprocessing.clip_length}"
        )
    spec = infer_specification(
        {name: tuple(tensor.shape) for name, tensor in tensors.items()},
        clip_length=options.clip_length or (preprocessing or Preprocessing()).clip_length,
        stem_pool=bool(options.stem_pool),
    )
    if options.norm_epsilon is not None:
        return replace(spec, norm_epsilon=options.norm_epsilon)
    if options.source is not None:
        return replace(spec, norm_epsilon=NORM_EPSILONS[options.source])
    return replace(spec, norm_epsilon=TORCHVISION_EPSILON if _uses_torchvision_shapes(spec) else PAPER_EPSILON)


def _uses_torchvision_shapes(spec: Specification) -> bool:
    return spec.mid_channel_rule == "per_block" or spec.name in TORCHVISION_SAME_SHAPES


def make_default_preprocessing(spec: Specification, source: WeightsSource | None = None) -> Preprocessing:
    """The paper's, for frames of as many channels as the network takes, at the rate that the source's models saw."""
    rate = FRAME_RATES[source] if source else None
    match spec.input_channels:
        case 3:
            return Preprocessing(clip_length=spec.clip_length, frames_per_second=rate)
        case 2:
            return Preprocessing(
                modality="flow",
                clip_length=spec.clip_length,
                frames_per_second=rate,
                mean=FLOW_MEAN,
                std=FLOW_STD,
            )
        case channels:
            raise ValueError(f"it takes frames of {channels} channels; there are 3 for RGB and 2 for optical flow")


def _list_assumptions(card: Card, options: ImportOptions) -> list[str]:
    preprocessing, spec = card.preprocessing, card.specification
    sentences = []
    if options.norm_epsilon is None and options.source is None:
        owner = "torchvision's" if _uses_torchvision_shapes(spec) else "the paper's authors'"
        sentences.append(
            f"epsilon of batch norm is taken to be {owner}, {spec.norm_epsilon:g} (--source says otherwise)"
        )
    if options.stem_pool is None:
        pooled = " (VMZ/pt's own 152-layer network has one: add --stem-pool)" if spec.name.endswith("_152") else ""
        sentences.append(f"no max-pool is taken to follow the stem{pooled}")
    if options.preprocessing is None:
        rate = preprocessing.frames_per_second
        sentences.append(
            f"clips are taken to be {preprocessing.clip_length} {preprocessing.modality} frames at "
            f"{'the rate of the file' if rate is None else f'{rate:g} a second'}, "
            f"scaled to {preprocessing.scale_height}x{preprocessing.scale_width} and cropped to "
            f"{preprocessing.crop}x{preprocessing.crop}"
        )
    if options.classes is None:
        sentences.append(f"classes are called {card.classes[0]} to {card.classes[-1]}, since nobody gave their names")
    return sentences


def resolve_class_names(classes: Sequence[str] | Path | None, num_classes: int) -> tuple[str, ...]:
    """The names of a network's classes as given, from a file with one a line, or numbers where nobody knows them."""
    if classes is None:
        digits = max(3, len(str(num_classes - 1)))
        return tuple(f"class_{index:0{digits}d}" for index in range(num_classes))
    if isinstance(classes, Path):
        if not classes.is_file():
            raise ValueError(f"there is no file of class names {classes}; write one name a line")
        classes = classes.read_text(encoding="utf-8").splitlines()
    names = tuple(name.strip() for name in classes)
    check_classes(names, num_classes)
    return names


def file_sha256(file: Path) -> str:
    """The hash of a file's bytes."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
