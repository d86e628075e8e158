"""Numbers in files that anybody may have written: none that looks right and is not, none that fills the memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from shutil import copytree
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from muybridge.cli.main import main
from muybridge.datasets.manifest import Manifest
from muybridge.evaluation.scores import read_scores
from muybridge.files.hashing import hash_file
from muybridge.limits import PICTURE_PIXELS, TABLE_BYTES, VIDEO_FRAMES
from muybridge.loading.clip_reader import open_clip_reader
from muybridge.loading.datasets import EvaluationDataset
from muybridge.loading.open_data import open_data
from muybridge.models.network import create_model
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
    ("classes", "abc", "classes is 'abc', expected a list"),
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


@pytest.fixture(scope="module")
def prepared(motions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "data"
    assert main(["prepare", str(motions), "-o", str(folder), "--scale", "32", "32", "--workers", "1"]) == 0
    return folder


def change_manifest(prepared: Path, target: Path, column: str, value: Any, splits: tuple[str, ...]) -> Path:
    """A copy of prepared data with another value in the first row of some splits, and the checksum of the new manifest."""
    copytree(prepared, target)
    table = pq.read_table(prepared / "manifest.parquet")
    values, row_splits = table[column].to_pylist(), table["split"].to_pylist()
    for split in splits:
        values[row_splits.index(split)] = value
    index = table.column_names.index(column)
    pq.write_table(table.set_column(index, column, pa.array(values, table[column].type)), target / "manifest.parquet")
    description = json.loads((target / "dataset.json").read_text())
    digest = hash_file(target / "manifest.parquet")[1]
    (target / "dataset.json").write_text(json.dumps({**description, "manifest_sha256": digest}))
    return target


@pytest.mark.parametrize("value", [-1, 2])
def test_labels_in_a_prepared_manifest(value: int, prepared: Path, tmp_path: Path) -> None:
    data = change_manifest(prepared, tmp_path / "data", "labels", [value], ("test",))
    with pytest.raises(ValueError, match=r"manifest\.parquet cannot be used: label runs from .*, expected 0 to 1"):
        open_data(str(data))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("offset", -5), ("offset", None), ("num_bytes", 2**41), ("shard", -1), ("shard", 7)),
        *(("start_seconds", float("nan")), ("end_seconds", float("inf"))),
    ],
)
def test_a_row_of_a_prepared_manifest_that_cannot_be_is_one_failed_video(
    column: str, value: Any, prepared: Path, tmp_path: Path
) -> None:
    data = open_data(str(change_manifest(prepared, tmp_path / "data", column, value, ("train", "test"))))
    assert "2 rows have impossible numbers in manifest.parquet: unreadable." in data.notes
    assert pc.value_counts(data.table["status"]).to_pylist() == [
        {"values": "unreadable", "counts": 2},
        {"values": "ok", "counts": len(data) - 2},
    ]
    assert len(data.select_split("train")) == 15  # as any video that failed in preparation
    with pytest.raises(VideoError, match=r"the manifest says shard .*, where nothing can be"):
        data.select_split("test").check_status(0)


def test_no_verb_ends_by_such_a_row(
    prepared: Path, finished_run: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    data = change_manifest(prepared, tmp_path / "data", "offset", -5, ("train", "test"))
    told = cli("evaluate", finished_run, "--data", data, "-o", tmp_path / "s.parquet", "--loading.workers", 0)
    assert told.code == 3
    assert "6 videos, 1 of them unreadable" in told.out
    told = cli("predict", finished_run, data, "--json", "--clips", 1)
    assert told.code == 3
    assert [json.loads(line)["status"] for line in told.out.splitlines()].count("unreadable") == 2
    told = cli("extract", finished_run, data, "--clips", 1, "-o", tmp_path / "f.parquet")
    assert (told.code, told.out) == (3, f"24 clips of 24 videos in {tmp_path / 'f.parquet'}\n")


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
