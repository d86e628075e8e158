import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from muybridge.models.family import DEPTHS, FAMILIES, Specification, build_specification
from muybridge.models.network import VideoResNet
from muybridge.weights.architecture import Shapes, infer_specification


def shapes_of(described: Specification) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in VideoResNet(described).state_dict().items()}


DEEP = [depth for depth in DEPTHS if depth > 50]  # slow to build, and nothing of a family shows there that 50 lacks


@pytest.mark.parametrize(
    ("family", "depth"),
    [(family, depth) for family in FAMILIES for depth in (10, 18, 34, 50)] + [("r2plus1d", depth) for depth in DEEP],
)
def test_every_network_is_recognised(family: str, depth: int) -> None:
    described = build_specification(f"{family}_{depth}", num_classes=7, input_channels=2, width=4, clip_length=8)
    assert infer_specification(shapes_of(described), clip_length=8) == described


@pytest.mark.parametrize("depth", [10, 18, 34, 50])
@pytest.mark.parametrize("rule", ["per_convolution", "per_block"])
def test_the_rule_of_mid_channels_is_recognised(rule: str, depth: int) -> None:
    described = build_specification(f"r2plus1d_{depth}", width=16, mid_channel_rule=rule, stem_mid_channels=83)  # type: ignore[arg-type]
    assert infer_specification(shapes_of(described)) == described


@pytest.mark.parametrize("family", FAMILIES)
def test_the_length_of_clips_is_seen_for_r2d_alone(family: str) -> None:
    described = build_specification(f"{family}_18", width=4, clip_length=8)
    expected = described if family == "r2d" else replace(described, clip_length=32)
    assert infer_specification(shapes_of(described), clip_length=32) == expected


def test_what_weights_do_not_show_is_taken_from_the_caller() -> None:
    described = build_specification("mc4_34", width=4, norm_epsilon=1e-5, stem_pool=True)
    assert infer_specification(shapes_of(described), norm_epsilon=1e-5, stem_pool=True) == described


def test_a_stem_of_five_frames_is_what_its_stages_are() -> None:
    """Of R2D, all of its frames; of R3D, as in networks of other projects, a longer filter."""
    flat, full = (
        build_specification("r2d_10", width=4, clip_length=5),
        build_specification("r3d_10", width=4, clip_length=8),
    )
    assert infer_specification(shapes_of(flat)) == flat
    longer = replace(full, stem_frames=5)
    assert infer_specification(shapes_of(longer), clip_length=8) == longer
    with pytest.raises(
        ValueError, match="filters of 5 frames are those of R2D, but the stages after it are full_3d, frame_2d"
    ):
        mixed = build_specification("mc3_10", width=4, clip_length=5)
        infer_specification({**shapes_of(mixed), "stem.0.weight": (4, 3, 5, 7, 7)})


def test_short_r2d_clips_are_ambiguous_as_documented() -> None:
    assert infer_specification(shapes_of(build_specification("r2d_18", width=4, clip_length=3))).name == "mc2_18"
    assert infer_specification(shapes_of(build_specification("r2d_18", width=4, clip_length=1))).name == "f_r2d_18"


def torchvisions_r2plus1d_18() -> Shapes:
    """Names and shapes of torchvision's r2plus1d_18, written down without our code."""
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"] = shape

    def norm(name: str, channels: int) -> None:
        shapes.update({f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")})
        shapes[f"{name}.num_batches_tracked"] = ()

    convolution("stem.0", 45, 3, 1, 7, 7)
    norm("stem.1", 45)
    convolution("stem.3", 64, 45, 3, 1, 1)
    norm("stem.4", 64)
    mids = {(1, 0): 144, (1, 1): 144, (2, 0): 230, (2, 1): 288, (3, 0): 460, (3, 1): 576, (4, 0): 921, (4, 1): 1152}
    for (stage, block), mid in mids.items():
        channels = 64 * 2 ** (stage - 1)
        entering = channels // 2 if block == 0 and stage > 1 else channels
        for number, inputs in ((1, entering), (2, channels)):
            name = f"layer{stage}.{block}.conv{number}"
            convolution(f"{name}.0.0", mid, inputs, 1, 3, 3)
            norm(f"{name}.0.1", mid)
            convolution(f"{name}.0.3", channels, mid, 3, 1, 1)
            norm(f"{name}.1", channels)
        if block == 0 and stage > 1:
            convolution(f"layer{stage}.0.downsample.0", channels, entering, 1, 1, 1)
            norm(f"layer{stage}.0.downsample.1", channels)
    shapes["fc.weight"], shapes["fc.bias"] = (400, 512), (400,)
    return shapes


def test_torchvisions_network_is_recognised_from_a_list_that_we_did_not_make() -> None:
    assert infer_specification(torchvisions_r2plus1d_18()) == build_specification(
        "r2plus1d_18", mid_channel_rule="per_block"
    )


def test_nothing_may_be_missing_left_over_or_of_another_shape() -> None:
    shapes = torchvisions_r2plus1d_18()
    for wrong, sentence in (
        ({name: shape for name, shape in shapes.items() if name != "layer2.0.conv1.0.1.bias"},
         "layer2.0.conv1.0.1.bias (230,) is missing"),
        ({**shapes, "extra": (1, 2)}, "extra (1, 2) is not part of it"),
        ({**shapes, "fc.bias": (399,)}, "fc.bias has the shape (399,), expected (400,)"),
        ({**shapes, "layer4.1.conv2.0.3.weight": (512, 1153, 3, 1, 1)},
         "layer4.1.conv2.0.3.weight has the shape (512, 1153, 3, 1, 1), expected (512, 1152, 3, 1, 1)"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=re.escape(sentence)):
            infer_specification(wrong)


def test_other_networks_are_refused_with_what_was_found() -> None:
    r3d = shapes_of(build_specification("r3d_18", width=4))
    with torch.device("meta"):
        foreign = {name: tuple(tensor.shape) for name, tensor in nn.Linear(3, 4).state_dict().items()}
    for wrong, sentence in (
        (foreign, "no tensor is called stem.0.weight.* names are bias, weight"),
        ({}, "no tensor is called stem.0.weight"),
        ({**r3d, "stem.0.weight": (4, 3, 7, 7)}, r"shape \(4, 3, 7, 7\), expected 5 dimensions"),
        ({**r3d, "stem.0.weight": (4, 3, 16, 7, 7)}, "filters of 16 frames are those of R2D, but the stages.*full_3d"),
        ({**r3d, "layer3.0.conv2.0.weight": (16, 16, 1, 3, 3)}, "no network of the family has .*full_3d, frame_2d"),
        ({**r3d, "layer3.0.conv2.0.weight": (16, 16, 5, 5, 5)}, "expected filters of 3x3x3 or 1x3x3"),
        ({name: shape for name, shape in r3d.items() if not name.startswith("layer4.")}, "layer4.*missing"),
        ({**r3d, "layer4.2.conv1.0.weight": (32, 32, 3, 3, 3)}, r"\(2, 2, 2, 3\) basic blocks, which no depth"),
    ):
        with pytest.raises(ValueError, match=sentence):
            infer_specification(wrong)
