"""The index of frames: which stamps are trusted, where decoding may start, and what is named."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from muybridge.records import VideoError
from muybridge.video.containers import open_video_stream
from muybridge.video.decode import VideoFiles
from muybridge.video.frame_index import index_frames, parse_vop_types
from videos import read_indices, rewrite, write_video

STORED: dict[str, dict[str, Any]] = {
    "h264.mp4": {"gop": 250},
    "h264.mkv": {},
    "h264.ts": {},
    "h264.flv": {},
    "mpeg4_b.mp4": {"codec": "mpeg4", "options": {"bf": "2"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "mpeg2_b.ts": {"codec": "mpeg2video", "options": {"bf": "2"}},
}
DECODING_ORDER: dict[str, dict[str, Any]] = {
    "mpeg4.avi": {"codec": "mpeg4"},
    "mjpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "wmv.wmv": {"codec": "wmv2", "container": "asf"},
}
COUNTED: dict[str, dict[str, Any]] = {
    "h264.avi": {},
    "mpeg4_b.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mpeg2_b.mpg": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "bare.h264": {"container": "h264"},
    "bare.m2v": {"codec": "mpeg2video", "container": "mpeg2video", "options": {"bf": "2"}},
    "moving.gif": {"codec": "gif", "pixel_format": "rgb8"},
}


@pytest.mark.parametrize("name", [*STORED, *DECODING_ORDER, *COUNTED])
def test_stamps_are_trusted_only_where_they_are_stored(tmp_path: Path, name: str) -> None:
    options = {**STORED, **DECODING_ORDER, **COUNTED}[name]
    index = index_frames(str(write_video(tmp_path / name, 30, **options)))
    assert index.uses_counting == (name in COUNTED)
    assert index.uses_dts == (name in DECODING_ORDER)
    assert len(index.times) == 30
    assert np.unique(np.diff(index.times.ticks) * float(index.times.tick_seconds)) == pytest.approx(0.04)
    assert index.times.duration_seconds == pytest.approx(1.2)


def test_uneven_stamps(tmp_path: Path) -> None:
    ticks = [0, 1, 5, 6, 20, 21, 22, 40, 41, 90]
    mp4 = write_video(tmp_path / "a.mp4", 10, ticks=ticks, tick_seconds=Fraction(1, 100))
    times = index_frames(str(mp4)).times
    assert (times.ticks * times.tick_seconds * 100).tolist() == ticks
    avi = write_video(tmp_path / "a.avi", 10, codec="mpeg4", ticks=ticks)
    assert index_frames(str(avi)).times.ticks.tolist() == ticks
    gif = write_video(
        tmp_path / "a.gif", 4, codec="gif", pixel_format="rgb8", ticks=[0, 10, 40, 50], tick_seconds=Fraction(1, 100)
    )
    assert index_frames(str(gif)).times.ticks.tolist() == [0, 10, 40, 50]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_late_start(tmp_path: Path, name: str) -> None:
    times = index_frames(str(write_video(tmp_path / name, 10, ticks=[50 + n for n in range(10)]))).times
    assert times.ticks[0] * times.tick_seconds >= 2
    assert times.to_seconds(int(times.ticks[3])) == pytest.approx(0.12)


@pytest.mark.parametrize("frames", ["0", "2"])
def test_frames_cut_off_by_an_edit_list_are_not_there(tmp_path: Path, frames: str) -> None:
    path = write_video(
        tmp_path / "a.mp4",
        30,
        ticks=[n - 5 for n in range(30)],
        gop=250,
        options={"bf": frames},
        container_options={"use_editlist": "1", "avoid_negative_ts": "disabled"},
    )
    index = index_frames(str(path))
    assert len(index.times) == 25
    assert index.times.ticks[0] == 0
    assert index.key_frame_stamps[0, 0] < 0  # decoding starts at what is cut off


def test_an_edit_list_that_cuts_off_the_end_is_no_truncation(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 30, gop=250)
    data = path.read_bytes()
    frame_index = data.index(b"elst") + 12  # behind version, flags and the number of entries: the duration shown, in ms
    assert int.from_bytes(data[frame_index : frame_index + 4]) == 1200
    path.write_bytes(data[:frame_index] + (800).to_bytes(4) + data[frame_index + 4 :])
    assert len(index_frames(str(path)).times) == 20
    assert index_frames(str(path)).times.duration_seconds == pytest.approx(0.8)


def test_frames_before_the_first_key_frame_are_not_there(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", 30, codec="mpeg2video", gop=10)
    data = path.read_bytes()
    with open_video_stream(str(path)) as (container, stream):
        second_key = [packet.pos for packet in container.demux(stream) if packet.is_keyframe][1]
        assert second_key is not None
    cut = next(frame_index for frame_index in range(second_key - 188 * 8, 0, -188) if data[frame_index] == 0x47)
    tables = data[: 3 * 188]
    (tmp_path / "b.ts").write_bytes(tables + data[cut:])
    index = index_frames(str(tmp_path / "b.ts"))
    assert len(index.times) == 20
    assert index.num_leading_packets > 0


def test_kinds_of_mpeg4_pictures() -> None:
    start = b"\0\0\1\xb6"
    assert parse_vop_types(b"\0\0\1\xb0abc" + start + b"\x10xyz") == "I"
    assert parse_vop_types(start + b"\x50" + start + b"\x90") == "PB"
    assert parse_vop_types(start + b"\xd0") == "S"
    assert parse_vop_types(b"\x7f") == ""
    assert parse_vop_types(start) == ""


def test_a_single_frame_lasts_as_long_as_its_rate_says(tmp_path: Path) -> None:
    for name, options in (("a.mp4", {}), ("a.avi", {"codec": "mpeg4"}), ("a.h264", {"container": "h264"})):
        times = index_frames(str(write_video(tmp_path / name, 1, frames_per_second=10, **options))).times
        assert times.duration_seconds == pytest.approx(0.1), name


def write_late_sound(path: Path, promised_seconds: float) -> Path:
    """Twenty frames in 0.8 s, then sound up to 3.0 s, of which the head says nothing but how long it lasts."""
    plain = write_video(path.with_name("plain.flv"), 20, codec="flv", gop=5)
    rewrite(plain, path, lambda _, packet: bytes(packet) + bytes(300_000))  # FFmpeg looks for streams in the first 5 MB
    head, key, rest = path.read_bytes().partition(b"\0\x08duration\0")
    tags = b"".join(
        (tag := b"\x08" + struct.pack(">I", 1001)[1:] + stamp.to_bytes(3) + bytes(4) + b"\x3e" + bytes(1000))
        + struct.pack(">I", len(tag))
        for stamp in range(800, 3001, 100)
    )
    path.write_bytes(head + key + struct.pack(">d", promised_seconds) + rest[8:] + tags)
    return path


def test_a_stream_that_begins_late_changes_nothing(tmp_path: Path) -> None:
    late = write_late_sound(tmp_path / "late.flv", 3.0)
    with av.open(str(late)) as container:
        assert len(container.streams) == 1
        with pytest.raises(IndexError):  # by chance where fewer streams are chosen
            list(container.demux())
    source = VideoFiles(str(tmp_path), scale_height=48, scale_width=64)
    times, plain = (source.read_frame_times(name) for name in ("late.flv", "plain.flv"))
    assert np.array_equal(times.ticks, plain.ticks)
    assert times.duration_seconds == plain.duration_seconds == pytest.approx(0.8)
    assert read_indices(source.read("late.flv", times.ticks).luma_thw) == list(range(20))


def test_a_file_cut_before_the_end_of_its_late_stream_is_named(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"ends at 3\.00 s; its head says 4\.00 s"):
        index_frames(str(write_late_sound(tmp_path / "late.flv", 4.0)))
