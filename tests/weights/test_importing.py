import hashlib
import math
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from muybridge.models.network import VideoResNet, create_model
from muybridge.records import FLOW_MEAN, Preprocessing
from muybridge.weights.card import load_network, save
from muybridge.weights.importing import ImportOptions, import_weights
from muybridge.weights.state_dict import read_state_dict

CLIPS = (2, 3, 4, 24, 24)


def small(name: str = "mc2_10", **changes: Any) -> VideoResNet:
    torch.manual_seed(0)
    network = create_model(name, num_classes=3, width=4, **changes)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def written(tmp_path: Path, content: Any, name: str = "net.pt") -> Path:
    torch.save(content, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda state: {"model": {f"module.{name}": tensor for name, tensor in state.items()}, "args": ["--lr", "1"]},
        lambda state: {f"module._orig_mod.{name}": tensor for name, tensor in state.items()},
        lambda state: {"state_dict": {f"model.{name}": tensor for name, tensor in state.items()}},
        lambda state: {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")},
        lambda state: {name: tensor.clone(memory_format=torch.preserve_format) for name, tensor in state.items()},
    ],
)
def test_a_state_dict_is_imported_with_the_same_logits(tmp_path: Path, wrap: Any) -> None:
    network = small()
    imported = import_weights(written(tmp_path, wrap(network.state_dict())), tmp_path / "out.safetensors")
    loaded, card = load_network(tmp_path / "out.safetensors")
    clips = torch.randn(CLIPS)
    with torch.inference_mode():
        assert torch.equal(loaded(clips), network(clips))
    assert card == imported.card
    assert card.specification == network.specification
    assert card.classes == ("class_000", "class_001", "class_002")
    assert card.source == "imported from net.pt"
    assert card.source_sha256 == hashlib.sha256((tmp_path / "net.pt").read_bytes()).hexdigest()


