"""Logits beside torchvision's own video ResNets on shared random weights, where torchvision can be imported.

Beside a CPU build of torch its compiled part does not load, and its import then fails for want of two operator schemas;
declaring them first is enough for the networks, which use neither.
"""

import importlib.util
import sys

import pytest
import torch
from torch import nn

from muybridge.models.network import create_model

CLASSES = 7
MODULE = "torchvision.models.video.resnet"


@pytest.fixture(scope="module")
def oracle():
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed; tests/agreement/test_reference.py stands in for it")
    library = torch.library.Library("torchvision", "FRAGMENT")
    yield imported(library)
    library._destroy()


def imported(library):
    try:
        return importlib.import_module(MODULE)
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # what the failed import left behind
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module(MODULE)


def randomize(net):
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2.0)
    return net


def assert_same(ours, theirs):
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    clips = torch.randn(1, 3, 5, 40, 36, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs.double().eval()(clips)
        torch.testing.assert_close(ours.double().eval()(clips), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18"])
def test_published_networks(oracle, name):
    torch.manual_seed(0)
    theirs = randomize(getattr(oracle, name)(weights=None, num_classes=CLASSES))
    ours = create_model(name, num_classes=CLASSES, mid_channel_rule="per_block", norm_epsilon=1e-5)
    assert_same(ours, theirs)


@pytest.mark.parametrize(
    ("name", "convolution", "stem"),
    [("r2plus1d_50", "Conv2Plus1D", "R2Plus1dStem"), ("r3d_50", "Conv3DSimple", "BasicStem")],
)
def test_bottlenecks(oracle, name, convolution, stem):
    torch.manual_seed(0)
    theirs = oracle.VideoResNet(
        oracle.Bottleneck, [getattr(oracle, convolution)] * 4, [3, 4, 6, 3], getattr(oracle, stem), CLASSES
    )
    ours = create_model(name, num_classes=CLASSES, mid_channel_rule="per_block", norm_epsilon=1e-5)
    assert_same(ours, randomize(theirs))
