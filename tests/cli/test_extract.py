"""`muybridge extract` from outside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shutil import copyfile
from typing import Any

import pyarrow.parquet as pq

from videos import write_sound


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


def test_a_clip_every_so_many_frames(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    copyfile(motions / "test" / "left" / "00000.mp4", tmp_path / "a.mp4")
    assert cli("extract", finished_run, tmp_path / "a.mp4", "-o", tmp_path / "f.parquet", "--step", 3).code == 0
    assert pq.read_table(tmp_path / "f.parquet")["start_seconds"].to_pylist() == [0.0, 3 / 24, 6 / 24, 9 / 24]
