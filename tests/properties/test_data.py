"""Splits, manifests, stored MP4 files and shards for any content: what was written is what is read."""

from __future__ import annotations

import hashlib
import itertools
import struct
import tarfile
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muybridge.datasets.manifest import Manifest, ShardMember
from muybridge.datasets.rows import VideoRow
from muybridge.datasets.splits import ValidationSplit, assign_splits
from muybridge.prepared.mp4 import EncodedVideo, mux_mp4, parse_header, parse_header_length
from muybridge.prepared.tar_shards import is_intact, write_shard
from muybridge.records import FrameTimes

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@st.composite
def row_lists(draw: st.DrawFn) -> list[VideoRow]:
    labels = draw(st.lists(st.sampled_from("abcde"), min_size=1, max_size=40))
    groups = draw(st.lists(st.none() | st.integers(0, 8).map(str), min_size=len(labels), max_size=len(labels)))
    return [
        VideoRow(f"{number}.mp4", (label,), group=group)
        for number, (label, group) in enumerate(zip(labels, groups, strict=True))
    ]


@given(row_lists(), st.integers(0, 1000), st.randoms(use_true_random=False))
def test_a_split_takes_whole_groups_and_depends_on_nothing_else(rows: list[VideoRow], seed: int, random: Any) -> None:
    validation = ValidationSplit(seed)
    assigned, _ = assign_splits(rows, validation)
    splits = {row.path: row.split for row in assigned}
    assert [row.path for row in assigned] == [row.path for row in rows]
    assert set(splits.values()) <= {"train", "validation", "test"}
    by_group: dict[str, set[Any]] = {}
    for row in assigned:
        by_group.setdefault(row.group_key, set()).add(row.split)
    assert all(len(found) == 1 for found in by_group.values())
    random.shuffle(rows)
    assert {row.path: row.split for row in assign_splits(rows, validation)[0]} == splits
    other = {row.path: row.split for row in assign_splits(rows, ValidationSplit(seed + 1))[0]}
    assert {path for path, split in other.items() if split == "test"} == {p for p, s in splits.items() if s == "test"}


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    names = draw(st.lists(NAMES, min_size=1, max_size=8, unique=True))
    rows = []
    for name in names:
        labels = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True))
        rows.append({"video": name, "labels": labels, "split": draw(st.sampled_from(["train", "validation", "test"]))})
    return Manifest.from_rows(rows, classes=("run", "walk", "jump up", "sit"), root="/data")


@given(manifests(), st.permutations(["run", "walk", "jump up", "sit"]))
def test_a_manifest_keeps_names_and_meaning(manifest: Manifest, order: list[str]) -> None:
    remapped = manifest.remap_labels([name.upper().replace(" ", "_") for name in order])
    for index in range(len(manifest)):
        assert remapped.get_video(index) == manifest.get_video(index)
        meant = [manifest.classes[label] for label in manifest.get_labels(index)]
        assert [order[label] for label in remapped.get_labels(index)] == meant
    rebuilt = Manifest.from_rows(
        [{"video": manifest.get_video(n), "labels": list(manifest.get_labels(n)), "split": manifest.table["split"][n].as_py()}
         for n in range(len(manifest))],
        classes=manifest.classes, root="/elsewhere",
    )  # fmt: skip
    assert rebuilt.compute_sha256() == manifest.compute_sha256()
    chunked = pa.concat_tables([manifest.table.slice(0, 1), manifest.table.slice(1)])
    assert Manifest(chunked, manifest.classes, manifest.root, ()).compute_sha256() == manifest.compute_sha256()
    counts = manifest.count_videos()
    assert sum(sum(by_class.values()) for by_class in counts.values()) == sum(
        len(manifest.get_labels(index)) for index in range(len(manifest))
    )


@given(st.integers(0, 10**6), st.integers(0, 10**12), st.integers(1, 10**9), st.binary(min_size=32, max_size=32))
def test_a_shard_member_is_its_text(shard: int, offset: int, num_bytes: int, digest: bytes) -> None:
    member = ShardMember(shard, offset, num_bytes, digest.hex())
    assert ShardMember.parse(str(member)) == member


