"""Winograd's way against torch's convolution in float64, which knows nothing of it."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from muybridge.models import winograd
from muybridge.models.convolution import set_execution
from muybridge.models.inference import FoldedConvolution, has_onednn, optimize
from muybridge.models.network import create_model
from muybridge.models.winograd import WinogradConvolution, applies, transforms

needs_onednn = pytest.mark.skipif(not has_onednn(), reason="this build of torch has no oneDNN")


def clips_of(*shape: int) -> torch.Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last_3d)


def test_the_transforms_are_exact() -> None:
    outputs, filters, inputs = transforms()
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
    monkeypatch.setattr(winograd, "PORTION_BYTES", portion_bytes)
    num_clips, num_frames, height, width = size
    clips = clips_of(num_clips, 16, num_frames, height, width)
    weight, bias = torch.randn(32, 16, taps, 3, 3) / (9 * 16 * taps) ** 0.5, torch.randn(32)
    expected = functional.conv3d(clips.double(), weight.double(), bias.double(), (stride, 1, 1), (padding, 1, 1))
    before = clips.clone()
    convolve = WinogradConvolution(weight, bias)
    for residual in (None, clips_of(*expected.shape)):
        for relu in (False, True):
            found = convolve(clips, stride=stride, padding=padding, relu=relu, residual=residual)
            summed = expected if residual is None else expected + residual
            assert found.is_contiguous(memory_format=torch.channels_last_3d)
            torch.testing.assert_close(found.double(), summed.relu() if relu else summed, rtol=0, atol=3e-5)
    assert torch.equal(clips, before)


@needs_onednn
def test_a_batch_and_other_sizes_after_it_change_nothing() -> None:
    weight, bias = torch.randn(32, 16, 3, 3, 3), torch.randn(32)
    convolve = WinogradConvolution(weight, bias)
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
    assert applies(torch.empty(shape), stride, padding) is expected


@needs_onednn
@pytest.mark.parametrize("name", ["r2plus1d_10", "r3d_10", "mc3_10", "rmc3_10"])
def test_a_network_that_uses_it_agrees_up_to_rounding(name: str) -> None:
    torch.manual_seed(0)
    net = create_model(name, num_classes=5, width=64, clip_length=4).train()
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
    assert any(module._winograd for module in fast.modules() if isinstance(module, FoldedConvolution))


@needs_onednn
def test_its_rounding_is_of_the_order_of_direct_convolution() -> None:
    torch.manual_seed(0)
    clips = clips_of(1, 64, 4, 28, 28).relu()
    weight, bias = torch.randn(144, 64, 1, 3, 3) / 24, torch.randn(144)
    expected = functional.conv3d(clips.double(), weight.double(), bias.double(), padding=(0, 1, 1))
    direct = functional.conv3d(clips, weight, bias, padding=(0, 1, 1))
    found = WinogradConvolution(weight, bias)(clips, stride=1, padding=0, relu=False, residual=None)

    def error(maps: torch.Tensor) -> float:
        return nn.functional.mse_loss(maps.double(), expected).sqrt().item()

    assert error(found) < 6 * error(direct)
    assert error(found) < 2e-6 * expected.std().item()
