"""Windows along a video: exact against each window as a clip by itself, convolutional against one pass over all frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from muybridge.inference.folded import optimize
from muybridge.inference.scorer import NetworkScorer
from muybridge.loading.clip_reader import create_clip_reader
from muybridge.loading.frame_stream import TIMESTEPS_PER_CHUNK
from muybridge.models.network import VideoResNet, create_model
from muybridge.prediction import sliding_window
from muybridge.prediction.recognizer import Recognizer
from muybridge.prediction.timeline import TimelineOptions
from muybridge.prediction.timeline_windows import score_windows
from muybridge.prediction.video_inputs import VideoInput
from muybridge.records import FLOW_MEAN, FLOW_STD, Preprocessing, VideoError
from muybridge.video import decode
from muybridge.video.decode import VideoFiles
from muybridge.video.sampling import compute_dense_starts, compute_timestep_ticks, sample_dense_clips
from muybridge.video.views import collate_views, make_evaluation_view, prepare_network_input
from muybridge.weights.card import Card

NewFrames = Callable[..., Any]  # of conftest.py
CPU = torch.device("cpu")
CLASSES = ("clap", "wave", "jump")
PREPROCESSING = Preprocessing(clip_length=8, scale_height=20, scale_width=24, crop=16)


def network(name: str, preprocessing: Preprocessing = PREPROCESSING) -> VideoResNet:
    torch.manual_seed(0)
    net = create_model(
        name,
        num_classes=3,
        width=4,
        clip_length=preprocessing.clip_length,
        input_channels=preprocessing.input_channels,
    ).eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.running_var.uniform_(0.5, 2)
                module.bias.normal_(std=0.3)
        net.fc.weight.mul_(5)  # scores far enough apart to be distinguishable
    return net


def recognizer(source: Any, net: VideoResNet, preprocessing: Preprocessing = PREPROCESSING) -> Recognizer:
    card = Card(net.specification, CLASSES, preprocessing, "a test", "CC0", None, "")
    return Recognizer(net, card, NetworkScorer(optimize(net), CPU), CPU, source)


def probabilities(source: Any, net: VideoResNet, options: TimelineOptions, preprocessing: Preprocessing) -> Tensor:
    actual = recognizer(source, net, preprocessing).predict("x", clips=1, timeline=options)
    return torch.tensor([window.probabilities for window in actual.windows])


def one_by_one(source: Any, net: VideoResNet, step: int, preprocessing: Preprocessing) -> Tensor:
    """Every window read for itself, one at a time through the plain network."""
    rows = []
    for times in sample_dense_clips(source.read_frame_times("x"), preprocessing, step):
        view = make_evaluation_view(source.read("x", times.ticks), preprocessing.crop)
        with torch.no_grad():
            rows.append(net(prepare_network_input(collate_views([view]), preprocessing, CPU))[0])
    return torch.softmax(torch.stack(rows), 1)


@pytest.mark.parametrize("name", ["r2plus1d_10", "f_r2d_10", "mc3_10", "r3d_10", "rmc3_10", "r2d_10"])
@pytest.mark.parametrize(("num_frames", "step", "stride"), [(61, 4, 1), (50, 3, 2), (70, 1, 3), (8, 4, 1), (75, 11, 1)])
def test_windows_are_scored_as_clips_by_themselves(
    frames: NewFrames, name: str, num_frames: int, step: int, stride: int
) -> None:
    preprocessing = replace(PREPROCESSING, frame_stride=stride)
    net = network(name)
    actual = probabilities(frames(num_frames, textured=True), net, TimelineOptions(step), preprocessing)
    expected = one_by_one(frames(num_frames, textured=True), net, step, preprocessing)
    assert torch.allclose(actual, expected, atol=1e-5)
    assert len(actual) == 1 or expected.std(0).max() > 1e-3, "windows so alike would hide a mistake"


@pytest.mark.parametrize("mode", ["windows", "convolutional"])
def test_a_video_shorter_than_a_window_is_one_looped_clip(frames: NewFrames, mode: str) -> None:
    net = network("r2plus1d_10")
    actual = probabilities(frames(5, textured=True), net, TimelineOptions(2, mode=mode), PREPROCESSING)  # type: ignore[arg-type]
    assert torch.allclose(actual, one_by_one(frames(5, textured=True), net, 2, PREPROCESSING), atol=1e-5)


@pytest.mark.parametrize("rate", [10.0, 25.0, 40.0])  # of 25: some frames are passed over, or stand twice
@pytest.mark.parametrize("mode", ["windows", "convolutional"])
def test_a_target_rate_is_kept(frames: NewFrames, rate: float, mode: str) -> None:
    preprocessing = replace(PREPROCESSING, frames_per_second=rate)
    net = network("f_r2d_10")  # of which one pass along the video is exact as well
    actual = probabilities(frames(80, textured=True), net, TimelineOptions(3, mode=mode), preprocessing)  # type: ignore[arg-type]
    assert torch.allclose(actual, one_by_one(frames(80, textured=True), net, 3, preprocessing), atol=1e-5)


@pytest.mark.parametrize(("step", "stride", "num_frames"), [(8, 1, 80), (16, 2, 111), (24, 3, 130)])
def test_convolutional_is_one_pass_over_all_frames(frames: NewFrames, step: int, stride: int, num_frames: int) -> None:
    """The network's own layers over every phase of the stride at once; windows where its steps fall."""
    preprocessing = replace(PREPROCESSING, frame_stride=stride)
    net = network("r2plus1d_10")
    source = frames(num_frames, textured=True)
    actual = probabilities(source, net, TimelineOptions(step, mode="convolutional"), preprocessing)
    starts = compute_dense_starts(source.times, preprocessing, step)
    expected = {}
    for phase in range(stride):
        view = make_evaluation_view(source.read("x", source.times.ticks[phase::stride]), 16)
        with torch.no_grad():
            maps = net.stem(prepare_network_input(collate_views([view]), preprocessing, CPU))
            maps = net.layer4(net.layer3(net.layer2(net.layer1(maps))))
            steps = torch.softmax(net.fc(maps.mean(dim=(3, 4))[0].T), 1)
        for index in range(steps.shape[0]):
            expected[phase + 8 * stride * index] = steps[index]
    compared = [number for number, start in enumerate(starts) if int(start) in expected]
    assert len(compared) >= len(starts) - 1 > 3
    assert torch.allclose(actual[compared], torch.stack([expected[int(starts[n])] for n in compared]), atol=1e-5)
    assert actual.std(0).max() > 1e-3, "windows so alike would hide a mistake"


