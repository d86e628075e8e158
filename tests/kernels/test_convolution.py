import pytest
import torch
from torch import nn
from torch.nn import functional

from muybridge.kernels import convolution
from muybridge.kernels.convolution import Convolution3d, choose_execution_form, set_execution, set_num_parts
from muybridge.models.family import FAMILIES
from muybridge.models.network import create_model

# kernel, stride, padding and form of every convolution of the family, and of some that are not in it
CONVOLUTIONS = [
    ((1, 7, 7), (1, 2, 2), (0, 3, 3), "frames"),
    ((1, 3, 3), (1, 1, 1), (0, 1, 1), "frames"),
    ((1, 3, 3), (1, 2, 2), (0, 1, 1), "frames"),
    ((1, 3, 1), (1, 1, 2), (0, 1, 0), "frames"),
    ((3, 1, 1), (1, 1, 1), (1, 0, 0), "pixels"),
    ((3, 1, 1), (2, 1, 1), (1, 0, 0), "pixels"),
    ((3, 3, 3), (2, 2, 2), (1, 1, 1), "conv3d"),
    ((3, 7, 7), (1, 2, 2), (1, 3, 3), "conv3d"),
    ((5, 7, 7), (1, 2, 2), (0, 3, 3), "conv3d"),
    ((1, 1, 1), (1, 1, 1), (0, 0, 0), "conv3d"),
    ((1, 1, 1), (2, 2, 2), (0, 0, 0), "conv3d"),
    ((1, 1, 1), (1, 2, 2), (0, 0, 0), "frames"),
    ((1, 3, 3), (2, 1, 1), (0, 1, 1), "conv3d"),
    ((1, 3, 3), (1, 1, 1), (1, 1, 1), "conv3d"),
    ((3, 1, 1), (1, 2, 2), (1, 0, 0), "conv3d"),
]
SIZES = [(2, 5, 5, 7, 9), (1, 3, 5, 8, 6), (1, 1, 5, 1, 1), (3, 2, 6, 1, 4), (1, 4, 5, 6, 1)]


def seeded(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def outputs_and_gradients(module, clips):
    clips = clips.clone(memory_format=torch.preserve_format).requires_grad_()
    maps = module(clips)
    weighting = seeded(*maps.shape)
    return maps, *torch.autograd.grad((maps * weighting).sum(), (clips, *module.parameters()))


@pytest.mark.parametrize(("kernel", "stride", "padding", "form"), CONVOLUTIONS)
@pytest.mark.parametrize("size", SIZES)
def test_every_form_is_the_plain_convolution(kernel, stride, padding, form, size):
    assert choose_execution_form(kernel, stride, padding) == form
    ours = Convolution3d(size[1], 6, kernel_size=kernel, stride=stride, padding=padding).double()
    theirs = nn.Conv3d(size[1], 6, kernel, stride, padding, bias=False).double()
    theirs.load_state_dict(ours.state_dict())
    channels_first = seeded(*size)
    for clips in (channels_first, channels_first.contiguous(memory_format=torch.channels_last_3d)):
        for got, expected in zip(
            outputs_and_gradients(ours, clips), outputs_and_gradients(theirs, channels_first), strict=True
        ):
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels", [3, 4, 6, 8, 12, 16])
@pytest.mark.parametrize(("kernel", "stride", "padding", "form"), CONVOLUTIONS)
def test_gradients_in_float32_are_those_of_float64(kernel, stride, padding, form, channels):
    """oneDNN computes float32 alone. Narrow shortcuts with a stride aborted with AVX2 (8 channels a block)."""
    module = Convolution3d(channels, 8, kernel_size=kernel, stride=stride, padding=padding)
    clips = seeded(2, channels, 6, 40, 40)
    single = outputs_and_gradients(module, clips.float().contiguous(memory_format=torch.channels_last_3d))
    double = outputs_and_gradients(module.double(), clips)
    for got, expected in zip(single, double, strict=True):
        torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.detach().abs().max()))


@pytest.mark.skipif(not convolution.has_onednn(), reason="this build of torch has no oneDNN")
@pytest.mark.parametrize(
    ("taps", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (3, 1, 0), (3, 2, 0), (3, 3, 2), (1, 1, 0), (1, 2, 0)]
)
def test_winograds_algorithm_keeps_stride_and_padding_in_time(monkeypatch, taps, stride, padding):
    used = []
    convolve = convolution.winograd.convolve_winograd
    monkeypatch.setattr(convolution.winograd, "convolve_winograd", lambda *a, **k: used.append(1) or convolve(*a, **k))
    geometry = {"stride": (stride, 1, 1), "padding": (padding, 1, 1)}
    module = Convolution3d(64, 112, kernel_size=(taps, 3, 3), **geometry)
    clips = seeded(4, 64, 6, 16, 16).float()
    expected = functional.conv3d(clips, module.weight, **geometry)
    torch.testing.assert_close(module(clips), expected, rtol=1e-4, atol=1e-4)
    assert used


