"""The proof that a network which averages over frames cannot pass 50 % on generated motions, from files to scores.

A video and its reversed twin are of different classes, and every test video's twin is in the test set. The frames of a twin
are exactly the frames of the video backwards (all-intra files at a constant quantiser), and so are its clips (frames minus
span is a multiple of clips minus 1). f-R2D sees the frames of a clip one by one and averages: both get the same score, so at
most one of them is right. R(2+1)D gets different ones, which shows that the tests here can fail.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.frame import PictureType
from numpy.typing import NDArray
from torch import nn

from muybridge.evaluation.aggregate import VideoScores, compute_video_scores
from muybridge.evaluation.evaluate import EvaluationJob, evaluate, evaluate_split
from muybridge.evaluation.metrics import compute_accuracy
from muybridge.evaluation.scores import read_scores
from muybridge.inference.scorer import NetworkScorer
from muybridge.loading.open_data import open_data
from muybridge.models.network import VideoResNet, create_model
from muybridge.settings import EvaluateSettings, LoadingSettings
from muybridge.studies.demo import MODELS
from muybridge.studies.laptop import motion_run
from muybridge.synthetic.dataset import write_motion_dataset
from muybridge.synthetic.motions import MotionSettings, check_symmetric_clips, find_partner
from muybridge.training.train import train
from muybridge.video.decode import VideoFiles
from muybridge.video.sampling import sample_uniform_clips

DEMO = MotionSettings()
DEMO_RUN = motion_run("f_r2d_10", "data", "run")
# The demo's videos, only fewer.
SMALL = MotionSettings(train_videos_per_class=1, validation_videos_per_class=1, test_videos_per_class=2)
CPU = torch.device("cpu")
SAME = 1e-5  # probabilities this near are the same up to rounding


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("order") / "data"
    write_motion_dataset(folder, SMALL)
    return folder


def twins(data: Path) -> list[tuple[str, str]]:
    """Every pair of test videos that are reversals of each other, as named in the manifest."""
    manifest = open_data(str(data)).select_split("test")
    names = [manifest.get_video(index) for index in range(len(manifest))]
    pairs = []
    for name in names:
        split, label, file = name.split("/")
        twin = f"{split}/{find_partner(label)}/{file}"
        assert twin in names
        if label < find_partner(label):
            pairs.append((name, twin))
    assert len(pairs) == len(names) // 2 == 8
    return pairs


def decoded(path: Path) -> NDArray[np.uint8]:
    """All frames as FFmpeg decodes them, by nothing of ours: planes of 4:2:0 below each other, (T, 3H/2, W)."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray() for frame in container.decode(video=0)])


def test_the_demos_own_settings_make_the_proof_hold() -> None:
    assert DEMO_RUN.preprocessing.clip_span == 15
    assert DEMO_RUN.evaluation.clips == 10
    assert DEMO.num_frames > DEMO_RUN.preprocessing.clip_span
    assert (DEMO.num_frames - DEMO_RUN.preprocessing.clip_span) % 9 == 0
    check_symmetric_clips(DEMO.num_frames, clip_span=DEMO_RUN.preprocessing.clip_span, num_clips=10)
    assert DEMO_RUN.preprocessing.frames_per_second is None
    assert not DEMO_RUN.clips.mirror
    assert all(find_partner(label) in DEMO.class_names for label in DEMO.class_names)
    assert MODELS == ("f_r2d_10", "r2plus1d_10")
    for model in MODELS:
        assert motion_run(model, "data", "run").preprocessing == DEMO_RUN.preprocessing


