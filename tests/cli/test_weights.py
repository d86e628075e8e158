"""`muybridge weights` from outside: a state dict comes in, its card is shown, and it can predict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from muybridge.models.network import create_model
from muybridge.weights.address import load_weights
from muybridge.weights.card import load_card


@pytest.fixture
def state_dict(tmp_path: Path) -> Path:
    network = create_model("r3d_10", width=4, num_classes=2)
    torch.save(network.state_dict(), tmp_path / "network.pt")
    (tmp_path / "names.txt").write_text("left\nright\n")
    return tmp_path / "network.pt"


def test_a_state_dict_is_recognised_and_can_predict(
    state_dict: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    target = tmp_path / "network.safetensors"
    words = ("--classes", tmp_path / "names.txt", "--norm_epsilon", 0.002, "--licence", "CC0", "--source", "ig65m")
    told = cli("weights", "import", state_dict, "-o", target, *words)
    assert told.code == 0
    assert "r3d_10, width 4, 2 classes" in told.out
    assert str(target) in told.out
    assert all(line.startswith("assumed: ") for line in told.err.splitlines())
    card = load_card(target)
    assert (card.classes, card.licence) == (("left", "right"), "CC0")
    assert card.source
    assert card.specification.norm_epsilon == 0.002
    stored = torch.load(state_dict, weights_only=True)
    ours = load_weights(target)[0].state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in stored.items())
    assert cli("predict", target, motions / "test" / "left" / "00000.mp4", "--clips", 1).code == 0


def test_show_prints_the_card(finished_run: Path, cli: Callable[..., Any]) -> None:
    told = cli("weights", "show", finished_run)
    assert (told.code, told.err) == (0, "")
    with safe_open(finished_run / "best.safetensors", "pt") as file:
        assert json.loads(told.out) == json.loads(file.metadata()["muybridge"])
    assert json.loads(cli("weights", "show", finished_run / "last.safetensors").out)["classes"] == ["left", "right"]


def test_without_an_action_there_is_help_and_code_2(cli: Callable[..., Any]) -> None:
    told = cli("weights")
    assert (told.code, told.err) == (2, "")
    assert told.out.startswith("usage: muybridge weights import|export|show ...")


def test_an_unknown_action_brings_the_nearest(cli: Callable[..., Any]) -> None:
    assert cli("weights", "exprot") == (2, "", "muybridge: there is no verb 'weights exprot'; did you mean export?\n")


@pytest.mark.parametrize("content", [b"", b"no pickle", b"PK\x03\x04 cut short"])
def test_what_is_no_state_dict_leaves_no_file(content: bytes, tmp_path: Path, cli: Callable[..., Any]) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    told = cli("weights", "import", tmp_path / "x.pt", "-o", tmp_path / "x.safetensors")
    assert (told.code, told.out, told.err.count("\n")) == (2, "", 1)
    assert "x.pt" in told.err
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_a_training_checkpoint_of_ours_is_no_state_dict(
    finished_run: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    optimizer = sorted((finished_run / "checkpoints").iterdir())[-1] / "optimizer.pt"
    told = cli("weights", "import", optimizer, "-o", tmp_path / "x.safetensors")
    assert (told.code, told.err.count("\n")) == (2, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_network_is_chosen_and_the_rest_is_listed(tmp_path: Path, cli: Callable[..., Any]) -> None:
    states = []
    for _ in range(2):
        network = create_model("r3d_10", width=4, num_classes=2)
        states.append({name: tensor for name, tensor in network.state_dict().items() if not name.startswith("fc.")})
    heads = {"verb.weight": torch.ones(3, 32), "noun.weight": torch.ones(5, 32)}
    torch.save(
        {"model": {**states[0], **heads}, "ema": {**states[1], **heads}, "optimizer": [torch.ones(1)]},
        tmp_path / "x.pt",
    )
    line = ("weights", "import", tmp_path / "x.pt", "-o", tmp_path / "x.safetensors")
    refused = cli(*line)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "2 classifiers fit, model.verb and model.noun" in refused.err
    refused = cli(*line, "--head", "none")
    assert refused.code == 2
    assert "2 different networks, under model and ema" in refused.err
    done = cli(*line, "--head", "none", "--network", "ema")
    assert done.code == 0
    assert "no classifier" in done.out
    assert "left out: model (" in done.err
    assert "optimizer" in done.err
    stem = load_weights(tmp_path / "x.safetensors")[0].state_dict()["stem.0.weight"]
    assert torch.equal(stem, states[1]["stem.0.weight"])


def test_weights_without_a_classifier_or_with_one_output_name_no_class(
    motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    state = create_model("r3d_10", width=4, num_classes=1).state_dict()
    body = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    video = motions / "test" / "left" / "00000.mp4"
    for content, sentence in ((state, "whose softmax is always 100 %"), (body, "the weights have no classifier")):
        torch.save(content, tmp_path / "x.pt")
        weights = tmp_path / "x.safetensors"
        assert cli("weights", "import", tmp_path / "x.pt", "-o", weights, "--clip-length", 8).code == 0
        for verb in (
            ("predict", weights, video),
            ("evaluate", weights, "--data", motions, "-o", tmp_path / "s.parquet"),
        ):
            refused = cli(*verb)
            assert (refused.code, refused.out) == (2, "")
            assert sentence in refused.err
        assert not (tmp_path / "s.parquet").exists()
        weights.with_suffix(".parquet").unlink(missing_ok=True)
        assert cli("extract", weights, video, "-o", weights.with_suffix(".parquet"), "--clips", 1).code == 0
