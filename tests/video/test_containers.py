"""Opening files: which stream is the video, and what is no video."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from muybridge.records import VideoError
from muybridge.video import containers
from muybridge.video.containers import _build_open_options, demux_streams, open_video_stream
from muybridge.video.decode import VideoFiles
from muybridge.video.frame_index import index_frames
from videos import index_picture, needs_encoder, read_index, read_indices, write_picture, write_silence, write_video


def test_the_first_stream_of_moving_pictures_is_chosen(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as output:
        cover = output.add_stream("mjpeg")
        cover.height, cover.width, cover.pix_fmt = 48, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        sound = output.add_stream("aac", rate=44100)
        streams = [output.add_stream("mpeg4", rate=25) for _ in range(2)]
        packets = cover.encode(av.VideoFrame.from_ndarray(index_picture(99, 48, 64))) + cover.encode(None)
        for number, stream in enumerate(streams):
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            for frame_index in range(5):
                packets += stream.encode(av.VideoFrame.from_ndarray(index_picture(10 * number + frame_index, 48, 64)))
            packets += stream.encode(None)
        write_silence(output, sound, 0.2)
        output.mux(packets)
    with open_video_stream(str(tmp_path / "a.mp4")) as (container, stream):
        assert read_index(next(container.decode(stream)).to_ndarray(format="gray")) == 0
    assert len(index_frames(str(tmp_path / "a.mp4")).times) == 5


class LateStreams:
    """A container as PyAV's is after streams have appeared: IndexError behind the last packet."""

    def demux(self, streams: list[object]) -> Iterator[str]:
        yield from (f"{stream} {number}" for number in range(3) for stream in streams)
        raise IndexError("list index out of range")


def test_packets_end_at_streams_that_begin_late() -> None:
    container: Any = LateStreams()
    assert list(demux_streams(container, ("a", "b"))) == ["a 0", "b 0", "a 1", "b 1", "a 2", "b 2"]


def test_an_index_error_of_ours_is_not_taken_for_the_end() -> None:
    container: Any = LateStreams()
    with pytest.raises(IndexError, match="string index"):
        [packet[9] for packet in demux_streams(container, ["a"])]


def test_every_reader_of_packets_ends_there() -> None:
    source = Path(containers.__file__).parents[1]
    users = [path.name for path in source.rglob("*.py") if ".demux(" in path.read_text(encoding="utf-8")]
    assert users == ["containers.py"]


def test_a_cover_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="sound and no video"):
        index_frames(str(write_picture(tmp_path / "a.mp4", "mjpeg", "yuvj420p", cover=True)))


def test_names_and_notes_in_any_encoding(tmp_path: Path) -> None:
    path = write_video(tmp_path / "ü %d *.mp4", 5, metadata={"title": "caf@"})
    path.write_bytes(path.read_bytes().replace(b"caf@", b"caf\xe9"))  # not UTF-8
    assert len(index_frames(str(path)).times) == 5


def write_two_streams(path: Path, *, first: int, second: int, default: int | None = None) -> Path:
    """Two video streams of different sizes with so many frames each; `default` is the only one that is marked so."""
    with av.open(str(path), "w") as output:
        packets = []
        for number, (num_frames, codec, side) in enumerate(((first, "mjpeg", 32), (second, "mpeg4", 64))):
            stream = output.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = side, side, "yuvj420p" if codec == "mjpeg" else "yuv420p"
            if default is not None:
                stream.disposition = av.stream.Disposition.default if number == default else av.stream.Disposition(0)
            for frame_index in range(num_frames):
                picture = index_picture(100 * number + frame_index, side, side)
                packets += stream.encode(av.VideoFrame.from_ndarray(picture))
            packets += stream.encode(None)
        output.mux(packets)
    return path


