"""Thousands of clips, broken videos among them: neither memory nor open files grow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fuzz_readers import READERS
from muybridge.prepared.shards import ShardFrameSource, format_shard_path
from muybridge.randomness import make_generator
from muybridge.records import Preprocessing, VideoError
from muybridge.video.decode import VideoFiles
from muybridge.video.media import MediaFiles
from muybridge.video.sampling import sample_random_clip
from stored import HEIGHT, WIDTH, stored_video, write_shard
from videos import write_sound, write_video


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.long
def test_clips_from_shards_leave_nothing_behind(tmp_path: Path) -> None:
    members = write_shard(tmp_path, *(stored_video(10 * n, 40, full_range=n % 2 == 1) for n in range(20)))
    path = tmp_path / format_shard_path(0)
    content = bytearray(path.read_bytes())
    for member in members[::5]:
        content[member.offset + member.num_bytes - 9] ^= 1
    path.write_bytes(content)
    source = ShardFrameSource(str(tmp_path), scale_height=HEIGHT, scale_width=WIDTH)

    def read_all(rounds: int) -> int:
        num_failed = 0
        for place in range(rounds * len(members)):
            video = str(members[place % len(members)])
            try:
                source.read(video, source.read_frame_times(video).ticks[place % 24 : place % 24 + 16])
            except VideoError:
                num_failed += 1
        return num_failed

    assert read_all(25) > 0
    files, memory = len(list(Path("/proc/self/fd").iterdir())), resident_megabytes()
    assert read_all(250) > 100
    assert len(list(Path("/proc/self/fd").iterdir())) == files
    assert resident_megabytes() - memory < 8


@pytest.mark.long
def test_clips_from_raw_files_leave_nothing_behind(tmp_path: Path) -> None:
    files = [write_video(tmp_path / f"{number}.mp4", 40 + number) for number in range(12)]
    whole = files[0].read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.mp4").write_text("not a video")
    write_sound(tmp_path / "sound.mp4")
    names = [path.name for path in files] + ["cut.mp4", "text.mp4", "sound.mp4", "missing.mp4"]
    source = VideoFiles(str(tmp_path), scale_height=HEIGHT, scale_width=WIDTH)

    def read_all(rounds: int) -> int:
        num_failed = 0
        for place in range(rounds * len(names)):
            video = names[place % len(names)]
            try:
                clip = sample_random_clip(
                    source.read_frame_times(video), Preprocessing(), make_generator(0, "clip", place)
                )
                source.read(video, clip.ticks)
            except VideoError:
                num_failed += 1
        return num_failed

    assert read_all(10) == 40
    files_open, memory = len(list(Path("/proc/self/fd").iterdir())), resident_megabytes()
    assert read_all(125) == 500
    assert len(list(Path("/proc/self/fd").iterdir())) == files_open
    assert resident_megabytes() - memory < 8


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_ten_thousand_opens_leave_nothing_behind(tmp_path: Path) -> None:
    """Every container and every other kind of video, whole and cut short, opened anew each time."""
    reader = READERS["videos"]
    contents = {**reader.make_seeds(tmp_path), **READERS["pictures"].make_seeds(tmp_path)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / f"cut-{name}").write_bytes(content[: len(content) // 2])
    names = [*contents, *(f"cut-{name}" for name in contents), "missing.mp4"]

    def open_all(num_opens: int) -> int:
        num_read = 0
        for number in range(num_opens):
            source = MediaFiles(str(tmp_path), scale_height=HEIGHT, scale_width=WIDTH)
            name = names[number % len(names)]
            try:
                source.read(name, source.read_frame_times(name).ticks[:1])
                num_read += 1
            except VideoError:
                pass
        return num_read

    assert open_all(1000) > 300
    files_open, memory = len(list(Path("/proc/self/fd").iterdir())), resident_megabytes()
    assert open_all(10_000) > 3000
    assert len(list(Path("/proc/self/fd").iterdir())) == files_open
    assert resident_megabytes() - memory < 16
