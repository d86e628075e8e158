import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from muybridge.models.heads import Head, make_ordinal_outputs
from muybridge.models.network import VideoResNet, create_model
from muybridge.records import FLOW_MEAN, FLOW_STD, Preprocessing
from muybridge.weights.card import Card, compute_tensors_sha256, load_card, load_network, save

CLASSES = ("clap", "wave", "jump")
PREPROCESSING = Preprocessing(clip_length=4, scale_height=32, scale_width=40, crop=24, frames_per_second=15.0)


def small(name: str = "r2plus1d_10", seed: int = 0, **changes: Any) -> VideoResNet:
    """A tiny network whose batch norm statistics are not the initial ones, so that losing any tensor shows."""
    torch.manual_seed(seed)
    network = create_model(name, num_classes=3, clip_length=4, width=4, **changes)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias, 0, 0.2)
            module.num_batches_tracked.fill_(7)
    return network.eval()


def saved(path: Path, network: VideoResNet | None = None) -> Card:
    return save(network or small(), path, classes=CLASSES, preprocessing=PREPROCESSING, source="a test", licence="CC0")


def raw(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and tensor bytes, read by hand from the format's definition."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_card(path: Path, change: Any) -> None:
    """Rewrite the card of a weights file as `change(values)` makes it."""
    header, data = raw(path)
    values = json.loads(header["__metadata__"]["muybridge"])
    header["__metadata__"]["muybridge"] = json.dumps(change(values))
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)


@pytest.mark.parametrize("name", ["r2plus1d_10", "r2d_10", "f_r2d_10", "mc3_18", "r3d_50"])
def test_a_loaded_network_computes_the_saved_ones_logits(tmp_path: Path, name: str) -> None:
    network = small(name, norm_epsilon=0.01, stem_pool=name == "mc3_18")
    clips = torch.randn(2, 3, 4, 24, 24)
    card = saved(tmp_path / "net.safetensors", network)
    loaded, loaded_card = load_network(tmp_path / "net.safetensors")
    assert loaded_card == card == load_card(tmp_path / "net.safetensors")
    assert not loaded.training
    with torch.inference_mode():
        assert torch.equal(loaded(clips), network(clips))
        assert not torch.equal(loaded(clips), small(name, seed=1)(clips))


def test_a_loaded_network_can_be_trained(tmp_path: Path) -> None:
    saved(tmp_path / "net.safetensors")
    network, _ = load_network(tmp_path / "net.safetensors")
    network.train()(torch.randn(2, 3, 4, 24, 24)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_saving_leaves_the_network_and_loading_the_random_state_alone(tmp_path: Path) -> None:
    network = small().to(memory_format=torch.channels_last_3d).double()
    saved(tmp_path / "net.safetensors", network)
    assert network.fc.weight.dtype == torch.float64
    assert network.layer1[0].conv1[0][0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    before = torch.random.get_rng_state()
    load_network(tmp_path / "net.safetensors")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_file_holds_plain_float32_under_torchvisions_names(tmp_path: Path) -> None:
    network = small().to(memory_format=torch.channels_last_3d).half()
    saved(tmp_path / "net.safetensors", network)
    header, data = raw(tmp_path / "net.safetensors")
    assert set(header) - {"__metadata__"} == set(network.state_dict())
    entry = header["layer1.0.conv1.0.0.weight"]
    assert entry["dtype"] == "F32"
    begin, end = entry["data_offsets"]
    stored = np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])
    assert np.array_equal(stored, network.state_dict()["layer1.0.conv1.0.0.weight"].float().numpy())


