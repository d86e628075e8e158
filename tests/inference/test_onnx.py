"""Exported graphs: the same logits under ONNX Runtime, in both forms, and as a `Scorer`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.videos import write_video

from muybridge.inference.export import export_weights
from muybridge.inference.onnx import OnnxScorer
from muybridge.inference.scorer import load_scorer
from muybridge.models.family import build_specification
from muybridge.models.network import VideoResNet
from muybridge.prediction.recognizer import load
from muybridge.records import FLOW_MEAN, FLOW_STD, Preprocessing
from muybridge.weights.card import save

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

CPU = torch.device("cpu")
CLASSES = ("clap", "wave", "jump")
PREPROCESSING = Preprocessing(clip_length=7, scale_height=32, scale_width=40, crop=30)
# Lengths and sizes that are odd, and every kind of convolution, block and stem.
NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("r2plus1d_10", {}),
    ("r2d_10", {}),
    ("f_r2d_10", {"norm_epsilon": 0.1}),
    ("mc3_10", {"stem_pool": True}),
    ("rmc4_10", {}),
    ("r2plus1d_50", {"mid_channel_rule": "per_block", "stem_pool": True}),
    ("r3d_10", {"input_channels": 2}),
    ("r2plus1d_10", {"middle_relu": False, "stem_mid_channels": 7}),
]


def saved(path: Path, name: str = "r2plus1d_10", seed: int = 0, **changes: Any) -> VideoResNet:
    torch.manual_seed(seed)
    network = VideoResNet(build_specification(name, num_classes=3, width=4, clip_length=7, **changes))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.2, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    preprocessing = PREPROCESSING
    if changes.get("input_channels") == 2:
        preprocessing = Preprocessing("flow", 7, 1, None, 32, 40, "bilinear", 30, FLOW_MEAN, FLOW_STD)
    save(network, path, classes=CLASSES, preprocessing=preprocessing)
    return network.eval()


@pytest.mark.parametrize("two_dimensional", [False, True])
@pytest.mark.parametrize(("name", "changes"), NETWORKS)
def test_the_graph_computes_our_logits(
    tmp_path: Path, name: str, changes: dict[str, Any], two_dimensional: bool
) -> None:
    network = saved(tmp_path / "net.safetensors", name, **changes)
    result = export_weights(
        tmp_path / "net.safetensors", tmp_path / "net.onnx", export_format="onnx", two_dimensional=two_dimensional
    )
    scorer = OnnxScorer(tmp_path / "net.onnx", CPU)
    for num_clips in (1, 2, 5):
        clips = torch.randn(num_clips, network.specification.input_channels, 7, 30, 30)
        with torch.no_grad():
            ours = network(clips)
        assert ours.std() > 1e-3
        assert torch.allclose(scorer(clips), ours, rtol=1e-4, atol=1e-4 * float(ours.abs().max()))
    assert result.largest_difference < 1e-4 * result.largest_output
    weights = {weight.name: len(weight.dims) for weight in onnx.load(tmp_path / "net.onnx").graph.initializer}
    convolved = {
        weights[node.input[1]] for node in onnx.load(tmp_path / "net.onnx").graph.node if node.op_type == "Conv"
    }
    assert convolved == ({4} if two_dimensional else {5})


def test_the_json_beside_it_says_what_goes_in_and_comes_out(tmp_path: Path) -> None:
    saved(tmp_path / "net.safetensors")
    result = export_weights(tmp_path / "net.safetensors", tmp_path / "net.onnx", export_format="onnx")
    values = json.loads(result.json_file.read_text(encoding="utf-8"))
    assert result.json_file == tmp_path / "net.onnx.json"
    assert values["input"]["shape"] == ["N", 3, 7, 30, 30]
    assert values["card"]["classes"] == list(CLASSES)
    assert values["card"]["preprocessing"]["mean"] == list(PREPROCESSING.mean)
    graph = onnx.load(tmp_path / "net.onnx").graph
    assert [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == ["N", 3, 7, 30, 30]
    assert (graph.input[0].name, graph.output[0].name) == ("clips", "logits")


def test_predictions_from_a_graph_are_those_of_the_network(tmp_path: Path) -> None:
    saved(tmp_path / "net.safetensors")
    export_weights(tmp_path / "net.safetensors", tmp_path / "net.onnx", export_format="onnx")
    video = write_video(tmp_path / "video.mp4", 30)
    ours = load(tmp_path / "net.safetensors", "cpu").predict(video)
    recognizer = load(tmp_path / "net.onnx", "cpu")
    theirs = recognizer.predict(video)
    assert theirs.status == "ok"
    assert dict(theirs.classes) == pytest.approx(dict(ours.classes), abs=1e-5)
    assert recognizer.model is None
    with pytest.raises(ValueError, match=r"an \.onnx file has no features"):
        recognizer.features(video)


def test_what_is_no_graph_of_ours_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*absent\.onnx"):
        load_scorer(tmp_path / "absent.onnx", CPU)
    (tmp_path / "torn.onnx").write_bytes(b"\x08\x08 this is no graph")
    with pytest.raises(ValueError, match="is not an ONNX file, or is truncated"):
        load_scorer(tmp_path / "torn.onnx", CPU)
    helper = onnx.helper
    sizes = [helper.make_tensor_value_info(name, 1, [1]) for name in ("a", "b")]
    graph = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "g", sizes[:1], sizes[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "foreign.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"foreign\.onnx has no card"):
        load_scorer(tmp_path / "foreign.onnx", CPU)
    helper.set_model_props(model, {"muybridge": "[]"})
    (tmp_path / "foreign.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"the card of .*foreign\.onnx is not understood"):
        load_scorer(tmp_path / "foreign.onnx", CPU)


@pytest.mark.parametrize("change", ["batch summed", "one class less", "a clip of another name", "a fixed batch"])
def test_logits_of_another_shape_or_batch_are_no_scores(tmp_path: Path, change: str) -> None:
    saved(tmp_path / "net.safetensors")
    export_weights(tmp_path / "net.safetensors", tmp_path / "net.onnx", export_format="onnx")
    model = onnx.load(tmp_path / "net.onnx")
    graph = model.graph
    last = graph.node[-1]
    if change == "batch summed":
        last.output[0] = "rows"
        graph.node.append(onnx.helper.make_node("ReduceMean", ["rows"], ["logits"], axes=[0], keepdims=1))
    elif change == "one class less":
        for name in last.input[1:]:
            tensor = next(each for each in graph.initializer if each.name == name)
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)[:-1], name))
        graph.output[0].type.tensor_type.shape.dim[1].dim_value -= 1
    elif change == "a fixed batch":
        graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    else:
        graph.node[0].input[0] = graph.input[0].name = "frames"
    onnx.save(model, tmp_path / "net.onnx")
    scorer = load_scorer(tmp_path / "net.onnx", CPU).scorer
    with pytest.raises(
        ValueError, match=r"the ONNX file (has logits of shape|cannot be run on clips).*export it again"
    ):
        scorer(torch.zeros((3, 3, 7, 30, 30)))


def test_clips_of_another_size_than_exported_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "net.safetensors")
    export_weights(tmp_path / "net.safetensors", tmp_path / "net.onnx", export_format="onnx")
    scorer = load_scorer(tmp_path / "net.onnx", CPU).scorer
    with pytest.raises(ValueError, match=r"takes clips of shape \(3, 7, 30, 30\), .*leave out evaluation\.clip_length"):
        scorer(torch.zeros((3, 3, 7, 36, 36)))


def test_a_graph_that_computes_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "net.safetensors")
    monkeypatch.setattr(
        OnnxScorer, "__call__", lambda self, clips: torch.from_numpy(np.ones((len(clips), 3), np.float32))
    )
    with pytest.raises(RuntimeError, match=r"outputs differ from ours by .* nothing was written"):
        export_weights(tmp_path / "net.safetensors", tmp_path / "net.onnx", export_format="onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]
