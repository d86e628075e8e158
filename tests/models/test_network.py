import math

import pytest
import torch
from torch import nn

from muybridge.kernels.convolution import set_execution
from muybridge.models.family import FAMILIES, OPTIONAL_FIELDS, Specification, SpecificationOptions, build_specification
from muybridge.models.network import VideoResNet, create_model, list_convolution_steps
from muybridge.parsing import parse_record


def on_meta(name, **changes):
    with torch.device("meta"):
        return create_model(name, **changes)


def tiny(name, **changes):
    torch.manual_seed(0)
    return create_model(name, **{"width": 4, "num_classes": 3, "clip_length": 4, **changes})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_at_tiny_width(family):
    net = tiny(f"{family}_18").train()
    clips = torch.randn(2, 3, 4, 32, 32)
    logits = net(clips)
    assert logits.shape == (2, 3)
    nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0 or "weight" not in name, name


@pytest.mark.parametrize("family", ["r2d", "mc4", "r2plus1d"])
def test_bottlenecks_run(family):
    net = tiny(f"{family}_50").eval()
    assert net.features(torch.randn(1, 3, 4, 32, 32)).shape == (1, 8 * 4 * 4)
    names = set(net.state_dict())
    assert "layer1.0.downsample.0.weight" in names
    factorised = {name.split(".")[2] for name in names if ".0.3.weight" in name}
    assert factorised == ({"conv2"} if family == "r2plus1d" else set())
    strides = {name: module.stride for name, module in net.named_modules() if isinstance(module, nn.Conv3d)}
    assert strides["layer2.0.conv1.0"] == strides["layer2.0.conv3.0"] == (1, 1, 1)


def test_flow_has_two_channels():
    assert on_meta("r2plus1d_18", input_channels=2).stem[0].weight.shape == (45, 2, 1, 7, 7)
    net = tiny("r2plus1d_18", input_channels=2)
    assert net(torch.randn(1, 2, 4, 32, 32)).shape == (1, 3)


def test_features_enter_the_classifier():
    net = tiny("r2plus1d_18").eval()
    clips = torch.randn(2, 3, 5, 32, 32)
    features = net.features(clips)
    assert features.shape == (2, 32)
    assert net.specification.feature_channels == 32
    torch.testing.assert_close(net.fc(features), net(clips))


def test_r2d_is_a_2d_convolution_over_all_frames_as_channels():
    net = tiny("r2d_18").double()
    clips = torch.randn(2, 3, 4, 32, 32, dtype=torch.float64)
    as_channels = nn.functional.conv2d(clips.flatten(1, 2), net.stem[0].weight.flatten(1, 2), stride=2, padding=3)
    torch.testing.assert_close(net.stem[0](clips)[:, :, 0], as_channels)


def test_frames_do_not_meet_before_the_average_in_f_r2d():
    net = tiny("f_r2d_18").double().eval()
    clips = torch.randn(2, 3, 6, 32, 32, dtype=torch.float64)
    shuffled = clips[:, :, [3, 0, 5, 1, 4, 2]]
    torch.testing.assert_close(net(clips), net(shuffled))
    other = tiny("r2plus1d_18").double().eval()
    assert (other(clips) - other(shuffled)).abs().max() > 1e-6


def impulse_response(module, clips):
    """Where, in time and space, the output differs when one pixel of one frame does: two sets of indices."""
    touched = clips.clone()
    touched[:, :, 4, 4, 4] += 1.0
    difference = (module(touched) - module(clips)).abs().amax(dim=(0, 1)) > 1e-12  # (T, H, W)
    return set(torch.where(difference.any(2).any(1))[0].tolist()), set(
        torch.where(difference.any(2).any(0))[0].tolist()
    )


def test_r2plus1d_convolves_space_first_then_time():
    block = tiny("r2plus1d_18").double().eval().layer1[0].conv1[0]
    clips = torch.randn(1, 4, 9, 9, 9, dtype=torch.float64)
    in_between = nn.Sequential(*list(block)[:3])  # after the first half, its batch norm and ReLU
    assert impulse_response(in_between, clips) == ({4}, {3, 4, 5})  # spread in space, still one frame
    assert impulse_response(block, clips) == ({3, 4, 5}, {3, 4, 5})
    assert block[0].weight.shape[2:] == (1, 3, 3)
    assert isinstance(block[1], nn.BatchNorm3d)
    assert isinstance(block[2], nn.ReLU)
    assert block[3].weight.shape[2:] == (3, 1, 1)
    stem = tiny("r2plus1d_18").double().eval().stem
    frames, rows = impulse_response(nn.Sequential(*list(stem)[:3]), torch.randn(1, 3, 9, 9, 9, dtype=torch.float64))
    assert frames == {4}
    assert len(rows) > 1