def test_the_hash_is_of_sorted_names_types_shapes_and_bytes(tmp_path: Path) -> None:
    digest = hashlib.sha256()
    digest.update(b"a int64 ()\n" + struct.pack("<q", 5))
    digest.update(b"b float32 (2, 1)\n" + struct.pack("<ff", 1.5, -2.0))
    tensors = {"b": torch.tensor([[1.5], [-2.0]]), "a": torch.tensor(5)}
    assert compute_tensors_sha256(tensors) == digest.hexdigest()
    assert compute_tensors_sha256({"b": tensors["b"].reshape(1, 2), "a": tensors["a"]}) != digest.hexdigest()
    strided = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).t()
    assert compute_tensors_sha256({"x": strided}) == compute_tensors_sha256({"x": strided.contiguous()})


def test_the_same_network_gives_the_same_file(tmp_path: Path) -> None:
    saved(tmp_path / "a.safetensors")
    saved(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.safetensors", "b.safetensors"}


def test_a_card_survives_json(tmp_path: Path) -> None:
    card = saved(tmp_path / "net.safetensors")
    values = json.loads(json.dumps(card.to_json()))
    assert list(values) == [
        "format", "specification", "classes", "preprocessing", "source", "licence", "source_sha256", "tensors_sha256",
    ]  # fmt: skip
    assert values["format"] == 1
    assert Card.from_json(values) == card


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda values: {**values, "format": 2}, "card of format 2 lacks its head"),
        (lambda values: {**values, "format": 3}, "card of format 3 was found, this version reads format 1 and 2"),
        (lambda values: {**values, "colour": "red"}, "colour is not known"),
        (lambda values: {key: value for key, value in values.items() if key != "licence"}, "licence is missing"),
        (lambda values: {**values, "classes": ["clap", "wave"]}, "2 class names .* has 3 classes"),
        (lambda values: {**values, "classes": ["clap", "wave", "clap"]}, "two classes are called 'clap'"),
        (lambda values: {**values, "classes": ["clap", "wave", " "]}, "every class needs a name"),
        (lambda values: {**values, "classes": "clapwavejump"}, "classes is 'clapwavejump', expected a list"),
        (lambda values: {**values, "preprocessing": {**values["preprocessing"], "clip_length": 8}}, "clips of 8"),
        (lambda values: {**values, "preprocessing": {**values["preprocessing"], "crop": "big"}}, "not understood"),
        (lambda values: {**values, "preprocessing": {}}, "preprocessing.modality is missing"),
        (lambda values: {**values, "specification": None}, "not understood"),
        (lambda values: [values], "expected a JSON object"),
    ],
)
def test_a_wrong_card_is_refused_with_the_files_name(tmp_path: Path, change: Any, sentence: str) -> None:
    path = tmp_path / "net.safetensors"
    saved(path)
    with_card(path, change)
    with pytest.raises(ValueError, match=rf"card of .*net\.safetensors is not understood: .*{sentence}|{sentence}"):
        load_card(path)
    with pytest.raises(ValueError, match=r"net\.safetensors"):
        load_network(path)


def test_channels_of_network_and_frames_must_agree() -> None:
    card_values = {"classes": CLASSES, "source": "", "licence": "", "source_sha256": None, "tensors_sha256": ""}
    flow = replace(PREPROCESSING, modality="flow", mean=FLOW_MEAN, std=FLOW_STD)
    with pytest.raises(ValueError, match="takes 3 channels, but flow frames have 2"):
        Card(specification=small().specification, preprocessing=flow, **card_values)


