"""Forms of execution on CUDA: the rule, and two forms in one convolution, which a CPU can run as well."""

import logging
from itertools import product

import pytest
import torch

from muybridge.kernels.convolution import Convolution3d, set_forms
from muybridge.kernels.cuda import ConvolutionForms, ConvolutionGeometry, choose_cuda_forms
from muybridge.models.network import create_model

SPATIAL = ConvolutionGeometry((144, 64, 1, 3, 3), (1, 1, 1), (0, 1, 1))
STRIDED_SPATIAL = ConvolutionGeometry((232, 64, 1, 3, 3), (1, 2, 2), (0, 1, 1))
SECOND_SPATIAL = ConvolutionGeometry((288, 128, 1, 3, 3), (1, 1, 1), (0, 1, 1))
THIRD_SPATIAL = ConvolutionGeometry((576, 256, 1, 3, 3), (1, 1, 1), (0, 1, 1))
LAST_SPATIAL = ConvolutionGeometry((1152, 512, 1, 3, 3), (1, 1, 1), (0, 1, 1))
STEM_TEMPORAL = ConvolutionGeometry((64, 48, 3, 1, 1), (1, 1, 1), (1, 0, 0))
TEMPORAL = ConvolutionGeometry((64, 144, 3, 1, 1), (1, 1, 1), (1, 0, 0))
DEEP_TEMPORAL = ConvolutionGeometry((128, 288, 3, 1, 1), (1, 1, 1), (1, 0, 0))
FULL = ConvolutionGeometry((64, 64, 3, 3, 3), (1, 1, 1), (1, 1, 1))
POINTWISE = ConvolutionGeometry((256, 64, 1, 1, 1), (1, 1, 1), (0, 0, 0))


@pytest.mark.parametrize(
    ("geometry", "forms"),
    [
        (SPATIAL, ("conv3d", "frames", "conv3d")),
        (STRIDED_SPATIAL, ("conv3d", "conv3d", "frames")),
        (SECOND_SPATIAL, ("frames", "conv3d", "frames")),
        (THIRD_SPATIAL, ("conv3d", "conv3d", "conv3d")),
        (LAST_SPATIAL, ("frames", "conv3d", "frames")),
        (STEM_TEMPORAL, ("pixels", "pixels", "conv3d")),
        (TEMPORAL, ("pixels", "conv3d", "pixels")),
        (DEEP_TEMPORAL, ("conv3d", "conv3d", "conv3d")),
        (FULL, ("conv3d", "conv3d", "conv3d")),
        (POINTWISE, ("conv3d", "conv3d", "conv3d")),
    ],
)
def test_the_rule_is_that_of_the_measurements(geometry: ConvolutionGeometry, forms: tuple[str, str]) -> None:
    assert choose_cuda_forms(geometry) == forms


def test_forms_are_logged_on_request(caplog: pytest.LogCaptureFixture) -> None:
    choose_cuda_forms.cache_clear()
    with caplog.at_level(logging.INFO, "muybridge.kernels.cuda"):
        for _ in range(3):
            choose_cuda_forms(SPATIAL)
    (record,) = caplog.records
    assert "forward: conv3d, input_gradient: frames, weight_gradient: conv3d" in record.getMessage()


FORMS = [
    ConvolutionForms(*directions)
    for other in ("frames", "pixels")
    for directions in product((other, "conv3d"), repeat=3)
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
    set_forms(convolution, ConvolutionForms("conv3d", "frames", "conv3d"))
    clips = torch.randn(1, 2, 2, 5, 5)
    convolution(clips).sum().backward()
    assert clips.grad is None and convolution.weight.grad is not None
    convolution.requires_grad_(False)
    assert not convolution(clips).requires_grad


def test_autocast_reaches_both_directions() -> None:
    convolution = Convolution3d(2, 3, kernel_size=(1, 3, 3), padding=(0, 1, 1))
    set_forms(convolution, ConvolutionForms("conv3d", "frames", "conv3d"))
    with torch.autocast("cpu", torch.bfloat16):
        maps = convolution(torch.randn(1, 2, 2, 5, 5))
    assert maps.dtype == torch.bfloat16
    maps.float().sum().backward()
    assert convolution.weight.grad is not None and convolution.weight.grad.dtype == torch.float32