def test_a_single_frame_goes_through_both_forms():
    for kernel, padding in (((1, 3, 3), (0, 1, 1)), ((3, 1, 1), (1, 0, 0))):
        module = Convolution3d(4, 3, kernel_size=kernel, padding=padding).double()
        clips = seeded(2, 4, 1, 5, 5)
        expected = functional.conv3d(clips, module.weight, padding=padding)
        torch.testing.assert_close(module(clips), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("num_clips", [1, 2])
@pytest.mark.parametrize(("kernel", "padding"), [((1, 3, 3), (0, 1, 1)), ((3, 1, 1), (1, 0, 0))])
def test_views_are_free_and_recognisably_channels_last(monkeypatch, num_clips, kernel, padding):
    """A batch of one with an odd batch stride is correct but copied inside torch; the strides here are the usual ones."""
    seen = []
    conv2d = functional.conv2d

    def spy(maps, *rest):
        seen.append(maps)
        return conv2d(maps, *rest)

    monkeypatch.setattr(convolution.functional, "conv2d", spy)
    clips = torch.randn(num_clips, 8, 4, 6, 6).contiguous(memory_format=torch.channels_last_3d)
    out = Convolution3d(8, 16, kernel_size=kernel, padding=padding)(clips)
    (maps,) = seen
    assert maps.data_ptr() == clips.data_ptr()
    _, channels, height, width = maps.shape
    assert maps.stride() == (channels * height * width, 1, width * channels, channels)
    assert out.is_contiguous(memory_format=torch.channels_last_3d)
    assert out.stride()[0] == out[0].numel()


@pytest.mark.parametrize("family", FAMILIES)
def test_networks_agree_with_plain_execution_in_output_and_all_gradients(family):
    torch.manual_seed(0)
    net = create_model(f"{family}_10", width=4, num_classes=3, clip_length=7).double().train()
    clips = seeded(2, 3, 7, 19, 22)
    fast = outputs_and_gradients(net, clips)
    set_execution(net, "plain")
    plain = outputs_and_gradients(net, clips)
    for got, expected in zip(fast, plain, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)


def test_plain_execution_calls_no_other_form(monkeypatch):
    net = create_model("r2plus1d_10", width=4, num_classes=3).eval()
    set_execution(net, "plain")
    monkeypatch.setattr(convolution, "choose_execution_form", None)
    assert net(torch.zeros(1, 3, 4, 16, 16)).shape == (1, 3)


def test_weights_are_stored_as_torch_stores_them():
    module = Convolution3d(5, 6, kernel_size=(3, 1, 1), padding=(1, 0, 0))
    assert {key: tuple(value.shape) for key, value in module.state_dict().items()} == {"weight": (6, 5, 3, 1, 1)}
    assert module.weight.is_contiguous()


@pytest.mark.parametrize("kernel", [(3, 3, 3), (3, 1, 1)])
def test_fast_algorithms_keep_float64_and_leave_autocast_to_torch(monkeypatch, kernel):
    """Winograd's algorithm rounds as float32 does, and knows nothing of autocast: neither may reach it."""
    padding = tuple(size // 2 for size in kernel)
    module = Convolution3d(64, 64, kernel_size=kernel, padding=padding)
    clips = torch.randn(1, 64, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(
        convolution.winograd, "is_worthwhile_in_training", lambda clips: True
    )  # smaller than it would be
    calls = []
    for owner, name in ((convolution.winograd, "convolve_winograd"), (convolution, "convolve_temporal")):
        spied = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, f=spied, **options: (calls.append(f), f(*args, **options))[1])
    with torch.no_grad():
        plain = functional.conv3d(clips.double(), module.weight.double(), padding=padding)
        torch.testing.assert_close(module(clips).double(), plain, rtol=1e-3, atol=1e-4)
        assert calls, "float32 takes the fast path"
        calls.clear()
        with torch.autocast("cpu", torch.bfloat16):
            mixed = module(clips)
        assert mixed.dtype == torch.bfloat16
        torch.testing.assert_close(mixed.double(), plain, rtol=0.05, atol=0.05)
        assert not calls
        torch.testing.assert_close(module.double()(clips.double()), plain, rtol=1e-12, atol=1e-13)
        assert all(function.__name__ != "convolve_winograd" for function in calls)  # the temporal one is exact


@pytest.mark.parametrize("execution", ["fast", "plain"])
@pytest.mark.parametrize("family", ["r2plus1d", "r3d"])
def test_a_batch_in_parts_gives_the_same_network_up_to_rounding(family, execution):
    torch.manual_seed(0)
    network = create_model(f"{family}_10", num_classes=3, width=8)
    set_execution(network, execution)
    clips = torch.randn(6, 3, 4, 24, 24)
    results = []
    for num_parts in (1, 4):  # of 2, 2 and 2 clips
        set_num_parts(network, num_parts)
        network.zero_grad()
        logits = network(clips)
        logits.square().sum().backward()
        results.append([logits.detach().clone(), *(parameter.grad.clone() for parameter in network.parameters())])
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-3 * float(whole.abs().max()))
    assert any(not torch.equal(whole, parts) for whole, parts in zip(*results, strict=True))


@pytest.mark.parametrize("execution", ["fast", "plain"])
def test_gradients_in_bf16_on_a_cpu_are_numbers_that_were_computed(execution):
    """oneDNN's, for two frames and three taps, are whatever the memory held."""
    torch.manual_seed(0)
    convolution = Convolution3d(16, 16, kernel_size=(3, 3, 3), padding=(1, 1, 1))
    convolution.execution = execution
    clips = torch.randn(2, 16, 2, 6, 6)
    expected = torch.autograd.grad(convolution.double()(clips.double()).square().sum(), [convolution.weight])[0]
    convolution.float()
    for _ in range(3):
        torch.full((1 << 20,), 1e30)  # what freed memory may hold
        with torch.autocast("cpu", torch.bfloat16):
            out = convolution(clips)
        assert out.dtype == torch.bfloat16
        (gradient,) = torch.autograd.grad(out.float().square().sum(), [convolution.weight])
        assert (gradient - expected).abs().max() < 0.02 * expected.abs().max()