def test_safetensors_and_the_old_torch_format_are_read_too(tmp_path: Path) -> None:
    network = small()
    safetensors.torch.save_file(network.state_dict(), tmp_path / "a.safetensors")
    torch.save(network.state_dict(), tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    cards = [import_weights(tmp_path / name, tmp_path / "out.safetensors").card for name in ("a.safetensors", "b.pth")]
    assert cards[0].tensors_sha256 == cards[1].tensors_sha256


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    state = small().half().state_dict()
    tensors = read_state_dict(written(tmp_path, state))
    assert {tensor.dtype for name, tensor in tensors.items() if not name.endswith("tracked")} == {torch.float32}
    assert torch.equal(tensors["fc.weight"], state["fc.weight"].float())


@pytest.mark.parametrize(
    ("name", "changes", "epsilon"),
    [
        ("r3d_18", {}, 1e-5),
        ("mc3_18", {}, 1e-5),
        ("r2plus1d_18", {"mid_channel_rule": "per_block"}, 1e-5),
        ("r2plus1d_18", {}, 1e-3),
        ("r3d_34", {}, 1e-3),
        ("mc2_18", {}, 1e-3),
    ],
)
def test_epsilon_is_assumed_by_where_such_a_file_comes_from(
    tmp_path: Path, name: str, changes: dict[str, Any], epsilon: float
) -> None:
    file = written(tmp_path, small(name, **changes).state_dict())
    imported = import_weights(file, tmp_path / "out.safetensors")
    assert imported.card.specification.norm_epsilon == epsilon
    owner = "torchvision's" if epsilon == 1e-5 else "the paper's authors'"
    assert any(owner in sentence and f"{epsilon:g}" in sentence for sentence in imported.assumptions)
    result = import_weights(file, tmp_path / "out.safetensors", ImportOptions(norm_epsilon=0.01))
    assert result.card.specification.norm_epsilon == 0.01
    assert not any("epsilon" in sentence for sentence in result.assumptions)


@pytest.mark.parametrize(
    ("source", "epsilon", "rate"),
    [("torchvision", 1e-5, 15.0), ("ig65m", 1e-3, None), ("vmz", 1e-3, 15.0), ("muybridge", 1e-3, None)],
)
def test_a_source_decides_epsilon_and_frame_rate(
    tmp_path: Path, source: Any, epsilon: float, rate: float | None
) -> None:
    for name in ("r3d_18", "mc2_10"):  # whatever such shapes would be taken for
        file = written(tmp_path, small(name).state_dict())
        imported = import_weights(file, tmp_path / "out.safetensors", ImportOptions(source=source, clip_length=8))
        assert imported.format == "state dict"
        assert imported.card.specification.norm_epsilon == epsilon
        assert imported.card.preprocessing.frames_per_second == rate
        assert imported.card.specification.clip_length == imported.card.preprocessing.clip_length == 8
        assert not any("epsilon" in sentence for sentence in imported.assumptions)


def test_two_clip_lengths_are_refused(tmp_path: Path) -> None:
    options = ImportOptions(clip_length=8, preprocessing=Preprocessing(clip_length=32))
    with pytest.raises(ValueError, match="clips of 8 frames were requested, but the preprocessing cuts 32"):
        import_weights(written(tmp_path, small().state_dict()), tmp_path / "out.safetensors", options)


def test_what_is_said_is_not_assumed(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("clap\n wave \njump\n", encoding="utf-8")
    options = ImportOptions(
        classes=tmp_path / "names.txt",
        preprocessing=Preprocessing(clip_length=8, frames_per_second=15.0),
        norm_epsilon=1e-3,
        stem_pool=True,
        origin="a friend",
        licence="CC0",
    )
    imported = import_weights(written(tmp_path, small().state_dict()), tmp_path / "out.safetensors", options)
    assert imported.assumptions == ()
    card = imported.card
    assert card.classes == ("clap", "wave", "jump")
    assert (card.specification.stem_pool, card.specification.clip_length) == (True, 8)
    assert card.preprocessing == options.preprocessing
    assert (card.source, card.licence) == ("a friend", "CC0")


def test_what_shapes_show_goes_into_the_preprocessing(tmp_path: Path) -> None:
    r2d = written(tmp_path, small("r2d_10", clip_length=5).state_dict())
    assert import_weights(r2d, tmp_path / "out.safetensors").card.preprocessing.clip_length == 5
    with pytest.raises(ValueError, match="clips of 5 frames, but the preprocessing cuts clips of 8"):
        import_weights(r2d, tmp_path / "no.safetensors", ImportOptions(preprocessing=Preprocessing(clip_length=8)))
    flow = written(tmp_path, small(input_channels=2).state_dict())
    card = import_weights(flow, tmp_path / "out.safetensors").card
    assert (card.preprocessing.modality, card.preprocessing.mean) == ("flow", FLOW_MEAN)
    depth = written(tmp_path, small(input_channels=4).state_dict())
    with pytest.raises(ValueError, match="frames of 4 channels"):
        import_weights(depth, tmp_path / "no.safetensors")
    assert not (tmp_path / "no.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (ImportOptions(classes=["a", "b"]), "2 class names were given, but the network has 3"),
        (ImportOptions(classes=["a", "b", "a"]), "two classes are called 'a'"),
        (ImportOptions(classes=Path("nowhere.txt")), "no file of class names nowhere.txt"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, options: ImportOptions, sentence: str) -> None:
    file = written(tmp_path, small().state_dict())
    with pytest.raises(ValueError, match=rf"net.pt cannot be imported: .*{sentence}"):
        import_weights(file, tmp_path / "out.safetensors", options)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("epsilon", [0, 1, math.nan])
def test_an_epsilon_out_of_bounds_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match=r"norm_epsilon is .*, expected a finite number above 0 and below 1"):
        ImportOptions(norm_epsilon=epsilon)


class Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_pickle_is_refused_before_it_runs(tmp_path: Path, legacy: bool) -> None:
    target = tmp_path / "it-ran"
    state = {**small().state_dict(), "fc.bias": Hostile(target)}
    torch.save(state, tmp_path / "evil.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r"evil.pt holds more than tensors \(\w+\.mkdir\).*it was not run"):
        import_weights(tmp_path / "evil.pt", tmp_path / "out.safetensors")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Hostile(target), protocol=2))
    with pytest.raises(ValueError, match=r"plain.pkl holds more than arrays of numbers \(\w+\.mkdir\)"):
        import_weights(tmp_path / "plain.pkl", tmp_path / "out.safetensors")
    assert not target.exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert target.exists(), "the file was not hostile, so this test shows nothing"


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds more than tensors.*Save network.state_dict\(\) alone"):
        read_state_dict(written(tmp_path, small()))


def test_damaged_and_foreign_files_are_refused_in_words(tmp_path: Path) -> None:
    whole = written(tmp_path, small().state_dict()).read_bytes()
    torch.save(small().state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    old = (tmp_path / "old.pt").read_bytes()
    torn = tmp_path / "torn.pt"
    for content in (whole, old):
        for length in range(0, len(content), len(content) // 40):
            torn.write_bytes(content[:length])
            with pytest.raises(ValueError, match=r"torn.pt is (damaged|neither)"):
                read_state_dict(torn)
    for content in (b"", b"\x89PNG\r\n\x1a\n" + bytes(100), b"hello, I am a text file", b"\x80\x02 no pickle"):
        torn.write_bytes(content)
        with pytest.raises(ValueError, match=r"torn.pt is (damaged|neither)"):
            read_state_dict(torn)
    safetensors.torch.save_file(small().state_dict(), tmp_path / "whole.safetensors")
    (tmp_path / "torn.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-5])
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        read_state_dict(tmp_path / "torn.safetensors")
    with pytest.raises(ValueError, match=r"there is no file .*absent\.pt"):
        read_state_dict(tmp_path / "absent.pt")


def test_content_that_is_no_state_dict_is_refused_with_what_it_is(tmp_path: Path) -> None:
    state = small().state_dict()
    infinite = {**state, "fc.bias": torch.tensor([1.0, torch.inf, 0.0])}
    for content, sentence in (
        ([torch.zeros(2)], "holds a list, expected a state dict"),
        (torch.zeros(2), "holds a Tensor, expected a state dict"),
        ({}, "holds a dict, expected a state dict"),
        ({**state, "lr": 0.1}, "'lr' is a float"),
        ({**state, 3: torch.zeros(1)}, "3 is a Tensor"),
        (infinite, "fc.bias holds numbers that are not finite"),
        ({**state, "fc.bias": torch.zeros(3, dtype=torch.int32)}, "fc.bias holds torch.int32, expected floats"),
        ({**state, "fc.bias": torch.zeros(3, dtype=torch.complex64)}, "fc.bias is stored as torch"),
        ({**state, "fc.bias": torch.zeros(3).to_sparse()}, "fc.bias is stored as torch"),
    ):
        with pytest.raises(ValueError, match=sentence):
            read_state_dict(written(tmp_path, content))


def test_a_file_that_has_its_card_is_not_imported_again(tmp_path: Path) -> None:
    network = small()
    save(network, tmp_path / "net.safetensors", classes=["a", "b", "c"], preprocessing=Preprocessing())
    with pytest.raises(ValueError, match="already has a card"):
        import_weights(tmp_path / "net.safetensors", tmp_path / "out.safetensors")


def test_a_given_card_describes_another_clip_length(tmp_path: Path) -> None:
    options = ImportOptions(preprocessing=replace(Preprocessing(), clip_length=32))
    card = import_weights(written(tmp_path, small().state_dict()), tmp_path / "o.safetensors", options).card
    assert card.specification.clip_length == card.preprocessing.clip_length == 32
