"""Tar shards of stored videos: writing and verification.

A shard is a WebDataset: for each video `NNNNNNNNN.mp4`, `NNNNNNNNN.flow.mp4` (or one of them), and `NNNNNNNNN.json`
(its name, split and labels), in the order of the manifest. Headers have no time and no owner, so equal videos give equal
bytes.
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
    """A written shard; `offsets` and `flow_offsets` locate each video's file and its flow by row index."""

    num_bytes: int
    sha256: str
    offsets: dict[int, int]
    flow_offsets: dict[int, int]


def write_shard(
    shard_path: Path, videos: Iterable[tuple[int, bytes | None, bytes | None, Mapping[str, Any]]]
) -> PackedShard:
    """Atomically write a shard of (row index, video file or None, flow file or None, metadata), in the order given."""
    offsets: dict[int, int] = {}
    flow_offsets: dict[int, int] = {}
    with atomic_write(shard_path) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for row_index, content, flow_content, metadata in videos:
                if content is not None:
                    offsets[row_index] = tar.offset + tarfile.BLOCKSIZE  # a USTAR header is one block
                    _add_file(tar, f"{row_index:09d}.mp4", content)
                if flow_content is not None:
                    flow_offsets[row_index] = tar.offset + tarfile.BLOCKSIZE
                    _add_file(tar, f"{row_index:09d}.flow.mp4", flow_content)
                _add_file(tar, f"{row_index:09d}.json", (json.dumps(metadata, ensure_ascii=False) + "\n").encode())
        num_bytes, sha256 = hash_file(temporary)
    return PackedShard(num_bytes, sha256, offsets, flow_offsets)


def _add_file(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    tar.addfile(member, io.BytesIO(content))


def is_intact(content: bytes, sha256: str) -> bool:
    """Whether a stored file has the header with this SHA-256 and the groups of pictures that the header's digests describe."""
    header_length = parse_header_length(content)
    if header_length is None or hashlib.sha256(content[:header_length]).hexdigest() != sha256:
        return False
    try:
        index = parse_header(content[:header_length])
    except ValueError:
        return False
    bounds = [index.byte_offsets[index.get_gop_start(gop)] for gop in range(len(index.keyframe_indices) + 1)]
    pieces = (content[start:stop] for start, stop in pairwise(bounds))
    return all(index.is_gop_intact(gop, piece) for gop, piece in enumerate(pieces))


def find_damaged_videos(path: Path, videos: Iterable[tuple[str, int, int, str]]) -> Iterator[str]:
    """The names of those (name, offset, num_bytes, sha256) whose bytes in the shard fail their checksums."""
    with path.open("rb") as file:
        for name, offset, num_bytes, sha256 in videos:
            file.seek(offset)
            if not is_intact(file.read(num_bytes), sha256):
                yield name
