"""Which frames a picture shows is read from the pixels: test videos carry their frame index."""

from __future__ import annotations

import base64
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from muybridge.cli.main import main
from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.evaluation.scores_header import ScoresHeader
from muybridge.inference.explain import compute_grad_cam, draw_evidence
from muybridge.loading.clip_reader import StoredFlowReader, open_clip_reader
from muybridge.loading.open_data import open_data
from muybridge.models.network import create_model
from muybridge.records import FLOW_MEAN, FLOW_STD, Preprocessing, VideoError
from muybridge.report.clip_images import (
    LAST_FRAME_EXTRA_MILLISECONDS,
    encode_animation,
    encode_png,
    encode_still,
    open_scored_clips,
)
from muybridge.settings import EvaluationSettings
from muybridge.video.sampling import sample_uniform_clips
from muybridge.video.views import FlowView, collate_views, prepare_network_input
from videos import read_indices, write_video

PREPROCESSING = Preprocessing(clip_length=4, frame_stride=2, scale_height=48, scale_width=64, crop=48)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexed")
    for label in ("kick", "hug"):
        (folder / "train" / label).mkdir(parents=True)
        (folder / "test" / label).mkdir(parents=True)
        write_video(folder / "train" / label / "a.mp4", 40)
    write_video(folder / "test" / "kick" / "a.mp4", 40, width=48)
    write_video(folder / "test" / "hug" / "b.mp4", 40, width=48)
    (folder / "test" / "hug" / "broken.mp4").write_bytes(b"no video")
    lines = ["path,label,split,group,start_seconds,end_seconds", "train/kick/a.mp4,kick,train,,,"]
    lines += ["train/hug/a.mp4,hug,train,,,", "test/kick/a.mp4,kick,test,tall,0.4,"]
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    return folder


def header(
    preprocessing: Preprocessing = PREPROCESSING, *, clips: int = 3, crops: Literal[1, 3] = 1, manifest_sha256: str = ""
) -> ScoresHeader:
    return ScoresHeader(
        classes=("kick", "hug"),
        protocol=EvaluationProtocol.from_settings(EvaluationSettings(clips=clips, crops=crops), preprocessing),
        split="test",
        fold=None,
        model_sha256="",
        manifest_sha256=manifest_sha256,
        num_videos=3,
    )


@pytest.mark.parametrize(("view", "first"), [(0, 0), (1, 16), (2, 33)])
def test_the_clip_is_the_one_that_was_scored(data: Path, view: int, first: int) -> None:
    """Clips of span 7 in 40 frames begin at 0, 16 and 33."""
    clip = open_scored_clips(str(data), header()).read_clip("test/kick/a.mp4", view)
    assert clip.frames_thwc.shape == (4, 48, 48, 3)
    assert read_indices(clip.frames_thwc[..., 1]) == [first, first + 2, first + 4, first + 6]
    assert clip.frame_milliseconds == 80  # two frames of 25 a second


def test_segments_and_groups_are_those_of_the_manifest(data: Path) -> None:
    reader = open_scored_clips(str(data / "data.csv"), header())
    assert read_indices(reader.read_clip("test/kick/a.mp4", 0).frames_thwc[..., 1]) == [10, 12, 14, 16]
    assert reader.find_group("test/kick/a.mp4") == "tall"
    assert reader.find_group("train/kick/a.mp4") is None
    assert reader.find_group("nobody.mp4") is None


def test_of_flow_the_frames_are_shown_that_it_begins_at(data: Path) -> None:
    flow = Preprocessing(
        modality="flow",
        clip_length=4,
        frame_stride=2,
        scale_height=48,
        scale_width=64,
        crop=48,
        mean=FLOW_MEAN,
        std=FLOW_STD,
        flow_gap=3,
        flow_chain=True,
    )
    clip = open_scored_clips(str(data), header(flow, clips=2)).read_clip("test/kick/a.mp4", 1)
    assert read_indices(clip.frames_thwc[..., 1]) == [30, 32, 34, 36]


def test_what_cannot_be_shown_says_why(data: Path) -> None:
    reader = open_scored_clips(str(data), header())
    with pytest.raises(VideoError, match="no video of this name"):
        reader.read_clip("test/kick/other.mp4", 0)
    with pytest.raises(VideoError):
        reader.read_clip("test/hug/broken.mp4", 0)
    with pytest.raises(ValueError, match="there is no folder or CSV file"):
        open_scored_clips(str(data / "nowhere"), header())


def test_another_list_of_videos_is_noticed(data: Path) -> None:
    scored = open_data(str(data)).select_split("test").remap_labels(("kick", "hug")).compute_sha256()
    assert open_scored_clips(str(data), header(manifest_sha256=scored)).is_scored_list
    assert not open_scored_clips(str(data / "data.csv"), header(manifest_sha256=scored)).is_scored_list
    assert not open_scored_clips(str(data), header()).is_scored_list


def opened(uri: str, kind: str) -> Image.Image:
    head, _, content = uri.partition(",")
    assert head == f"data:image/{kind};base64"
    return Image.open(BytesIO(base64.b64decode(content)))


