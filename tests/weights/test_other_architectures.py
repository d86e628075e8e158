"""A file of another architecture is named as whose it is."""

import pytest
import torch

from muybridge.weights.other_architectures import describe_architecture


@pytest.mark.parametrize(
    ("name", "shape", "owner"),
    [
        ("backbone.layer1.0.conv1.conv.weight", (64, 64, 1, 1, 1), "3-D ResNet of MMAction2"),
        ("model_state.s1.pathway0_stem.conv.weight", (64, 3, 1, 7, 7), "network of SlowFast"),
        ("model.module.video_model.conv2x.0.spt_conv1.weight", (64, 64, 1, 3, 3), "AVID-CMA.*a maximum instead"),
        (
            "res2plus1d.conv2.block1.conv1.spatial_conv.weight",
            (144, 64, 1, 3, 3),
            "pytorch-video-recognition.*83 channels",
        ),
        ("features.0.0.0.weight", (64, 3, 1, 7, 7), "the S3D"),
        ("blocks.0.attn.qkv.weight", (2304, 768), "vision transformer"),
        ("layer1.0.conv1.weight", (64, 64, 3, 3), "2-D ResNet"),
        ("anything.weight", (3,), "no tensor is called stem.0.weight.*anything.weight"),
    ],
)
def test_the_owner_and_the_difference_are_said(name: str, shape: tuple[int, ...], owner: str) -> None:
    with pytest.raises(ValueError, match=owner):
        raise ValueError(describe_architecture({"epoch": (), name: shape}))


def test_the_first_names_of_something_unknown_are_shown() -> None:
    shapes: dict[str, tuple[int, ...]] = {f"{letter}.weight": (2,) for letter in "dbca"}
    assert describe_architecture(shapes).endswith("the first of 4 names are a.weight, b.weight, c.weight")
    assert describe_architecture({}).endswith("the first of 0 names are none")


def test_a_small_convolution_network_has_no_owner() -> None:
    names = {
        name: tuple(tensor.shape) for name, tensor in torch.nn.Sequential(torch.nn.Conv3d(3, 4, 3)).state_dict().items()
    }
    assert describe_architecture(names).startswith("no tensor is called stem.0.weight")