def test_what_is_not_a_weights_file_is_refused_in_words(tmp_path: Path) -> None:
    def refuses(path: Path, sentence: str) -> None:
        with pytest.raises(ValueError, match=sentence):
            load_network(path)

    refuses(tmp_path / "absent.safetensors", "there is no file .*absent")
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"\x89PNG and so on, long enough to be read as a header")
    refuses(foreign, "not a safetensors file, or is truncated")
    saved(tmp_path / "net.safetensors")
    content = (tmp_path / "net.safetensors").read_bytes()
    for length in (0, 5, 1000, len(content) // 2, len(content) - 1):
        (tmp_path / "torn.safetensors").write_bytes(content[:length])
        refuses(tmp_path / "torn.safetensors", "torn.safetensors is not a safetensors file, or is truncated")
    safetensors.torch.save_file(small().state_dict(), tmp_path / "bare.safetensors")
    refuses(tmp_path / "bare.safetensors", "has no card.*muybridge weights import")


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    saved(path)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged: its tensors do not have the hash"):
        load_network(path)
    load_card(path)


def test_tensors_of_another_network_are_refused_with_both_shapes(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    saved(path)
    metadata = raw(path)[0]["__metadata__"]
    state = small().state_dict()

    def refuses(tensors: dict[str, torch.Tensor], sentence: str) -> None:
        safetensors.torch.save_file(tensors, path, metadata)
        with pytest.raises(ValueError, match=sentence):
            load_network(path)

    refuses({**state, "fc.bias": torch.zeros(5)}, r"fc.bias has the shape \(5,\), expected \(3,\)")
    refuses({name: tensor for name, tensor in state.items() if name != "fc.bias"}, r"fc.bias \(3,\) is missing")
    refuses({**state, "fc.bias": torch.zeros(3, dtype=torch.int64)}, "fc.bias holds torch.int64, expected floats")
    refuses({**state, "fc.extra": torch.zeros(2)}, r"fc.extra \(2,\) is not part of it")
    refuses(small("r3d_34").state_dict(), "and .* more")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_copy_in_another_precision_is_refused_by_its_type(tmp_path: Path, dtype: torch.dtype) -> None:
    saved(tmp_path / "net.safetensors")
    header, _ = raw(tmp_path / "net.safetensors")
    state = safetensors.torch.load_file(tmp_path / "net.safetensors")
    state = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    safetensors.torch.save_file(state, tmp_path / "copy.safetensors", header["__metadata__"])
    with pytest.raises(
        ValueError, match=rf"copy\.safetensors was converted .*fc\.bias holds {dtype}, expected torch\.float32"
    ):
        load_network(tmp_path / "copy.safetensors")


def test_what_cannot_be_saved_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    with pytest.raises(ValueError, match="2 class names"):
        save(small(), path, classes=["a", "b"], preprocessing=PREPROCESSING)
    with pytest.raises(ValueError, match=r"not as net.pt; name it net\.safetensors"):
        saved(tmp_path / "net.pt")
    with pytest.raises(ValueError, match="as create_model builds it can be saved, not a Linear"):
        saved(path, torch.nn.Linear(2, 2))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.safetensors"
    saved(path)
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        saved(path, small(seed=1))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.safetensors"]


def test_a_card_with_a_head_is_of_format_2(tmp_path):
    network = create_model("r2plus1d_10", num_classes=2, width=4, clip_length=4)
    preprocessing = Preprocessing(clip_length=4, scale_height=32, scale_width=32, crop=28)
    head = Head("ordinal", make_ordinal_outputs(("low", "mid", "high")), "cumulative_sigmoid")
    classes = ("low", "mid", "high")
    card = save(network, tmp_path / "levels.safetensors", classes=classes, preprocessing=preprocessing, head=head)
    assert (card.format, card.task) == (2, "ordinal")
    assert load_card(tmp_path / "levels.safetensors") == card
    card.check_classifier()
    with pytest.raises(ValueError, match="int8 is for the task single_label, but the weights are of the task ordinal"):
        card.check_single_label("int8")
    with pytest.raises(ValueError, match="the head's outputs are above low, above mid, expected above low, above high"):
        save(
            network, tmp_path / "x.safetensors", classes=("low", "high", "mid"), preprocessing=preprocessing, head=head
        )
    wrong = Head("multi_label", ("a", "b", "c"), "sigmoid")
    with pytest.raises(ValueError, match="the head names 3 outputs, but the network has 2"):
        save(network, tmp_path / "x.safetensors", classes=wrong.outputs, preprocessing=preprocessing, head=wrong)
