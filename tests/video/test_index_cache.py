"""Stored indexes are those of the file, as it is now, by this FFmpeg; what cannot be read is made again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from muybridge.video import decode, index_cache
from muybridge.video.decode import VideoFiles
from muybridge.video.frame_index import FrameIndex, index_frames
from muybridge.video.index_cache import read_stored_index, write_stored_index
from videos import read_indices, write_video

KEY = (1, 2)


@pytest.fixture
def indexed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that were indexed; every file is a large one."""
    paths: list[str] = []

    def index(path: str) -> FrameIndex:
        paths.append(path)
        return index_frames(path)

    monkeypatch.setattr(decode, "LARGE_BYTES", 0)
    monkeypatch.setattr(decode, "index_frames", index)
    return paths


def assert_equal(stored: FrameIndex | None, index: FrameIndex) -> None:
    assert stored is not None
    for field in dataclasses.fields(FrameIndex):
        pair = getattr(stored, field.name), getattr(index, field.name)
        if field.name == "times":
            pair = vars(stored.times).copy(), vars(index.times).copy()
            np.testing.assert_array_equal(pair[0].pop("ticks"), pair[1].pop("ticks"))
        np.testing.assert_array_equal(*pair) if isinstance(pair[0], np.ndarray) else None
        assert isinstance(pair[0], np.ndarray) or pair[0] == pair[1], field.name


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {"audio": True}),
        ("a.ts", {"container": "mpegts"}),  # its key frames have headers
        ("a.avi", {"codec": "mpeg4"}),
        ("a.mpg", {"codec": "mpeg2video", "container": "mpeg"}),  # frames are counted
    ],
)
def test_an_index_comes_back_as_it_was(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    path = str(write_video(tmp_path / name, 30, **options))
    index = index_frames(path)
    write_stored_index(tmp_path / "indexes", path, KEY, index)
    assert_equal(read_stored_index(tmp_path / "indexes", path, KEY), index)
    assert read_stored_index(tmp_path / "indexes", path, (1, 3)) is None
    assert read_stored_index(tmp_path / "indexes", path + "x", KEY) is None


def test_a_file_is_indexed_once_until_it_changes(tmp_path: Path, indexed: list[str]) -> None:
    path = write_video(tmp_path / "a.mp4", 20)

    def read_last() -> list[int]:
        files = VideoFiles("/", scale_height=48, scale_width=64, index_folder=tmp_path / "indexes")
        return read_indices(files.read(str(path), files.read_frame_times(str(path)).ticks[-1:]).luma_thw)

    assert [read_last(), read_last()] == [[19], [19]]
    assert len(indexed) == 1
    write_video(path, 30)
    assert read_last() == [29]
    assert len(indexed) == 2


def _cut(file: Path, patch: pytest.MonkeyPatch) -> None:
    file.write_bytes(file.read_bytes()[:-200])


def _flip(file: Path, patch: pytest.MonkeyPatch) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)


def _replace(file: Path, patch: pytest.MonkeyPatch) -> None:
    with file.open("wb") as target:
        np.savez(target, ticks=np.arange(3))


def _update(file: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(av, "library_versions", {"libavformat": (99, 0, 0)})


@pytest.mark.parametrize("spoil", [_cut, _flip, _replace, _update])
def test_what_cannot_be_used_is_made_again(
    tmp_path: Path,
    indexed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path, pytest.MonkeyPatch], None],
) -> None:
    path = str(write_video(tmp_path / "a.mp4", 20))
    for _ in range(2):
        files = VideoFiles("/", scale_height=48, scale_width=64, index_folder=tmp_path / "indexes")
        assert len(files.read_frame_times(path)) == 20
        spoil(next((tmp_path / "indexes").glob("*.npz")), monkeypatch)
    assert len(indexed) == 2


def test_the_oldest_make_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_cache, "_MAX_FILES", 3)
    index = index_frames(str(write_video(tmp_path / "a.mp4", 5)))
    for number in range(5):
        write_stored_index(tmp_path / "indexes", f"{number}.mp4", KEY, index)
    assert len(list((tmp_path / "indexes").glob("*.npz"))) == 3


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path, indexed: list[str]) -> None:
    (tmp_path / "indexes").write_text("a file")
    path = str(write_video(tmp_path / "a.mp4", 20))
    files = VideoFiles("/", scale_height=48, scale_width=64, index_folder=tmp_path / "indexes")
    assert len(files.read_frame_times(path)) == 20
