import copy
import math
import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn

import muybridge
from graph_stand_in import use_graph_stand_in
from muybridge.inference import folded
from muybridge.inference.folded import FoldedConvolution, InferenceNetwork, optimize
from muybridge.inference.scorer import NetworkScorer
from muybridge.kernels.convolution import set_execution
from muybridge.models.family import FAMILIES, build_specification
from muybridge.models.network import VideoResNet, create_model


def used(name, **changes):
    """A network whose batch norms have seen data, so that folding them wrongly shows."""
    torch.manual_seed(0)
    net = create_model(name, num_classes=5, **{"width": 8, "clip_length": 5, **changes}).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2.0)
    return net


def expected_of(net, clips):
    plain = copy.deepcopy(net).double()
    set_execution(plain, "plain")
    with torch.no_grad():
        return plain(clips.double()), plain.features(clips.double())


def folded_convolutions(fast):
    return [module for module in fast.modules() if isinstance(module, FoldedConvolution)]


@pytest.mark.parametrize("family", FAMILIES)
def test_float64_is_the_plain_network_to_the_last_digits(family):
    net = used(f"{family}_18").double()
    clips = torch.randn(2, 3, 5, 19, 22, dtype=torch.float64)
    logits, features = expected_of(net, clips)
    fast = optimize(net)
    assert not any(module.is_fused for module in folded_convolutions(fast))
    torch.testing.assert_close(fast(clips), logits, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(fast.features(clips), features, rtol=1e-10, atol=1e-11)


def test_what_has_no_relu_between_the_halves_gets_none():
    net = VideoResNet(
        build_specification("r2plus1d_10", num_classes=5, width=8, clip_length=5, middle_relu=False)
    ).double()
    clips = torch.randn(2, 3, 5, 19, 22, dtype=torch.float64)
    with torch.no_grad():
        net(clips)  # which moves the statistics of batch norm
        net.eval()
        logits, _ = expected_of(net, clips)
        torch.testing.assert_close(optimize(net)(clips), logits, rtol=1e-10, atol=1e-11)
        with_relu = VideoResNet(replace(net.specification, middle_relu=True)).double().eval()
        with_relu.load_state_dict(net.state_dict())  # the same names and shapes
        assert not torch.allclose(with_relu(clips), logits)


@pytest.mark.parametrize("name", [*(f"{family}_10" for family in FAMILIES), "r2plus1d_50", "r3d_50"])
@pytest.mark.parametrize("shape", [(1, 3, 5, 19, 22), (3, 3, 5, 16, 17)])
def test_float32_agrees_up_to_rounding(name, shape):
    net = used(name)
    clips = torch.randn(shape)
    logits, features = expected_of(net, clips)
    fast = optimize(net)
    for _ in range(2):  # weights are packed at the first clip, and a sum must not have been added twice
        torch.testing.assert_close(fast(clips).double(), logits, rtol=1e-4, atol=1e-5 * logits.abs().max().item())
        torch.testing.assert_close(
            fast.features(clips).double(), features, rtol=1e-4, atol=1e-5 * features.abs().max().item()
        )


def test_clips_of_other_sizes_than_the_first_ones():
    net = used("r2plus1d_18")
    fast = optimize(net)
    for shape in ((1, 3, 5, 32, 32), (4, 3, 9, 17, 24), (1, 3, 1, 16, 16), (2, 3, 5, 32, 32)):
        clips = torch.randn(shape)
        torch.testing.assert_close(fast(clips).double(), expected_of(net, clips)[0], rtol=1e-4, atol=1e-4)


def test_any_memory_format_and_two_channels():
    net = used("r2plus1d_10", input_channels=2, stem_pool=True)
    clips = torch.randn(2, 2, 4, 20, 20)
    logits = expected_of(net, clips)[0]
    fast = optimize(net)
    for given in (
        clips,
        clips.to(memory_format=torch.channels_last_3d),
        clips.transpose(3, 4).contiguous().transpose(3, 4),
    ):
        before = given.clone()
        torch.testing.assert_close(fast(given).double(), logits, rtol=1e-4, atol=1e-4)
        assert torch.equal(given, before)


def test_padding_for_tensor_cores_changes_nothing():
    net = used("r2plus1d_18", width=9).double()
    clips = torch.randn(2, 3, 5, 19, 22, dtype=torch.float64)
    fast = InferenceNetwork(net, channel_multiple=8)
    assert {module.weight.shape[0] % 8 for block in fast.blocks for module in block.convolutions[:-1:2]} == {0}
    torch.testing.assert_close(fast(clips), expected_of(net, clips)[0], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", ["r2plus1d_10", "r3d_10", "r2d_10"])
@pytest.mark.parametrize("channels", [3, 2])
def test_the_stem_over_blocks_of_pixels_changes_nothing(
    name: str, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folded, "_BLOCK_DEVICE_TYPES", {"cpu"})
    net, clips = used(name, input_channels=channels), torch.randn(2, channels, 5, 33, 20)
    fast = optimize(net)
    assert fast.stem[0].takes_blocks
    torch.testing.assert_close(fast(clips).double(), expected_of(net, clips)[0], rtol=1e-4, atol=1e-4)


def test_the_network_stays_as_it_was_and_shares_nothing():
    net = used("mc3_10").train()
    before = copy.deepcopy(net.state_dict())
    fast = optimize(net)
    assert net.training
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    clips = torch.randn(1, 3, 4, 16, 16)
    twin = used("mc3_10")
    assert all(torch.equal(value, before[name]) for name, value in twin.state_dict().items())
    torch.testing.assert_close(fast(clips).double(), expected_of(twin, clips)[0], rtol=1e-4, atol=1e-4)


def test_it_can_be_copied_and_pickled_after_its_first_clip():
    fast = optimize(create_model("r3d_10", num_classes=5, width=64, clip_length=4).eval())
    clips = torch.randn(1, 3, 4, 48, 48)
    logits = fast(clips)
    for twin in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        torch.testing.assert_close(twin(clips), logits)


def test_it_asks_for_no_gradients_and_checks_its_clips():
    fast = optimize(used("r3d_10"))
    assert not fast(torch.randn(1, 3, 4, 16, 16, requires_grad=True)).requires_grad
    with pytest.raises(ValueError, match="takes clips of shape"):
        fast(torch.randn(1, 2, 4, 16, 16))
    with pytest.raises(ValueError, match="only a network as create_model builds it"):
        optimize(nn.Linear(2, 2))


def test_it_has_a_public_name():
    assert muybridge.optimize is optimize


def test_cudnns_kernels_get_what_the_operators_get(monkeypatch):
    """With stand-ins on the CPU; `tests/gpu/test_networks.py` runs cuDNN's own."""
    calls = []

    def convolve(view, weight, bias, stride, padding, dilation, groups):
        return nn.functional.conv3d(view, weight, bias, stride, padding, dilation, groups)

    def convolve_relu(view, weight, *shape):
        calls.append("relu")
        return convolve(view, weight, *shape).relu()

    def convolve_add_relu(view, weight, residual, factor, *shape):
        calls.append("add")
        assert residual.is_contiguous(memory_format=torch.channels_last_3d)
        return (convolve(view, weight, *shape) + factor * residual).relu()

    monkeypatch.setattr(torch.ops.aten, "cudnn_convolution_relu", convolve_relu)
    monkeypatch.setattr(torch.ops.aten, "cudnn_convolution_add_relu", convolve_add_relu)
    layers = [layer for layer in folded_convolutions(optimize(used("r3d_10"))) if layer.relu]
    assert any(layer.stride[0] == 2 for layer in layers)
    for layer in layers:
        assert layer.form == "conv3d"  # as on every GPU
        view = torch.randn(2, layer.weight.shape[1], 5, 8, 6).contiguous(memory_format=torch.channels_last_3d)
        expected = layer._run_unfused(view.clone(), None)
        torch.testing.assert_close(layer._run_cudnn(view, None), expected, rtol=1e-4, atol=1e-4)
        residual = torch.randn_like(expected)
        summed = layer._run_unfused(view.clone(), residual)
        torch.testing.assert_close(layer._run_cudnn(view, residual), summed, rtol=1e-4, atol=1e-4)
    assert calls == ["relu", "add"] * len(layers)


def test_logits_are_the_same_with_cuda_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = use_graph_stand_in(monkeypatch)
    torch.manual_seed(0)
    net = create_model("r2plus1d_10", num_classes=3, width=4, clip_length=4).eval()
    plain, fast = optimize(net, cuda_graphs=False), optimize(net)
    assert plain.graphs is None
    for seed in range(8):
        clips = torch.randn(1, 3, 4, 24, 24, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(fast(clips), plain(clips))
        assert torch.equal(NetworkScorer(fast, clips.device)(clips), plain(clips))
    with pytest.raises(ValueError, match="the clips hold numbers that are not finite"):
        fast(clips.fill_(math.nan))
    assert stand_in.num_captures > 0
    assert stand_in.num_replays > 8
    assert torch.equal(copy.deepcopy(fast)(clips.fill_(1.0)), plain(clips))
    assert fast.graphs is not None and fast.graphs._graphs
    fast.double()  # replaces the weights that the graphs read
    assert not fast.graphs._graphs