@st.composite
def encoded_videos(draw: st.DrawFn) -> tuple[EncodedVideo, list[bytes]]:
    """Packets of NAL units with any content, and the slices in them."""
    payloads = draw(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=30))
    slices = [b"\x65" + bytes(byte or 7 for byte in payload) for payload in payloads]
    sets = b"\0\0\1\x67\x42\x00\x1e\xab\0\0\1\x68\xce\x38\x80"
    packets = [(sets if n == 0 else b"") + b"\0\0\0\1" + unit for n, unit in enumerate(slices)]
    keys = [0, *sorted(draw(st.sets(st.integers(1, max(1, len(slices) - 1)), max_size=5)))] if len(slices) > 1 else [0]
    gaps = draw(st.lists(st.integers(1, 2**20), min_size=len(slices), max_size=len(slices)))
    ticks = draw(st.integers(0, 2**40)) + np.cumsum([0, *gaps[:-1]], dtype=np.int64)
    times = FrameTimes(ticks, Fraction(1, draw(st.sampled_from([25, 1000, 90_000]))), int(ticks[-1]) + gaps[-1])
    return EncodedVideo(packets, keys, times, 16, 16), slices


@given(encoded_videos())
def test_a_stored_video_is_read_as_it_was_written(written: tuple[EncodedVideo, list[bytes]]) -> None:
    video, slices = written
    content, sha256 = mux_mp4(video)
    length = parse_header_length(content)
    assert length is not None
    assert hashlib.sha256(content[:length]).hexdigest() == sha256
    index = parse_header(content[:length])
    assert index.times.ticks.tolist() == (video.times.ticks - video.times.ticks[0]).tolist()
    assert index.times.tick_seconds == video.times.tick_seconds
    assert index.times.end_tick == video.times.end_tick - video.times.ticks[0]
    assert index.keyframe_indices == list(video.keyframe_indices)
    bounds = index.byte_offsets
    assert [content[a + 4 : b] for a, b in itertools.pairwise(bounds)] == slices
    assert bounds[-1] == len(content)
    assert is_intact(content, sha256)


@given(encoded_videos(), st.data())
def test_any_damage_of_a_stored_video_shows(written: tuple[EncodedVideo, list[bytes]], data: st.DataObject) -> None:
    content, sha256 = mux_mp4(written[0])
    place = data.draw(st.integers(0, len(content) - 1))
    damaged = bytearray(content)
    damaged[place] ^= data.draw(st.integers(1, 255))
    assert not is_intact(bytes(damaged), sha256)
    assert not is_intact(content[:place], sha256)


@given(encoded_videos(), st.data())
def test_a_header_that_lies_is_refused_or_harmless(
    written: tuple[EncodedVideo, list[bytes]], data: st.DataObject
) -> None:
    """Whoever writes the header writes its checksum as well: it is refused by a sentence, or describes frames of the file."""
    content, _ = mux_mp4(written[0])
    header = bytearray(content[: parse_header_length(content)])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(24, len(header) - 4))
        struct.pack_into(">I", header, place, data.draw(st.sampled_from([0, 1, 7, 2**16, 2**31, 2**32 - 1])))
    try:
        index = parse_header(bytes(header))
    except ValueError as error:
        assert len(str(error)) > 10
        return
    assert len(index.times) == len(index.byte_offsets) - 1 <= len(header)
    assert len(index.gop_digests) == 16 * len(index.keyframe_indices)


@given(
    st.lists(
        st.tuples(st.binary(min_size=1, max_size=700), st.none() | st.binary(max_size=600)), min_size=1, max_size=4
    )
)
def test_a_shard_is_a_tar_whose_offsets_are_right(videos: list[tuple[bytes, bytes | None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "0.tar")
        shard = write_shard(path, ((3 * n, video, flow, {"video": f"é{n}"}) for n, (video, flow) in enumerate(videos)))
        content = path.read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (shard.num_bytes, shard.sha256)
        with tarfile.open(path) as tar:
            members = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
    for number, (video, flow) in enumerate(videos):
        start = shard.offsets[3 * number]
        assert content[start : start + len(video)] == video == members[f"{3 * number:09d}.mp4"]
        if flow is not None:
            start = shard.flow_offsets[3 * number]
            assert content[start : start + len(flow)] == flow == members[f"{3 * number:09d}.flow.mp4"]


def test_times_above_32_bits_are_refused() -> None:
    times = FrameTimes(np.array([0, 2**33]), Fraction(1, 25), 2**33 + 1)
    packets = [b"\0\0\1\x67\x42\x00\x1e\xab\0\0\1\x68\xce\x38\x80\0\0\1\x65\x01", b"\0\0\1\x65\x01"]
    with pytest.raises(ValueError, match="too long for one file of a shard"):
        mux_mp4(EncodedVideo(packets, [0], times, 16, 16))
