"""Frames at time stamps: the right ones out of every container and codec, no more decoded than needed."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from muybridge.records import FrameTimes, Preprocessing, VideoError
from muybridge.video import decode
from muybridge.video.decode import VideoFiles, probe
from muybridge.video.frame_index import index_frames
from muybridge.video.planes import YuvClipBuilder
from muybridge.video.sampling import sample_dense_clips, sample_random_clip
from videos import index_picture, needs_encoder, read_index, read_indices, rewrite, write_video

NO_LOG = {"x265-params": "log-level=none"}
FILES: dict[str, dict[str, Any]] = {
    "h264_long_gop.mp4": {"gop": 250},
    "h264_short_gop.mp4": {"gop": 12, "options": {"x264-params": "scenecut=0:keyint=12:bframes=3:b-adapt=0"}},
    "h264_open_gop.mp4": {"options": {"x264-params": "open-gop=1:bframes=3:scenecut=0:keyint=12:min-keyint=12"}},
    "h264_open_gop.ts": {"options": {"x264-params": "open-gop=1:bframes=3:scenecut=0:keyint=12:min-keyint=12"}},
    "h264_refresh.ts": {"options": {"x264-params": "intra-refresh=1:bframes=0:scenecut=0:keyint=12"}},
    "h264.mkv": {},
    "h264.flv": {},
    "h264.avi": {},
    "h264_sound.mp4": {"audio": True},
    "h264_444.mkv": {"pixel_format": "yuv444p"},
    "h264_odd.mp4": {"pixel_format": "yuv444p", "height": 67, "width": 101},
    "h264_late.mkv": {"ticks": [50 + number for number in range(36)]},
    "h264_uneven.mp4": {"ticks": [number * number for number in range(36)], "tick_seconds": Fraction(1, 600)},
    "h264_cut.mp4": {
        "ticks": [number - 7 for number in range(36)],
        "container_options": {"use_editlist": "1", "avoid_negative_ts": "disabled"},
    },
    "bare.h264": {"container": "h264"},
    "hevc.mp4": {"codec": "libx265", "options": NO_LOG},
    "hevc_10bit.mkv": {"codec": "libx265", "pixel_format": "yuv420p10le", "options": NO_LOG},
    "hevc_gbr.mkv": {"codec": "libx265", "pixel_format": "gbrp", "options": NO_LOG},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4_b.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mpeg4_sound.avi": {"codec": "mpeg4", "audio": True},
    "mpeg4_uneven.avi": {"codec": "mpeg4", "ticks": [number * number for number in range(36)]},
    "mpeg4_b.mp4": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mjpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "vp8.webm": {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "8", "crf": "20"}},
    "mpeg2_b.ts": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "mpeg2_b.mpg": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "ffv1_10bit.mkv": {"codec": "ffv1", "pixel_format": "yuv420p10le"},
    "prores.mov": {"codec": "prores", "pixel_format": "yuv422p10le"},
    "png.mov": {"codec": "png", "pixel_format": "rgb24"},
    "raw.avi": {"codec": "rawvideo", "pixel_format": "bgr24"},
    "wmv.wmv": {"codec": "wmv2", "container": "asf"},
    "moving.gif": {"codec": "gif", "pixel_format": "rgb8"},
}
NUM_FRAMES = 36


def source(folder: Path, height: int = 32, width: int = 43) -> VideoFiles:
    return VideoFiles(str(folder), scale_height=height, scale_width=width)


class Decoded:
    """Counts the frames that come out of the decoder, and those that are scaled."""

    def __init__(self) -> None:
        self.frames = self.scaled = 0


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Decoded:
    count, frames, put = Decoded(), decode.decode_frames, YuvClipBuilder.write_frame

    def counted_frames(*arguments: Any) -> Iterator[av.VideoFrame]:
        for frame in frames(*arguments):
            count.frames += 1
            yield frame

    def counted_put(planes: YuvClipBuilder, frame_index: int, frame: av.VideoFrame) -> None:
        count.scaled += 1
        put(planes, frame_index, frame)

    monkeypatch.setattr(decode, "decode_frames", counted_frames)
    monkeypatch.setattr(YuvClipBuilder, "write_frame", counted_put)
    return count


def one_after_the_other(path: Path) -> list[int]:
    """The indices shown when the file is simply decoded from beginning to end."""
    with av.open(str(path)) as container:
        return [read_index(frame.to_ndarray(format="gray")) for frame in container.decode(video=0)]


@pytest.mark.parametrize("name", FILES)
def test_every_frame_of_every_kind_of_file(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVT_LOG", "0")
    needs_encoder(FILES[name].get("codec", "libx264"))
    path = write_video(tmp_path / name, NUM_FRAMES, **FILES[name])
    files = source(tmp_path)
    times = files.read_frame_times(name)
    expected = np.array(one_after_the_other(path))
    assert len(times) == len(expected)
    assert expected.tolist() == list(range(NUM_FRAMES))[-len(expected) :]
    draws = random.Random(name)
    requested = [[frame_index] for frame_index in range(len(times))]
    requested += [[draws.randrange(len(times)) for _ in range(draws.randint(2, 9))] for _ in range(12)]
    for indices in requested:
        clip = files.read(name, times.ticks[indices])
        assert read_indices(clip.luma_thw) == expected[indices].tolist()


@pytest.mark.parametrize("frame_index", [0, 1, 9, 10, 17, 29])
def test_decoding_starts_at_the_key_frame_and_stops_at_the_last_one_wanted(
    tmp_path: Path, decoded: Decoded, frame_index: int
) -> None:
    write_video(tmp_path / "a.mp4", 30, gop=10, options={"bf": "0", "x264-params": "scenecut=0"})
    files = source(tmp_path)
    files.read("a.mp4", files.read_frame_times("a.mp4").ticks[[frame_index]])
    assert (decoded.frames, decoded.scaled) == (frame_index % 10 + 1, 1)


def test_frames_between_are_decoded_but_not_scaled(tmp_path: Path, decoded: Decoded) -> None:
    write_video(tmp_path / "a.mp4", 30, gop=30, options={"bf": "0", "x264-params": "scenecut=0"})
    files = source(tmp_path)
    files.read("a.mp4", files.read_frame_times("a.mp4").ticks[[4, 8, 12, 8]])
    assert (decoded.frames, decoded.scaled) == (13, 3)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.flv"])
def test_b_frames_cost_no_longer_way(tmp_path: Path, decoded: Decoded, name: str) -> None:
    write_video(tmp_path / name, 60, gop=20, options={"x264-params": "scenecut=0:bframes=3"})
    files = source(tmp_path)
    ticks = files.read_frame_times(name).ticks
    for frame_index in range(60):
        decoded.frames = 0
        files.read(name, ticks[[frame_index]])
        assert decoded.frames == frame_index % 20 + 1


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_far_apart_frames_are_read_with_a_seek_between(tmp_path: Path, decoded: Decoded, name: str) -> None:
    codec = {"codec": "mpeg4"} if name.endswith("avi") else {"options": {"bf": "0", "x264-params": "scenecut=0"}}
    write_video(tmp_path / name, 90, gop=10, **codec)
    files = source(tmp_path)
    ticks = files.read_frame_times(name).ticks
    clip = files.read(name, ticks[[2, 35, 36, 81]])
    assert read_indices(clip.luma_thw) == [2, 35, 36, 81]
    assert decoded.frames == 3 + 7 + 2
    decoded.frames = 0
    files.read(name, ticks[[12, 15, 22]])  # too near each other
    assert decoded.frames == 13


def test_time_stamps_cost_no_decoding_where_they_are_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Iterator[av.VideoFrame]:
        raise AssertionError("a frame was decoded")

    write_video(tmp_path / "a.mp4", 20)
    write_video(tmp_path / "a.avi", 20, codec="mpeg4")
    monkeypatch.setattr("muybridge.video.frame_index.decode_frames", refuse)
    assert [len(source(tmp_path).read_frame_times(name)) for name in ("a.mp4", "a.avi")] == [20, 20]


def test_clips_of_a_video(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 40, gop=250)
    files, requested = (
        source(tmp_path),
        Preprocessing(clip_length=4, frame_stride=2, crop=32, scale_height=32, scale_width=43),
    )
    times = files.read_frame_times("a.mp4")
    clip = sample_random_clip(times, requested, np.random.default_rng(3))
    start = int(np.searchsorted(times.ticks, clip.ticks[0]))
    pixels = files.read("a.mp4", clip.ticks)
    assert read_indices(pixels.luma_thw) == [start, start + 2, start + 4, start + 6]
    assert pixels.chroma_cthw.shape == (2, 4, 16, 22)
    slower = Preprocessing(clip_length=4, frames_per_second=5, crop=32, scale_height=32, scale_width=43)
    assert read_indices(files.read("a.mp4", sample_dense_clips(times, slower, 4)[1].ticks).luma_thw) == [20, 25, 30, 35]


def test_short_videos_loop(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 3)
    files = source(tmp_path)
    clip = sample_random_clip(files.read_frame_times("a.mp4"), Preprocessing(clip_length=8), np.random.default_rng(0))
    assert read_indices(files.read("a.mp4", clip.ticks).luma_thw) == [0, 1, 2, 0, 1, 2, 0, 1]


def test_stamps_in_decoding_order_do_not_mislead(tmp_path: Path) -> None:
    """Broken writers store decoding stamps as presentation stamps: B-frames then come out of order."""

    def stamp(number: int, packet: av.Packet) -> None:
        packet.pts = packet.dts = 512 * number

    write_video(tmp_path / "a.mp4", 30, gop=250)
    rewrite(tmp_path / "a.mp4", tmp_path / "b.mp4", stamp)
    files = source(tmp_path)
    ticks = files.read_frame_times("b.mp4").ticks
    assert len(ticks) == 30
    for indices in ([7], [11, 3, 29], list(range(30))):
        assert read_indices(files.read("b.mp4", ticks[indices]).luma_thw) == indices
    parts = files.read_in_order("b.mp4", ticks, 8)
    assert [index for part in parts for index in read_indices(part.luma_thw)] == list(range(30))


def test_stamps_that_mislead_in_matroska_are_named_where_frames_are_in_use_already(tmp_path: Path) -> None:
    """FFmpeg makes its own decoding stamps there, so nothing tells before frames are decoded."""

    def stamp(number: int, packet: av.Packet) -> None:
        packet.pts = packet.dts = 40 * number

    rewrite(write_video(tmp_path / "a.mkv", 30, gop=250), tmp_path / "b.mkv", stamp)
    files = source(tmp_path)
    ticks = files.read_frame_times("b.mkv").ticks
    assert read_indices(files.read("b.mkv", ticks).luma_thw) == list(range(30))
    with pytest.raises(VideoError, match="its time stamps are not those at which its frames are shown"):
        list(files.read_in_order("b.mkv", ticks, 8))


def hidden(packet: av.Packet, bit: int) -> bytes:
    """The picture with the bit of its first byte cleared that says it is to be shown."""
    data = bytes(packet)
    return bytes([data[0] & ~bit]) + data[1:]


def test_vp8_pictures_that_are_not_shown_are_no_frames(tmp_path: Path) -> None:
    write_video(tmp_path / "a.webm", 20, codec="libvpx", gop=10, options={"deadline": "realtime"})
    rewrite(
        tmp_path / "a.webm", tmp_path / "b.webm", lambda n, packet: hidden(packet, 0x10) if n in (8, 13, 19) else None
    )
    files = source(tmp_path)
    ticks = files.read_frame_times("b.webm").ticks
    expected = [n for n in range(20) if n not in (8, 13, 19)]
    assert ticks.tolist() == [40 * n for n in expected]
    assert read_indices(files.read("b.webm", ticks).luma_thw) == expected


NOT_CODED = bytes([0, 0, 1, 0xB6, 0b01_0_1_0000, 0b1_1_0_11111])  # an MPEG-4 P-picture that says "the same again"


@pytest.mark.parametrize("name", ["b.mp4", "b.avi"])
def test_where_no_frame_comes_out_the_one_before_is_still_shown(tmp_path: Path, name: str) -> None:
    first = write_video(tmp_path / name.replace("b", "a", 1), 20, codec="mpeg4", gop=10)
    rewrite(first, tmp_path / name, lambda number, _: NOT_CODED if number == 9 else None)
    assert one_after_the_other(tmp_path / name) == [n for n in range(20) if n != 9]
    files = source(tmp_path)
    ticks = files.read_frame_times(name).ticks
    assert len(ticks) == 20
    for indices in ([9], [8, 9], [9, 10], list(range(20))):
        assert read_indices(files.read(name, ticks[indices]).luma_thw) == [index - (index == 9) for index in indices]


def test_place_holders_of_packed_streams_are_no_frames(tmp_path: Path) -> None:
    """As Xvid's AVI files begin: one-byte packets marked as key frames, from which nothing can be decoded."""

    def change(number: int, packet: av.Packet) -> bytes | None:
        packet.is_keyframe = packet.is_keyframe or number in (5, 13, 15)  # 13 is a P-frame, marked by a sloppy writer
        return b"\x7f" if number in (5, 15) else None

    write_video(tmp_path / "a.avi", 30, codec="mpeg4", gop=10)
    rewrite(tmp_path / "a.avi", tmp_path / "b.avi", change)
    files = source(tmp_path)
    ticks = files.read_frame_times("b.avi").ticks
    assert ticks.tolist() == [n for n in range(30) if n not in (5, 15)]
    assert index_frames(str(tmp_path / "b.avi")).key_frame_stamps[:, 0].tolist() == [0, 10, 20]
    assert read_indices(files.read("b.avi", ticks[[14]]).luma_thw) == [16]


