"""The names that other projects give the tensors of their R(2+1)D and R3D networks.

Input: the name of a tensor in such a file. Output: its name here, and what of the network its shapes do not show. The networks
differ from the paper's, and run as they are: `Specification` has a field for each difference. Facts are from the projects'
sources, named beside each scheme.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TypedDict

from muybridge.models.network import STAGES
from muybridge.records import Preprocessing

_PART = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
_BLOCK = r"(layer[1-4]\.\d+)"


class Traits(TypedDict, total=False):
    """Fields of `Specification` that no shape shows, known by the owner of the names."""

    norm_epsilon: float
    stem_pool: bool
    stem_pool_time_stride: int
    temporal_strides: tuple[int, ...]
    spatial_strides: tuple[int, ...]


@dataclass(frozen=True)
class NamingScheme:
    """How one project calls the tensors of one kind of network."""

    owner: str  # "" for torchvision's names, which are ours
    anchor: str  # the end of a name, as a pattern, that only such a network has; what precedes is its prefix
    rules: tuple[tuple[str, str], ...]  # patterns of whole names, each with the name here
    traits: Traits
    difference: str = ""  # from the paper's network
    preprocessing: Preprocessing | None = None  # of the project's own training
    # Norms that were trained with a larger epsilon than the others (pattern, excess): it is added to their variances.
    extra_epsilon: tuple[str, float] | None = None

    def find_prefixes(self, names: Collection[str]) -> Iterator[str]:
        """What precedes the names of each such network among these tensors."""
        pattern = re.compile(rf"(|.*\.)(?:{self.anchor})")
        yield from (match[1] for match in map(pattern.fullmatch, names) if match)

    def rename(self, name: str) -> str | None:
        """The name here of a tensor of stem and stages; None for other tensors."""
        for pattern, ours in self.rules:
            if match := re.fullmatch(pattern, name):
                return match.expand(ours)
        return None


TORCHVISION = NamingScheme("", r"stem\.0\.weight", ((rf"((?:{'|'.join(STAGES)})\..*)", r"\1"),), {})

# torch.nn.Sequential(*list(network.children())[:-1]), which many projects take for a backbone.
_NUMBERED = NamingScheme(
    "",
    r"1\.0\.conv1\.0\.(?:0\.)?weight",
    ((r"0\.(\d+\..*)", r"stem.\1"), (r"([1-4])\.(\d+\.(?:conv\d|downsample)\..*)", r"layer\1.\2")),
    {},
)

# mmaction/models/common/conv2plus1d.py, backbones/resnet2plus1d.py; configs/_base_/models/r2plus1d_r34.py
MMACTION2 = NamingScheme(
    "MMAction2",
    r"conv1\.conv\.conv_s\.weight",
    (
        (r"conv1\.conv\.conv_s\.weight", r"stem.0.weight"),
        (rf"conv1\.conv\.bn_s\.{_PART}", r"stem.1.\1"),
        (r"conv1\.conv\.conv_t\.weight", r"stem.3.weight"),
        (rf"conv1\.bn\.{_PART}", r"stem.4.\1"),
        (rf"{_BLOCK}\.(conv\d)\.conv\.conv_s\.weight", r"\1.\2.0.0.weight"),
        (rf"{_BLOCK}\.(conv\d)\.conv\.bn_s\.{_PART}", r"\1.\2.0.1.\3"),
        (rf"{_BLOCK}\.(conv\d)\.conv\.conv_t\.weight", r"\1.\2.0.3.weight"),
        (rf"{_BLOCK}\.(conv\d)\.bn\.{_PART}", r"\1.\2.1.\3"),
        (rf"{_BLOCK}\.downsample\.conv\.conv_s\.weight", r"\1.downsample.0.weight"),
        (rf"{_BLOCK}\.downsample\.conv\.bn_s\.{_PART}", r"\1.downsample.1.\2"),
        (rf"{_BLOCK}\.downsample\.conv\.conv_t\.weight", r"\1.downsample.3.weight"),
        (rf"{_BLOCK}\.downsample\.bn\.{_PART}", r"\1.downsample.4.\2"),
    ),
    {"norm_epsilon": 1e-5, "stem_pool": True},
    "83 channels inside the stem instead of 45, a 1x3x3 max-pool after it, factorized shortcuts, and two values of epsilon "
    "(0.001 where a convolution ends, which was added to the variances there, 1e-05 within)",
    Preprocessing(
        clip_length=8,
        frame_stride=8,
        scale_height=256,
        scale_width=341,
        crop=224,
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
    ),
    (r"stem\.4|layer\d\.\d+\.(conv\d\.1|downsample\.4)", 1e-3 - 1e-5),
)

# models/resnet2p1d.py, models/resnet.py, main.py (value_scale 1, mean and std of Kinetics)
_HARA_PREPROCESSING = Preprocessing(
    scale_height=112,
    scale_width=149,
    crop=112,
    mean=(255 * 0.4345, 255 * 0.4051, 255 * 0.3775),
    std=(255 * 0.2768, 255 * 0.2713, 255 * 0.2737),
)
_HARA_TRAITS: Traits = {"norm_epsilon": 1e-5, "stem_pool": True, "stem_pool_time_stride": 2}
_HARA_R2PLUS1D = NamingScheme(
    "3D-ResNets-PyTorch",
    r"layer1\.0\.conv2_s\.weight",
    (
        (r"conv1_s\.weight", r"stem.0.weight"),
        (rf"bn1_s\.{_PART}", r"stem.1.\1"),
        (r"conv1_t\.weight", r"stem.3.weight"),
        (rf"bn1_t\.{_PART}", r"stem.4.\1"),
        (rf"{_BLOCK}\.conv(\d)_s\.weight", r"\1.conv\2.0.0.weight"),
        (rf"{_BLOCK}\.bn(\d)_s\.{_PART}", r"\1.conv\2.0.1.\3"),
        (rf"{_BLOCK}\.conv(\d)_t\.weight", r"\1.conv\2.0.3.weight"),
        (rf"{_BLOCK}\.bn(\d)_t\.{_PART}", r"\1.conv\2.1.\3"),
        (rf"{_BLOCK}\.conv(\d)\.weight", r"\1.conv\2.0.weight"),
        (rf"{_BLOCK}\.bn(\d)\.{_PART}", r"\1.conv\2.1.\3"),
        (rf"{_BLOCK}\.(downsample\.[01])\.{_PART}", r"\1.\2.\3"),
    ),
    _HARA_TRAITS,
    "a stem of 110 mid-channels over 7 frames instead of 45 over 3, and a 3x3x3 max-pool of stride 2 in time after it",
    _HARA_PREPROCESSING,
)
_HARA_R3D = NamingScheme(
    "3D-ResNets-PyTorch",
    r"layer1\.0\.conv1\.weight",
    (
        (r"conv1\.weight", r"stem.0.weight"),
        (rf"bn1\.{_PART}", r"stem.1.\1"),
        (rf"{_BLOCK}\.conv(\d)\.weight", r"\1.conv\2.0.weight"),
        (rf"{_BLOCK}\.bn(\d)\.{_PART}", r"\1.conv\2.1.\3"),
        (rf"{_BLOCK}\.(downsample\.[01])\.{_PART}", r"\1.\2.\3"),
    ),
    _HARA_TRAITS,
    "a stem over 7 frames instead of 3, and a 3x3x3 max-pool of stride 2 in time after it",
    _HARA_PREPROCESSING,
)

# pytorchvideo/models/r2plus1d.py, layers/convolutions.py; SlowFast builds the same network
PYTORCHVIDEO = NamingScheme(
    "PyTorchVideo",
    r"blocks\.1\.res_blocks\.0\.branch2\.conv_b\.conv_t\.weight",
    (
        (r"blocks\.0\.conv\.weight", r"stem.0.weight"),
        (rf"blocks\.0\.norm\.{_PART}", r"stem.1.\1"),
        (r"blocks\.([1-4])\.res_blocks\.(\d+)\.branch2\.conv_a\.weight", r"layer\1.\2.conv1.0.weight"),
        (rf"blocks\.([1-4])\.res_blocks\.(\d+)\.branch2\.norm_a\.{_PART}", r"layer\1.\2.conv1.1.\3"),
        (r"blocks\.([1-4])\.res_blocks\.(\d+)\.branch2\.conv_b\.conv_t\.weight", r"layer\1.\2.conv2.0.0.weight"),
        (rf"blocks\.([1-4])\.res_blocks\.(\d+)\.branch2\.conv_b\.norm\.{_PART}", r"layer\1.\2.conv2.0.1.\3"),
        (r"blocks\.([1-4])\.res_blocks\.(\d+)\.branch2\.conv_b\.conv_xy\.weight", r"layer\1.\2.conv2.0.3.weight"),
        (rf"blocks\.([1-4])\.res_blocks\.(\d+)\.branch2\.norm_b\.{_PART}", r"layer\1.\2.conv2.1.\3"),
        (r"blocks\.([1-4])\.res_blocks\.(\d+)\.branch2\.conv_c\.weight", r"layer\1.\2.conv3.0.weight"),
        (rf"blocks\.([1-4])\.res_blocks\.(\d+)\.branch2\.norm_c\.{_PART}", r"layer\1.\2.conv3.1.\3"),
        (r"blocks\.([1-4])\.res_blocks\.(\d+)\.branch1_conv\.weight", r"layer\1.\2.downsample.0.weight"),
        (rf"blocks\.([1-4])\.res_blocks\.(\d+)\.branch1_norm\.{_PART}", r"layer\1.\2.downsample.1.\3"),
    ),
    {"norm_epsilon": 1e-5, "temporal_strides": (1, 1, 2, 2), "spatial_strides": (2, 2, 2, 2)},
    "a stem of single frames, (2+1)D that convolves time first with as many mid-channels as outputs, a stride of 2 in space in "
    "conv2, and none in time in conv3",
    Preprocessing(
        frame_stride=4,
        scale_height=256,
        scale_width=341,
        crop=224,
        mean=(255 * 0.45,) * 3,
        std=(255 * 0.225,) * 3,
    ),
)

SCHEMES = (TORCHVISION, _NUMBERED, MMACTION2, _HARA_R2PLUS1D, _HARA_R3D, PYTORCHVIDEO)
