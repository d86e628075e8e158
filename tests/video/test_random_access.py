"""A frame read after a seek is the frame read from the start, plane by plane, in every kind of stored stream."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from field_coded import write_field_coded_video
from muybridge.records import VideoError
from muybridge.video import decode
from muybridge.video.decode import VideoFiles
from muybridge.video.frame_index import index_frames
from videos import index_picture, needs_encoder, read_indices, rewrite, write_video

HEIGHT, WIDTH, NUM_FRAMES = 64, 96, 48
NO_LOG = "log-level=none"
VPX = {"deadline": "realtime", "cpu-used": "8"}
OPEN_GOP = {"x264-params": "open-gop=1:bframes=3:scenecut=0:keyint=12:min-keyint=12"}
REFRESH = {"x264-params": "intra-refresh=1:bframes=0:scenecut=0:keyint=12"}
STREAMS: dict[str, dict[str, Any]] = {
    "open_gop.mp4": {"options": OPEN_GOP},
    "open_gop.ts": {"options": OPEN_GOP},
    "pyramid.mkv": {
        "options": {"x264-params": "open-gop=1:bframes=3:b-pyramid=normal:scenecut=0:keyint=12:min-keyint=12:ref=5"}
    },
    "refresh.ts": {"options": REFRESH},
    "refresh.mkv": {"options": REFRESH},
    "refresh.mp4": {"options": REFRESH},
    "444.mkv": {"pixel_format": "yuv444p"},
    "444_cavlc.mp4": {"pixel_format": "yuv444p", "options": {"x264-params": "cabac=0:8x8dct=0"}},
    "interlaced.ts": {"options": {"x264-params": "interlaced=1:bframes=2:scenecut=0"}},
    "interlaced.mp4": {"options": {"x264-params": "tff=1:bframes=2:scenecut=0"}},
    "fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "h264.flv": {},
    "h264.avi": {},
    "bare.h264": {"container": "h264"},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": f"{NO_LOG}:bframes=3:open-gop=1:scenecut=0"}},
    "hevc.ts": {"codec": "libx265", "options": {"x265-params": f"{NO_LOG}:bframes=3:open-gop=1:scenecut=0"}},
    "hevc_refresh.mkv": {"codec": "libx265", "options": {"x265-params": f"{NO_LOG}:intra-refresh=1:bframes=0"}},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4_b.mp4": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mpeg4_b.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mpeg4_b.ts": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mpeg2_b.ts": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "mpeg2_b.mpg": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "mpeg2_b.mkv": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "mpeg2_interlaced.ts": {"codec": "mpeg2video", "options": {"bf": "2", "flags": "+ildct+ilme"}},
    "mpeg1.mpg": {"codec": "mpeg1video", "options": {"bf": "2"}},
    "vp8.webm": {"codec": "libvpx", "options": VPX},
    "vp9.webm": {"codec": "libvpx-vp9", "options": VPX},
    "vp9_hidden.mp4": {"codec": "libvpx-vp9", "options": {"deadline": "good", "cpu-used": "8", "auto-alt-ref": "1"}},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "10"}},
    "animated.avif": {"codec": "libsvtav1", "options": {"preset": "10"}},
    "mjpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "moving.gif": {"codec": "gif", "pixel_format": "rgb8"},
    "moving.png": {"codec": "apng", "pixel_format": "rgb24", "container": "apng"},
    "wmv2.wmv": {"codec": "wmv2", "container": "asf"},
    "flv1.flv": {"codec": "flv"},
    "mpeg4_b.nut": {"codec": "mpeg4", "options": {"bf": "2"}},
}
_NOISE = np.random.default_rng(0).integers(60, 190, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def paint(number: int) -> NDArray[np.uint8]:
    """Moving detail over a still background, so that a frame that is built on a wrong one differs from the right one."""
    picture, number = _NOISE.copy(), number % NUM_FRAMES
    picture[8:40, number : number + 24] = _NOISE[24:56, 40:64] // 2 + 100
    picture[48:60, 2 * number % 80 : 2 * number % 80 + 12] = 230
    return picture


def source(folder: Path) -> VideoFiles:
    return VideoFiles(str(folder), scale_height=HEIGHT, scale_width=WIDTH)


def check_random_access(path: Path, num_frames: int) -> None:
    """Compare single frames, runs and scattered frames with those of one pass from the start."""
    files = source(path.parent)
    ticks = files.read_frame_times(path.name).ticks
    assert len(ticks) == num_frames
    whole = files.read(path.name, ticks)
    draws = random.Random(path.name)
    requested = [list(range(first, min(first + 3, num_frames))) for first in range(0, num_frames, 4)]
    requested += [sorted(draws.sample(range(num_frames), 4)) for _ in range(10)]
    for indices in requested:
        clip = files.read(path.name, ticks[indices])
        for place, index in enumerate(indices):
            assert np.array_equal(clip.luma_thw[place], whole.luma_thw[index]), (path.name, indices, index)
            assert np.array_equal(clip.chroma_cthw[:, place], whole.chroma_cthw[:, index]), (path.name, indices, index)


@pytest.mark.parametrize("name", STREAMS)
def test_frames_after_a_seek_are_those_from_the_start(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVT_LOG", "0")
    needs_encoder(STREAMS[name].get("codec", "libx264"))
    write_video(tmp_path / name, NUM_FRAMES, height=HEIGHT, width=WIDTH, gop=12, paint=paint, **STREAMS[name])
    check_random_access(tmp_path / name, NUM_FRAMES)


@pytest.mark.parametrize("name", ["refresh.ts", "refresh.mkv"])
def test_a_periodic_refresh_is_no_entry(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, NUM_FRAMES, height=HEIGHT, width=WIDTH, paint=paint, options=REFRESH)
    with av.open(str(path)) as container:
        num_flagged = sum(packet.is_keyframe for packet in container.demux(video=0))
    assert num_flagged > 1
    assert len(index_frames(str(path)).key_frame_stamps) == 1


def test_open_gops_stay_entries(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", NUM_FRAMES, height=HEIGHT, width=WIDTH, paint=paint, options=OPEN_GOP)
    assert len(index_frames(str(path)).key_frame_stamps) == NUM_FRAMES // 12


def make_old(data: bytes) -> bytes:
    """The name of the encoder changed to a version whose faults in 4:4:4 the decoder makes up for."""
    start = data.find(b"x264 - core ")
    return data if start < 0 else data[: start + 12] + b"140" + data[start + 15 :]


@pytest.fixture
def without_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames after a seek are taken as they come; otherwise damaged ones are decoded again from the start."""
    monkeypatch.setattr(decode, "_check_frames_after_seek", lambda frames: frames)


