"""Import weights of other software: `muybridge weights import`.

Input: a file, whose format is recognised by its content:

    Caffe2 pickle of the authors (VMZ)      arrays by blob name                      epsilon 1e-3
    torchvision's state dict                mid-channels per block in R(2+1)D        epsilon 1e-5
    ig65m-pytorch's and VMZ/pt's            mid-channels per convolution             epsilon 1e-3
    MMAction2's, PyTorchVideo's,            names of their own (`naming.py`)         epsilon 1e-5
        3D-ResNets-PyTorch's

Output: a weights file with a card, the format of the input, and a list of assumptions. Every tensor of the file is used exactly
once, and every tensor of the network comes from the file.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from muybridge.bounds import ClipLength, FrameStep, NormEpsilon, check_fields
from muybridge.files.hashing import hash_file
from muybridge.models.family import Specification
from muybridge.models.heads import Head
from muybridge.records import FLOW_MEAN, FLOW_STD, Preprocessing
from muybridge.weights.architecture import infer_specification
from muybridge.weights.card import NO_CLASSIFIER, Card, build_network, save
from muybridge.weights.state_dict import CheckpointNetwork, read_network
from muybridge.weights.task_heads import ImportedTask, describe_head
from muybridge.weights.tensor_checks import check_usable
from muybridge.weights.torch_file import LEGACY_TORCH_MAGIC
from muybridge.weights.vmz import convert_blobs, read_blobs

WeightsSource = Literal["torchvision", "ig65m", "vmz", "muybridge"]

PAPER_EPSILON, TORCHVISION_EPSILON = 1e-3, 1e-5
NORM_EPSILONS: dict[WeightsSource, float] = {
    "torchvision": TORCHVISION_EPSILON,
    "ig65m": PAPER_EPSILON,
    "vmz": PAPER_EPSILON,
    "muybridge": PAPER_EPSILON,
}
# The authors' released models and torchvision's were trained at 15 frames a second.
FRAME_RATES: dict[WeightsSource, float | None] = {"torchvision": 15.0, "ig65m": None, "vmz": 15.0, "muybridge": None}
TORCHVISION_SAME_SHAPES = ("r3d_18", "mc3_18")  # same shapes in torchvision and here


@dataclass(frozen=True)
class ImportOptions:
    """Properties that weights do not show. None: assumed, and listed in `ImportResult.assumptions`."""

    source: WeightsSource | None = None
    classes: Sequence[str] | Path | None = None  # names of the outputs (levels of ordinal), or a file with one a line
    task: ImportedTask = field(default_factory=ImportedTask)
    preprocessing: Preprocessing | None = None
    clip_length: ClipLength | None = None  # frames; as in a given preprocessing, and in the weights of an R2D
    frame_stride: FrameStep | None = None  # likewise as in a given preprocessing
    norm_epsilon: NormEpsilon | None = None
    stem_pool: bool | None = None
    network: str | None = None  # where the network is where there are several, as `ema.module`, or "the top level"
    head: str | None = None  # the classifier where there are several, as `fc_verb`; "none" leaves it out
    origin: str | None = None  # the card's `source`
    licence: str = "unknown"

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class ImportResult:
    """The format of an imported file, its new card, the assumptions in that card, and what of the file was left out."""

    format: str
    card: Card
    assumptions: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def import_weights(file: str | Path, output: str | Path, options: ImportOptions | None = None) -> ImportResult:
    """Recognise the network in `file` and write it with a card to `output` (.safetensors), atomically.

    A network without a classifier gets one output called "no_classifier": it is for `extract` and for `train --init`.
    ValueError if the file is not the tensors of one network of the family, or the options do not fit it.
    """
    file, options = Path(file), options or ImportOptions()
    file_format, network = _read_tensors(file, options)
    if file_format == "Caffe2 pickle of VMZ" and options.source is None:
        options = replace(options, source="vmz")  # not an assumption: only VMZ has these blob names
    if options.classes is not None and not network.has_classifier:
        raise ValueError(f"{file} has no classifier that class names could belong to; leave out --classes")
    try:
        spec = _resolve_specification(network, options)
        preprocessing = options.preprocessing or _assume_preprocessing(spec, network, options)
        head, classes = _resolve_head(network, options, spec.num_classes)
        card = save(
            build_network(spec, network.tensors),
            output,
            classes=classes,
            head=head,
            preprocessing=preprocessing,
            source=options.origin or f"imported from {file.name}",
            licence=options.licence,
            source_sha256=hash_file(file)[1],
        )
    except ValueError as error:
        raise ValueError(f"{file} cannot be imported: {error}") from error
    return ImportResult(file_format, card, tuple(_list_assumptions(card, network, options)), network.left_out)


def _read_tensors(file: Path, options: ImportOptions) -> tuple[str, CheckpointNetwork]:
    """Read the format of a file, as a phrase, and its network. ValueError for tensors that are not weights."""
    if not file.is_file():
        raise ValueError(f"there is no file {file}; give a state dict (.pt, .pth), a .safetensors file or a VMZ .pkl")
    if file.suffix == ".pt2":
        raise ValueError(
            f"{file} is an exported program, which has no names of layers; give the state dict it was made of"
        )
    with io.FileIO(file) as opened:
        head = opened.read(len(LEGACY_TORCH_MAGIC))
    if head.startswith(b"\x80") and head != LEGACY_TORCH_MAGIC:
        try:
            tensors = convert_blobs(read_blobs(file))
        except ValueError as error:
            raise error if str(file) in str(error) else ValueError(f"{file} cannot be imported: {error}") from error
        check_usable(file, tensors)
        if options.network is not None or options.head is not None:
            raise ValueError(f"{file} is a pickle of VMZ and holds one network; leave out --network and --head")
        return "Caffe2 pickle of VMZ", CheckpointNetwork(tensors, has_classifier=True)
    network = read_network(file, place=options.network, head=options.head)
    return f"state dict of {network.scheme.owner}" if network.scheme.owner else "state dict", network


def _resolve_specification(network: CheckpointNetwork, options: ImportOptions) -> Specification:
    """Infer the specification; epsilon is from the options, else from their source, else by names and shapes.

    Raises ValueError where the options and the file differ.
    """
    preprocessing, scheme = options.preprocessing, network.scheme
    usual = preprocessing or _find_usual_preprocessing(network) or Preprocessing()
    if scheme.owner and options.source is not None:
        raise ValueError(
            f"its tensors have the names of {scheme.owner}, so it does not come from {options.source}; leave out --source"
        )
    if preprocessing is not None:
        _check_request(options, preprocessing)
    spec = infer_specification(
        {name: tuple(tensor.shape) for name, tensor in network.tensors.items()},
        clip_length=options.clip_length or usual.clip_length,
        stem_pool=bool(options.stem_pool),
        traits=scheme.traits,
    )
    if options.clip_length not in (None, spec.clip_length):
        raise ValueError(
            f"clips of {options.clip_length} frames were requested, but the weights of {spec.name} are for "
            f"{spec.clip_length}; leave out --clip-length"
        )
    if options.norm_epsilon is not None:
        return replace(spec, norm_epsilon=options.norm_epsilon)
    if options.source is not None:
        return replace(spec, norm_epsilon=NORM_EPSILONS[options.source])
    if "norm_epsilon" in scheme.traits:
        return spec
    return replace(spec, norm_epsilon=TORCHVISION_EPSILON if _uses_torchvision_shapes(spec) else PAPER_EPSILON)


def _check_request(options: ImportOptions, preprocessing: Preprocessing) -> None:
    """Raise ValueError where the options say one thing and the preprocessing beside them another."""
    if options.clip_length not in (None, preprocessing.clip_length):
        raise ValueError(
            f"clips of {options.clip_length} frames were requested, but the preprocessing cuts {preprocessing.clip_length}"
        )
    if options.frame_stride not in (None, preprocessing.frame_stride):
        raise ValueError(
            f"one frame in {options.frame_stride} was requested, but the preprocessing takes one in "
            f"{preprocessing.frame_stride}"
        )


def _uses_torchvision_shapes(spec: Specification) -> bool:
    return spec.mid_channel_rule == "per_block" or spec.name in TORCHVISION_SAME_SHAPES


def _find_usual_preprocessing(network: CheckpointNetwork) -> Preprocessing | None:
    """That of the project that trained the network, where entries or names of the file show it."""
    return network.training.preprocessing if network.training else network.scheme.preprocessing


def _assume_preprocessing(spec: Specification, network: CheckpointNetwork, options: ImportOptions) -> Preprocessing:
    """That of the project whose names or entries the file has, else the paper's."""
    rate = FRAME_RATES[options.source] if options.source else None
    usual = _find_usual_preprocessing(network) if spec.input_channels == 3 else None
    preprocessing = usual or make_preprocessing(spec.input_channels, spec.clip_length, rate)
    stride = options.frame_stride or preprocessing.frame_stride
    return replace(preprocessing, clip_length=spec.clip_length, frame_stride=stride)


