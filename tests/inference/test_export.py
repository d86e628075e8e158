"""Exported files: what they hold, and what is refused. The outputs of each format are compared in test_onnx and agreement."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from muybridge.inference.export import ExportFormat, export_weights
from muybridge.models.network import VideoResNet, create_model
from muybridge.records import Preprocessing
from muybridge.weights.card import NO_CLASSIFIER, load_network, save
from muybridge.weights.importing import ImportOptions, import_weights

SMALL = Preprocessing(clip_length=4, scale_height=32, scale_width=32, crop=28)


@pytest.fixture
def backbone(tmp_path: Path) -> Any:
    """Writes weights without a classifier; returns their network."""

    def write(**changes: Any) -> VideoResNet:
        torch.manual_seed(0)
        state = create_model("r3d_10", num_classes=3, **changes).state_dict()
        torch.save({name: value for name, value in state.items() if not name.startswith("fc.")}, tmp_path / "net.pth")
        options = ImportOptions(source="torchvision", preprocessing=SMALL)
        import_weights(tmp_path / "net.pth", tmp_path / "net.safetensors", options)
        return load_network(tmp_path / "net.safetensors")[0]

    return write


@pytest.mark.parametrize(("to", "width"), [("state-dict", 4), ("torchvision", 64)])
def test_weights_without_a_classifier_stay_without_one(
    tmp_path: Path, backbone: Any, to: ExportFormat, width: int
) -> None:
    network = backbone(width=width)
    exported = export_weights(tmp_path / "net.safetensors", tmp_path / "out.pth", export_format=to)
    assert exported.largest_output > 0, "a comparison of zeros would show nothing"
    assert any(note.startswith("the file has no classifier") for note in exported.notes)
    state = torch.load(tmp_path / "out.pth", weights_only=True)
    assert set(network.state_dict()) - set(state) == {"fc.weight", "fc.bias"}
    assert json.loads(exported.json_file.read_text())["output"] == {"name": "features", "shape": ["N", 8 * width]}
    options = ImportOptions(source="torchvision", preprocessing=SMALL)
    again = import_weights(tmp_path / "out.pth", tmp_path / "again.safetensors", options)
    assert again.card.classes == NO_CLASSIFIER
    clips = torch.randn(2, 3, 4, 28, 28)
    with torch.inference_mode():
        assert torch.equal(load_network(tmp_path / "again.safetensors")[0].features(clips), network.features(clips))


@pytest.mark.parametrize("to", ["onnx", "torch-export"])
def test_a_network_without_logits_is_refused(tmp_path: Path, backbone: Any, to: ExportFormat) -> None:
    backbone(width=4)
    output = tmp_path / {"onnx": "out.onnx", "torch-export": "out.pt2"}[to]
    with pytest.raises(ValueError, match=f"no classifier, so --to {to} would write a network without logits"):
        export_weights(tmp_path / "net.safetensors", output, export_format=to)
    assert not output.exists()


def test_features_that_differ_are_noticed(tmp_path: Path, backbone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone(width=4)

    def load_wrongly(*_: Any, **__: Any) -> dict[str, torch.Tensor]:
        return {**stored, "layer4.0.conv2.1.bias": stored["layer4.0.conv2.1.bias"] + 1}

    stored = torch.load(tmp_path / "net.pth", weights_only=True)
    monkeypatch.setattr(torch, "load", load_wrongly)
    with pytest.raises(RuntimeError, match="the exported network's outputs differ from ours"):
        export_weights(tmp_path / "net.safetensors", tmp_path / "out.pth", export_format="state-dict")
    assert not (tmp_path / "out.pth").exists()


def test_a_file_with_a_classifier_has_logits(tmp_path: Path) -> None:
    network = create_model("r3d_10", num_classes=3, width=4, clip_length=4).eval()
    save(network, tmp_path / "net.safetensors", classes="abc", preprocessing=SMALL)
    exported = export_weights(tmp_path / "net.safetensors", tmp_path / "out.pth", export_format="state-dict")
    assert set(torch.load(tmp_path / "out.pth", weights_only=True)) == set(network.state_dict())
    assert json.loads(exported.json_file.read_text())["output"] == {"name": "logits", "shape": ["N", 3]}


def test_an_export_whose_card_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = create_model("r3d_10", num_classes=3, width=4, clip_length=4).eval()
    save(network, tmp_path / "net.safetensors", classes="abc", preprocessing=SMALL)
    folder = tmp_path / "exported"
    (folder / "out.pth.json").mkdir(parents=True)
    with pytest.raises(
        ValueError, match=r"card and labels go to .*out\.pth\.json, which is a folder; give the output another"
    ):
        export_weights(tmp_path / "net.safetensors", folder / "out.pth", export_format="state-dict")
    assert [path.name for path in folder.iterdir()] == ["out.pth.json"]

    def fill(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fill)
    with pytest.raises(OSError, match="No space left on device"):
        export_weights(tmp_path / "net.safetensors", folder / "other.pth", export_format="state-dict")
    assert [path.name for path in folder.iterdir()] == ["out.pth.json"]