def test_every_packet_is_a_key_frame(data: Path) -> None:
    for path in sorted((data / "test").rglob("*.mp4")):
        with av.open(str(path)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
            assert len(packets) == DEMO.num_frames
            assert all(packet.is_keyframe for packet in packets)
        with av.open(str(path)) as container:
            assert {frame.pict_type for frame in container.decode(video=0)} == {int(PictureType.I)}


def test_a_twins_decoded_frames_are_exactly_the_reversed_ones(data: Path) -> None:
    for video, twin in twins(data):
        frames, reversed_frames = decoded(data / video), decoded(data / twin)
        assert np.array_equal(frames, reversed_frames[::-1])
        assert not np.array_equal(frames, reversed_frames)  # something moves


def test_a_twins_clips_are_exactly_the_reversed_ones(data: Path) -> None:
    source = VideoFiles(str(data), scale_height=64, scale_width=64)
    for video, twin in twins(data):
        times, twin_times = source.read_frame_times(video), source.read_frame_times(twin)
        assert np.array_equal(times.ticks, twin_times.ticks)
        clips = [clip.ticks for clip in sample_uniform_clips(times, DEMO_RUN.preprocessing, 10)]
        backwards = [times.ticks[0] + times.ticks[-1] - ticks[::-1] for ticks in reversed(clips)]
        for ticks, twin_clip in zip(
            backwards, sample_uniform_clips(twin_times, DEMO_RUN.preprocessing, 10), strict=True
        ):
            assert np.array_equal(ticks, twin_clip.ticks)
        luma, twin_luma = source.read(video, clips[0]).luma_thw, source.read(twin, clips[-1]).luma_thw
        assert np.array_equal(luma, twin_luma[::-1])


def random_network(name: str, seed: int) -> VideoResNet:
    """Random weights and random statistics: nothing about it is special but its kind."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = create_model(name, num_classes=len(SMALL.class_names), clip_length=8, width=4)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                nn.init.normal_(module.weight, 1.0, 0.3)
                nn.init.normal_(module.bias, 0.0, 0.5)
                nn.init.normal_(module.running_mean, 0.0, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
        with torch.no_grad():
            features = network.eval().features(torch.randn(4, 3, 8, 56, 56))
        nn.init.normal_(network.fc.weight, 0.0, 3 / float(features.norm(dim=1).mean()))  # scores that say something
        nn.init.normal_(network.fc.bias, 0.0, 0.2)
    return network


@pytest.fixture
def scored(data: Path, tmp_path: Path) -> Callable[[VideoResNet], VideoScores]:
    """The scores of all test videos, from files through decoding, clips, network and average."""

    def score(network: VideoResNet) -> VideoScores:
        examination = EvaluationJob(
            manifest=open_data(str(data)).select_split("test"),
            split="test",
            fold=None,
            preprocessing=DEMO_RUN.preprocessing,
            model_sha256="",
            evaluation=DEMO_RUN.evaluation,
            loading=LoadingSettings(workers=0),
        )
        evaluate(examination, NetworkScorer(network, CPU), tmp_path / "scores.parquet", device=CPU)
        return compute_video_scores(read_scores(tmp_path / "scores.parquet"))

    return score


def differences(scores: VideoScores, data: Path) -> NDArray[np.float64]:
    """For each pair of twins the largest difference between the probabilities of the two."""
    rows = dict(zip(scores.videos, scores.probabilities, strict=True))
    return np.array([np.abs(rows[video] - rows[twin]).max() for video, twin in twins(data)])


@pytest.mark.parametrize(("name", "seed"), [("f_r2d_10", 0), ("f_r2d_10", 1), ("f_r2d_18", 2), ("f_r2d_50", 3)])
def test_f_r2d_gives_twins_the_same_score_and_cannot_pass_50_percent(
    name: str, seed: int, data: Path, scored: Callable[[VideoResNet], VideoScores]
) -> None:
    scores = scored(random_network(name, seed))
    assert differences(scores, data).max() < SAME
    assert np.ptp(scores.probabilities, axis=0).max() > 1e-3  # it does look at the videos
    measured = compute_accuracy(scores)
    assert measured.num_videos == 16
    assert measured.video_top1.of_all.share <= 0.5


@pytest.mark.parametrize("name", ["r2plus1d_10", "r3d_10", "r2d_10"])
def test_networks_that_see_the_order_tell_twins_apart(
    name: str, data: Path, scored: Callable[[VideoResNet], VideoScores]
) -> None:
    actual = differences(scored(random_network(name, 0)), data)
    assert actual.min() > 2 * SAME
    assert actual.max() > 1e-3


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_demos_r2plus1d_is_far_above_the_ceiling_after_three_epochs(tmp_path: Path) -> None:
    """With the demo's own data, settings and code, only three of its ten epochs."""
    write_motion_dataset(tmp_path / "data", DEMO)
    run = motion_run("r2plus1d_10", str(tmp_path / "data"), str(tmp_path / "run"), epochs=3)
    train(run, resume=False)
    scores = tmp_path / "scores.parquet"
    measured = evaluate_split(str(tmp_path / "run"), EvaluateSettings(data=str(tmp_path / "data")), scores).accuracy
    assert measured.num_videos == 8 * 25
    assert measured.video_top1.of_all.share > 0.75