def make_preprocessing(input_channels: int, clip_length: int, frames_per_second: float | None) -> Preprocessing:
    """The paper's preprocessing for RGB (3 channels) or optical flow (2)."""
    preprocessing = Preprocessing(clip_length=clip_length, frames_per_second=frames_per_second)
    match input_channels:
        case 3:
            return preprocessing
        case 2:
            return replace(preprocessing, modality="flow", mean=FLOW_MEAN, std=FLOW_STD)
        case _:
            raise ValueError(f"it takes frames of {input_channels} channels, expected 3 for RGB or 2 for optical flow")


def _resolve_head(
    network: CheckpointNetwork, options: ImportOptions, num_outputs: int
) -> tuple[Head | None, tuple[str, ...]]:
    """The head of another task than single_label, and the classes of the card."""
    if not network.has_classifier:
        if options.task.task not in (None, "single_label"):
            raise ValueError(f"it has no outputs of the task {options.task.task}; leave out --task")
        return None, NO_CLASSIFIER
    return options.task.make_head(_read_class_names(options.classes), num_outputs, network.training)


def _list_assumptions(card: Card, network: CheckpointNetwork, options: ImportOptions) -> list[str]:
    preprocessing, spec, scheme = card.preprocessing, card.specification, network.scheme
    sentences = []
    if scheme.difference:
        sentences.append(f"the network is {scheme.owner}'s, which differs from the paper's: it has {scheme.difference}")
    elif options.norm_epsilon is None and options.source is None:
        owner = "torchvision's" if _uses_torchvision_shapes(spec) else "the paper's authors'"
        sentences.append(f"epsilon of batch norm is {owner}, {spec.norm_epsilon:g} (change it with --source)")
    if options.stem_pool is None and not scheme.difference:
        pool_hint = " (VMZ/pt's 152-layer network has one: add --stem-pool)" if spec.name.endswith("_152") else ""
        sentences.append(f"no max-pool follows the stem{pool_hint}")
    if options.preprocessing is None:
        rate = preprocessing.frames_per_second
        sentences.append(
            f"clips are {preprocessing.clip_length} {preprocessing.modality} frames"
            f"{'' if preprocessing.frame_stride == 1 else f', one in {preprocessing.frame_stride},'} at "
            f"{'the rate of the file' if rate is None else f'{rate:g} a second'}, "
            f"scaled to {preprocessing.scale_height}x{preprocessing.scale_width} and cropped to "
            f"{preprocessing.crop}x{preprocessing.crop}"
        )
    if not card.has_classifier:
        sentences.append("the file has no classifier: use the weights with `extract` and `train --init`")
    elif card.head:
        sentences.append(describe_head(card.head, network.training if options.task.task is None else None))
    elif options.classes is None:
        sentences.append(f"classes are called {card.classes[0]} to {card.classes[-1]} (name them with --classes)")
    return sentences


def _read_class_names(classes: Sequence[str] | Path | None) -> tuple[str, ...] | None:
    """Names as given, or from a file with one name a line."""
    if isinstance(classes, Path):
        if not classes.is_file():
            raise ValueError(f"there is no file of class names {classes}; write one name a line")
        try:
            classes = classes.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"the file of class names {classes} is not a text in UTF-8; save it as UTF-8") from error
    return None if classes is None else tuple(name.strip() for name in classes)
