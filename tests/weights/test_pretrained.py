from pathlib import Path

import pytest
import torch

import muybridge
from muybridge.models.network import VideoResNet
from muybridge.records import Preprocessing
from muybridge.weights.pretrained import create_model


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    network = create_model("r2plus1d_10", num_classes=3, width=8, clip_length=4, norm_epsilon=1e-5)
    classes = ("a", "b", "c")
    muybridge.save(
        network, tmp_path / "w.safetensors", classes=classes, preprocessing=Preprocessing(clip_length=4, crop=16)
    )
    return tmp_path / "w.safetensors"


def test_a_network_with_the_weights_of_a_file(weights: Path) -> None:
    loaded = muybridge.load(weights, "cpu").model
    created = muybridge.create_model("r2plus1d_10", weights=weights)
    assert isinstance(loaded, VideoResNet)
    assert created.specification == loaded.specification
    clips = torch.randn(1, 3, 4, 16, 16)
    with torch.no_grad():
        assert torch.equal(created(clips), loaded(clips))


def test_other_classes_and_channels_keep_the_rest(weights: Path) -> None:
    loaded = muybridge.load(weights, "cpu").model
    assert loaded is not None
    created = muybridge.create_model("r2plus1d_10", weights=weights, num_classes=7, input_channels=2)
    assert created.fc.weight.shape[0] == 7
    assert torch.equal(created.layer4[0].conv1[0][0].weight, loaded.layer4[0].conv1[0][0].weight)
    assert created.specification.input_channels == 2


def test_what_does_not_fit_is_a_sentence(weights: Path) -> None:
    with pytest.raises(ValueError, match="are of r2plus1d_10, not of r3d_18"):
        muybridge.create_model("r3d_18", weights=weights)
    with pytest.raises(ValueError, match="no network is called 'r2plus1d'"):
        muybridge.create_model("r2plus1d", weights="never-downloaded")
    with pytest.raises(ValueError, match="do not fit"):
        muybridge.create_model("r2plus1d_10", weights=weights, width=16)


def test_names_by_pattern() -> None:
    names = muybridge.list_models("r2plus1d*")
    assert names[:2] == ["r2plus1d_10", "r2plus1d_18"]
    assert all(name.startswith("r2plus1d") for name in names)
    assert set(names) < set(muybridge.list_models())
    assert muybridge.list_models("nothing*") == []


def test_the_version_is_that_of_the_package() -> None:
    assert muybridge.__version__.split(".")[0].isdigit()
