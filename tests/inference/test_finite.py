"""Numbers that are not finite never become an answer: every kind of tensor, every family, every way to run a network."""

import json
import math
from pathlib import Path
from typing import Any

import onnx
import pytest
import safetensors.torch
import torch
from torch import nn

from muybridge.inference.explain import compute_grad_cam
from muybridge.inference.export import export_weights
from muybridge.inference.finite import check_finite_clips, check_finite_outputs
from muybridge.inference.folded import InferenceNetwork, optimize
from muybridge.inference.int8 import has_fast_int8, quantize
from muybridge.inference.onnx import OnnxScorer, write_onnx
from muybridge.inference.scorer import NetworkScorer, load_scorer
from muybridge.inference.streaming import SplitNetwork
from muybridge.inference.two_dimensional import convert_to_two_dimensional
from muybridge.models.family import FAMILIES
from muybridge.models.network import VideoResNet, create_model
from muybridge.records import Preprocessing
from muybridge.weights.card import METADATA_KEY, Card, compute_tensors_sha256, load_network, save
from muybridge.weights.importing import import_weights

CPU = torch.device("cpu")
SMALL = Preprocessing(clip_length=5, scale_height=24, scale_width=24, crop=24)
BAD = (math.nan, math.inf, -math.inf)


def small(family: str, **changes: Any) -> VideoResNet:
    torch.manual_seed(0)
    return create_model(f"{family}_10", num_classes=3, clip_length=5, width=4, **changes).eval()


def clips(**changes: Any) -> torch.Tensor:
    return torch.randn(2, 3, 5, 24, 24, generator=torch.Generator().manual_seed(1), **changes)


def tensors_of_each_kind(network: nn.Module) -> list[str]:
    """One float tensor of each kind: its place (stem, block, shortcut, classifier) and what it is."""
    names: dict[tuple[str, str, int], str] = {}
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            part = "shortcut" if "downsample" in name else name.partition(".")[0].rstrip("1234")
            names.setdefault((part, name.rpartition(".")[2], tensor.dim()), name)
    return list(names.values())


def with_value(network: VideoResNet, name: str, value: float) -> VideoResNet:
    with torch.no_grad():
        network.state_dict()[name].view(-1)[-1] = value
    return network


@pytest.mark.parametrize("family", FAMILIES)
def test_a_weight_that_is_not_finite_is_refused_by_name(family: str, tmp_path: Path) -> None:
    names = tensors_of_each_kind(small(family))
    assert len(names) >= 13  # convolution, two of batch norm and its two statistics in three places, and the classifier
    for name in names:
        for value in BAD:
            broken = with_value(small(family), name, value)
            sentence = rf"{family}_10 holds tensors that cannot be weights: {name} holds numbers that are not finite"
            with pytest.raises(ValueError, match=sentence):
                optimize(broken)
            with pytest.raises(ValueError, match=sentence):
                NetworkScorer(broken, CPU)
    torch.save(broken.state_dict(), tmp_path / "net.pt")
    with pytest.raises(ValueError, match=rf"{names[-1]} holds numbers that are not finite"):
        import_weights(tmp_path / "net.pt", tmp_path / "net.safetensors")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_clip_that_is_not_finite_is_refused(family: str) -> None:
    network = small(family)
    fast = optimize(network)
    for scorer in (fast, fast.features, NetworkScorer(fast, CPU), NetworkScorer(network, CPU)):
        for value in BAD:
            broken = clips()
            broken[1, 2, 4, 3, 3] = value
            with pytest.raises(ValueError, match="the clips hold numbers that are not finite"):
                scorer(broken)
        assert scorer(clips()).isfinite().all()
    split = SplitNetwork(fast)
    split.compute_logits(split.compute_frame_maps(broken))
    later = split.compute_logits(
        split.compute_frame_maps(clips())
    )  # windows that overlap a bad frame, and all after it
    with pytest.raises(ValueError, match="the clips hold numbers that are not finite"):
        split.fetch(later)
    split = SplitNetwork(fast)
    assert split.fetch(split.compute_logits(split.compute_frame_maps(clips()))).isfinite().all()


