import inspect
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest

from muybridge.models.family import (
    DEPTHS,
    FAMILIES,
    OPTIONAL_FIELDS,
    PAPER_NAMES,
    ConvolutionKind,
    Specification,
    build_specification,
    compute_mid_channels,
    format_paper_name,
    list_models,
)
from muybridge.parsing import parse_record


def read(values: Mapping[str, Any]) -> Specification:
    return parse_record(Specification, values, "the specification", optional=OPTIONAL_FIELDS)


FULL_3D, FRAME_2D = ConvolutionKind.FULL_3D, ConvolutionKind.FRAME_2D


def test_there_are_twelve_families_of_six_depths():
    names = list_models()
    assert len(names) == len(set(names)) == 72
    assert names[0] == "r2d_10"
    assert names[-1] == "r2plus1d_152"
    assert set(PAPER_NAMES) == set(FAMILIES)


@pytest.mark.parametrize("group", [2, 3, 4, 5])
def test_mixed_networks_change_kind_at_their_group(group):
    """The definition in words: MCx has groups x and above in 2-D and conv1 in 3-D, rMCx the reverse."""
    mc, rmc = FAMILIES[f"mc{group}"], FAMILIES[f"rmc{group}"]
    for number in (1, 2, 3, 4, 5):
        assert mc[number - 1] is (FRAME_2D if number >= group else FULL_3D)
        assert rmc[number - 1] is (FULL_3D if number >= group else FRAME_2D)


@pytest.mark.parametrize(
    ("family", "strides"),
    [
        ("r2d", (1, 1, 1, 1)),
        ("f_r2d", (1, 1, 1, 1)),
        ("r3d", (1, 2, 2, 2)),
        ("mc2", (1, 1, 1, 1)),
        ("mc3", (1, 1, 1, 1)),
        ("mc4", (1, 2, 1, 1)),
        ("mc5", (1, 2, 2, 1)),
        ("rmc2", (1, 2, 2, 2)),
        ("rmc3", (1, 2, 2, 2)),
        ("rmc4", (1, 1, 2, 2)),
        ("rmc5", (1, 1, 1, 2)),
        ("r2plus1d", (1, 2, 2, 2)),
    ],
)
def test_a_stage_turned_2d_loses_its_temporal_stride(family, strides):
    assert build_specification(f"{family}_18").temporal_strides == strides


def test_the_number_of_layers_is_the_depth():
    for depth, (block, blocks) in DEPTHS.items():
        assert 1 + sum(blocks) * (3 if block == "bottleneck" else 2) + 1 == depth
        assert (block == "bottleneck") == (depth >= 50)


def test_mid_channels_match_the_parameters_of_a_full_convolution():
    # The list, computed from the paper's formula and found in the authors' weights
    expected = {(64, 64): 144, (64, 128): 230, (128, 128): 288, (128, 256): 460, (256, 256): 576, (256, 512): 921}
    assert {key: compute_mid_channels(*key) for key in expected} == expected
    assert compute_mid_channels(512, 512) == 1152
    assert compute_mid_channels(3, 64, t=3, d=7) == 83  # what the rule would give the stem, which has 45
    for in_channels, out_channels in expected:
        full = 27 * in_channels * out_channels
        both = compute_mid_channels(in_channels, out_channels) * (9 * in_channels + 3 * out_channels)
        assert full - (9 * in_channels + 3 * out_channels) < both <= full


def test_stem_mid_channels_follow_the_width():
    assert build_specification("r2plus1d_18").stem_mid_channels == 45
    assert build_specification("r2plus1d_18", input_channels=2).stem_mid_channels == 45
    assert build_specification("r2plus1d_18", width=16).stem_mid_channels == 11
    assert build_specification("r2plus1d_18", width=1).stem_mid_channels == 1
    assert build_specification("r2plus1d_18", width=16, stem_mid_channels=83).stem_mid_channels == 83


def test_a_network_without_relu_between_the_halves_says_so_and_others_do_not():
    spec = build_specification("r2plus1d_18", middle_relu=False)
    values = json.loads(json.dumps(spec.to_json()))
    assert values["middle_relu"] is False
    assert read(values) == spec
    usual = build_specification("r2plus1d_18").to_json()
    assert "middle_relu" not in usual  # as in every file written before there was such a thing
    assert read(usual).middle_relu is True
    with pytest.raises(ValueError, match="middle_relu is None, expected true or false"):
        replace(spec, middle_relu=None)