@pytest.mark.usefixtures("without_fallback")
@pytest.mark.parametrize("name", ["b.mkv", "b.mp4"])
def test_the_first_packet_tells_the_decoder_how_old_the_encoder_is(tmp_path: Path, name: str) -> None:
    """Lossless streams of old x264 are predicted in another way (FFmpeg: h264_mb.c, x264_build < 151)."""
    options = {"qp": "0", "x264-params": "scenecut=0:8x8dct=1:cabac=0"}
    shape = {"height": HEIGHT, "width": WIDTH, "gop": 12, "paint": paint}
    first = write_video(tmp_path / "a.mkv", NUM_FRAMES, options=options, **shape)
    rewrite(first, tmp_path / name, lambda _, packet: make_old(bytes(packet)))
    files = source(tmp_path)
    new, old = (files.read(file, files.read_frame_times(file).ticks).luma_thw for file in ("a.mkv", name))
    assert np.any(new[24:] != old[24:])
    check_random_access(tmp_path / name, NUM_FRAMES)


def split_units(data: bytes) -> list[bytes]:
    return [unit.rstrip(b"\0") for unit in data.split(b"\0\0\1") if unit.rstrip(b"\0")]


@pytest.mark.usefixtures("without_fallback")
@pytest.mark.parametrize("name", ["a.mkv", "a.ts"])
def test_parameter_sets_of_a_later_part_are_in_force_where_it_is_entered(tmp_path: Path, name: str) -> None:
    """Two encodings in one stream; the second's parameter sets are stored once, where it begins."""
    parts = []
    for part, cabac in enumerate((1, 0)):
        options = {"x264-params": f"cabac={cabac}:weightp={cabac}:bframes=0:scenecut=0"}
        path = write_video(
            tmp_path / f"{part}.h264",
            36,
            height=HEIGHT,
            width=WIDTH,
            container="h264",
            paint=paint,
            options=options,
        )
        with av.open(str(path)) as container:
            parts.append([(bytes(packet), packet.is_keyframe) for packet in container.demux(video=0) if packet.size])
    with av.open(str(tmp_path / "0.h264")) as bare, av.open(str(tmp_path / name), "w") as output:
        stream = output.add_stream_from_template(bare.streams.video[0])
        for number, (data, is_key) in enumerate(parts[0] + parts[1]):
            kept = [unit for unit in split_units(data) if number in (0, 36) or unit[0] & 31 not in (7, 8)]
            packet = av.Packet(b"".join(b"\0\0\0\1" + unit for unit in kept))
            packet.stream, packet.time_base = stream, stream.time_base
            packet.is_keyframe = is_key and (
                number in (0, 36) or name.endswith("mkv")
            )  # else TS repeats the first sets
            packet.pts = packet.dts = round(number * 0.04 / stream.time_base)
            packet.duration = round(0.04 / stream.time_base)
            output.mux(packet)
    check_random_access(tmp_path / name, 72)
    assert any(index_frames(str(tmp_path / name)).key_frame_headers)