def test_nothing_is_fetched_before_the_logits() -> None:
    """Reading a number makes the CPU wait for a GPU: once for the logits is enough. On the meta device it is an error."""
    fast = optimize(small("r2plus1d")).to("meta")
    features = fast.classifier_weight.shape[1]
    fast.stem, fast.blocks = nn.Sequential(nn.Conv3d(3, features, 1, device="meta")), nn.Sequential()
    broken = clips().to("meta")
    with pytest.raises((NotImplementedError, RuntimeError)):
        fast(broken)
    assert fast.score(broken).is_meta
    split = SplitNetwork(fast)
    assert split.compute_logits(split.compute_frame_maps(broken)).is_meta


def write_file(path: Path, network: VideoResNet, change: Any = None) -> Path:
    """A weights file whose hash and card agree with its tensors, whatever these are."""
    card = save(network, path, classes=["a", "b", "c"], preprocessing=SMALL)
    if change is not None:
        tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        change(tensors)
        values = card.to_json() | {"tensors_sha256": compute_tensors_sha256(tensors)}
        path.write_bytes(safetensors.torch.save(tensors, {METADATA_KEY: json.dumps(values)}))
    return path


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda t: t["layer1.0.conv1.1.bias"].fill_(math.nan),
            "layer1.0.conv1.1.bias holds numbers that are not finite",
        ),
        (lambda t: t["stem.1.running_var"].fill_(-1.0), "stem.1.running_var holds negative variances"),
        (
            lambda t: t.update({"fc.weight": torch.ones(3, 32, dtype=torch.int32)}),
            "fc.weight holds torch.int32, expected floats",
        ),
    ],
)
def test_a_file_with_such_weights_is_not_loaded(tmp_path: Path, change: Any, sentence: str) -> None:
    file = write_file(tmp_path / "net.safetensors", small("mc2"), change)
    for read in (load_network, lambda path: load_scorer(path, CPU)):
        with pytest.raises(ValueError, match=sentence):
            read(file)
    with pytest.raises(ValueError, match=sentence):
        export_weights(file, tmp_path / "net.pt", export_format="state-dict")
    assert not (tmp_path / "net.pt").exists()


def test_finite_weights_that_overflow_when_folded_are_refused() -> None:
    network = small("r2plus1d")
    with torch.no_grad():
        network.layer2[0].conv1[1].weight.fill_(1e15)
        network.layer2[0].conv1[1].running_var.fill_(1e-8)
    for convert in (optimize, convert_to_two_dimensional):
        with pytest.raises(
            ValueError, match=r"numbers as large as .*, expected at most 1e\+15 once its batch norm is folded"
        ):
            convert(network)


@pytest.mark.parametrize("family", ["r2plus1d", "mc3", "r2d"])
def test_a_weight_that_overflows_in_its_layer_is_refused_by_name(family: str) -> None:
    for name in tensors_of_each_kind(small(family)):
        broken = with_value(small(family), name, -3e38 if name.endswith(("bias", "mean")) else 3e38)
        for prepare in (optimize, lambda network: NetworkScorer(network, CPU)):
            with pytest.raises(ValueError, match=rf"{name} holds numbers as large as 3e\+38, expected at most 1e\+15"):
                prepare(broken)
    with pytest.raises(ValueError, match=r"the clips hold numbers as large as 1e\+30"):
        NetworkScorer(small(family), CPU)(clips().fill_(1e30))


def test_an_overflow_is_not_an_answer() -> None:
    network = small("r2plus1d")
    with torch.no_grad():
        network.fc.weight.fill_(1e15)
        network.layer4[0].conv2[1].weight.fill_(1e15)
        network.layer4[0].conv2[1].running_var.fill_(1.0)
        network.layer4[0].conv1[1].weight.fill_(1e10)
    for scorer in (optimize(network), NetworkScorer(network, CPU)):
        with pytest.raises(ValueError, match="the logits are not finite"):
            scorer(clips() * 10)
    with pytest.raises(ValueError, match="the logits are not finite"):
        compute_grad_cam(network, clips() * 10, torch.tensor([0, 1]))
    fast = optimize(small("r2plus1d"))
    fast.blocks[-1].register_forward_hook(lambda _module, _inputs, maps: maps.fill_(math.inf))
    with pytest.raises(ValueError, match="the features are not finite"):
        fast.features(clips())


@pytest.mark.skipif(not has_fast_int8(), reason="this processor has no 8-bit dot products")
def test_eight_bits_do_not_hide_it() -> None:
    network, broken = small("r2plus1d"), clips().fill_(math.nan)
    with pytest.raises(ValueError, match="the clips hold numbers"):
        quantize(network, broken)
    with pytest.raises(ValueError, match="the clips hold numbers"):
        quantize(network, clips())(broken)


