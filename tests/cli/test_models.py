"""`muybridge models`: the family with the published counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from muybridge.models.family import list_models


def test_json_has_a_row_a_network_with_the_papers_numbers(cli: Callable[..., Any]) -> None:
    told = cli("models", "--json", "--depth", 18)
    assert (told.code, told.err) == (0, "")
    rows = {row["name"]: row for row in json.loads(told.out)}
    assert list(rows) == [name for name in list_models() if name.endswith("_18")]
    assert len(rows) == 12
    # Learnable parameters and multiply-adds at 16 frames; accuracies of Table 2.
    assert rows["r2plus1d_18"] == {
        "name": "r2plus1d_18",
        "paper_name": "R(2+1)D-18",
        "parameters": 33_370_839,
        "multiply_adds": rows["r2plus1d_18"]["multiply_adds"],
        "kinetics_clip_top1": 56.8,
        "kinetics_video_top1": 68.0,
    }
    assert round(rows["r2plus1d_18"]["multiply_adds"] / 1e9, 3) == 41.496
    assert (rows["mc5_18"]["parameters"], rows["r2d_18"]["parameters"]) == (16_856_400, 11_522_832)


def test_the_table_for_people(cli: Callable[..., Any]) -> None:
    told = cli("models", "--depth", 18, "--frames", 8)
    assert (told.code, told.err) == (0, "")
    lines = told.out.splitlines()
    assert lines[0].split() == ["name", "paper", "parameters", "GMACs", "clip@1", "video@1"]
    assert "r2plus1d_18   R(2+1)D-18      33,370,839    20.748     52.8     64.8" in lines
    assert "400 classes, clips of 3x8x112x112" in told.out


@pytest.mark.long
def test_all_depths_by_default(cli: Callable[..., Any]) -> None:
    names = [line.split()[0] for line in cli("models").out.splitlines()[1:] if line and "_" in line.split()[0]]
    assert names == list_models()


def test_what_is_not_there(cli: Callable[..., Any]) -> None:
    told = cli("models", "--depth", 19)
    assert (told.code, told.out) == (2, "")
    assert "no networks of depth 19; the depths are 10, 18, 34, 50, 101, 152" in told.err
    assert "--frames is 0, expected a whole number from 1" in cli("models", "--frames", 0).err
