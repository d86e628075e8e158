"""Ways to run a training step that must all give the plain network's output, gradients and statistics."""

import copy

import pytest
import torch
from torch import nn

from muybridge.kernels.convolution import FactorizedConvolution, set_channel_multiple, set_execution
from muybridge.models.family import FAMILIES, build_specification
from muybridge.models.network import VideoResNet


def step(net, clips):
    """Output, every gradient and every buffer after one step in training mode."""
    clips = clips.clone().requires_grad_()
    logits = net(clips)
    weighting = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
    gradients = torch.autograd.grad((logits * weighting).sum(), (clips, *net.parameters()))
    return {
        "logits": logits,
        **{str(number): value for number, value in enumerate(gradients)},
        **dict(net.named_buffers()),
    }


def assert_same(got, expected):
    # Batch norm over two values a channel, as the last stage of these small clips has, multiplies rounding by 1e6.
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            got[name], value, rtol=1e-9, atol=1e-11, msg=lambda text, name=name: f"{name}: {text}"
        )


def networks(name, **changes):
    torch.manual_seed(0)
    spec = build_specification(name, num_classes=3, **{"width": 4, "clip_length": 7, **changes})
    net = VideoResNet(spec).double().train()
    plain = copy.deepcopy(net)
    set_execution(plain, "plain")
    return net, plain


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("channels", [2, 3])
def test_every_family_with_padding_and_recomputation(family, channels):
    net, plain = networks(f"{family}_10", input_channels=channels)
    clips = torch.randn(2, channels, 7, 19, 22, dtype=torch.float64)
    expected = step(plain, clips)
    set_channel_multiple(net, 8)
    net.activation_checkpointing = True
    assert_same(step(net, clips), expected)


@pytest.mark.parametrize("multiple", [None, 3, 8])
@pytest.mark.parametrize("changes", [{}, {"stem_pool": True}, {"middle_relu": False}])
def test_padding_at_execution(multiple, changes):
    net, plain = networks("r2plus1d_18", width=5, **changes)
    set_channel_multiple(net, multiple)
    clips = torch.randn(2, 3, 5, 33, 48, dtype=torch.float64)
    assert_same(step(net, clips), step(plain, clips))
    net.eval(), plain.eval()
    with torch.no_grad():
        torch.testing.assert_close(net(clips), plain(clips), rtol=1e-9, atol=1e-11)


def test_padded_maps_have_whole_multiples_of_channels():
    net, _ = networks("r2plus1d_10", width=5)
    set_channel_multiple(net, 8)
    seen = []
    for module in net.modules():
        if isinstance(module, FactorizedConvolution):
            spatial = module[0]
            convolve = spatial.convolve
            spatial.convolve = lambda clips, weight, convolve=convolve: (
                seen.append(len(weight)) or convolve(clips, weight)
            )
    net(torch.randn(2, 3, 4, 16, 16, dtype=torch.float64))
    padded = [count for count in seen if count % 8 == 0]
    assert len(padded) == sum(isinstance(module, FactorizedConvolution) for module in net.modules())


def test_frozen_norms_stay_frozen_in_every_way_of_running():
    net, plain = networks("r2plus1d_10", width=5)
    set_channel_multiple(net, 8)
    net.activation_checkpointing = True
    for module in (*net.modules(), *plain.modules()):
        if isinstance(module, nn.BatchNorm3d):
            module.eval()
    clips = torch.randn(2, 3, 4, 16, 16, dtype=torch.float64)
    assert_same(step(net, clips), step(plain, clips))


def test_recomputation_is_only_for_training():
    net, _ = networks("r3d_10")
    net.activation_checkpointing = True
    clips = torch.randn(2, 3, 4, 16, 16, dtype=torch.float64)
    ran = []
    net.layer1[0].register_forward_pre_hook(lambda *_: ran.append(1))
    net(clips).sum().backward()
    assert len(ran) == 2
    net.eval()(clips).sum().backward()
    assert len(ran) == 3
