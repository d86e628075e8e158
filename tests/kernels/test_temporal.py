import pytest
import torch
from torch.nn import functional

from muybridge.kernels.temporal import compute_weight_gradient, convolve_temporal

# clips, in-channels, frames, pixels, out-channels, taps, stride, padding
CASES = [
    (2, 3, 7, 5, 4, 3, 1, 1),
    (2, 3, 7, 5, 4, 3, 2, 1),
    (1, 4, 8, 6, 3, 3, 2, 1),
    (3, 2, 1, 4, 3, 3, 1, 1),
    (3, 2, 1, 4, 3, 3, 2, 1),
    (2, 3, 2, 1, 5, 3, 2, 1),
    (2, 3, 6, 3, 2, 5, 1, 0),
    (1, 3, 6, 3, 2, 5, 3, 2),
    (2, 3, 9, 3, 2, 1, 2, 0),
]


def seeded(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def inputs(case, layout):
    clips, channels, frames, pixels, out_channels, taps, stride, padding = case
    rows = seeded(clips, channels, frames, pixels).contiguous(memory_format=layout)
    return rows.requires_grad_(), seeded(out_channels, channels, taps, 1).requires_grad_(), stride, padding


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_output_and_gradients_are_those_of_conv2d(case, layout):
    rows, weight, stride, padding = inputs(case, layout)
    got = convolve_temporal(rows, weight, stride=stride, padding=padding)
    expected = functional.conv2d(rows, weight, None, (stride, 1), (padding, 0))
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    weighting = seeded(*expected.shape)
    for ours, theirs in zip(
        torch.autograd.grad((got * weighting).sum(), (rows, weight)),
        torch.autograd.grad((expected * weighting).sum(), (rows, weight)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES[:4])
def test_gradients_of_gradients(case):
    rows, weight, stride, padding = inputs(case, torch.channels_last)

    def convolve(rows, weight):
        return convolve_temporal(rows, weight, stride=stride, padding=padding)

    assert torch.autograd.gradcheck(convolve, (rows, weight))
    assert torch.autograd.gradgradcheck(convolve, (rows, weight))


def test_a_gradient_that_nobody_wants_is_not_computed(monkeypatch):
    rows, weight, stride, padding = inputs(CASES[0], torch.channels_last)
    monkeypatch.setattr("muybridge.kernels.temporal.compute_weight_gradient", None)
    convolve_temporal(rows, weight.detach(), stride=stride, padding=padding).sum().backward()
    assert rows.grad is not None


def test_taps_that_meet_only_padding_have_no_gradient():
    rows, _, stride, padding = inputs((2, 3, 1, 4, 3, 3, 1, 1), torch.channels_last)
    gradient = compute_weight_gradient(rows.detach(), seeded(2, 3, 1, 4), 3, stride=stride, padding=padding)
    assert torch.count_nonzero(gradient[:, :, [0, 2]]) == 0
    assert torch.count_nonzero(gradient[:, :, 1]) > 0
