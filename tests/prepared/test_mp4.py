"""Stored files, checked with FFmpeg's own reader."""

from __future__ import annotations

import hashlib
import io
from fractions import Fraction

import av
import numpy as np
import pytest

from muybridge.prepared.mp4 import mux_mp4, parse_header, parse_header_length, split_nal_units
from muybridge.prepared.transcode import GOP_FRAMES, encode_h264
from muybridge.records import FrameTimes
from stored import HEIGHT, WIDTH, planes, stored_video
from videos import read_index


def ffmpeg_reads(content: bytes) -> tuple[list[av.VideoFrame], list[bool], Fraction, dict[str, str]]:
    with av.open(io.BytesIO(content)) as file:
        stream = file.streams.video[0]
        packets = [packet for packet in file.demux(stream) if packet.size]
        frames = [frame for packet in packets for frame in packet.decode()] + stream.decode(None)
        assert stream.time_base is not None
        return (
            frames,
            [packet.is_keyframe for packet in packets],
            stream.time_base,
            {**file.metadata, **stream.metadata},
        )


def test_ffmpeg_reads_what_was_written() -> None:
    content, _ = stored_video(7, 40)
    frames, keys, tick_seconds, _ = ffmpeg_reads(content)
    assert [read_index(frame.to_ndarray(format="gray")) for frame in frames] == list(range(7, 47))
    assert [frame.pts * tick_seconds for frame in frames] == [Fraction(n, 25) for n in range(40)]
    assert [index for index, key in enumerate(keys) if key] == [0, GOP_FRAMES, 2 * GOP_FRAMES]
    assert (frames[0].height, frames[0].width) == (HEIGHT, WIDTH + 1)


def test_odd_sizes_repeat_the_last_line() -> None:
    frame = ffmpeg_reads(stored_video(170, 1)[0])[0][0].to_ndarray(format="yuv420p")[:HEIGHT]
    assert np.abs(frame[:, WIDTH].astype(int) - frame[:, WIDTH - 1]).max() <= 3


def test_uneven_times_and_the_last_duration_survive() -> None:
    times = FrameTimes(np.array([1000, 1003, 1010, 1011]), Fraction(1001, 30000), 1020)
    content, _ = mux_mp4(encode_h264(iter([planes(0, 4)]), times))
    frames, _, tick_seconds, _ = ffmpeg_reads(content)
    seconds = [(tick - 1000) * Fraction(1001, 30000) for tick in (1000, 1003, 1010, 1011)]
    assert [frame.pts * tick_seconds for frame in frames] == seconds
    parsed_times = parse_header(content[: parse_header_length(content)]).times
    assert [int(tick) * parsed_times.tick_seconds for tick in parsed_times.ticks] == seconds
    assert parsed_times.end_tick * parsed_times.tick_seconds == 20 * Fraction(1001, 30000)


def test_no_time_of_creation_and_no_name_of_an_encoder() -> None:
    content, _ = stored_video()
    metadata = ffmpeg_reads(content)[3]
    assert not {"creation_time", "encoder"} & metadata.keys()
    assert b"x264" not in content
    assert b"Lavf" not in content
    assert stored_video()[0] == content


def test_the_colors_of_the_clip_are_those_of_the_file() -> None:
    limited, full = (ffmpeg_reads(stored_video(0, 2, full_range=full_range)[0])[0][0] for full_range in (False, True))
    assert (int(limited.colorspace), int(limited.color_range)) == (6, 1)  # SMPTE 170M, which is BT.601; MPEG
    assert (int(full.colorspace), int(full.color_range)) == (1, 2)


def test_the_index_says_where_everything_lies() -> None:
    content, sha256 = stored_video(0, 40)
    length = parse_header_length(content)
    assert length is not None
    assert hashlib.sha256(content[:length]).hexdigest() == sha256
    index = parse_header(content[:length])
    assert index.keyframe_indices == [0, 16, 32]
    assert index.byte_offsets[0] == length
    assert index.byte_offsets[-1] == len(content)
    for group in range(3):
        piece = content[
            index.byte_offsets[index.get_gop_start(group)] : index.byte_offsets[index.get_gop_start(group + 1)]
        ]
        assert index.is_gop_intact(group, piece)
        assert not index.is_gop_intact(group, piece[:-1] + bytes([piece[-1] ^ 1]))


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([3], [(range(1), 3)]),
        ([0, 15], [(range(1), 15)]),
        ([15, 16], [(range(2), 16)]),
        ([2, 40], [(range(1), 2), (range(2, 3), 40)]),
        ([17, 47, 48], [(range(1, 4), 48)]),
    ],
)
def test_runs_skip_groups_without_a_frame(numbers: list[int], expected: list[tuple[range, int]]) -> None:
    content, _ = stored_video(0, 64)
    assert parse_header(content[: parse_header_length(content)]).plan_decoding(numbers) == expected


@pytest.mark.parametrize("beginning", [b"", b"\0" * 8192, b"RIFF" + bytes(60), stored_video(0, 2)[0][:20]])
def test_something_else_has_no_head(beginning: bytes) -> None:
    assert parse_header_length(beginning) is None


def test_units_are_split_at_start_codes_of_both_lengths() -> None:
    assert split_nal_units(b"\0\0\0\1\x67ab\0\0\1\x68c\0\0\0\1\x65d") == [b"\x67ab", b"\x68c", b"\x65d"]


def test_times_beyond_32_bits_are_refused() -> None:
    times = FrameTimes(np.array([0, 2**33]), Fraction(1, 90000), 2**33 + 1)
    with pytest.raises(ValueError, match="too long for one file of a shard"):
        mux_mp4(encode_h264(iter([planes(0, 2)]), times))
