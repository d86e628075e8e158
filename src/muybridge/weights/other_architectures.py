"""Name the architecture of a file that holds no network of the family.

Input: the shapes of its tensors by path. Output: a sentence that says whose network it is, and where its function differs from
the family's. Recognised by the ends of names, so under any prefix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class _Architecture(NamedTuple):
    """A tensor that only this architecture has: the end of its name, its number of dimensions, and what it is."""

    name: str
    dimensions: int
    description: str


_OTHERS = (
    _Architecture(
        r"layer1\.0\.conv1\.conv\.weight",
        5,
        "3-D ResNet of MMAction2 (I3D, SlowOnly, CSN), whose function differs from R3D's: a max-pool after the stem, and "
        "other strides in time",
    ),
    _Architecture(
        r"conv2\.block1\.conv1\.spatial_conv\.weight",
        5,
        "R(2+1)D of pytorch-video-recognition, whose function differs from the paper's: 83 channels inside the stem instead "
        "of 45, factorized shortcuts, and convolutions with a bias",
    ),
    _Architecture(
        r"conv2x\.(0\.)?spt_conv1\.weight",
        5,
        "R(2+1)D of AVID-CMA, whose function differs from the paper's: a stem of 3x7x7 with a max-pool, as many mid-channels "
        "as outputs, and a maximum instead of the average at the end",
    ),
    _Architecture(r"s1\.pathway0_stem\.conv\.weight", 5, "network of SlowFast (slow, fast or I3D pathways)"),
    _Architecture(r"blocks\.0\.multipathway_blocks\.0\.conv\.weight", 5, "SlowFast network of PyTorchVideo"),
    _Architecture(r"blocks\.0\.conv\.conv_t\.weight", 5, "X3D of PyTorchVideo"),
    _Architecture(r"blocks\.0\.conv\.weight", 5, "3-D ResNet of PyTorchVideo (Slow, I3D, C2D or CSN)"),
    _Architecture(r"Conv3d_1a_7x7\.conv3d\.weight", 5, "I3D with Inception blocks"),
    _Architecture(r"features\.0\.0\.0\.weight|base\.0\.conv_s\.weight", 5, "S3D"),
    _Architecture(r"conv3a\.weight", 5, "C3D"),
    _Architecture(r"blocks\.0\.temporal_attn\.qkv\.weight", 2, "TimeSformer"),
    _Architecture(r"layers\.0\.blocks\.0\.attn\.relative_position_bias_table", 2, "Video Swin Transformer"),
    _Architecture(r"blocks\.0\.attn\.(pool_q|norm_q)\.weight", 0, "MViT"),
    _Architecture(r"blocks\.0\.attn\.(qkv|q_proj|in_proj)\.weight", 2, "vision transformer (ViT, VideoMAE)"),
    _Architecture(r"layer1\.0\.conv1\.(conv\.)?weight", 4, "2-D ResNet over pictures, as TSN and TSM use"),
)


def describe_architecture(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Why no network of the family was found, with the owner of these names where they are known."""
    for other in _OTHERS:
        pattern = re.compile(rf"(?:^|.*\.)(?:{other.name})$")
        for path, shape in shapes.items():
            if other.dimensions in (0, len(shape)) and pattern.match(path):
                return f"it holds the {other.description} ({path} {shape}), not a network with torchvision's names"
    first = ", ".join(sorted(shapes)[:3]) or "none"
    return (
        f"no tensor is called stem.0.weight, so this is not a network with torchvision's names; the first of {len(shapes)} "
        f"names are {first}"
    )
