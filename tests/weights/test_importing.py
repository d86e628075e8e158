import argparse
import copy
import hashlib
import math
import os
import pickle
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from muybridge.models.network import VideoResNet, create_model
from muybridge.records import FLOW_MEAN, Preprocessing
from muybridge.weights.card import NO_CLASSIFIER, load_network, save
from muybridge.weights.importing import ImportOptions, import_weights
from muybridge.weights.state_dict import read_network
from muybridge.weights.task_heads import ImportedTask

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


def converted(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The state dict of a network with floats of another type, all positive: one of the types has no sign."""
    state = small().state_dict()
    return {name: tensor.abs().to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def written_twice(tmp_path: Path, state: dict[str, torch.Tensor]) -> list[Path]:
    safetensors.torch.save_file(state, tmp_path / "net.safetensors")
    return [tmp_path / "net.safetensors", written(tmp_path, state)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_precision_becomes_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    state = converted(dtype)
    for file in written_twice(tmp_path, state):
        tensors = read_network(file).tensors
        assert {tensor.dtype for name, tensor in tensors.items() if not name.endswith("tracked")} == {torch.float32}
        assert torch.equal(tensors["fc.weight"], state["fc.weight"].float())


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2fnuz, torch.float8_e8m0fnu])
def test_floats_of_a_byte_are_refused_by_their_type(tmp_path: Path, dtype: torch.dtype) -> None:
    for file in written_twice(tmp_path, converted(dtype)):
        with pytest.raises(
            ValueError, match=f"holds tensors that cannot be weights: .* holds {dtype}, expected floats of 16"
        ):
            import_weights(file, tmp_path / "out.safetensors")


def test_integers_of_every_size_are_read_as_they_are(tmp_path: Path) -> None:
    for dtype in (torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint64):
        state, count = small().state_dict(), min(torch.iinfo(dtype).max, 1000)
        state |= {name: torch.tensor(count, dtype=dtype) for name in state if name.endswith("num_batches_tracked")}
        for file in written_twice(tmp_path, state):
            assert int(read_network(file).tensors["stem.1.num_batches_tracked"]) == count


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


def test_a_clip_length_that_the_weights_are_not_for_is_refused(tmp_path: Path) -> None:
    r2d = written(tmp_path, small("r2d_10", clip_length=8).state_dict())
    with pytest.raises(
        ValueError, match=r"clips of 4 frames were requested, but the weights of r2d_10 are for 8; leave out"
    ):
        import_weights(r2d, tmp_path / "out.safetensors", ImportOptions(clip_length=4))
    assert not (tmp_path / "out.safetensors").exists()
    card = import_weights(r2d, tmp_path / "out.safetensors", ImportOptions(clip_length=8)).card
    assert card.preprocessing.clip_length == 8


def test_two_strides_are_refused(tmp_path: Path) -> None:
    file, preprocessing = written(tmp_path, small().state_dict()), Preprocessing(frame_stride=2)
    with pytest.raises(ValueError, match="one frame in 4 was requested, but the preprocessing takes one in 2"):
        options = ImportOptions(frame_stride=4, preprocessing=preprocessing)
        import_weights(file, tmp_path / "out.safetensors", options)
    same = ImportOptions(frame_stride=2, preprocessing=preprocessing)
    assert import_weights(file, tmp_path / "out.safetensors", same).card.preprocessing.frame_stride == 2
    alone = ImportOptions(frame_stride=4)
    assert import_weights(file, tmp_path / "out.safetensors", alone).card.preprocessing.frame_stride == 4


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


def test_a_byte_order_mark_is_no_part_of_the_first_class(tmp_path: Path) -> None:
    file, names = written(tmp_path, small().state_dict()), tmp_path / "names.txt"
    names.write_bytes("\ufeffclap\r\nwave\r\njump\r\n".encode())
    card = import_weights(file, tmp_path / "out.safetensors", ImportOptions(classes=names)).card
    assert card.classes == ("clap", "wave", "jump")
    names.write_bytes("clap\nwave\njump\n".encode("utf-16"))
    with pytest.raises(ValueError, match=r"the file of class names .*names\.txt is not a text in UTF-8"):
        import_weights(file, tmp_path / "no.safetensors", ImportOptions(classes=names))


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


def body_of(network: VideoResNet) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("fc.")}


def with_head(network: VideoResNet, prefix: str, head: str) -> dict[str, Any]:
    state = network.state_dict()
    return {
        **{f"{prefix}{name}": tensor for name, tensor in body_of(network).items()},
        f"{head}.weight": state["fc.weight"],
        f"{head}.bias": state["fc.bias"],
    }


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: net,  # pickled whole
        lambda net: {"net": net.state_dict(), "acc": 0.9, "args": argparse.Namespace(lr=0.1), "best": np.float64(3.5)},
        lambda net: {"model_state": net.state_dict(), "optimizer": torch.optim.Adam(net.parameters()).state_dict()},
        lambda net: {"state_dict": with_head(net, "backbone.", "cls_head.fc_cls"), "meta": {"epoch": 3}},
        lambda net: {"backbone": body_of(net), "head": {"weight": net.fc.weight, "bias": net.fc.bias}},
        lambda net: {"n_averaged": torch.tensor(5), **{f"module.{name}": t for name, t in net.state_dict().items()}},
        lambda net: {"state_dict": {**with_head(net, "model.", "model.fc.1"), "criterion.weight": torch.ones(3)}},
        lambda net: {"model": net.state_dict(), "ema": copy.deepcopy(net.state_dict())},  # the same numbers
    ],
)
def test_a_network_is_found_in_any_wrapper(tmp_path: Path, wrap: Any, legacy: bool) -> None:
    network = small()
    torch.save(wrap(network), tmp_path / "net.pt", _use_new_zipfile_serialization=not legacy)
    import_weights(tmp_path / "net.pt", tmp_path / "out.safetensors")
    loaded, _ = load_network(tmp_path / "out.safetensors")
    clips = torch.randn(CLIPS)
    with torch.inference_mode():
        assert torch.equal(loaded(clips), network(clips))


def test_what_was_left_out_is_listed(tmp_path: Path) -> None:
    content = {
        "model": small().state_dict(),
        "args": argparse.Namespace(lr=0.1),
        "criterion": {"weight": torch.ones(3)},
    }
    imported = import_weights(written(tmp_path, content), tmp_path / "out.safetensors")
    assert imported.left_out == ("criterion", "objects of argparse.Namespace, which were not run")


def test_two_networks_are_refused_by_naming_both(tmp_path: Path) -> None:
    first, second = small(), small()
    with torch.no_grad():
        second.fc.bias += 1
    file = written(
        tmp_path, {"model": first.state_dict(), "ema": {f"module.{n}": t for n, t in second.state_dict().items()}}
    )
    with pytest.raises(ValueError, match=r"holds 2 different networks, under model and ema\.module; choose one"):
        import_weights(file, tmp_path / "out.safetensors")
    import_weights(file, tmp_path / "out.safetensors", ImportOptions(network="ema.module"))
    assert torch.equal(load_network(tmp_path / "out.safetensors")[0].fc.bias, second.fc.bias)
    with pytest.raises(ValueError, match=r"0 networks under swa; there are model and ema\.module"):
        import_weights(file, tmp_path / "out.safetensors", ImportOptions(network="swa"))


def test_a_refused_choice_names_a_network_that_can_be_chosen(tmp_path: Path) -> None:
    first, second = small(), small()
    with torch.no_grad():
        second.fc.bias += 1
    ema = {f"ema.{name}": tensor for name, tensor in second.state_dict().items()}
    for content in (
        {"model": first.state_dict(), "ema_model": second.state_dict()},
        {**first.state_dict(), **ema},
    ):
        file = written(tmp_path, content)
        with pytest.raises(ValueError, match="choose one, as --network") as refused:
            import_weights(file, tmp_path / "out.safetensors")
        [network] = shlex.split(str(refused.value).rpartition("--network ")[2])
        import_weights(file, tmp_path / "out.safetensors", ImportOptions(network=network))
        assert torch.equal(load_network(tmp_path / "out.safetensors")[0].fc.bias, first.fc.bias)


def test_a_backbone_is_for_features_and_names_no_class(tmp_path: Path) -> None:
    network = small()
    imported = import_weights(written(tmp_path, body_of(network)), tmp_path / "out.safetensors")
    assert imported.card.classes == NO_CLASSIFIER
    assert any("no classifier" in sentence for sentence in imported.assumptions)
    loaded, card = load_network(tmp_path / "out.safetensors")
    clips = torch.randn(CLIPS)
    with torch.inference_mode():
        assert torch.equal(loaded.features(clips), network.features(clips))
    with pytest.raises(ValueError, match="no classifier, so they name no class"):
        card.check_classifier()


def test_what_the_outputs_are_taken_for_is_an_assumption_too(tmp_path: Path) -> None:
    file = written(tmp_path, small().state_dict())
    num_outputs = small().specification.num_classes
    names = [f"n{number}" for number in range(num_outputs)]
    labels = import_weights(file, tmp_path / "out.safetensors", ImportOptions(task=ImportedTask("multi_label")))
    assert labels.card.head is not None
    assert "the outputs are those of the task multi_label" in labels.assumptions
    task = ImportedTask("regression", units=["ml", *[""] * (num_outputs - 1)])
    numbers = import_weights(file, tmp_path / "out.safetensors", ImportOptions(task=task, classes=names))
    [sentence] = [sentence for sentence in numbers.assumptions if "outputs" in sentence]
    assert sentence == (
        f"the outputs are {', '.join(['n0 in ml', *names[1:]])}, the numbers as they are (else add --target-mean and "
        "--target-std)"
    )


def test_one_output_is_no_class(tmp_path: Path) -> None:
    state = {**small().state_dict(), "fc.weight": torch.ones(1, 32), "fc.bias": torch.ones(1)}
    card = import_weights(written(tmp_path, state), tmp_path / "out.safetensors").card
    with pytest.raises(ValueError, match=r"one output, 'class_000', whose softmax is always 100 %"):
        card.check_classifier()
    small_card = import_weights(written(tmp_path, small().state_dict()), tmp_path / "out.safetensors").card
    small_card.check_classifier()


def test_tensors_that_share_their_numbers_are_refused(tmp_path: Path) -> None:
    shared = torch.rand(2_000_000)
    state = {
        name: tensor if tensor.dim() < 2 else shared[: tensor.numel()].view(tensor.shape)
        for name, tensor in create_model("r3d_18", num_classes=3, width=32).state_dict().items()
    }
    with pytest.raises(ValueError, match="has fewer bytes than its tensors"):
        import_weights(written(tmp_path, state), tmp_path / "out.safetensors")


def test_damaged_and_foreign_files_are_refused_in_words(tmp_path: Path) -> None:
    whole = written(tmp_path, small().state_dict()).read_bytes()
    torch.save(small().state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    old = (tmp_path / "old.pt").read_bytes()
    torn = tmp_path / "torn.pt"
    for content in (whole, old):
        for length in range(0, len(content), len(content) // 40):
            torn.write_bytes(content[:length])
            with pytest.raises(ValueError, match=r"torn.pt is (damaged|neither)"):
                read_network(torn)
    for content in (b"", b"\x89PNG\r\n\x1a\n" + bytes(100), b"hello, I am a text file", b"\x80\x02 no pickle"):
        torn.write_bytes(content)
        with pytest.raises(ValueError, match=r"torn.pt is (damaged|neither)"):
            read_network(torn)
    safetensors.torch.save_file(small().state_dict(), tmp_path / "whole.safetensors")
    (tmp_path / "torn.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-5])
    with pytest.raises(ValueError, match="not a safetensors file, or is truncated"):
        read_network(tmp_path / "torn.safetensors")
    with pytest.raises(ValueError, match=r"there is no file .*absent\.pt"):
        read_network(tmp_path / "absent.pt")


def test_content_that_is_no_state_dict_is_refused_with_what_it_is(tmp_path: Path) -> None:
    state = small().state_dict()
    infinite = {**state, "fc.bias": torch.tensor([1.0, torch.inf, 0.0])}
    for content, sentence in (
        ([torch.zeros(2)], "no tensor is called stem.0.weight"),
        (torch.zeros(2), "no tensor is called stem.0.weight"),
        ([3, "text"], "holds a list without tensors, expected a state dict"),
        ({}, "holds a dict without tensors, expected a state dict"),
        (infinite, "fc.bias holds numbers that are not finite"),
        ({**state, "fc.bias": torch.zeros(3, dtype=torch.int32)}, "fc.bias holds torch.int32, expected floats"),
        ({**state, "fc.bias": torch.zeros(3, dtype=torch.complex64)}, "fc.bias is stored as torch"),
        ({**state, "fc.bias": torch.zeros(3).to_sparse()}, "fc.bias is stored as torch"),
    ):
        with pytest.raises(ValueError, match=sentence):
            read_network(written(tmp_path, content))


def test_a_file_that_has_its_card_is_not_imported_again(tmp_path: Path) -> None:
    network = small()
    save(network, tmp_path / "net.safetensors", classes=["a", "b", "c"], preprocessing=Preprocessing())
    with pytest.raises(ValueError, match="already has a card"):
        import_weights(tmp_path / "net.safetensors", tmp_path / "out.safetensors")


def test_a_given_card_describes_another_clip_length(tmp_path: Path) -> None:
    options = ImportOptions(preprocessing=replace(Preprocessing(), clip_length=32))
    card = import_weights(written(tmp_path, small().state_dict()), tmp_path / "o.safetensors", options).card
    assert card.specification.clip_length == card.preprocessing.clip_length == 32
