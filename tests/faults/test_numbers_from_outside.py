"""Numbers in files that anybody may have written: none that looks right and is not, none that fills the memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from muybridge.datasets.manifest import Manifest
from muybridge.evaluation.scores import read_scores
from muybridge.limits import PICTURE_PIXELS, TABLE_BYTES, VIDEO_FRAMES
from muybridge.loading.clip_reader import open_clip_reader
from muybridge.loading.datasets import EvaluationDataset
from muybridge.models.network import create_model
from muybridge.prepared.dataset import _find_impossible_numbers
from muybridge.records import FrameTimes, Preprocessing, VideoError
from muybridge.video.decode import VideoFiles
from muybridge.video.sampling import sample_uniform_clips
from muybridge.weights.card import compute_tensors_sha256, load_card, load_network, save
from videos import write_video


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    network = create_model("r3d_10", num_classes=3, clip_length=4, width=4)
    save(network, path, classes=["a", "b", "c"], preprocessing=Preprocessing(clip_length=4))
    return path


def change_card(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    card = json.loads(header["__metadata__"]["muybridge"])
    change(card)
    header["__metadata__"]["muybridge"] = json.dumps(card)
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content[8 + length :])


CARDS = [
    ("preprocessing", None, "preprocessing is None, expected an object"),
    ("preprocessing", [1, 2], "preprocessing is .*, expected an object"),
    ("preprocessing.mean", [float("nan"), 1.0, 1.0], r"preprocessing\.mean\.0 is nan, expected a finite number"),
    ("preprocessing.std", [1e-320, 1.0, 1.0], r"preprocessing\.std\.0 is 1e-320, expected a number greater"),
    ("preprocessing.std", [0, 1, 1], r"preprocessing\.std\.0 is 0, expected a number greater"),
    ("preprocessing.interpolation", "lanczos", r"preprocessing\.interpolation is 'lanczos', expected bilinear"),
    ("preprocessing.frame_stride", 1.0, r"preprocessing\.frame_stride is 1\.0, expected a valid integer"),
    ("preprocessing.frames_per_second", 1e308, r"preprocessing\.frames_per_second is 1e\+308, expected a number less"),
    ("specification.temporal_strides", [1, 2.0, 2, 2], r"specification\.temporal_strides\.1 is 2\.0"),
    ("specification.blocks", [1, 1, 1, 1_000_000], r"specification\.blocks\.3 is 1000000, expected a number less"),
    ("specification.input_channels", 0, r"specification\.input_channels is 0, expected a number greater"),
    ("specification.norm_epsilon", float("inf"), r"specification\.norm_epsilon is inf, expected a finite number"),
    ("specification.num_classes", "3", r"specification\.num_classes is '3', expected a valid integer"),
    ("classes", "abc", "classes is 'abc', expected a valid array"),
    ("source_sha256", 5, "source_sha256 is 5, expected a valid string"),
]


@pytest.mark.parametrize(("key", "value", "sentence"), CARDS, ids=[f"{key}={value}" for key, value, _ in CARDS])
def test_a_card(weights: Path, key: str, value: Any, sentence: str, cli: Callable[..., Any]) -> None:
    def change(card: dict[str, Any]) -> None:
        *groups, name = key.split(".")
        for group in groups:
            card = card[group]
        card[name] = value

    change_card(weights, change)
    with pytest.raises(ValueError, match=rf"the card of .*net\.safetensors is not understood: .*{sentence}"):
        load_card(weights)
    told = cli("weights", "show", weights)
    assert (told.code, told.out, told.err.count("\n")) == (2, "", 1)


def test_integers_are_no_weights(weights: Path) -> None:
    content, metadata = load_network(weights)[0].state_dict(), {}
    content["fc.weight"] = content["fc.weight"].to(torch.int64)

    def sign(card: dict[str, Any]) -> None:
        card["tensors_sha256"] = compute_tensors_sha256(content)
        metadata["muybridge"] = json.dumps(card)

    change_card(weights, sign)
    save_file(content, weights, metadata)
    with pytest.raises(ValueError, match=r"fc\.weight holds torch\.int64, expected floats"):
        load_network(weights)


def test_a_network_of_no_channels_is_refused(cli: Callable[..., Any]) -> None:
    told = cli("train", "--data", "d", "--network.input_channels", 0)
    assert told.err == "muybridge: network.input_channels is 0, expected a whole number from 1 to 1,024\n"


def test_labels_in_a_prepared_manifest() -> None:
    columns = {
        "labels": pa.array([[0], [-1], [5]], pa.list_(pa.int32())),
        "shard": [0, 0, 7],
        "offset": [0, -512, 0],
        "num_bytes": [1, 1, 1],
        "start_seconds": pa.array([None, np.nan, 0.0]),
        "end_seconds": pa.array([None, None, np.inf]),
    }
    problems = _find_impossible_numbers(pa.table(columns), 2, 1)
    assert problems == [
        "label runs from -1 to 5, expected 0 to 1",
        "shard runs from 0 to 7, expected 0 to 0",
        "offset runs from -512 to 0, expected 0 to 1125899906842624",
        "start_seconds and end_seconds have values that are not finite",
    ]


@pytest.fixture
def far_apart(tmp_path: Path) -> Path:
    """Six frames, half a year apart each."""
    path = tmp_path / "far.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width = stream.height = 32
        for index in range(6):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 40 * index, np.uint8), format="rgb24")
            for packet in stream.encode(frame):
                packet.pts = packet.dts = (packet.pts or 0) * 15_000_000
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def test_a_small_video_of_years_is_as_long_as_its_frames(far_apart: Path) -> None:
    assert far_apart.stat().st_size < 10_000
    preprocessing = Preprocessing(frames_per_second=15, clip_length=4, scale_height=32, scale_width=32, crop=32)
    files = VideoFiles(str(far_apart.parent), scale_height=32, scale_width=32)
    times = files.read_frame_times(far_apart.name)
    assert times.duration_seconds < 3600  # jumps of the clock are left out
    assert len(sample_uniform_clips(times, preprocessing, 2)) == 2
    manifest = Manifest.from_rows([{"video": far_apart.name, "labels": [0]}], classes=["a"], root=str(far_apart.parent))
    views = EvaluationDataset(manifest, open_clip_reader(manifest.root, preprocessing), 2)[0].planned_views
    assert [(view.status, view.view) for view in views] == [("ok", 0), ("ok", 1)]


def test_frames_of_years_are_above_the_limit() -> None:
    times = FrameTimes(np.array([0, 1]), Fraction(1), 60 * 86_400 * 365)
    preprocessing = Preprocessing(frames_per_second=15, clip_length=4)
    with pytest.raises(VideoError, match="above the limit of 10,000,000; set MUYBRIDGE_MAX_VIDEO_FRAMES to raise it"):
        sample_uniform_clips(times, preprocessing, 2)


def test_a_video_of_pictures_above_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", 4)
    monkeypatch.setenv(PICTURE_PIXELS.variable, "1000")
    files = VideoFiles(str(tmp_path), scale_height=32, scale_width=32)
    with pytest.raises(VideoError, match="pixels, above the limit of 1,000; set MUYBRIDGE_MAX_PICTURE_PIXELS"):
        files.read_frame_times("a.mp4")
    monkeypatch.delenv(PICTURE_PIXELS.variable)
    monkeypatch.setenv(VIDEO_FRAMES.variable, "3")
    with pytest.raises(VideoError, match="4 frames, above the limit of 3; set MUYBRIDGE_MAX_VIDEO_FRAMES"):
        files.read_frame_times("a.mp4")


def test_tables_name_the_file_and_the_limit(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TABLE_BYTES.variable, "100")
    with pytest.raises(
        ValueError, match=r"validation\.parquet: the table needs .*the limit of 100; set MUYBRIDGE_MAX_TABLE"
    ):
        read_scores(finished_run / "scores" / "validation.parquet")
