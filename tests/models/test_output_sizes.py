"""The sizes of Table 1, for every family, other lengths and other crops: no numbers are computed (meta device)."""

import math
from dataclasses import replace

import pytest
import torch

from muybridge.models.family import FAMILIES, build_specification
from muybridge.models.network import VideoResNet, create_model

GROUPS = ("stem", "layer1", "layer2", "layer3", "layer4")


def output_sizes(net, clips):
    """Size (C, T, H, W) after each group of Table 1."""
    sizes = []
    with torch.no_grad():
        for group in GROUPS:
            clips = net.eval().get_submodule(group)(clips)
            sizes.append(tuple(clips.shape[1:]))
    return sizes


def on_meta(name, **changes):
    with torch.device("meta"):
        return create_model(name, **changes)


@pytest.mark.parametrize("length", [8, 16])
@pytest.mark.parametrize("name", ["r3d_18", "r3d_34", "r2plus1d_18", "r2plus1d_34"])
def test_output_sizes_are_those_of_table_1(name, length):
    assert output_sizes(on_meta(name), torch.empty(1, 3, length, 112, 112, device="meta")) == [
        (64, length, 56, 56),
        (64, length, 56, 56),
        (128, length // 2, 28, 28),
        (256, length // 4, 14, 14),
        (512, length // 8, 7, 7),
    ]


@pytest.mark.parametrize(
    ("family", "frames_left"),
    # of 16 and 8 frames: the temporal pooling kernels of the authors' code
    [
        ("r2d", (1, 1)),
        ("f_r2d", (16, 8)),
        ("r3d", (2, 1)),
        ("mc2", (16, 8)),
        ("mc3", (16, 8)),
        ("mc4", (8, 4)),
        ("mc5", (4, 2)),
        ("rmc2", (2, 1)),
        ("rmc3", (2, 1)),
        ("rmc4", (4, 2)),
        ("rmc5", (8, 4)),
        ("r2plus1d", (2, 1)),
    ],
)
def test_the_last_map_of_every_family(family, frames_left):
    for length, left in zip((16, 8), frames_left, strict=True):
        net = on_meta(f"{family}_18", clip_length=length)
        last = output_sizes(net, torch.empty(1, 3, length, 112, 112, device="meta"))[-1]
        assert last == (512, left, 7, 7)


@pytest.mark.parametrize("name", ["r3d_10", "r2plus1d_10", "r2plus1d_50"])
def test_short_and_odd_lengths_round_up(name):
    net = on_meta(name, width=8)
    for length in (*range(1, 10), 31):
        sizes = output_sizes(net, torch.empty(1, 3, length, 112, 112, device="meta"))
        assert [size[1] for size in sizes] == [length, length] + [math.ceil(length / 2**k) for k in (1, 2, 3)]


@pytest.mark.parametrize("crop", [224, 112, 111, 57, 32, 1])
def test_other_crops_round_up(crop):
    sizes = output_sizes(on_meta("r2plus1d_10", width=8), torch.empty(1, 3, 4, crop, crop + 3, device="meta"))
    assert [size[2:] for size in sizes] == [
        (math.ceil(crop / 2**k), math.ceil((crop + 3) / 2**k)) for k in (1, 1, 2, 3, 4)
    ]


def test_stem_pool_halves_space_once_more():
    clips = torch.empty(1, 3, 8, 112, 112, device="meta")
    assert output_sizes(on_meta("r2plus1d_18", stem_pool=True), clips)[0] == (64, 8, 28, 28)
    assert output_sizes(on_meta("r2plus1d_18"), clips)[0] == (64, 8, 56, 56)


def test_r2d_has_one_frame_after_its_first_convolution():
    net = on_meta("r2d_18", clip_length=8)
    assert net.stem[0].weight.shape == (64, 3, 8, 7, 7)
    assert [size[1] for size in output_sizes(net, torch.empty(1, 3, 8, 112, 112, device="meta"))] == [1] * 5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "changes",
    [{}, {"stem_pool": True}, {"stem_pool": True, "stem_pool_time_stride": 2}, {"spatial_strides": (2, 2, 2, 2)}],
)
def test_the_last_maps_are_as_large_as_the_specification_says(family, changes):
    for length, crop in ((1, 1), (3, 16), (8, 17), (9, 33)):
        with torch.device("meta"):
            base = build_specification(f"{family}_10", width=4, clip_length=length)
            net = VideoResNet(replace(base, **changes))
        _, time, *sides = output_sizes(net, torch.empty(1, 3, length, crop, crop, device="meta"))[-1]
        assert (time, *sides) == (*net.specification.compute_last_map(length, crop), sides[0])
