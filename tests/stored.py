"""Prepared shards made by hand for tests: each video's frames carry its index, so a test reads what was decoded."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from muybridge.datasets.manifest import ShardMember
from muybridge.prepared.mp4 import mux_mp4
from muybridge.prepared.shards import format_shard_path
from muybridge.prepared.transcode import encode_h264
from muybridge.records import FrameTimes, YuvClip
from videos import index_picture

HEIGHT, WIDTH = 32, 43  # an odd width, as 171 is


def planes(first: int, num_frames: int, *, full_range: bool = False) -> YuvClip:
    luma = np.stack([index_picture(first + n, HEIGHT, WIDTH)[:, :, 0] for n in range(num_frames)])
    chroma = np.full((2, num_frames, HEIGHT // 2, (WIDTH + 1) // 2), 120, np.uint8)
    return YuvClip(luma, chroma, "bt709" if full_range else "bt601", full_range)


def even_times(num_frames: int) -> FrameTimes:
    """25 frames a second, in ticks of a hundredth."""
    return FrameTimes(4 * np.arange(num_frames, dtype=np.int64), Fraction(1, 100), 4 * num_frames)


def stored_video(first: int = 0, num_frames: int = 40, *, full_range: bool = False) -> tuple[bytes, str]:
    clip = planes(first, num_frames, full_range=full_range)
    return mux_mp4(encode_h264(iter([clip]), even_times(num_frames)))


def write_shard(root: Path, *videos: tuple[bytes, str]) -> list[ShardMember]:
    """The videos one behind the other, with something between them, as in a tar."""
    path = root / format_shard_path(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    content, members = b"", []
    for video, sha256 in videos:
        content += b"\xaa" * 512
        members.append(ShardMember(0, len(content), len(video), sha256))
        content += video
    path.write_bytes(content)
    return members
