"""`muybridge doctor`: what is there, what is not and why; only what is needed makes it fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import metadata, util
from types import SimpleNamespace
from typing import Any

import av
import pytest
import torch

from muybridge.bench import machine


def test_a_line_a_finding(cli: Callable[..., Any]) -> None:
    told = cli("doctor")
    assert (told.code, told.err) == (0, "")
    assert f"ok     torch                   {metadata.version('torch')}" in told.out
    assert "decoder h264" in told.out


def test_json_says_the_same(cli: Callable[..., Any]) -> None:
    found = {row["what"]: row for row in json.loads(cli("doctor", "--json").out)}
    assert found["decoder h264"] == {
        "what": "decoder h264", "works": True, "detail": f"PyAV {av.__version__}", "needed": True,
    }  # fmt: skip
    assert found["cv2"]["works"] == (util.find_spec("cv2") is not None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_explained_and_is_no_failure(cli: Callable[..., Any]) -> None:
    found = {row["what"]: row for row in json.loads(cli("doctor", "--json").out)}
    assert not found["cuda"]["works"]
    assert found["cuda"]["detail"].endswith("networks run on the CPU")


@pytest.mark.parametrize(("problem", "row"), [(None, "bf16"), ("it is old", "fp32, since it is old")])
def test_a_gpu_is_described_by_what_runs_on_it(
    problem: str | None, row: str, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    properties = SimpleNamespace(name="a GPU", total_memory=80 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    for name in ("find_bf16_problem", "find_fusion_problem"):
        monkeypatch.setattr(machine, name, lambda device: problem)
    found = {line["what"]: line for line in json.loads(cli("doctor", "--json").out)}
    assert found["cuda:0"]["detail"] == f"a GPU, 80 GiB, {row}"
    assert found["fused batch norm"]["works"] == (problem is None)


def test_a_missing_option_brings_its_remedy(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    told = cli("doctor")
    assert told.code == 0
    assert "absent cv2                     optical flow: pip install 'muybridge[flow]'" in told.out


def test_a_missing_decoder_of_the_commonest_videos_is_a_failure(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(av, "codecs_available", {"hevc"})
    told = cli("doctor")
    assert told.code == 1
    assert "BROKEN decoder h264" in told.out
    assert "absent decoder vp9" in told.out
