from pathlib import Path

import pytest
import torch

from muybridge.models.network import create_model
from muybridge.records import Preprocessing
from muybridge.weights.address import (
    find_checkpoint,
    is_default_checkpoint,
    load_weights,
    resolve_weights_file,
    select_checkpoint,
)
from muybridge.weights.card import Card, save


def saved(path: Path, seed: int = 0) -> Card:
    torch.manual_seed(seed)
    network = create_model("mc2_10", num_classes=2, width=4)
    return save(network, path, classes=("clap", "wave"), preprocessing=Preprocessing())


def test_a_run_folder_means_its_best_weights_else_its_last(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(ValueError, match=r"holds neither best\.safetensors nor last.safetensors"):
        resolve_weights_file(run)
    last = saved(run / "last.safetensors")
    assert resolve_weights_file(run) == run / "last.safetensors"
    best = saved(run / "best.safetensors", 1)
    assert load_weights(run)[1] == best != last
    assert load_weights(str(run / "last.safetensors"))[1] == last


def test_other_addresses_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no .*nowhere; give a run folder, a \.safetensors file or a name"):
        resolve_weights_file(tmp_path / "nowhere")
    (tmp_path / "net.pt").touch()
    with pytest.raises(ValueError, match=r"muybridge weights import .*net.pt -o net\.safetensors"):
        resolve_weights_file(tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"did you mean r2plus1d_18-kinetics400-torchvision or"):
        resolve_weights_file("r2plus1d_18-kinetics400-torchvison")


def test_a_checkpoint_chooses_between_the_weights_of_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "settings.yaml").write_text("data: x\n")
    (run / "last.safetensors").write_bytes(b"")
    assert select_checkpoint(run, None) == str(run)
    assert select_checkpoint(run, "last") == str(run / "last.safetensors")
    assert (find_checkpoint(run, ""), is_default_checkpoint(run, "last")) == ("last", True)
    with pytest.raises(ValueError, match=r"has no best\.safetensors: a run without validation videos has none; use"):
        select_checkpoint(run, "best")
    (run / "best.safetensors").write_bytes(b"")
    assert (find_checkpoint(run, ""), find_checkpoint(run / "last.safetensors", "")) == ("best", "last")
    assert not is_default_checkpoint(run, "last") and is_default_checkpoint(run, "best")
    with pytest.raises(ValueError, match="--checkpoint chooses between the weights of a run folder"):
        select_checkpoint(run / "last.safetensors", "best")
    assert find_checkpoint(tmp_path / "loose.safetensors", "") is None
    assert find_checkpoint(run / "exported.onnx", "") is None  # of these files, which have no card, none is it


def test_weights_under_another_name_are_known_by_their_tensors(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("data: x\n")
    cards = {name: saved(tmp_path / f"{name}.safetensors", seed) for seed, name in enumerate(("best", "last"))}
    for name, card in cards.items():
        assert find_checkpoint(tmp_path / "first.onnx", card.tensors_sha256) == name
    assert find_checkpoint(tmp_path / "first.onnx", "0" * 64) is None
    assert find_checkpoint(tmp_path / "last.safetensors", cards["best"].tensors_sha256) == "last"