def test_large_numbers_are_finite() -> None:
    check_finite_clips(torch.full((4, 4), 1e15))
    check_finite_clips(torch.full((70000,), 2.0, dtype=torch.float16))
    check_finite_outputs(torch.full((4, 4), 3e38), "logits")


def exported(tmp_path: Path) -> Path:
    network = small("r3d")
    card = save(network, tmp_path / "net.safetensors", classes=["a", "b", "c"], preprocessing=SMALL)
    write_onnx(network, card, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_numbers_that_are_not_finite_neither_enter_a_graph_nor_run_through_one(tmp_path: Path) -> None:
    scorer = OnnxScorer(exported(tmp_path), CPU)
    assert scorer(clips()).isfinite().all()
    for value in BAD:
        broken = clips()
        broken[1, 2, 4, 3, 3] = value
        with pytest.raises(ValueError, match="the clips hold numbers that are not finite"):
            scorer(broken)
        network = with_value(small("r3d"), "fc.bias", value)
        with pytest.raises(ValueError, match=r"fc\.bias holds numbers that are not finite"):
            write_onnx(network, scorer.card, tmp_path / "broken.onnx")
    assert not (tmp_path / "broken.onnx").exists()


def test_an_onnx_file_is_checked_before_it_is_opened(tmp_path: Path) -> None:
    file = exported(tmp_path)
    scorer = OnnxScorer(file, CPU)
    assert scorer(clips()).shape == (2, 3)
    with pytest.raises(ValueError, match="the clips hold numbers"):
        scorer(clips().fill_(math.nan))

    def refuse(change: Any, sentence: str) -> None:
        model = onnx.load(str(file))
        change(model)
        (tmp_path / "changed.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ValueError, match=rf"changed.onnx is not run: .*{sentence}"):
            OnnxScorer(tmp_path / "changed.onnx", CPU)

    def set_nan(model: Any) -> None:
        weight = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
        weight.flat[0] = math.nan
        model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, model.graph.initializer[0].name))

    def make_large(model: Any) -> None:
        shape = onnx.numpy_helper.from_array(torch.tensor([1 << 20, 1 << 12]).numpy(), "huge")
        model.graph.initializer.append(shape)
        model.graph.node.insert(0, onnx.helper.make_node("ConstantOfShape", ["huge"], ["zeros"]))

    def double_often(model: Any) -> None:
        for index in range(20):
            name = "clips" if index == 0 else f"double{index - 1}"
            model.graph.node.insert(index, onnx.helper.make_node("Concat", [name, name], [f"double{index}"], axis=2))

    def claim_more(model: Any) -> None:
        model.graph.initializer[0].dims[0] = 1 << 40

    def pad_far(model: Any) -> None:
        convolution = next(node for node in model.graph.node if node.op_type == "Conv")
        next(attribute for attribute in convolution.attribute if attribute.name == "pads").ints[:] = [1 << 30] * 6

    refuse(set_nan, "w. holds numbers that are not finite")
    refuse(make_large, "the operator ConstantOfShape")
    refuse(double_often, "expected at most")
    refuse(claim_more, "bytes")
    refuse(pad_far, "padding")
    (tmp_path / "changed.onnx").write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"changed.onnx is not run: it is not an ONNX file"):
        OnnxScorer(tmp_path / "changed.onnx", CPU)


def test_logits_of_another_shape_are_refused(tmp_path: Path) -> None:
    model = onnx.load(str(exported(tmp_path)))
    for entry in model.metadata_props:
        values = json.loads(entry.value)
        values["classes"] = ["a", "b"]
        values["specification"]["num_classes"] = 2
        entry.value = json.dumps(values)
    (tmp_path / "two.onnx").write_bytes(model.SerializeToString())
    scorer = OnnxScorer(tmp_path / "two.onnx", CPU)
    assert isinstance(scorer.card, Card)
    with pytest.raises(ValueError, match=r"logits of shape \(2, 3\), but \(2, 2\) were expected"):
        scorer(clips())


def test_a_folded_network_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights at `optimize`, not at every clip."""
    fast = optimize(small("mc3"))
    assert isinstance(fast, InferenceNetwork)
    calls = []
    monkeypatch.setattr("muybridge.inference.folded.describe_extremes", calls.append)
    fast(clips())
    assert calls == []
