"""Forms of execution on CUDA: the rule, and two forms in one convolution, which a CPU can run as well."""

import logging

import pytest
import torch

from muybridge.kernels.convolution import Convolution3d, set_forms
from muybridge.kernels.cuda import ConvolutionForms, ConvolutionGeometry, choose_cuda_forms
from muybridge.models.network import create_model

STEM = ConvolutionGeometry((48, 3, 1, 7, 7), (1, 2, 2), (0, 3, 3))
SPATIAL = ConvolutionGeometry((144, 64, 1, 3, 3), (1, 1, 1), (0, 1, 1))
TEMPORAL = ConvolutionGeometry((64, 144, 3, 1, 1), (1, 1, 1), (1, 0, 0))
DEEP_TEMPORAL = ConvolutionGeometry((128, 288, 3, 1, 1), (1, 1, 1), (1, 0, 0))
FULL = ConvolutionGeometry((64, 64, 3, 3, 3), (1, 1, 1), (1, 1, 1))
POINTWISE = ConvolutionGeometry((256, 64, 1, 1, 1), (1, 1, 1), (0, 0, 0))


@pytest.mark.parametrize(
    ("geometry", "forms"),
    [
        (STEM, ("conv3d", "frames")),
        (SPATIAL, ("conv3d", "conv3d")),
        (TEMPORAL, ("pixels", "conv3d")),
        (DEEP_TEMPORAL, ("conv3d", "conv3d")),
        (FULL, ("conv3d", "conv3d")),
        (POINTWISE, ("conv3d", "conv3d")),
    ],
)
def test_the_rule_is_that_of_the_measurements(geometry: ConvolutionGeometry, forms: tuple[str, str]) -> None:
    assert choose_cuda_forms(geometry) == forms


def test_forms_are_logged_on_request(caplog: pytest.LogCaptureFixture) -> None:
    choose_cuda_forms.cache_clear()
    with caplog.at_level(logging.INFO, "muybridge.kernels.cuda"):
        for _ in range(3):
            choose_cuda_forms(STEM)
    (record,) = caplog.records
    assert "forward as conv3d, backward as frames" in record.getMessage()


FORMS = [
    ConvolutionForms(forward, backward)  # type: ignore[arg-type]
    for other in ("frames", "pixels")
    for forward, backward in ((other, "conv3d"), ("conv3d", other), (other, other), ("conv3d", "conv3d"))
]


@pytest.mark.parametrize("forms", FORMS, ids=str)
def test_every_form_gives_the_same_step(forms: ConvolutionForms) -> None:
    torch.manual_seed(0)
    net = create_model("r2plus1d_10", width=4, num_classes=3).double()
    clips = torch.randn(2, 3, 5, 33, 20, dtype=torch.float64, requires_grad=True)
    results = []
    for chosen in (None, forms):
        set_forms(net, chosen)
        net.zero_grad()
        clips.grad = None
        logits = net(clips)
        logits.square().sum().backward()
        assert clips.grad is not None
        results.append([logits, clips.grad, *(parameter.grad for parameter in net.parameters())])
    used = [module.forms for module in net.modules() if isinstance(module, Convolution3d)]
    assert forms in used
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_gradients_that_nobody_needs_are_left_out() -> None:
    convolution = Convolution3d(2, 3, kernel_size=(1, 3, 3), padding=(0, 1, 1))
    set_forms(convolution, ConvolutionForms("conv3d", "frames"))
    clips = torch.randn(1, 2, 2, 5, 5)
    convolution(clips).sum().backward()
    assert clips.grad is None and convolution.weight.grad is not None
    convolution.requires_grad_(False)
    assert not convolution(clips).requires_grad


def test_autocast_reaches_both_directions() -> None:
    convolution = Convolution3d(2, 3, kernel_size=(1, 3, 3), padding=(0, 1, 1))
    set_forms(convolution, ConvolutionForms("conv3d", "frames"))
    with torch.autocast("cpu", torch.bfloat16):
        maps = convolution(torch.randn(1, 2, 2, 5, 5))
    assert maps.dtype == torch.bfloat16
    maps.float().sum().backward()
    assert convolution.weight.grad is not None and convolution.weight.grad.dtype == torch.float32
