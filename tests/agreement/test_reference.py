"""Logits, features and gradients beside a second implementation, written from the architecture's facts with torch's own
layers and none of the package: the layout of torchvision's video ResNets, whose checkpoints must load without renaming.
"""

import pytest
import torch
from torch import nn

from muybridge.models.network import create_model


class Unit(nn.Module):
    """A residual block of two convolutions; `kind` is "3d", "2d" or "2+1"."""

    def __init__(self, inputs, outputs, kind, stride, epsilon, per_block):
        super().__init__()
        mids = [27 * a * outputs // (9 * a + 3 * outputs) for a in (inputs, outputs)]
        if per_block:
            mids[1] = mids[0]
        self.conv1 = nn.Sequential(
            three(inputs, outputs, kind, stride, mids[0], epsilon), nn.BatchNorm3d(outputs, epsilon), nn.ReLU()
        )
        self.conv2 = nn.Sequential(three(outputs, outputs, kind, 1, mids[1], epsilon), nn.BatchNorm3d(outputs, epsilon))
        self.downsample = None
        if stride != 1 or inputs != outputs:
            in_time = 1 if kind == "2d" else stride
            projection = nn.Conv3d(inputs, outputs, 1, (in_time, stride, stride), bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm3d(outputs, epsilon))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.conv2(self.conv1(x)) + shortcut)


def three(inputs, outputs, kind, stride, mid, epsilon):
    if kind == "3d":
        return nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False)
    space = nn.Conv3d(inputs, outputs if kind == "2d" else mid, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
    if kind == "2d":
        return space
    time = nn.Conv3d(mid, outputs, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False)
    return nn.Sequential(space, nn.BatchNorm3d(mid, epsilon), nn.ReLU(), time)


class Reference(nn.Module):
    """`kinds` has five entries, conv1 to conv5."""

    def __init__(self, kinds, blocks, *, epsilon, per_block, width, classes, inputs=3):
        super().__init__()
        if kinds[0] == "2+1":
            mid = round(45 * width / 64)
            stem = [
                nn.Conv3d(inputs, mid, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
                nn.BatchNorm3d(mid, epsilon),
                nn.ReLU(),
                nn.Conv3d(mid, width, (3, 1, 1), 1, (1, 0, 0), bias=False),
            ]
        else:
            time = 3 if kinds[0] == "3d" else 1
            stem = [nn.Conv3d(inputs, width, (time, 7, 7), (1, 2, 2), (time // 2, 3, 3), bias=False)]
        self.stem = nn.Sequential(*stem, nn.BatchNorm3d(width, epsilon), nn.ReLU())
        before = width
        for number, (kind, count) in enumerate(zip(kinds[1:], blocks, strict=True)):
            after = width * 2**number
            units = [Unit(before, after, kind, 1 if number == 0 else 2, epsilon, per_block)]
            units += [Unit(after, after, kind, 1, epsilon, per_block) for _ in range(count - 1)]
            self.add_module(f"layer{number + 1}", nn.Sequential(*units))
            before = after
        self.fc = nn.Linear(before, classes)

    def forward(self, x):
        for group in (self.stem, self.layer1, self.layer2, self.layer3, self.layer4):
            x = group(x)
        return self.fc(nn.functional.adaptive_avg_pool3d(x, 1).flatten(1))


def randomize(net):
    """Batch-norm statistics and scales as of a trained network, so that none of them can be lost unseen."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2.0)
            module.num_batches_tracked.fill_(7)


LAYOUTS = {
    # torchvision's three, then the authors' rule and epsilon for every way of mixing
    "r3d_18": (("3d",) * 5, (2, 2, 2, 2), True),
    "mc3_18": (("3d", "3d", "2d", "2d", "2d"), (2, 2, 2, 2), True),
    "r2plus1d_18": (("2+1",) * 5, (2, 2, 2, 2), True),
    "r2plus1d_34": (("2+1",) * 5, (3, 4, 6, 3), False),
    "f_r2d_10": (("2d",) * 5, (1, 1, 1, 1), False),
    "mc5_10": (("3d", "3d", "3d", "3d", "2d"), (1, 1, 1, 1), False),
    "rmc2_10": (("2d", "3d", "3d", "3d", "3d"), (1, 1, 1, 1), False),
    "rmc4_10": (("2d", "2d", "2d", "3d", "3d"), (1, 1, 1, 1), False),
}


def pair(name, width=8):
    kinds, blocks, torchvision = LAYOUTS[name]
    torch.manual_seed(1)
    epsilon = 1e-5 if torchvision else 1e-3
    theirs = Reference(kinds, blocks, epsilon=epsilon, per_block=torchvision, width=width, classes=5)
    rule = "per_block" if torchvision else "per_convolution"
    ours = create_model(name, num_classes=5, width=width, mid_channel_rule=rule, norm_epsilon=epsilon)
    return ours, theirs


@pytest.mark.parametrize("name", LAYOUTS)
def test_names_and_shapes_of_parameters(name):
    with torch.device("meta"):
        ours, theirs = pair(name, width=64)
    described = [
        [(key, tuple(value.shape), value.dtype) for key, value in net.state_dict().items()] for net in (ours, theirs)
    ]
    assert described[0] == described[1]


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("size", [(2, 3, 8, 32, 32), (1, 3, 5, 33, 30)])
def test_logits_in_evaluation(name, size):
    ours, theirs = pair(name)
    randomize(theirs)
    ours.load_state_dict(theirs.state_dict())
    ours, theirs = ours.double().eval(), theirs.double().eval()
    clips = torch.randn(*size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(clips), theirs(clips), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["mc3_18", "r2plus1d_18", "r2plus1d_34", "rmc4_10"])
def test_a_training_step(name):
    """Loss, every gradient and every running statistic after one step forward and back."""
    ours, theirs = pair(name, width=4)
    ours.load_state_dict(theirs.state_dict())
    clips = torch.randn(2, 3, 9, 33, 30, dtype=torch.float64)
    for net in (ours, theirs):
        net.double().train()
        nn.functional.cross_entropy(net(clips), torch.tensor([1, 4])).backward()
    gradients = dict(ours.named_parameters())
    for key, parameter in theirs.named_parameters():
        torch.testing.assert_close(gradients[key].grad, parameter.grad, rtol=1e-7, atol=1e-10, msg=key)
    buffers = dict(ours.named_buffers())
    for key, buffer in theirs.named_buffers():
        torch.testing.assert_close(buffers[key], buffer, rtol=1e-9, atol=1e-12, msg=key)


def test_float32_agrees_to_rounding():
    ours, theirs = pair("r2plus1d_18")
    randomize(theirs)
    ours.load_state_dict(theirs.state_dict())
    clips = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        expected = theirs.eval()(clips)
        worst = (ours.eval()(clips) - expected).abs().max() / expected.abs().max()
    assert worst < 1e-5


def test_epsilon_matters():
    """The two epsilons give different logits on the same weights, so an agreement above is not by luck."""
    ours, theirs = pair("r2plus1d_18")
    randomize(theirs)
    wrong = create_model("r2plus1d_18", num_classes=5, width=8, mid_channel_rule="per_block", norm_epsilon=1e-3)
    for net in (ours, wrong):
        net.load_state_dict(theirs.state_dict())
        net.double().eval()
    clips = torch.randn(1, 3, 8, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        assert (ours(clips) - wrong(clips)).abs().max() > 1e-4
