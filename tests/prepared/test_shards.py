"""Clips out of shards: the right frames, from a folder and from an address, and nothing at all from damaged bytes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from muybridge.datasets.manifest import ShardMember
from muybridge.prepared.shards import ShardFrameSource, format_shard_path
from muybridge.records import VideoError
from stored import HEIGHT, WIDTH, planes, stored_video, write_shard
from videos import read_indices


def frames_of(root: Path | str) -> ShardFrameSource:
    return ShardFrameSource(str(root), scale_height=HEIGHT, scale_width=WIDTH)


@pytest.fixture
def prepared(tmp_path: Path) -> tuple[Path, list[str]]:
    members = write_shard(tmp_path, stored_video(0, 40), stored_video(100, 20), stored_video(200, 33, full_range=True))
    return tmp_path, [str(member) for member in members]


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "numbers", [[0], [39], [15, 16, 17], [3, 2, 2, 30], list(range(40)), [0, 38], [5] * 4], ids=str
)
def test_the_frames_asked_for(prepared: tuple[Path, list[str]], numbers: list[int]) -> None:
    root, videos = prepared
    source = frames_of(root)
    ticks = source.read_frame_times(videos[0]).ticks
    clip = source.read(videos[0], ticks[numbers])
    assert read_indices(clip.luma_thw) == numbers
    assert clip.luma_thw.shape == (len(numbers), HEIGHT, WIDTH)


def test_videos_in_any_order_and_colors_as_stored(prepared: tuple[Path, list[str]]) -> None:
    root, videos = prepared
    source = frames_of(root)
    for video, first, matrix, full_range in [(2, 200, "bt709", True), (1, 100, "bt601", False)] * 2:
        clip = source.read(videos[video], source.read_frame_times(videos[video]).ticks[4:20])
        assert read_indices(clip.luma_thw) == list(range(first + 4, first + 20))
        assert (clip.matrix, clip.full_range) == (matrix, full_range)


def test_pixels_are_the_encoded_ones(prepared: tuple[Path, list[str]]) -> None:
    root, videos = prepared
    source = frames_of(root)
    clip, original = source.read(videos[0], source.read_frame_times(videos[0]).ticks), planes(0, 40)
    assert np.abs(clip.luma_thw.astype(int) - original.luma_thw).mean() < 3
    assert np.abs(clip.chroma_cthw.astype(int) - original.chroma_cthw).max() <= 3


def test_a_time_stamp_that_is_not_there(prepared: tuple[Path, list[str]]) -> None:
    root, videos = prepared
    source = frames_of(root)
    ticks = source.read_frame_times(videos[0]).ticks
    for wrong in (ticks[-1] + 1, ticks[3] - 1):
        with pytest.raises(VideoError, match="no frame at a time stamp of the clip"):
            source.read(videos[0], np.array([wrong]))


@pytest.mark.parametrize("part", ["head", "group"])
def test_a_flipped_byte_is_found_and_named(prepared: tuple[Path, list[str]], part: str) -> None:
    root, videos = prepared
    member = ShardMember.parse(videos[1])
    flip(root / format_shard_path(0), member.offset + (100 if part == "head" else member.num_bytes - 10))
    source = frames_of(root)
    with pytest.raises(VideoError, match=r"000000\.tar is damaged near byte \d+ \(wrong checksum\)") as caught:
        source.read(videos[1], source.read_frame_times(videos[1]).ticks[-1:])
    assert caught.value.status == "unreadable"
    assert read_indices(source.read(videos[0], source.read_frame_times(videos[0]).ticks[:2]).luma_thw) == [0, 1]


def test_a_truncated_shard_is_named(prepared: tuple[Path, list[str]]) -> None:
    root, videos = prepared
    path = root / format_shard_path(0)
    path.write_bytes(path.read_bytes()[:-20])
    source = frames_of(root)
    ticks = source.read_frame_times(videos[2]).ticks
    assert read_indices(source.read(videos[2], ticks[:16]).luma_thw) == list(range(200, 216))
    with pytest.raises(VideoError, match=r"000000\.tar ends within the data that starts at byte") as caught:
        source.read(videos[2], ticks[30:])
    assert caught.value.status == "truncated"


def test_a_missing_shard_is_named(prepared: tuple[Path, list[str]]) -> None:
    root, videos = prepared
    (root / format_shard_path(0)).unlink()
    with pytest.raises(VideoError, match=r"000000\.tar does not exist") as caught:
        frames_of(root).read_frame_times(videos[0])
    assert caught.value.status == "missing"


def test_frames_of_another_size_are_refused(prepared: tuple[Path, list[str]]) -> None:
    root, videos = prepared
    source = ShardFrameSource(str(root), scale_height=HEIGHT, scale_width=WIDTH + 2)
    with pytest.raises(VideoError, match="the stored frames are 32x44, expected 32x45"):
        source.read(videos[0], source.read_frame_times(videos[0]).ticks[:1])


@pytest.fixture
def remote(
    prepared: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, list[str]]]:
    root, videos = prepared
    monkeypatch.setenv("MUYBRIDGE_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.pipe(f"/bucket/{format_shard_path(0)}", (root / format_shard_path(0)).read_bytes())
    yield "memory://bucket", videos
    memory.rm("/bucket", recursive=True)


def test_an_address_is_read_once_and_then_from_its_copy(remote: tuple[str, list[str]]) -> None:
    address, videos = remote
    source = frames_of(address)
    ticks = source.read_frame_times(videos[1]).ticks
    assert read_indices(source.read(videos[1], ticks[2:6]).luma_thw) == [102, 103, 104, 105]
    fsspec.filesystem("memory").pipe(f"/bucket/{format_shard_path(0)}", b"")
    again = frames_of(address)
    assert read_indices(again.read(videos[1], ticks[2:6]).luma_thw) == [102, 103, 104, 105]
    with pytest.raises(VideoError, match="ends within the data"):
        again.read_frame_times(videos[0])


def test_a_damaged_copy_is_fetched_again(remote: tuple[str, list[str]], tmp_path: Path) -> None:
    address, videos = remote
    ticks = frames_of(address).read_frame_times(videos[0]).ticks
    (copy,) = (tmp_path / "cache").rglob("*.tar")
    flip(copy, ShardMember.parse(videos[0]).offset + 50)
    assert read_indices(frames_of(address).read(videos[0], ticks[:3]).luma_thw) == [0, 1, 2]


def test_a_shard_missing_at_an_address_is_named(remote: tuple[str, list[str]]) -> None:
    with pytest.raises(VideoError, match=r"000000\.tar does not exist at memory://nowhere"):
        frames_of("memory://nowhere").read_frame_times(remote[1][0])


def read_in_child(source: ShardFrameSource, video: str, results: object) -> None:
    ticks = source.read_frame_times(video).ticks
    results.put(read_indices(source.read(video, ticks[10:26]).luma_thw))  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_no_decoder_survives_a_fork(prepared: tuple[Path, list[str]]) -> None:
    root, videos = prepared
    source = frames_of(root)
    source.read(videos[0], source.read_frame_times(videos[0]).ticks[:20])
    before = dict(source._decoders)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=read_in_child, args=(source, videos[0], results))
    child.start()
    assert results.get(timeout=60) == list(range(10, 26))
    child.join(60)
    assert source._decoders == before
    source._owner_pid = -1  # as a forked child sees it
    assert source._get_decoder(next(iter(before))) is not next(iter(before.values()))


def test_files_are_closed_with_the_source(prepared: tuple[Path, list[str]]) -> None:
    root, videos = prepared
    source = frames_of(root)
    source.read_frame_times(videos[0])
    shard = root / format_shard_path(0)

    def count_open() -> int:
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return sum(os.path.realpath(link) == str(shard.resolve()) for link in links)

    assert count_open() == 1
    del source
    assert count_open() == 0
    with pytest.raises(VideoError, match="does not exist"):
        frames_of(root / "elsewhere").read_frame_times(videos[0])  # and what was never opened is not closed


def test_it_travels_without_what_is_open(prepared: tuple[Path, list[str]]) -> None:
    root, videos = prepared
    source = frames_of(root)
    source.read(videos[0], source.read_frame_times(videos[0]).ticks[:2])
    copy = pickle.loads(pickle.dumps(source))
    assert not copy._decoders
    assert not copy._reader._open
    assert read_indices(copy.read(videos[1], copy.read_frame_times(videos[1]).ticks[:2]).luma_thw) == [100, 101]
