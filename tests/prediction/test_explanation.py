"""`predict --explain`: a video of the network's frames, at their times, with evidence in colour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from flow_pictures import write_flow_folder
from muybridge.models.network import create_model
from muybridge.prediction.explanation import explain_part, explain_video
from muybridge.prediction.recognizer import Recognizer, load
from muybridge.records import Preprocessing, VideoError
from muybridge.weights.card import save


def write_flow_network(path: Path) -> Recognizer:
    """A network of optical flow, with random weights."""
    torch.manual_seed(1)
    network = create_model("r2plus1d_10", num_classes=2, width=4, clip_length=4, input_channels=2).eval()
    preprocessing = Preprocessing(
        modality="flow", clip_length=4, scale_height=32, scale_width=32, crop=28, mean=(0, 0), std=(8, 8)
    )
    save(network, path, classes=("left", "right"), preprocessing=preprocessing)
    return load(path, "cpu")


def read_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.time) for frame in container.decode(video=0) if frame.time is not None]


def test_the_video_shows_the_networks_frames_at_their_times(finished_run: Path, motions: Path, tmp_path: Path) -> None:
    recognizer = load(finished_run)
    video = motions / "test" / "left" / "00000.mp4"
    progress: list[tuple[int, int]] = []
    explain_video(
        recognizer,
        video,
        tmp_path / "why.mp4",
        "left",
        on_progress=lambda done, total: progress.append((done, total)),
    )
    times = read_times(tmp_path / "why.mp4")
    span = recognizer.card.preprocessing.clip_span
    num_clips = -(-13 // span)  # a clip after the other over 13 frames
    assert progress[-1] == (num_clips, num_clips)
    assert len(times) == num_clips * recognizer.card.preprocessing.clip_length
    assert times[:4] == pytest.approx([0, 1 / 24, 2 / 24, 3 / 24], abs=2e-3)
    assert times == sorted(times)


def test_the_evidence_of_a_part_is_that_of_the_clips_over_it(finished_run: Path, motions: Path) -> None:
    recognizer = load(finished_run)
    preprocessing = recognizer.card.preprocessing
    video = motions / "test" / "left" / "00000.mp4"
    whole = explain_part(recognizer, video, (0.0, 13 / 24), "left")
    span = preprocessing.clip_span
    assert len(whole.clips) == len(whole.probabilities) == -(-13 // span)
    assert whole.seconds.tolist() == sorted(set(whole.seconds.tolist()))
    assert whole.evidence.shape == (len(whole.seconds), preprocessing.crop, preprocessing.crop)
    assert 0 <= whole.evidence.min() < whole.evidence.max() <= 1
    assert whole.box[2] * preprocessing.scale_width == preprocessing.crop
    point = explain_part(recognizer, video, (0.25, 0.25))
    (clip,) = point.clips
    assert clip.start_seconds <= 0.25 < clip.end_seconds
    assert len(point.seconds) == preprocessing.clip_length
    # The class that is taken is the one that `predict` finds in the same frames.
    others = [explain_part(recognizer, video, (0.25, 0.25), name).probabilities[0] for name in recognizer.classes]
    assert point.label == recognizer.classes[int(np.argmax(others))]
    assert sum(others) == pytest.approx(1)


def test_the_evidence_of_a_part_is_of_the_flow_that_is_stored_with_it(tmp_path: Path) -> None:
    """Frames that stand still, and flow beside them that does not; of five frames there is one clip."""
    pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'muybridge[flow]'")
    rng = np.random.default_rng(2)
    flow, frame = rng.integers(0, 255, (12, 2, 32, 32), np.uint8), rng.integers(0, 255, (1, 32, 32, 3), np.uint8)
    folder = write_flow_folder(tmp_path / "moves", flow, np.repeat(frame, 13, axis=0))
    recognizer = write_flow_network(tmp_path / "w.safetensors")
    video = f"{folder}#0.04-0.24"
    expected = dict(recognizer.predict(video).classes)
    part = explain_part(recognizer, video, (0.16, 0.16), "left")
    assert part.probabilities == pytest.approx((expected["left"],), abs=1e-6)


@pytest.mark.parametrize(
    ("is_prepared", "reason"), [(False, "without its frames"), (True, "without the frames to show")]
)
def test_flow_without_frames_is_not_shown(
    tmp_path: Path, cli: Callable[..., Any], is_prepared: bool, reason: str
) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'muybridge[flow]'")
    flow = np.random.default_rng(2).integers(0, 255, (12, 2, 32, 32), np.uint8)
    source, _ = (write_flow_folder(tmp_path / "videos" / name / "a", flow) for name in ("left", "right"))
    if is_prepared:
        assert cli("prepare", tmp_path / "videos", "-o", tmp_path / "data", "--scale", 32, 32, "--flow").code == 0
        source = tmp_path / "data" / "left" / "a"
    recognizer = write_flow_network(tmp_path / "w.safetensors")
    told = cli("predict", tmp_path / "w.safetensors", source, "--explain", tmp_path / "why.mp4")
    assert (told.code, (tmp_path / "why.mp4").exists()) == (2, False)
    assert f"muybridge: {source} cannot be explained: " in told.err
    assert reason in told.err
    assert "--debug" not in told.err
    assert explain_part(recognizer, source, (0.0, 0.2), "left").probabilities


def test_the_command_names_the_class_and_the_file(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    video, why = motions / "test" / "left" / "00000.mp4", tmp_path / "why.mp4"
    told = cli("predict", finished_run, video, "--top", 1, "--explain", why)
    assert told.code == 0
    label = told.out.splitlines()[1].split()[-1]
    assert f"where and when the network sees {label}: {why}" in told.err
    assert read_times(why)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("--explain", "why.avi"), "expected a file that ends in .mp4"),
        (("--explain", "why.mp4", "--with", "x"), "an explanation is of one network"),
        (("--explain", "why.mp4", "-o", "x.parquet"), "without timelines and explanations"),
    ],
)
def test_what_cannot_be_is_refused(
    finished_run: Path, motions: Path, cli: Callable[..., Any], argv: tuple[str, ...], sentence: str
) -> None:
    told = cli("predict", finished_run, motions / "test" / "left" / "00000.mp4", *argv)
    assert told.code == 2
    assert sentence in told.err


@pytest.mark.parametrize("given", ["folder/a.mp4", "folder"])
def test_the_video_itself_is_not_overwritten(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any], given: str
) -> None:
    video = tmp_path / "folder" / "a.mp4"
    video.parent.mkdir()
    video.write_bytes((motions / "test" / "left" / "00000.mp4").read_bytes())
    content = video.read_bytes()
    told = cli("predict", finished_run, tmp_path / given, "--explain", video)
    assert told.code == 2
    assert f"the output {video} is also an input, and would replace it" in told.err
    assert video.read_bytes() == content


def test_several_videos_are_refused(finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    told = cli("predict", finished_run, motions / "test" / "left", "--explain", tmp_path / "why.mp4")
    assert told.code == 2
    assert "--explain writes a video of one video" in told.err


def test_an_unreadable_video_leaves_no_file(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError):
        explain_video(load(finished_run), tmp_path / "broken.mp4", tmp_path / "why.mp4", "left")
    assert not (tmp_path / "why.mp4").exists()
    with pytest.raises(ValueError, match="no class 'jump'"):
        explain_video(load(finished_run), tmp_path / "broken.mp4", tmp_path / "why.mp4", "jump")