def test_the_size_may_change_within_a_video(tmp_path: Path) -> None:
    for name, height, width in (("a.mkv", 48, 64), ("b.mkv", 90, 52)):
        write_video(tmp_path / name, 10, codec="mjpeg", pixel_format="yuvj420p", height=height, width=width)
    with av.open(str(tmp_path / "b.mkv")) as other:
        larger = [bytes(packet) for packet in other.demux(video=0) if packet.size]
    rewrite(tmp_path / "a.mkv", tmp_path / "c.mkv", lambda number, _: larger[number] if number >= 5 else None)
    files = source(tmp_path)
    assert read_indices(files.read("c.mkv", files.read_frame_times("c.mkv").ticks).luma_thw) == list(range(10))


def cut_off_start(source: Path, target: Path, num_packets: int, *, repeats_stamp: bool) -> Path:
    """Copy without the first packets; a stamp that repeats makes all frames be found by counting."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.size]
        for number, packet in enumerate(packets[num_packets:]):
            if repeats_stamp and number == 15:
                packet.pts = packet.dts = packets[num_packets + 14].pts
            packet.stream = stream
            new.mux(packet)
    return target


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9", "mpeg4"])
@pytest.mark.parametrize("repeats_stamp", [False, True])
def test_what_comes_before_the_first_key_frame_is_not_decoded(tmp_path: Path, codec: str, repeats_stamp: bool) -> None:
    """VP8 and VP9 fail on it, MPEG-4 makes pictures of nothing."""
    needs_encoder(codec)
    write_video(
        tmp_path / "a.mkv", 30, codec=codec, gop=10, options={"deadline": "realtime"} if codec != "mpeg4" else {}
    )
    index = index_frames(str(cut_off_start(tmp_path / "a.mkv", tmp_path / "b.mkv", 4, repeats_stamp=repeats_stamp)))
    assert index.num_leading_packets == 6
    assert index.uses_counting == repeats_stamp
    files = source(tmp_path)
    ticks = files.read_frame_times("b.mkv").ticks
    for indices in (list(range(20)), [0], [19]):
        assert read_indices(files.read("b.mkv", ticks[indices]).luma_thw) == [10 + index for index in indices]


def turn_tkhd(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write a display matrix (a, b, c, d) into an MP4's track header (ISO 14496-12, 8.3.2), as a phone does."""
    data = path.read_bytes()
    frame_index = data.index(b"tkhd") + 4 + 40
    plain = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], ">i4")
    assert data[frame_index : frame_index + 36] == plain.tobytes()
    a, b, c, d = (entry << 16 for entry in matrix)
    turned = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(data[:frame_index] + turned + data[frame_index + 36 :])
    return path