def test_the_moving_picture_moves_at_the_speed_of_the_video(data: Path) -> None:
    clip = open_scored_clips(str(data), header()).read_clip("test/kick/a.mp4", 1)
    picture = opened(encode_animation(clip), "webp")
    assert picture.n_frames == 4  # type: ignore[attr-defined]
    assert picture.info["loop"] == 0
    durations, shown = [], []
    for number in range(4):
        picture.seek(number)
        frame = np.asarray(picture.convert("RGB"))
        durations.append(picture.info["duration"])
        shown.append(frame[..., 1])
    assert durations == [80, 80, 80, 80 + LAST_FRAME_EXTRA_MILLISECONDS]
    assert read_indices(np.stack(shown)) == [16, 18, 20, 22]


def test_the_still_picture_has_four_frames_in_the_size_of_one(data: Path) -> None:
    clip = open_scored_clips(str(data), header()).read_clip("test/kick/a.mp4", 1)
    sheet = np.asarray(opened(encode_still(clip), "webp").convert("RGB"))[..., 1]
    assert sheet.shape == (48, 48)
    quarters = [sheet[:24, :24], sheet[:24, 24:], sheet[24:, :24], sheet[24:, 24:]]
    assert read_indices(np.stack(quarters)) == [16, 18, 20, 22]


def test_plain_pictures_are_exact() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3)).astype(np.uint8)
    assert np.array_equal(np.asarray(opened(encode_png(pixels), "png")), pixels)
    assert np.array_equal(np.asarray(opened(encode_png(pixels[..., 0]), "png")), pixels[..., 0])


def test_the_evidence_stands_below_each_frame(data: Path) -> None:
    torch.manual_seed(0)
    network = create_model("r2plus1d_10", num_classes=2, clip_length=4, width=4)
    with torch.no_grad():  # everything speaks for kick, and nothing for hug
        network.fc.weight.copy_(torch.tensor([[1.0], [-1.0]]).expand_as(network.fc.weight))
    reader = replace(open_scored_clips(str(data), header()), network=network)
    plain = reader.read_clip("test/kick/a.mp4", 1).frames_thwc
    both = [reader.read_clip("test/kick/a.mp4", 1, label).frames_thwc for label in ("kick", "hug")]
    assert all(np.array_equal(clip[:, :48], plain) for clip in both)
    assert {clip.shape for clip in both} == {(4, 96, 48, 3)}
    assert [np.array_equal(clip[:, 48:], plain) for clip in both] == [False, True]


def test_the_evidence_is_of_the_stored_flow_that_was_scored(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'muybridge[flow]'")
    assert (
        main(["prepare", str(data), "--flow", "--scale", "48", "64", "--workers", "1", "-o", str(tmp_path / "p")]) == 3
    )
    flow = replace(PREPROCESSING, modality="flow", frame_stride=1, mean=FLOW_MEAN, std=FLOW_STD, flow_gap=1)
    torch.manual_seed(0)
    network = create_model("r2plus1d_10", num_classes=2, clip_length=4, width=4, input_channels=2).eval()
    reader = replace(open_scored_clips(str(tmp_path / "p"), header(flow, clips=1)), network=network)
    shown = reader.read_clip("test/kick/a.mp4", 0, "kick").frames_thwc
    manifest = reader.manifest
    scored = open_clip_reader(manifest.root, flow)
    path = scored.select_videos(manifest).get_path(reader.video_indices["test/kick/a.mp4"])
    clips = sample_uniform_clips(scored.source.read_frame_times(path), flow, 1)
    (view,) = scored.read_evaluation_views(path, clips)
    assert isinstance(scored, StoredFlowReader) and isinstance(view, FlowView)
    inputs = prepare_network_input(collate_views([view]), flow, torch.device("cpu"))
    (expected_thw,) = compute_grad_cam(network, inputs, torch.tensor([0])).numpy()
    assert np.array_equal(shown[:, 48:], draw_evidence(shown[:, :48], expected_thw))


@pytest.mark.parametrize("crop", range(3))
def test_the_crop_is_the_one_that_was_scored(data: Path, crop: int) -> None:
    """Crops of 48 in frames of 48x64 begin at column 0, 8 and 16; each eight columns have a light of their own."""
    lights = np.random.default_rng(0).integers(20, 220, 8).astype(np.uint8).repeat(8)
    columns = np.broadcast_to(lights[None, :, None], (48, 64, 3))
    write_video(data / "test" / "kick" / "columns.mp4", 40, paint=lambda _: columns)
    torch.manual_seed(0)
    network = create_model("r2plus1d_10", num_classes=2, clip_length=4, width=4).eval()
    reader = replace(open_scored_clips(str(data), header(crops=3)), network=network)
    frames = reader.read_clip("test/kick/columns.mp4", 3 + crop, "kick").frames_thwc
    shown, evidence = frames[:, :48], frames[:, 48:]
    assert np.abs(shown[..., 1] - (columns[:, 8 * crop : 8 * crop + 48, 1] / 1.0)).mean() < 3
    mean, std = (torch.tensor(values)[:, None, None, None] for values in (PREPROCESSING.mean, PREPROCESSING.std))
    inputs = (torch.from_numpy(shown).permute(3, 0, 1, 2) - mean) / std
    (expected_thw,) = compute_grad_cam(network, inputs[None], torch.tensor([0])).numpy()
    assert np.abs(evidence - (draw_evidence(shown, expected_thw) / 1.0)).max() < 6