def test_defaults_are_written_once_more_only_in_the_signature():
    signature = inspect.signature(build_specification).parameters
    for field in fields(Specification):
        if field.name in signature and field.name not in ("name", "stem_mid_channels"):
            assert signature[field.name].default == field.default, field.name


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("R(2+1)D-18", "mean r2plus1d_18?"),
        ("r2+1d-18", "mean r2plus1d_18?"),
        ("r2.5d_34", "mean r2plus1d_34?"),
        ("R2Plus1D_18", "mean r2plus1d_18?"),
        ("r2plus1d-152", "mean r2plus1d_152?"),
        ("f-R2D-34", "mean f_r2d_34?"),
        ("r2df_18", "mean f_r2d_18?"),
        ("MC3", "mean mc3_10 or mc3_18 or mc3_34?"),
        ("r2plus1d_19", "r2plus1d_18"),
        ("resnext", "such as r2plus1d_18?"),
        ("", "such as r2plus1d_18?"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(written, meant):
    for function in (build_specification, format_paper_name):
        with pytest.raises(ValueError, match="no network is called") as refused:
            function(written)
        assert meant in str(refused.value)


def test_paper_names():
    assert format_paper_name("r2plus1d_18") == "R(2+1)D-18"
    assert format_paper_name(build_specification("f_r2d_34")) == "f-R2D-34"
    assert [format_paper_name(family) for family in ("r2d", "mc4", "rmc4", "r3d")] == ["R2D", "MC4", "rMC4", "R3D"]


@pytest.mark.parametrize("name", ["r2d_18", "r2plus1d_152", "mc3_34"])
def test_a_specification_survives_json(name):
    spec = build_specification(
        name, num_classes=7, clip_length=9, width=8, stem_pool=True, mid_channel_rule="per_block"
    )
    values = json.loads(json.dumps(spec.to_json()))
    assert read(values) == spec
    assert read(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"dropout": 0.5}, "dropout is not known"),
        ({"stem": "full_4d"}, "full_4d"),
        ({"stem": 3}, "stem is 3, expected full_3d, frame_2d"),
        ({"stages": "full_3d"}, "stages is 'full_3d', expected a list"),
        ({"stages": ["full_3d"] * 3}, "one entry for each"),
        ({"stages": ["full_3d", "full_3d", "full_3d", None]}, "stages.3 is None, expected full_3d"),
        ({"blocks": [2, 2, 2, 0]}, "blocks.3 is 0, expected a number greater"),
        ({"blocks": [2.0, 2, 2, 2]}, "blocks.0 is 2.0, expected a valid integer"),
        ({"blocks": [2, 2, 2, 10**6]}, "blocks.3 is 1000000, expected a number less"),
        ({"temporal_strides": [1, 2, 2.0, 2]}, "temporal_strides.2 is 2.0"),
        ({"norm_epsilon": math.nan}, "norm_epsilon is nan, expected a finite number"),
        ({"blocks": None}, "blocks is None, expected a list"),
        ({"num_classes": "400"}, "num_classes"),
        ({"num_classes": True}, "num_classes"),
        ({"block": ["basic"]}, "block is .*, expected basic or bottleneck"),
        ({"name": None}, "name is None"),
    ],
)
def test_json_that_fits_no_network_is_refused(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        read({**build_specification("r3d_18").to_json(), **change})


def test_json_with_a_key_missing_is_refused():
    values = build_specification("r3d_18").to_json()
    del values["norm_epsilon"]
    with pytest.raises(ValueError, match="norm_epsilon"):
        read(values)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("r3d_18", {"width": 0}),
        ("r3d_18", {"input_channels": -1}),
        ("r3d_18", {"clip_length": 0}),
        ("r3d_18", {"stem_mid_channels": 0}),
        ("r3d_18", {"norm_epsilon": 0.0}),
        ("r3d_18", {"norm_epsilon": float("nan")}),
        ("r3d_18", {"mid_channel_rule": "per_stage"}),
        ("r3d_18", {"stem_pool": 1}),
        ("r3d_18", {"temporal_strides": (1, 2, 2, 3)}),
        ("r3d_18", {"stages": (ConvolutionKind.TIME_AS_CHANNELS,) * 4}),
        ("r2d_18", {"stages": (FULL_3D,) * 4}),
        ("f_r2d_18", {"temporal_strides": (1, 2, 1, 1)}),
    ],
)
def test_a_specification_cannot_be_built_inconsistent(name, change):
    with pytest.raises(ValueError, match=next(iter(change)).split("_")[0]):
        replace(build_specification(name), **change)


def test_the_table_needs_no_torch():
    line = "import sys, muybridge.models.family; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line], check=False).returncode == 0
