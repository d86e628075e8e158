"""`muybridge extract` from outside."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Callable
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from muybridge.cli import prediction_output
from muybridge.prediction import clip_outputs
from videos import write_damaged_video, write_sound


def test_features_of_what_is_readable(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    write_sound(tmp_path / "sound.mp4")
    videos = motions / "test" / "left"
    target = tmp_path / "features.parquet"
    told = cli("extract", finished_run, videos, tmp_path / "sound.mp4", "-o", target, "--clips", 4)
    assert told.code == 3
    assert told.out == f"12 clips of 3 videos in {target}\n"
    assert told.err == f"{tmp_path / 'sound.mp4'}: no_video: the file holds sound and no video\n"
    table = pq.read_table(target)
    assert table["video"].to_pylist() == [str(videos / f"0000{number}.mp4") for number in range(3) for _ in range(4)]
    assert {len(row) for row in table["features"].to_pylist()} == {32}  # 8 times the width of 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.parquet", "sound.mp4"]


def test_nothing_readable_is_code_1_and_no_file(finished_run: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    write_sound(tmp_path / "sound.mp4")
    told = cli("extract", finished_run, tmp_path / "sound.mp4", "-o", tmp_path / "features.parquet")
    assert (told.code, told.out) == (1, "")
    assert [path.name for path in tmp_path.iterdir()] == ["sound.mp4"]


def test_clips_that_cannot_be_read_are_told(finished_run: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    video, target = write_damaged_video(tmp_path / "a.mp4"), tmp_path / "f.parquet"
    told = cli("extract", finished_run, video, "-o", target, "--step", 4)
    assert (told.code, told.out) == (3, f"10 clips of 1 video in {target}\n")
    assert told.err.startswith(f"{video}: 5 of 15 clips could not be read: the file is damaged")


def test_a_clip_every_so_many_frames(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    copyfile(motions / "test" / "left" / "00000.mp4", tmp_path / "a.mp4")
    assert cli("extract", finished_run, tmp_path / "a.mp4", "-o", tmp_path / "f.parquet", "--step", 3).code == 0
    assert pq.read_table(tmp_path / "f.parquet")["start_seconds"].to_pylist() == [0.0, 3 / 24, 6 / 24, 9 / 24]


def test_the_extension_decides(finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    line = ("extract", finished_run, motions / "test" / "left", "--clips", 2, "-o")
    for extension in ("parquet", "csv", "npz"):
        assert cli(*line, tmp_path / f"f.{extension}").code == 0
    table = pq.read_table(tmp_path / "f.parquet")
    expected = np.array(table["features"].to_pylist(), np.float32)
    with np.load(tmp_path / "f.npz") as arrays:
        assert np.array_equal(arrays["features"], expected)
        assert arrays["video"].tolist() == table["video"].to_pylist()
        assert arrays["start_seconds"].tolist() == table["start_seconds"].to_pylist()
        assert json.loads(str(arrays["settings"]))["clips"] == 2
    with (tmp_path / "f.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["video"] for row in rows] == table["video"].to_pylist()
    assert np.array_equal(
        np.array([[row[f"feature_{index}"] for index in range(32)] for row in rows], np.float32), expected
    )
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == [
        "f.csv",
        "f.npz",
        "f.parquet",
    ]
    refused = cli(*line, tmp_path / "f.json")
    assert refused.code == 2
    assert "give it a name that ends in .parquet or .csv or .npz" in refused.err


def test_a_signal_is_answered_between_batches_of_a_long_video(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    update = prediction_output.VideoProgress.update_share

    def interrupt(progress: prediction_output.VideoProgress, share: float) -> bool:
        shares.append(share)
        signal.raise_signal(signal.SIGINT)
        return update(progress, share)

    monkeypatch.setattr(clip_outputs, "BATCH_CLIPS", 2)
    words = ("extract", finished_run, motions / "test" / "left", "-o", tmp_path / "f.parquet", "--step", 3)
    with monkeypatch.context() as patch:
        patch.setattr(prediction_output.VideoProgress, "update_share", interrupt)
        told = cli(*words)
    assert told.code == 130
    assert shares == [0.5]  # 2 of the 4 clips of the first video
    assert "run the same command again to continue" in told.err
    assert not (tmp_path / "f.parquet").exists()
    assert cli(*words).code == 0
    assert len(pq.read_table(tmp_path / "f.parquet")) == 12


def test_progress_moves_within_a_long_video(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    monkeypatch.setattr(
        prediction_output.VideoProgress, "update_share", lambda progress, share: shares.append(share) or True
    )
    monkeypatch.setattr(clip_outputs, "BATCH_CLIPS", 2)
    copyfile(motions / "test" / "left" / "00000.mp4", tmp_path / "a.mp4")
    assert cli("extract", finished_run, tmp_path / "a.mp4", "-o", tmp_path / "f.csv", "--step", 3).code == 0
    assert shares == [0.5, 1.0]
