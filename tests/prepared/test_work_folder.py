"""What is done of a preparation, on disk: a video lies there until its shard is written, and no longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from muybridge.prepared.tar_shards import PackedShard
from muybridge.prepared.transcode import StoredVideo
from muybridge.prepared.work_folder import WorkFolder
from muybridge.records import VideoError


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    """Two videos, the second with its flow, and one that could not be read."""
    work = WorkFolder(tmp_path / "work")
    (work.path / "videos").mkdir(parents=True)
    plain = StoredVideo(b"frames", "a" * 64, 10, 0.4, 25.0, 48, 64)
    work.record_result(0, plain)
    work.record_result(1, StoredVideo(b"more", "b" * 64, 10, 0.4, 25.0, 48, 64, b"flow", "c" * 64))
    work.record_result(2, VideoError("unreadable", "cut"))
    return work


def list_files(work: WorkFolder) -> list[str]:
    return sorted(path.name for path in (work.path / "videos").rglob("*") if path.is_file())


def test_videos_are_read_back_by_row(work: WorkFolder) -> None:
    again = WorkFolder(work.path)
    again.load(3)
    assert again.results.keys() == {0, 1, 2}
    assert again.read_video(0) == (b"frames", None)
    assert again.read_video(1) == (b"more", b"flow")
    assert (again.results[2]["status"], again.results[2]["reason"]) == ("unreadable", "cut")


def test_a_video_that_is_lost_is_made_again(work: WorkFolder) -> None:
    next((work.path / "videos").rglob("*.flow.mp4")).unlink()
    again = WorkFolder(work.path)
    again.load(3)
    assert again.results.keys() == {0, 2}


def test_a_written_shard_takes_the_place_of_its_videos(work: WorkFolder) -> None:
    assert len(list_files(work)) == 3
    work.record_shard(0, PackedShard(4096, "d" * 64, {0: 512, 1: 1536}, {1: 2560}), [0, 1])
    assert list_files(work) == []
    again = WorkFolder(work.path)
    again.load(3)
    assert list(again.iterate_locations(3)) == [(0, 0, 512, None), (1, 0, 1536, 2560)]


def test_what_was_missing_or_too_slow_is_tried_again(work: WorkFolder) -> None:
    work.record_result(3, VideoError("missing", "not there"))
    work.record_result(4, VideoError("timed_out", "slow"))
    again = WorkFolder(work.path)
    again.load(3)
    assert again.results.keys() == {0, 1, 2}
    work.record_shard(1, PackedShard(1024, "d" * 64, {}, {}), [])
    again.load(3)
    assert again.results.keys() == {0, 1, 2, 3, 4}  # their rows lie in a shard that is written