def test_order_of_the_halves_shows_in_the_output():
    """With ReLU between them the halves do not commute: the network's block is space, ReLU, time and not the reverse."""
    block = tiny("r2plus1d_18").double().eval().layer1[1].conv2[0]
    maps = torch.randn(1, 4, 5, 6, 6, dtype=torch.float64)
    spatial, norm, temporal = block[0].weight, block[1], block[3].weight
    middle = nn.functional.conv3d(maps, spatial, padding=(0, 1, 1))
    middle = middle / math.sqrt(1 + norm.eps)  # fresh batch norm: mean 0, variance 1
    expected = nn.functional.conv3d(middle.clamp(min=0), temporal, padding=(1, 0, 0))
    torch.testing.assert_close(block(maps), expected)


def test_mid_channels_per_convolution_and_per_block():
    def mids(net, block):
        return [net.get_submodule(f"{block}.conv{k}.0.0").out_channels for k in (1, 2)]

    ours, torchvisions = on_meta("r2plus1d_18"), on_meta("r2plus1d_18", mid_channel_rule="per_block")
    assert [mids(ours, f"layer{k}.0") for k in (1, 2, 3, 4)] == [[144, 144], [230, 288], [460, 576], [921, 1152]]
    assert [mids(torchvisions, f"layer{k}.0") for k in (1, 2, 3, 4)] == [[144, 144], [230, 230], [460, 460], [921, 921]]
    assert mids(ours, "layer4.1") == mids(torchvisions, "layer4.1") == [1152, 1152]
    assert ours.stem[0].out_channels == 45


def test_strides_are_on_the_first_block_and_shortcuts_are_never_factorised():
    net = on_meta("r2plus1d_18")
    strides = {name: module.stride for name, module in net.named_modules() if isinstance(module, nn.Conv3d)}
    strided = {name: stride for name, stride in strides.items() if stride != (1, 1, 1)}
    expected = {"stem.0": (1, 2, 2)}
    for layer in ("layer2", "layer3", "layer4"):
        expected |= {
            f"{layer}.0.conv1.0.0": (1, 2, 2),
            f"{layer}.0.conv1.0.3": (2, 1, 1),
            f"{layer}.0.downsample.0": (2, 2, 2),
        }
    assert strided == expected
    shortcuts = [module for module in net.modules() if getattr(module, "downsample", None) is not None]
    assert len(shortcuts) == 3
    for block in shortcuts:
        convolution, norm = block.downsample
        assert convolution.weight.shape[2:] == (1, 1, 1)
        assert isinstance(norm, nn.BatchNorm3d)


