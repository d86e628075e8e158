"""Windows along a video: against the network on each window, and against dilated convolutions over the whole video at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from muybridge.inference.folded import InferenceNetwork, optimize
from muybridge.inference.streaming import FeatureStream, SplitNetwork
from muybridge.models.family import ConvolutionKind
from muybridge.models.network import VideoResNet, create_model

NAMES = ("r2plus1d_10", "r2plus1d_18", "r3d_10", "mc3_10", "mc4_10", "rmc3_10", "f_r2d_10", "r2plus1d_50")


# What networks of other projects have, and the paper's have not.
FOREIGN = {
    "mmaction2": {"stem_pool": True, "factorized_shortcuts": True},
    "seven frames": {"stem_frames": 7},
    "pytorchvideo": {
        "stem": ConvolutionKind.FRAME_2D,
        "stages": (ConvolutionKind.TEMPORAL_THEN_SPATIAL,) * 4,
        "temporal_strides": (1, 1, 2, 2),
        "spatial_strides": (2, 2, 2, 2),
    },
}


def network(name: str, **changes: object) -> VideoResNet:
    torch.manual_seed(1)
    foreign = FOREIGN.get(name, {})
    net = create_model("r2plus1d_10" if foreign else name, num_classes=3, width=4, **changes)  # type: ignore[arg-type]
    if foreign:
        net = VideoResNet(replace(net.specification, **foreign))  # type: ignore[arg-type]
    net.eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm3d):  # as after training: no norm is the identity
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 2)
                module.bias.normal_(std=0.3)
    return net


def video(num_frames: int, size: int = 16) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(1, 3, num_frames, size, size)


def rows(maps: Tensor) -> Tensor:
    return maps[0].permute(1, 2, 3, 0)


def dilated_features(net: VideoResNet, frames: Tensor) -> Tensor:
    """Inputs of the classifier at every frame, (T, F): temporal strides become dilations, plain conv3d, the whole video."""
    dilation = 1

    def run(module: nn.Module, maps: Tensor) -> Tensor:
        nonlocal dilation
        if isinstance(module, nn.Conv3d):
            kernel, stride, padding = module.kernel_size, module.stride, module.padding
            assert not isinstance(padding, str)
            maps = functional.conv3d(
                maps,
                module.weight,
                None,
                (1, *stride[1:]),
                (padding[0] * dilation, *padding[1:]),
                (dilation if kernel[0] > 1 else 1, 1, 1),
            )
            dilation *= stride[0]
            return maps
        children = list(module.children())
        if hasattr(module, "downsample"):
            before = dilation
            residual = maps if module.downsample is None else run(module.downsample, maps)
            dilation = before  # the shortcut's stride is that of the convolutions
            for name in ("conv1", "conv2", "conv3"):
                maps = run(getattr(module, name), maps) if hasattr(module, name) else maps
            return functional.relu(maps + residual)
        if not children:
            return module(maps)
        for child in children:
            maps = run(child, maps)
        return maps

    for part in (net.stem, net.layer1, net.layer2, net.layer3, net.layer4):
        frames = run(part, frames)
    return frames.mean(dim=(3, 4))[0].T


def total_stride(net: VideoResNet) -> int:
    product = 1
    for stride in net.specification.temporal_strides:
        product *= stride
    return product


def streamed(fast: InferenceNetwork, frames: Tensor, starts: Sequence[int], length: int, chunk: int) -> Tensor:
    split = SplitNetwork(fast)
    stream = FeatureStream(split, starts, length)
    actual = []
    for first in range(stream.first_frame, frames.shape[2], chunk):
        actual += stream.push(rows(split.compute_frame_maps(frames[:, :, first : first + chunk])))
    actual += stream.finish()
    assert sorted(number for number, _ in actual) == list(range(len(starts))), "each window once"
    return torch.stack([features for _, features in sorted(actual, key=lambda pair: pair[0])])


def expected_features(net: VideoResNet, frames: Tensor, starts: Sequence[int], length: int) -> Tensor:
    everywhere, stride = dilated_features(net, frames), total_stride(net)
    return torch.stack([everywhere[start : start + length : stride].mean(0) for start in starts])


@pytest.mark.parametrize("name", [*NAMES, *FOREIGN])
@torch.no_grad()
def test_a_stream_is_one_pass_over_the_whole_video(name: str) -> None:
    net = network(name)
    frames = video(61)
    starts = [*range(0, 61 - 9, 3), 61 - 9]
    actual = streamed(optimize(net), frames, starts, 9, chunk=7)
    expected = expected_features(net, frames, starts, 9)
    assert torch.allclose(actual, expected, atol=1e-4 * float(expected.abs().max()))
    assert expected.std(0).max() > 0.01 * expected.abs().max(), "windows so alike would hide a mistake"


@pytest.mark.parametrize("num_frames", [8, 9, 16, 17, 40])
@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
@torch.no_grad()
def test_chunks_leave_no_mark(num_frames: int, chunk: int) -> None:
    net = network("r2plus1d_10")
    frames, starts = video(num_frames), list(range(num_frames - 7))
    actual = streamed(optimize(net), frames, starts, 8, chunk)
    assert torch.allclose(actual, expected_features(net, frames, starts, 8), atol=1e-5)


@torch.no_grad()
def test_windows_at_multiples_of_the_strides_have_the_steps_of_the_strided_network() -> None:
    """The network itself, over the whole video at once."""
    net = network("r2plus1d_18")
    frames = video(48)
    maps = net.layer4(net.layer3(net.layer2(net.layer1(net.stem(frames)))))
    steps = maps.mean(dim=(3, 4))[0].T
    actual = streamed(optimize(net), frames, [0, 8, 16, 24, 32], 16, chunk=10)
    assert torch.allclose(actual, torch.stack([steps[n : n + 2].mean(0) for n in range(5)]), atol=1e-5)


@torch.no_grad()
def test_a_stream_begins_where_its_first_window_can_see() -> None:
    """A window late in the video: frames before its receptive field are not requested and change nothing."""
    net = network("r2plus1d_10")
    fast, frames = optimize(net), video(120)
    assert FeatureStream(SplitNetwork(fast), [101], 16).first_frame == 101 - 24  # 1 + 2 + (1 + 2) + (2 + 4) + (4 + 8)
    actual = streamed(fast, frames, [101], 16, chunk=9)
    assert torch.allclose(actual, expected_features(net, frames, [101], 16), atol=1e-5)
    # Among early windows of other phases, too, where a branch of its own begins late.
    starts = [0, 8, 16, 101]
    actual = streamed(fast, frames, starts, 16, chunk=9)
    assert torch.allclose(actual, expected_features(net, frames, starts, 16), atol=1e-5)


@torch.no_grad()
def test_a_video_of_one_window_is_the_window() -> None:
    for name in NAMES:
        fast, frames = optimize(network(name)), video(13)
        assert torch.allclose(streamed(fast, frames, [0], 13, chunk=4)[0], fast.features(frames)[0], atol=1e-4)


@torch.no_grad()
def test_frame_layers_are_all_that_see_single_frames() -> None:
    """By what they do: a change of one frame changes maps of that frame alone, and the next layer's of others."""
    counts = {"r2plus1d_10": 1, "f_r2d_10": 5, "rmc3_10": 2, "rmc5_10": 4, "r3d_10": 0, "mc3_10": 0, "r2d_10": 0}
    for name, count in counts.items():
        split = SplitNetwork(optimize(network(name, clip_length=8)))
        assert len(split.frame_layers) == count, name
        frames = video(8)
        changed = frames.clone()
        changed[:, :, 3] += 1
        differ = (
            (split.compute_frame_maps(frames) != split.compute_frame_maps(changed)).any(dim=(0, 1)).flatten(1).any(1)
        )
        assert differ.nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("name", [*NAMES, *FOREIGN, "r2d_10"])
