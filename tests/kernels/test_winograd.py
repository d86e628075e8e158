"""Winograd's way against torch's convolution in float64, which knows nothing of it."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from muybridge.inference.folded import FoldedConvolution, optimize
from muybridge.kernels import winograd
from muybridge.kernels.convolution import has_onednn, set_execution
from muybridge.kernels.winograd import (
    WinogradConvolution,
    build_transforms,
    convolve_winograd,
    is_applicable,
    transform_filters,
)
from muybridge.models.family import FAMILIES
from muybridge.models.network import create_model

needs_onednn = pytest.mark.skipif(not has_onednn(), reason="this build of torch has no oneDNN")


def clips_of(*shape: int) -> torch.Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last_3d)


def test_the_transforms_are_exact() -> None:
    outputs, filters, inputs = build_transforms()
    taps, signal = torch.randn(3, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    expected = functional.conv1d(signal[None, None], taps[None, None])[0, 0]
    torch.testing.assert_close(outputs @ ((filters @ taps) * (inputs @ signal)), expected, rtol=1e-13, atol=1e-13)


@needs_onednn
@pytest.mark.parametrize("portion_bytes", [1, 200_000, 2**23])
@pytest.mark.parametrize(("taps", "stride", "padding"), [(1, 1, 0), (3, 1, 1), (3, 2, 1), (3, 1, 0)])
@pytest.mark.parametrize("size", [(1, 3, 4, 4), (3, 5, 13, 18), (2, 8, 16, 12), (1, 3, 1, 2)])
def test_it_is_the_convolution_up_to_rounding(
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int, int, int],
    taps: int,
    stride: int,
    padding: int,
    portion_bytes: int,
) -> None:
    monkeypatch.setattr(winograd, "CHUNK_BYTES", portion_bytes)
    num_clips, num_frames, height, width = size
    clips = clips_of(num_clips, 16, num_frames, height, width)
    weight, bias = torch.randn(32, 16, taps, 3, 3) / (9 * 16 * taps) ** 0.5, torch.randn(32)
    expected = functional.conv3d(clips.double(), weight.double(), bias.double(), (stride, 1, 1), (padding, 1, 1))
    before = clips.clone()
    convolve = WinogradConvolution(transform_filters(weight), bias)
    for residual in (None, clips_of(*expected.shape)):
        for relu in (False, True):
            actual = convolve(clips, stride=stride, padding=padding, relu=relu, residual=residual)
            summed = expected if residual is None else expected + residual
            assert actual.is_contiguous(memory_format=torch.channels_last_3d)
            torch.testing.assert_close(actual.double(), summed.relu() if relu else summed, rtol=0, atol=3e-5)
    assert torch.equal(clips, before)


@needs_onednn
def test_a_batch_and_other_sizes_after_it_change_nothing() -> None:
    weight, bias = torch.randn(32, 16, 3, 3, 3), torch.randn(32)
    convolve = WinogradConvolution(transform_filters(weight), bias)
    for size in ((4, 16, 4, 9, 14), (1, 16, 2, 20, 5), (2, 16, 4, 9, 14)):
        clips = clips_of(*size)
        together = convolve(clips, stride=1, padding=1, relu=False, residual=None)
        alone = [convolve(clip[None], stride=1, padding=1, relu=False, residual=None) for clip in clips]
        torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("shape", "stride", "padding", "expected"),
    [
        ((144, 64, 1, 3, 3), (1, 1, 1), (0, 1, 1), True),
        ((64, 64, 1, 3, 3), (1, 1, 1), (0, 1, 1), False),  # too few channels for the transforms
        ((64, 64, 3, 3, 3), (1, 1, 1), (1, 1, 1), True),
        ((64, 64, 3, 3, 3), (2, 1, 1), (1, 1, 1), True),
        ((230, 64, 1, 3, 3), (1, 1, 1), (0, 1, 1), False),  # no multiple of 16
        ((128, 128, 1, 3, 3), (1, 2, 2), (0, 1, 1), False),
        ((128, 128, 3, 1, 1), (1, 1, 1), (1, 0, 0), False),
        ((144, 64, 1, 7, 7), (1, 1, 1), (0, 3, 3), False),
        ((144, 64, 1, 3, 3), (1, 1, 1), (0, 0, 0), False),
    ],
)
def test_where_it_applies(
    shape: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], expected: bool
) -> None:
    assert is_applicable(torch.empty(shape), stride, padding) is expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 64, 16, 56, 56), True),
        ((8, 64, 4, 14, 14), True),
        ((8, 64, 2, 7, 7), False),  # 8 tiles a clip, however many clips there are
        ((1, 64, 8, 7, 7), True),
        ((1, 64, 32, 5, 5), False),  # 25 of 64 pixels are wanted
        ((1, 64, 32, 2, 2), False),
    ],
)
def test_where_it_pays(size: tuple[int, ...], expected: bool) -> None:
    assert winograd.is_worthwhile(torch.empty(size)) is expected


@needs_onednn
@pytest.mark.parametrize("family", FAMILIES)
def test_networks_of_full_width_agree_up_to_rounding(family: str) -> None:
    torch.manual_seed(0)
    net = create_model(f"{family}_10", num_classes=5, width=64, clip_length=4).train()
    with torch.no_grad():
        net(torch.randn(2, 3, 4, 32, 32))  # batch norms that have seen data
    net.eval()
    clips = torch.randn(2, 3, 4, 60, 66)
    plain = copy.deepcopy(net).double()
    set_execution(plain, "plain")
    with torch.no_grad():
        expected = plain(clips.double())
    fast = optimize(net)
    torch.testing.assert_close(fast(clips).double(), expected, rtol=1e-4, atol=1e-5)
    uses = any(module._winograd for module in fast.modules() if isinstance(module, FoldedConvolution))
    assert uses == (family != "r2d")  # whose maps have no time: too few tiles


@needs_onednn
def test_twins_share_the_filters() -> None:
    """Along a video each has its own: made anew for every video, they would cost a second each."""
    fast = optimize(create_model("r3d_10", num_classes=5, width=64, clip_length=4).eval())
    layer = next(
        module for module in fast.modules() if isinstance(module, FoldedConvolution) and module.is_winograd_applicable
    )
    twins = [layer.copy_without_temporal_padding() for _ in range(2)]
    for twin in twins:
        twin(clips_of(1, 64, 6, 16, 16))
    assert len(layer._winograd) == 1 and all(twin._winograd is layer._winograd for twin in twins)
    assert layer(clips_of(1, 64, 6, 16, 16)).shape == (1, 64, 6, 16, 16)


@needs_onednn
def test_its_rounding_is_of_the_order_of_direct_convolution() -> None:
    torch.manual_seed(0)
    clips = clips_of(1, 64, 4, 28, 28).relu()
    weight, bias = torch.randn(144, 64, 1, 3, 3) / 24, torch.randn(144)
    expected = functional.conv3d(clips.double(), weight.double(), bias.double(), padding=(0, 1, 1))
    direct = functional.conv3d(clips, weight, bias, padding=(0, 1, 1))
    actual = WinogradConvolution(transform_filters(weight), bias)(clips, stride=1, padding=0, relu=False, residual=None)

    def error(maps: torch.Tensor) -> float:
        return nn.functional.mse_loss(maps.double(), expected).sqrt().item()

    assert error(actual) < 6 * error(direct)
    assert error(actual) < 2e-6 * expected.std().item()


def gradients(convolve, maps: torch.Tensor, weight: torch.Tensor, upward: torch.Tensor) -> tuple[torch.Tensor, ...]:
    leaves = maps.detach().requires_grad_(), weight.detach().requires_grad_()
    actual = convolve(*leaves)
    return (actual, *torch.autograd.grad(actual, leaves, upward.to(actual.dtype)))


@needs_onednn
@pytest.mark.parametrize(("taps", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (3, 1, 0)])
def test_gradients_of_clips(taps: int, stride: int, padding: int) -> None:
    clips, weight = clips_of(2, 32, 5, 9, 14), torch.randn(16, 32, taps, 3, 3) / 30

    def expected_of(clips: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.conv3d(clips, weight, None, (stride, 1, 1), (padding, 1, 1))

    upward = torch.randn_like(expected_of(clips, weight))
    expected = gradients(expected_of, clips.double(), weight.double(), upward)
    actual = gradients(lambda c, w: convolve_winograd(c, w, stride=stride, padding=padding), clips, weight, upward)
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())
    assert actual[1].is_contiguous(memory_format=torch.channels_last_3d)


@needs_onednn
def test_gradients_of_frames_and_of_gradients() -> None:
    frames = torch.randn(3, 32, 9, 14).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(16, 32, 3, 3) / 17

    def expected_of(frames: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(frames, weight, None, 1, 1)

    upward = torch.randn_like(expected_of(frames, weight))
    expected = gradients(expected_of, frames.double(), weight.double(), upward)
    actual = gradients(convolve_winograd, frames, weight, upward)
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())

    def penalty(convolve, frames: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        weight = weight.detach().requires_grad_()
        frames = frames.detach().requires_grad_()
        (slope,) = torch.autograd.grad(convolve(frames, weight).square().sum(), frames, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), weight)[0]

    theirs = penalty(expected_of, frames.double(), weight.double())
    ours = penalty(convolve_winograd, frames, weight)
    torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


@needs_onednn
@pytest.mark.parametrize("name", ["r2plus1d_10", "r3d_10"])
def test_a_step_of_a_network_that_uses_it_agrees_with_the_plain_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    used = []
    convolve = winograd.convolve_winograd
    monkeypatch.setattr(winograd, "convolve_winograd", lambda *a, **k: used.append(1) or convolve(*a, **k))
    net = create_model(name, num_classes=5, width=64, clip_length=4).train()
    clips, labels = torch.randn(3, 3, 4, 48, 48), torch.tensor([0, 3, 1])
    plain = copy.deepcopy(net).double()
    set_execution(plain, "plain")
    losses = [
        functional.cross_entropy(network(given), labels) for network, given in ((net, clips), (plain, clips.double()))
    ]
    assert used
    torch.testing.assert_close(losses[0].double(), losses[1], rtol=1e-5, atol=1e-5)
    for loss in losses:
        loss.backward()
    # Where a map is zero up to rounding ReLU may let it pass in one and not in the other: float32 by torch alone differs by
    # up to 0.02 here. The convolution's own gradients are compared closely above.
    ours, theirs = (
        torch.cat([parameter.grad.double().flatten() for parameter in network.parameters()]) for network in (net, plain)
    )
    assert (ours - theirs).norm() < 0.05 * theirs.norm()