@pytest.mark.parametrize("middle_relu", [True, False])
def test_factorised_shortcuts_have_the_middle_of_the_convolutions(middle_relu):
    """As in MMAction2's networks, whose mid-channels follow the formula with d = 1: here 3*64*128 / (64 + 3*128)."""
    net = on_meta("r2plus1d_18", factorized_shortcuts=True, middle_relu=middle_relu)
    shortcut = net.layer2[0].downsample
    steps = list_convolution_steps(shortcut)
    assert [step.relu for step in steps] == [middle_relu, False]
    assert [step.convolution.stride for step in steps] == [(1, 2, 2), (2, 1, 1)]
    assert [step.convolution.kernel_size for step in steps] == [(1, 1, 1)] * 2
    assert [step.convolution.out_channels for step in steps] == [3 * 64 * 128 // (64 + 3 * 128), 128]
    blocks = list_convolution_steps(*net.layer2[1].convolutions)
    assert [step.relu for step in blocks] == [middle_relu, True, middle_relu, False]
    assert on_meta("mc3_18", factorized_shortcuts=True).layer3[0].downsample[0].out_channels == 256


def test_shortcuts_of_a_2d_stage_keep_time():
    net = on_meta("mc4_18")
    assert net.layer2[0].downsample[0].stride == (2, 2, 2)
    assert net.layer3[0].downsample[0].stride == (1, 2, 2)


def test_stem_pool_is_a_max_pool_without_weights():
    assert set(on_meta("r2plus1d_18", stem_pool=True).state_dict()) == set(on_meta("r2plus1d_18").state_dict())
    pooled, bare = tiny("r3d_10", stem_pool=True).eval(), tiny("r3d_10").eval()
    clips = torch.randn(1, 3, 4, 32, 32)
    expected = nn.functional.max_pool3d(bare.stem(clips), (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
    torch.testing.assert_close(pooled.stem(clips), expected)


def test_batch_norm_constants_and_no_bias():
    for epsilon in (1e-3, 1e-5):
        net = on_meta("mc3_18", norm_epsilon=epsilon)
        norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm3d)]
        assert len(norms) == 1 + 16 + 3
        assert {(norm.eps, norm.momentum) for norm in norms} == {(epsilon, 0.1)}
    assert all(module.bias is None for module in net.modules() if isinstance(module, nn.Conv3d))


def test_initial_weights():
    torch.manual_seed(0)
    net = create_model("r2plus1d_10", width=32)
    for module in net.modules():
        if isinstance(module, nn.Conv3d) and module.weight.numel() > 5000:
            fan_out = module.out_channels * math.prod(module.kernel_size)
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
            assert abs(module.weight.mean().item()) < 3 * math.sqrt(2 / fan_out / module.weight.numel())
        if isinstance(module, nn.BatchNorm3d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
    bound = math.sqrt(3 / net.fc.in_features)
    assert 0.99 * bound < net.fc.weight.abs().max() <= bound
    assert net.fc.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert (net.fc.bias == 0).all()


def test_the_same_seed_gives_the_same_network():
    first, second = tiny("rmc3_10").state_dict(), tiny("rmc3_10").state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("clips", "complaint"),
    [
        (torch.zeros(3, 4, 32, 32), r"shape \(N, 3, T, H, W\), not \(3, 4, 32, 32\)"),
        (torch.zeros(1, 4, 3, 32, 32), r"not \(1, 4, 3, 32, 32\)"),
        (torch.zeros(1, 3, 0, 32, 32), r"not \(1, 3, 0, 32, 32\)"),
        (torch.zeros(1, 3, 4, 32, 32, dtype=torch.uint8), "torch.float32, but the clips are torch.uint8"),
        (torch.zeros(1, 3, 4, 32, 32, dtype=torch.float64), "torch.float64"),
        (torch.zeros(1, 3, 5, 32, 32), "built for clips of 4 frames, not 5"),
    ],
)
def test_wrong_clips_are_refused_in_a_sentence(clips, complaint):
    with pytest.raises(ValueError, match=complaint) as refused:
        tiny("r2d_10")(clips)
    assert "\n" not in str(refused.value)


def test_other_lengths_are_fine_where_time_is_not_channels():
    net = tiny("r2plus1d_10", clip_length=16).eval()
    assert net(torch.zeros(1, 3, 5, 32, 32)).shape == (1, 3)


def test_autocast_takes_fp32_clips():
    net = tiny("r2plus1d_10").eval()
    clips = torch.randn(1, 3, 4, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        logits = net(clips)
    torch.testing.assert_close(logits.float(), net(clips), rtol=0.1, atol=0.1)


def test_create_model_takes_every_option():
    changed = {
        "num_classes": 5,
        "clip_length": 3,
        "input_channels": 2,
        "width": 4,
        "mid_channel_rule": "per_block",
        "norm_epsilon": 1e-5,
        "stem_pool": True,
        "stem_mid_channels": 7,
        "middle_relu": False,
    }
    assert set(changed) == set(SpecificationOptions.__annotations__)
    spec = create_model("r2plus1d_10", **changed).specification
    assert {name: getattr(spec, name) for name in changed} == changed


def test_options_left_out_have_the_defaults_of_the_record():
    spec = build_specification("r2plus1d_18")
    for name in SpecificationOptions.__annotations__:
        assert getattr(spec, name) == getattr(Specification, name)
    with pytest.raises(TypeError, match="dropout"):
        create_model("r2plus1d_18", dropout=0.5)


def test_a_specification_is_enough_to_rebuild_a_network():
    net = tiny("rmc4_18").eval()
    again = VideoResNet(parse_record(Specification, net.specification.to_json(), "it", optional=OPTIONAL_FIELDS)).eval()
    again.load_state_dict(net.state_dict())
    set_execution(again, "plain")
    clips = torch.randn(1, 3, 4, 32, 32)
    torch.testing.assert_close(again(clips), net(clips), rtol=1e-4, atol=1e-5)