@pytest.mark.parametrize("name", ["fields.ts", "fields.mkv"])
def test_two_fields_are_one_frame(tmp_path: Path, name: str) -> None:
    path = write_field_coded_video(tmp_path / name, 40)
    check_random_access(path, 40)
    files = source(tmp_path)
    times = files.read_frame_times(name)
    assert times.duration_seconds == pytest.approx(1.6, abs=0.03)
    assert read_indices(files.read(name, times.ticks).luma_thw) == list(range(40))


def write_joined_ts(tmp_path: Path) -> Path:
    """Two recordings one after the other, as `cat` joins them: the clock begins again."""
    whole = b"".join(
        write_video(tmp_path / f"{part}.ts", 30, paint=lambda n, p=part: index_picture(n + 30 * p, 48, 64)).read_bytes()
        for part in range(2)
    )
    path = tmp_path / "joined.ts"
    path.write_bytes(whole)
    return path


def test_joined_recordings_follow_each_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_joined_ts(tmp_path)
    check_random_access(path, 60)
    files = source(tmp_path)
    times = files.read_frame_times(path.name)
    assert times.duration_seconds == pytest.approx(2.4, abs=0.05)
    for first in range(0, 56, 5):
        assert read_indices(files.read(path.name, times.ticks[first : first + 4]).luma_thw) == list(
            range(first, first + 4)
        )
    clips = list(files.read_in_order(path.name, times.ticks, 20))
    assert [read_indices(clip.luma_thw)[0] for clip in clips] == [0, 20, 40]
    assert "its time stamps step back before frame 30; what follows is appended" in caplog.text


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_a_clock_that_jumps_costs_neither_frames_nor_seeks(tmp_path: Path, name: str) -> None:
    ticks = [number + (25 * 7200 if number >= 24 else 0) for number in range(48)]
    path = write_video(tmp_path / name, 48, ticks=ticks, gop=12, options={"x264-params": "scenecut=0:bframes=0"})
    check_random_access(path, 48)
    index = index_frames(str(path))
    assert index.times.duration_seconds == pytest.approx(1.92, abs=0.05)
    assert len(index.key_frame_stamps) == 4
    assert index.notes == ("its clock jumps by 7200 s before frame 24; the jump is left out",)


def write_damaged(tmp_path: Path, num_frames: int) -> Path:
    """A transport stream in which part of a picture is overwritten: the decoder patches it."""
    path = write_video(
        tmp_path / "a.ts", num_frames, height=HEIGHT, width=WIDTH, gop=12, paint=paint,
        options={"x264-params": "scenecut=0:bframes=0:slices=4", "crf": "12"},
    )  # fmt: skip
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        position = [packet.pos for packet in container.demux(video=0) if packet.size][28]
    assert position is not None
    for offset in range(188 * 2 + 60, 188 * 2 + 160):
        data[position + offset] ^= 0x55
    path.write_bytes(bytes(data))
    return path


def test_frames_that_the_decoder_patches_fail_a_clip_and_spare_the_others(tmp_path: Path) -> None:
    path = write_damaged(tmp_path, 60)
    files = source(tmp_path)
    ticks = files.read_frame_times(path.name).ticks
    assert len(files.read(path.name, ticks[:20]).luma_thw) == 20
    assert len(files.read(path.name, ticks[40:]).luma_thw) == 20
    for wanted in (ticks, ticks[26:32], ticks[30:34]):
        with pytest.raises(VideoError, match=r"damaged: \d+ of \d+ frames are damaged, the first at 1\.") as caught:
            files.read(path.name, wanted)
        assert caught.value.status == "unreadable"


def test_a_little_damage_in_a_long_video_is_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_damaged(tmp_path, 1000)
    files = source(tmp_path)
    assert len(files.read(path.name, files.read_frame_times(path.name).ticks).luma_thw) == 1000
    assert "of 1,000 frames are damaged, the first at 1." in caplog.text


def test_sound_that_begins_earlier_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    late = [25 + number for number in range(30)]
    for name in ("late.mp4", "late.mkv"):
        write_video(tmp_path / name, 30, ticks=late, audio=True)
        files = source(tmp_path)
        assert files.read_frame_times(name).lead_seconds == 0
        assert f"note: {name}: its sound begins 1.0" in caplog.text
        caplog.clear()
        source(tmp_path).read_frame_times(name)
        assert caplog.text == ""  # once a file
    write_video(tmp_path / "plain.mp4", 30, audio=True)
    source(tmp_path).read_frame_times("plain.mp4")
    write_video(tmp_path / "b.mp4", 30, ticks=late, audio=True)
    counted = VideoFiles(str(tmp_path), scale_height=32, scale_width=32, time_origin="container")
    assert counted.read_frame_times("b.mp4").lead_seconds == pytest.approx(1, abs=0.05)
    assert counted.read_frame_times("plain.mp4").lead_seconds == 0
    assert "b.mp4" not in caplog.text
    assert "plain" not in caplog.text