@pytest.mark.parametrize(
    ("matrix", "coded"),
    [
        # A phone held upright: its matrix (0, 1, -1, 0) turns what was coded lying down by 90 degrees clockwise.
        ((0, 1, -1, 0), lambda picture: np.rot90(picture, 1)),
        ((0, -1, 1, 0), lambda picture: np.rot90(picture, -1)),
        ((-1, 0, 0, -1), lambda picture: np.rot90(picture, 2)),
        ((-1, 0, 0, 1), np.fliplr),
    ],
)
def test_frames_come_out_upright(tmp_path: Path, matrix: tuple[int, int, int, int], coded: Any) -> None:
    def paint(index: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(coded(index_picture(index + 11, 96, 64)))

    lying = matrix[0] == 0
    write_video(tmp_path / "a.mp4", 12, height=64 if lying else 96, width=96 if lying else 64, paint=paint)
    turn_tkhd(tmp_path / "a.mp4", matrix)
    files = source(tmp_path, 33, 20)
    clip = files.read("a.mp4", files.read_frame_times("a.mp4").ticks)
    assert clip.luma_thw.shape == (12, 33, 20)
    assert clip.chroma_cthw.shape == (2, 12, 17, 10)
    assert read_indices(clip.luma_thw) == list(range(11, 23))
    assert (probe(tmp_path / "a.mp4").height, probe(tmp_path / "a.mp4").width) == (96, 64)


def test_colour_marks_of_the_file_reach_the_clip(tmp_path: Path) -> None:
    marks = {"colorspace": "bt709", "color_range": "pc", "color_primaries": "bt709", "color_trc": "bt709"}
    write_video(tmp_path / "hd.mp4", 2, options=marks)
    write_video(tmp_path / "sd.mp4", 2)
    files = source(tmp_path)
    actual = {}
    for name in ("hd.mp4", "sd.mp4"):
        clip = files.read(name, files.read_frame_times(name).ticks)
        actual[name] = (clip.matrix, clip.full_range)
    assert actual == {"hd.mp4": ("bt709", True), "sd.mp4": ("bt601", False)}


def test_facts_of_a_file(tmp_path: Path, decoded: Decoded) -> None:
    facts = probe(write_video(tmp_path / "a.mp4", 50, height=90, width=120))
    assert (facts.num_frames, facts.height, facts.width) == (50, 90, 120)
    assert (facts.duration_seconds, facts.frames_per_second) == (pytest.approx(2), pytest.approx(25))
    assert decoded.frames == 1


def test_it_travels_to_other_processes_without_its_memory(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 5)
    files = source(tmp_path)
    ticks = files.read_frame_times("a.mp4").ticks
    size = len(pickle.dumps(files))
    for number in range(5):
        files.read_frame_times(str(write_video(tmp_path / f"{number}.mp4", 5)))
    assert len(pickle.dumps(files)) == size
    assert read_indices(pickle.loads(pickle.dumps(files)).read("a.mp4", ticks).luma_thw) == [0, 1, 2, 3, 4]


def test_time_stamps_are_remembered_for_some_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    index_frames = decode.index_frames
    monkeypatch.setattr(decode, "index_frames", lambda path: (calls.append(path), index_frames(path))[1])
    monkeypatch.setattr(decode, "_MAX_CACHED_INDEXES", 2)
    files = source(tmp_path)
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write_video(tmp_path / name, 3)
    for name in ("a.mp4", "a.mp4", "b.mp4", "a.mp4", "c.mp4", "c.mp4", "a.mp4"):
        files.read(name, files.read_frame_times(name).ticks)
    assert [Path(path).name for path in calls] == ["a.mp4", "b.mp4", "c.mp4", "a.mp4"]


def test_a_file_that_changes_is_looked_at_again(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 9)
    files = source(tmp_path)
    ticks = files.read_frame_times("a.mp4").ticks
    write_video(tmp_path / "a.mp4", 5)
    assert len(files.read_frame_times("a.mp4")) == 5
    with pytest.raises(VideoError, match="changed while it was in use"):
        files.read("a.mp4", ticks)


def test_a_file_that_grows_while_it_is_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.ts", 30)
    files = source(tmp_path)
    ticks = files.read_frame_times("a.ts").ticks
    write_frame = YuvClipBuilder.write_frame

    def grow(planes: YuvClipBuilder, frame_index: int, frame: av.VideoFrame) -> None:
        with path.open("ab") as file:
            file.write(bytes(188))
        write_frame(planes, frame_index, frame)

    monkeypatch.setattr(YuvClipBuilder, "write_frame", grow)
    with pytest.raises(VideoError, match="the file changed while it was read") as caught:
        files.read("a.ts", ticks[:4])
    assert caught.value.status == "unreadable"


def test_paths_are_relative_to_the_root_or_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    path = write_video(tmp_path / "deep" / "a.mp4", 3)
    monkeypatch.chdir(tmp_path)
    for files, name in (
        (source(Path("deep")), "a.mp4"),
        (source(tmp_path), "deep/a.mp4"),
        (source(Path("/")), str(path)),
    ):
        assert len(files.read_frame_times(name)) == 3


def test_no_file_stays_open(tmp_path: Path) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("counts open files in /proc")
    write_video(tmp_path / "a.mp4", 30)
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:500])
    files = source(tmp_path)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(20):
        files.read("a.mp4", files.read_frame_times("a.mp4").ticks[[3, 20]])
        with pytest.raises(VideoError):
            files.read_frame_times("broken.mp4")
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def real_videos() -> Path:
    folder = os.environ.get("MUYBRIDGE_REAL_VIDEO")
    if not folder:
        pytest.skip("MUYBRIDGE_REAL_VIDEO names no folder of real video")
    return Path(folder) / "videos"