@torch.no_grad()
def test_both_parts_together_are_the_network(name: str) -> None:
    net = network(name, stem_pool=name == "r2plus1d_50", clip_length=9)
    frames = video(9, 32)
    split = SplitNetwork(optimize(net))
    assert torch.allclose(split.compute_logits(split.compute_frame_maps(frames)), net(frames), atol=1e-4)


def test_a_pool_over_time_cannot_stream() -> None:
    net = create_model("r3d_10", width=4, stem_pool=True)
    fast = optimize(VideoResNet(replace(net.specification, stem_pool_time_stride=2)).eval())
    with pytest.raises(ValueError, match="max-pool over time after its stem, so it cannot run along a video"):
        FeatureStream(SplitNetwork(fast), [0], 4)


def test_time_as_channels_cannot_stream() -> None:
    split = SplitNetwork(optimize(network("r2d_10", clip_length=8)))
    with pytest.raises(ValueError, match="r2d_10 takes the 8 frames of a clip as channels, so it cannot run along"):
        FeatureStream(split, [0], 8)


@torch.no_grad()
def test_what_a_stream_keeps_does_not_grow() -> None:
    split = SplitNetwork(optimize(network("r2plus1d_18")))
    stream = FeatureStream(split, list(range(0, 985, 3)), 16)
    kept = []
    for first in range(0, 960, 20):
        stream.push(rows(split.compute_frame_maps(video(20))))
        kept.append((first, num_held(stream)))
    assert max(count for first, count in kept[5:]) <= max(count for first, count in kept[5:11])


def num_held(state: object) -> int:
    """Numbers in all tensors that are kept between chunks."""
    if isinstance(state, Tensor):
        assert state.untyped_storage().nbytes() == state.nbytes, "a view keeps a chunk alive"
        return state.numel()
    if isinstance(state, list):
        return sum(num_held(item) for item in state)
    if type(state).__module__ == "muybridge.inference.streaming":
        return sum(num_held(item) for name, item in vars(state).items() if name != "_convolve")
    return 0
