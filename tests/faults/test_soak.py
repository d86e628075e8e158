"""Thousands of clips, broken videos among them: neither memory nor open files grow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from muybridge.data.shards import ShardFrames, shard_name
from muybridge.records import VideoError
from stored import HEIGHT, WIDTH, stored_video, write_shard


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.long
def test_clips_from_shards_leave_nothing_behind(tmp_path: Path) -> None:
    members = write_shard(tmp_path, *(stored_video(10 * n, 40, full_range=n % 2 == 1) for n in range(20)))
    path = tmp_path / shard_name(0)
    content = bytearray(path.read_bytes())
    for member in members[::5]:
        content[member.offset + member.num_bytes - 9] ^= 1
    path.write_bytes(content)
    source = ShardFrames(str(tmp_path), scale_height=HEIGHT, scale_width=WIDTH)

    def read_all(rounds: int) -> int:
        num_failed = 0
        for place in range(rounds * len(members)):
            video = str(members[place % len(members)])
            try:
                source.read(video, source.frame_times(video).ticks[place % 24 : place % 24 + 16])
            except VideoError:
                num_failed += 1
        return num_failed

    assert read_all(25) > 0
    files, memory = len(list(Path("/proc/self/fd").iterdir())), resident_megabytes()
    assert read_all(250) > 100
    assert len(list(Path("/proc/self/fd").iterdir())) == files
    assert resident_megabytes() - memory < 8