def test_real_files_agree_with_decoding_them_from_the_beginning() -> None:
    folder = real_videos()
    requested = Preprocessing()
    files = source(folder, 128, 171)
    for name in sorted(path.name for path in folder.iterdir() if path.stem != "corrupted"):
        times = files.read_frame_times(name)
        expected = YuvClipBuilder(len(times), 128, 171)
        with av.open(str(folder / name)) as container:
            for frame_index, frame in enumerate(container.decode(video=0)):
                expected.write_frame(frame_index, frame)
        assert frame_index == len(times) - 1, name
        whole = expected.build_clip(np.arange(len(times)))
        for draw in range(3):
            ticks = sample_random_clip(times, requested, np.random.default_rng(draw)).ticks
            clip = files.read(name, ticks)
            indices = np.searchsorted(times.ticks, ticks)
            assert np.array_equal(clip.luma_thw, whole.luma_thw[indices]), name
            assert np.array_equal(clip.chroma_cthw, whole.chroma_cthw[:, indices]), name


def test_a_real_corrupted_file_can_be_used_up_to_where_it_fails() -> None:
    files = source(real_videos(), 128, 171)
    times: FrameTimes = files.read_frame_times("corrupted.mp4")
    assert files.read("corrupted.mp4", times.ticks[:10]).luma_thw.shape == (10, 128, 171)
    with pytest.raises(VideoError, match=r"decoding fails at \d\.\d\d s") as caught:
        files.read("corrupted.mp4", times.ticks[-10:])
    assert caught.value.status == "unreadable"
