"""Stored files, checked with FFmpeg's own reader."""

from __future__ import annotations

import hashlib
import io
from fractions import Fraction

import av
import numpy as np
import pytest

from muybridge.prepared.mp4 import EncodedVideo, mux_mp4, parse_header, parse_header_length, split_nal_units
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


def box(name: str, *contents: str | bytes) -> bytes:
    """A box of ISO/IEC 14496-12: its length, its name, its contents in hexadecimal or as bytes."""
    body = b"".join(bytes.fromhex(part) if isinstance(part, str) else part for part in contents)
    return (8 + len(body)).to_bytes(4, "big") + name.encode() + body


def test_the_header_is_what_the_standard_says() -> None:
    """Byte for byte: stored data sets are verified by a hash of it, so it may not change, and other readers go by it."""
    sequence, picture = "67640a0b", "68ee"  # High profile: 0x64
    slices = "65010203", "410405", "4106"
    start, long_start = "000001", "00000001"
    first = bytes.fromhex(long_start + sequence + start + picture + start + "0601" + start + slices[0])
    others = [bytes.fromhex(start + text) for text in slices[1:]]
    # Stamps 5, 7, 10 and the end 13 in ticks of 3/50 s: 2, 3 and 3 ticks, as 6, 9 and 9 of 1/50 s.
    times = FrameTimes(np.array([5, 7, 10]), Fraction(3, 50), 13)
    content, sha256 = mux_mp4(EncodedVideo([first, *others], [0, 2], times, height=0x30, width=0x42))
    samples = [len(text).to_bytes(4, "big") + text for text in map(bytes.fromhex, slices)]
    gops = b"".join(samples[:2]), samples[2]
    no_date, u64_0, matrix = "00" * 16, "00" * 8, "00010000" + "00" * 12 + "00010000" + "00" * 12 + "40000000"
    avcc = box(
        "avcC", "01 640a0b ff e1 0004", sequence, "01 0002", picture, "fd f8 f8 00"
    )  # 4:2:0, 8 bits, lengths of 4
    avc1 = box(
        *(
            "avc1",
            "00" * 6,
            "0001",
            "00" * 16,
            "0042 0030",
            "00480000 00480000 00000000",
            "0001",
        ),  # 72 dpi, a frame a sample
        *("00" * 32, "0018 ffff", avcc),  # no name of a compressor; depth 24, no color table
    )

    def build_header(data_offset: int) -> bytes:
        table = box(
            "stbl",
            box("stsd", "00000000 00000001", avc1),
            box("stts", "00000000 00000002  00000001 00000006  00000002 00000009"),  # runs of equal durations
            box("stss", "00000000 00000002  00000001 00000003"),  # key frames, from 1
            box("stsc", "00000000 00000001  00000001 00000003 00000001"),  # all three samples in one chunk
            box("stsz", "00000000 00000000 00000003  00000008 00000007 00000006"),
            box("stco", "00000000 00000001", data_offset.to_bytes(4, "big")),
        )
        media = box(
            "mdia",
            box("mdhd", "01000000", no_date, "00000032", u64_0[:-2] + "18", "55c4 0000"),  # version 1; 24/50 s; "und"
            box("hdlr", "00000000 00000000", b"vide", "00" * 13),
            box(
                "minf",
                box("vmhd", "00000001", u64_0),  # flags 1
                box("dinf", box("dref", "00000000 00000001", box("url ", "00000001"))),  # in this file
                table,
            ),
        )
        track = box(  # flags: enabled, in the movie, in its preview
            *(
                "tkhd",
                "01000007",
                no_date,
                "00000001 00000000",
                u64_0[:-2] + "18",
                "00" * 16,
                matrix,
                "00420000 00300000",
            ),
        )
        movie = box(
            *(
                "mvhd",
                "01000000",
                no_date,
                "00000032",
                u64_0[:-2] + "18",
                "00010000 0100",
                "00" * 10,
                matrix,
                "00" * 24,
            ),
            "00000002",  # the number of the next track
        )
        digests = b"".join(hashlib.sha256(gop).digest()[:16] for gop in gops)
        moov = box("moov", movie, box("trak", track, media), box("uuid", b"muybridge digest", digests))
        file_type = box("ftyp", b"isom", "00000200", b"isom", b"avc1")
        return file_type + moov + (8 + sum(map(len, samples))).to_bytes(4, "big") + b"mdat"

    header = build_header(len(build_header(0)))
    assert content == header + b"".join(samples)
    assert sha256 == hashlib.sha256(header).hexdigest()
    index = parse_header(header)
    assert (index.keyframe_indices, index.times.ticks.tolist(), index.times.end_tick) == ([0, 2], [0, 6, 15], 24)
    assert index.times.tick_seconds == Fraction(1, 50)
    assert index.extradata == avcc[8:]
    assert [index.is_gop_intact(number, gop) for number, gop in enumerate(gops)] == [True, True]


@pytest.mark.parametrize(
    ("reason", "keys"),
    [
        ("the key frames are not in order", [2, 17, 33]),  # the first frame is none
        ("the key frames are not in order", [1, 17, 17]),
        ("the key frames are not in order", [1, 33, 17]),
        ("the key frames are not in order", [1, 17, 41]),  # behind the last of 40
        (None, [1, 17, 40]),
    ],
)
def test_key_frames_out_of_order_are_refused(reason: str | None, keys: list[int]) -> None:
    content, _ = stored_video(0, 40)
    header = bytearray(content[: parse_header_length(content)])
    place = header.index(b"stss") + 12
    assert np.frombuffer(header[place : place + 12], ">u4").tolist() == [1, 17, 33]
    header[place : place + 12] = np.array(keys, ">u4").tobytes()
    if reason is None:
        assert parse_header(bytes(header)).keyframe_indices == [key - 1 for key in keys]
        return
    with pytest.raises(ValueError, match=reason):
        parse_header(bytes(header))
