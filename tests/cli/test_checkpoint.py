"""`--checkpoint best|last` of predict, extract and weights export: the weights that were asked for are used."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from muybridge.weights.card import load_network, save

Cli = Callable[..., Any]


@pytest.fixture
def two_weights(finished_run: Path, tmp_path: Path) -> Path:
    """A run whose last weights are sure of `right`, and have other features than its best ones."""
    run = copytree(finished_run, tmp_path / "run")
    network, card = load_network(run / "best.safetensors")
    with torch.no_grad():
        network.stem[0].weight.mul_(0.5)
        network.fc.weight.zero_()
        network.fc.bias.copy_(torch.tensor([0.0 if name == "left" else 50.0 for name in card.classes]))
    save(network, run / "last.safetensors", classes=card.classes, preprocessing=card.preprocessing)
    return run


def test_predict_uses_the_weights_that_are_named(two_weights: Path, motions: Path, cli: Cli) -> None:
    video = motions / "test" / "left" / "00000.mp4"

    def predict(*choice: str) -> float:
        told = cli("predict", two_weights, video, "--json", *choice)
        assert told.code == 0, told.err
        classes = {entry["label"]: entry["probability"] for entry in json.loads(told.out)["classes"]}
        return float(classes["right"])

    assert predict("--checkpoint", "last") == pytest.approx(1.0)
    assert predict() == predict("--checkpoint", "best") < 0.99


def test_extract_and_export_use_the_weights_that_are_named(
    two_weights: Path, motions: Path, tmp_path: Path, cli: Cli
) -> None:
    video = motions / "test" / "left" / "00000.mp4"
    rows = {}
    for choice in ("best", "last"):
        path = tmp_path / f"{choice}.parquet"
        assert cli("extract", two_weights, video, "-o", path, "--clips", 1, "--checkpoint", choice).code == 0
        rows[choice] = pq.read_table(path)["features"].to_pylist()
        told = cli(
            "weights",
            "export",
            two_weights,
            "--to",
            "state-dict",
            "-o",
            tmp_path / f"{choice}.pth",
            "--checkpoint",
            choice,
        )
        assert told.code == 0, told.err
    assert rows["best"] != rows["last"]
    states = {choice: torch.load(tmp_path / f"{choice}.pth", weights_only=True) for choice in rows}
    torch.testing.assert_close(states["last"]["stem.0.weight"] * 2, states["best"]["stem.0.weight"])


def test_a_choice_without_a_run_folder_is_a_sentence(two_weights: Path, motions: Path, cli: Cli) -> None:
    told = cli("predict", two_weights / "last.safetensors", motions, "--checkpoint", "best")
    assert (told.code, told.err.count("\n")) == (2, 1)
    assert "--checkpoint chooses between the weights of a run folder" in told.err