@pytest.mark.parametrize(
    ("name", "first", "second", "default", "chosen"),
    [
        ("thumbnail.mp4", 1, 40, None, 1),
        ("thumbnail.mkv", 1, 40, None, 1),
        ("thumbnail.avi", 1, 40, None, 1),
        ("thumbnail.nut", 1, 40, None, 1),
        ("default_thumbnail.mkv", 2, 40, 0, 1),
        ("last_thumbnail.mp4", 40, 1, 1, 0),
        ("default.mp4", 30, 40, 0, 0),
        ("default.mkv", 30, 40, 1, 1),
        ("longer.avi", 30, 40, None, 1),
        ("longer.avi", 40, 30, None, 0),
        ("larger.avi", 40, 40, None, 1),
    ],
)
def test_of_several_streams_the_video_is_read_and_named(
    tmp_path: Path,
    name: str,
    first: int,
    second: int,
    default: int | None,
    chosen: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = write_two_streams(tmp_path / name, first=first, second=second, default=default)
    source = VideoFiles(str(tmp_path), scale_height=32, scale_width=32)
    times = source.read_frame_times(name)
    assert len(times) == (first, second)[chosen]
    assert read_indices(source.read(name, times.ticks[:1]).luma_thw) == [100 * chosen]
    index = index_frames(str(path))
    assert index.stream_index == chosen
    assert index.notes[0].startswith(f"of its video streams, {chosen} (")
    assert [record.getMessage() for record in caplog.records] == [f"note: {name}: {index.notes[0]}"]


def test_the_still_of_an_animated_avif_is_not_its_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVT_LOG", "0")
    needs_encoder("libsvtav1")
    write_video(tmp_path / "a.avif", 20, codec="libsvtav1", options={"preset": "8", "crf": "20"})
    source = VideoFiles(str(tmp_path), scale_height=32, scale_width=43)
    ticks = source.read_frame_times("a.avif").ticks
    assert read_indices(source.read("a.avif", ticks).luma_thw) == list(range(20))
    write_video(tmp_path / "still.avif", 1, codec="libsvtav1", options={"preset": "8", "crf": "20"})
    with pytest.raises(VideoError, match="is a picture") as caught:
        source.read_frame_times("still.avif")
    assert caught.value.status == "no_video"


def test_animated_pictures_are_read_or_named(tmp_path: Path) -> None:
    write_video(tmp_path / "a.png", 20, codec="apng", pixel_format="rgb24", container="apng")
    source = VideoFiles(str(tmp_path), scale_height=32, scale_width=43)
    assert read_indices(source.read("a.png", source.read_frame_times("a.png").ticks).luma_thw) == list(range(20))
    needs_encoder("libwebp_anim")
    write_video(tmp_path / "a.webp", 20, codec="libwebp_anim")
    with pytest.raises(VideoError, match="animated WebP, which FFmpeg cannot decode; convert it") as caught:
        source.read_frame_times("a.webp")
    assert caught.value.status == "unreadable"


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.png", "a.webp", "a.bmp", "a.mp4"])
def test_a_still_picture_is_named_as_one(tmp_path: Path, name: str) -> None:
    file_format = {"jpg": "jpeg", "mp4": "jpeg"}.get(name[2:], name[2:])
    Image.new("RGB", (40, 30)).save(tmp_path / name, format=file_format)
    with pytest.raises(VideoError, match=rf"the file is a picture \({file_format}\), not a video") as caught:
        VideoFiles(str(tmp_path), scale_height=32, scale_width=43).read_frame_times(name)
    assert caught.value.status == "no_video"


@pytest.mark.parametrize(
    "form",
    [
        "http://127.0.0.1:{port}/a.ts",
        "concat:{path}|{path}",
        "subfile,,start,0,end,0,,:{path}",
        "cache:{path}",
        "data:video/mp2t;base64,AAAA",
    ],
)
def test_ffmpeg_opens_files_only(tmp_path: Path, form: str) -> None:
    """Whatever a demuxer finds inside a file, the options of the container let it open files and nothing else."""
    path = write_video(tmp_path / "a.ts", 5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.01)
        name = form.format(port=server.getsockname()[1], path=path)
        with pytest.raises(av.error.FFmpegError):
            av.open(name, container_options=_build_open_options(), timeout=5)
        with pytest.raises(TimeoutError):
            server.accept()


def test_ffmpeg_would_open_more_otherwise(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", 5)
    with av.open(f"concat:{path}|{path}") as container:
        assert sum(1 for _ in container.decode(video=0)) > 5


def test_a_long_part_of_zeros_is_named(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.ts", 50).read_bytes()
    zeroed = tmp_path / "zeroed.ts"
    zeroed.write_bytes(whole[: len(whole) // 2] + bytes(1_000_000))
    with pytest.raises(VideoError, match="a long part of it is not data of its format"):
        index_frames(str(zeroed))
