"""Tar shards of stored videos: written so that the same videos are the same bytes, and checked.

A shard is a WebDataset: for each video `NNNNNNNNN.mp4` and `NNNNNNNNN.json` (its name, split, labels), in the manifest's
order. Headers hold no time, owner or other trace of where they were written.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from muybridge.files.atomic import atomic_write
from muybridge.files.hashing import hash_file
from muybridge.prepared.mp4 import parse_header, parse_header_length


@dataclass(frozen=True)
class PackedShard:
    """A shard as it was written; `offsets` and `flow_offsets` say where each video's file and its flow begin."""

    num_bytes: int
    sha256: str
    offsets: dict[int, int]
    flow_offsets: dict[int, int]


def write_shard(shard_path: Path, videos: Iterable[tuple[int, bytes, bytes | None, Mapping[str, Any]]]) -> PackedShard:
    """Writes (row number, file, its flow if there is any, what is known of it) in the order given, whole or not at all."""
    offsets: dict[int, int] = {}
    flow_offsets: dict[int, int] = {}
    with atomic_write(shard_path) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for row, content, flow, metadata in videos:
                offsets[row] = tar.offset + tarfile.BLOCKSIZE  # behind its header, which in this format is one block
                _add_file(tar, f"{row:09d}.mp4", content)
                if flow is not None:
                    flow_offsets[row] = tar.offset + tarfile.BLOCKSIZE
                    _add_file(tar, f"{row:09d}.flow.mp4", flow)
                _add_file(tar, f"{row:09d}.json", (json.dumps(metadata, ensure_ascii=False) + "\n").encode())
        num_bytes, sha256 = hash_file(temporary)
    return PackedShard(num_bytes, sha256, offsets, flow_offsets)


def _add_file(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    tar.addfile(member, io.BytesIO(content))


def is_intact(content: bytes, sha256: str) -> bool:
    """Whether a stored video is what was stored, from its head to its last group of pictures."""
    header_length = parse_header_length(content)
    if header_length is None or hashlib.sha256(content[:header_length]).hexdigest() != sha256:
        return False
    index = parse_header(content[:header_length])
    bounds = [index.byte_offsets[index.get_gop_start(gop)] for gop in range(len(index.keyframe_indices) + 1)]
    pieces = (content[start:stop] for start, stop in pairwise(bounds))
    return all(index.is_gop_intact(group, piece) for group, piece in enumerate(pieces))


def find_damaged_videos(path: Path, videos: Iterable[tuple[str, int, int, str]]) -> Iterator[str]:
    """The names of those (name, offset, num_bytes, sha256) that are not in the shard as they were stored."""
    with path.open("rb") as file:
        for name, offset, num_bytes, sha256 in videos:
            file.seek(offset)
            if not is_intact(file.read(num_bytes), sha256):
                yield name
