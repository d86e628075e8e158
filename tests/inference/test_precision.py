"""Inference in bf16: weights and maps are rounded, clips and logits stay float32."""

from pathlib import Path

import numpy as np
import pytest
import torch

from muybridge.inference import scorer as scorer_module
from muybridge.inference.folded import FoldedConvolution, optimize
from muybridge.inference.scorer import NetworkScorer, load_scorer
from muybridge.inference.streaming import FeatureStream, SplitNetwork
from muybridge.models.network import create_model

CPU = torch.device("cpu")


def network_of(name: str):
    torch.manual_seed(0)
    net = create_model(name, width=8, num_classes=5, clip_length=4).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_var.uniform_(0.5, 2)
    return net


@pytest.mark.parametrize("name", ["r2plus1d_10", "r3d_10", "mc3_10", "f_r2d_10", "r2d_10", "r2plus1d_50"])
def test_bf16_is_close_to_fp32_and_returns_fp32(name: str) -> None:
    net = network_of(name)
    clips = torch.randn(2, 3, 4, 32, 32)
    fast = optimize(net, precision="bf16")
    convolutions = [module for module in fast.modules() if isinstance(module, FoldedConvolution)]
    assert {module.weight.dtype for module in convolutions} == {torch.bfloat16}
    assert not any(module.is_fused for module in convolutions)
    with torch.no_grad():
        expected, logits = net(clips), fast(clips)
    assert logits.dtype == fast.features(clips).dtype == torch.float32
    assert not torch.equal(logits, expected)
    torch.testing.assert_close(logits, expected, rtol=0, atol=0.05 * float(expected.abs().max()))


def test_bf16_needs_a_float32_network() -> None:
    with pytest.raises(ValueError, match=r"needs a float32 network, but the weights are torch\.float64"):
        optimize(network_of("r3d_10").double(), precision="bf16")


def test_streaming_runs_in_bf16() -> None:
    net = network_of("r2plus1d_10")
    frames = torch.randn(1, 3, 9, 32, 32)
    features = {}
    for precision in ("fp32", "bf16"):
        split = SplitNetwork(optimize(net, precision=precision))
        stream = FeatureStream(split, [0, 3], 4)
        maps = split.compute_frame_maps(frames)[0].permute(1, 2, 3, 0)
        features[precision] = torch.stack([row for _, row in sorted([*stream.push(maps), *stream.finish()])])
    assert features["bf16"].dtype == torch.float32
    difference = (features["bf16"] - features["fp32"]).abs().max() / features["fp32"].abs().max()
    assert 0 < difference < 0.05


def test_a_scorer_of_a_plain_network_runs_bf16_under_autocast() -> None:
    net, clips = network_of("r2plus1d_10"), torch.randn(2, 3, 4, 32, 32)
    exact, rounded = (NetworkScorer(net, CPU, precision)(clips) for precision in ("fp32", "bf16"))
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    np.testing.assert_allclose(rounded, exact, atol=0.05 * float(exact.abs().max()))


def test_a_loaded_scorer_knows_its_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network_of("r3d_10")
    monkeypatch.setattr(scorer_module, "load_weights", lambda address, device: (net, None))
    assert load_scorer("any", CPU).precision == "fp32"
    monkeypatch.setattr(scorer_module, "choose_inference_precision", lambda requested, device: "bf16")
    loaded = load_scorer("any", CPU)
    assert (loaded.precision, loaded.scorer.precision, loaded.scorer.network.precision) == ("bf16",) * 3


def test_onnx_files_run_in_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.onnx").write_bytes(b"")
    monkeypatch.setattr(scorer_module, "choose_inference_precision", lambda requested, device: requested)
    with pytest.raises(ValueError, match="is an ONNX file, which runs in fp32"):
        load_scorer(tmp_path / "net.onnx", CPU, "bf16")