def test_chunks_leave_no_mark(frames: NewFrames, monkeypatch: pytest.MonkeyPatch) -> None:
    net = network("r2plus1d_10")
    preprocessing = replace(PREPROCESSING, frame_stride=3)
    actual = {}
    for chunk in (1, 7, TIMESTEPS_PER_CHUNK, 1000):
        monkeypatch.setattr("muybridge.loading.frame_stream.TIMESTEPS_PER_CHUNK", chunk)
        for mode in ("windows", "convolutional"):
            options = TimelineOptions(4, mode=mode)  # type: ignore[arg-type]
            actual[mode, chunk] = probabilities(frames(101, textured=True), net, options, preprocessing)
    for (mode, _), rows in actual.items():
        assert torch.allclose(rows, actual[mode, 1000], atol=1e-5)
    assert not torch.allclose(actual["windows", 7], actual["convolutional", 7], atol=1e-3), "borders do differ"


@pytest.mark.parametrize("mode", ["windows", "convolutional"])
def test_frames_are_read_once_and_few_are_held(frames: NewFrames, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the network is given is counted too: a frame of the video goes through the stem's spatial half once."""
    lengths: list[int] = []
    of_frames = sliding_window.SplitNetwork.compute_frame_maps
    monkeypatch.setattr(
        sliding_window.SplitNetwork,
        "compute_frame_maps",
        lambda split, clip: (lengths.append(clip.shape[2]), of_frames(split, clip))[1],
    )
    source = frames(250)
    probabilities(source, network("r2plus1d_10"), TimelineOptions(2, mode=mode), PREPROCESSING)  # type: ignore[arg-type]
    assert [frame for read in source.reads[1:] for frame in read] == list(range(250))
    assert max(map(len, source.reads)) <= TIMESTEPS_PER_CHUNK
    assert sum(lengths) == 250
    assert max(lengths) <= TIMESTEPS_PER_CHUNK


def test_a_file_is_decoded_once(
    tmp_path: Path, new_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames_of, count = decode.decode_frames, 0

    def counted(*arguments: Any) -> Any:
        nonlocal count
        for frame in frames_of(*arguments):
            count += 1
            yield frame

    video = new_video(tmp_path / "long.mp4", 200, gop=250)
    source = VideoFiles("", scale_height=20, scale_width=24)
    ticks = compute_timestep_ticks(source.read_frame_times(str(video)), PREPROCESSING)
    monkeypatch.setattr(decode, "decode_frames", counted)
    views = list(create_clip_reader(source, PREPROCESSING).read_timesteps(str(video), ticks))
    assert count == 200
    expected = make_evaluation_view(source.read(str(video), ticks[:, 0]), 16)
    assert np.array_equal(np.concatenate([view.luma_thw for view in views]), expected.luma_thw)  # type: ignore[union-attr]
    assert np.array_equal(np.concatenate([view.chroma_cthw for view in views], axis=1), expected.chroma_cthw)  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["windows", "convolutional"])
def test_flow_along_a_video_is_that_of_clips(tmp_path: Path, new_video: Callable[..., Path], mode: str) -> None:
    pytest.importorskip("cv2")
    flow = replace(PREPROCESSING, modality="flow", mean=FLOW_MEAN, std=FLOW_STD, flow_gap=2, flow_chain=True)
    video = new_video(tmp_path / "video.mp4", 70)
    net = network("f_r2d_10", flow)
    used = recognizer(VideoFiles("", scale_height=20, scale_width=24), net, flow)
    options = TimelineOptions(5, mode=mode)  # type: ignore[arg-type]
    windows = used.predict(video, clips=1, timeline=options).windows
    clip_times = sample_dense_clips(used.source.read_frame_times(str(video)), flow, 5)
    plain = used.clip_runner.run_clips(
        VideoInput("", str(video), used.source), clip_times
    )  # read as the clips of an evaluation are
    expected = torch.softmax(torch.from_numpy(plain.rows), 1)
    assert len(windows) == len(clip_times) > 10
    assert torch.allclose(torch.tensor([window.probabilities for window in windows]), expected, atol=1e-5)


@pytest.mark.parametrize("mode", ["windows", "convolutional"])
def test_damage_costs_the_windows_it_touches(frames: NewFrames, mode: str) -> None:
    net = network("f_r2d_10")
    broken = [90, 91, 200]
    source = frames(300, broken, textured=True)
    options = TimelineOptions(4, mode=mode)  # type: ignore[arg-type]
    actual = recognizer(source, net).predict("x", clips=3, timeline=options)
    starts = compute_dense_starts(source.times, PREPROCESSING, 4)
    whole = [n for n, start in enumerate(starts) if not set(broken) & set(range(start, start + 8))]
    assert [window.start_seconds * 25 for window in actual.windows] == pytest.approx([starts[n] for n in whole])
    expected = one_by_one(frames(300, textured=True), net, 4, PREPROCESSING)[whole]
    assert torch.allclose(torch.tensor([window.probabilities for window in actual.windows]), expected, atol=1e-5)
    failed = len(starts) - len(whole)
    assert f"along the timeline {failed} of {len(starts)} clips could not be read: frame 90 is damaged" in actual.reason


def test_nothing_readable_is_a_failure(frames: NewFrames) -> None:
    used = recognizer(frames(60, range(60)), network("r2plus1d_10"))
    clip_times = sample_dense_clips(used.source.read_frame_times("x"), PREPROCESSING, 4)
    with pytest.raises(VideoError, match="frame 0 is damaged"):
        score_windows(VideoInput("x", "x", used.source), used.clip_runner, used.scorer, clip_times, TimelineOptions(4))


def test_scorers_that_take_whole_clips_alone_share_frames(frames: NewFrames) -> None:
    """As an .onnx file: frames are still read once, and the clips it sees are whole and contiguous."""
    net, seen = network("r2plus1d_10"), []

    def scorer(clips: Tensor) -> Tensor:
        seen.append(clips.is_contiguous())
        with torch.no_grad():
            return net(clips)

    source = frames(60, textured=True)
    used = replace(recognizer(source, net), scorer=scorer)
    windows = used.predict("x", clips=1, timeline=TimelineOptions(4)).windows
    assert all(seen)
    assert [frame for read in source.reads[1:] for frame in read] == list(range(60))
    expected = one_by_one(frames(60, textured=True), net, 4, PREPROCESSING)
    assert torch.allclose(torch.tensor([window.probabilities for window in windows]), expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"an \.onnx file takes whole clips"):
        used.predict("x", timeline=TimelineOptions(mode="convolutional"))


def test_time_as_channels_is_refused(frames: NewFrames) -> None:
    used = recognizer(frames(60), network("r2d_10"))
    with pytest.raises(ValueError, match="as channels, so it cannot run along a video; score it window by window"):
        used.predict("x", timeline=TimelineOptions(mode="convolutional"))
    with pytest.raises(ValueError, match="mode is 'fast', expected windows or convolutional"):
        TimelineOptions(mode="fast")  # type: ignore[arg-type]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("first_damage", [40, 90, 91, 96])
def test_no_window_reaches_past_damage(frames: NewFrames, first_damage: int, stride: int) -> None:
    """With strides in time a window's few steps are complete, by padding, before all of its frames have been read."""
    preprocessing = replace(PREPROCESSING, frame_stride=stride)
    source = frames(200, [first_damage], textured=True)
    used = recognizer(source, network("r2plus1d_10", preprocessing), preprocessing)
    window_scorer = sliding_window.WindowScorer(source, "x", preprocessing, CPU)
    starts = compute_dense_starts(source.times, preprocessing, 3)
    scored: list[int] = []
    with pytest.raises(VideoError, match=f"frame {first_damage} is damaged"):
        for indices, _ in window_scorer.score_windows(used.scorer, starts, "convolutional"):
            scored += indices
    readable = first_damage // TIMESTEPS_PER_CHUNK * TIMESTEPS_PER_CHUNK  # the chunk with the damage is lost
    assert sorted(scored) == [n for n, start in enumerate(starts) if start + 7 * stride < readable]
