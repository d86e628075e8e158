"""Files that are no videos, or are broken: each ends in the right status with one sentence, quietly, opening nothing else."""

from __future__ import annotations

import http.server
import os
import pickle
import random
import re
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from muybridge.records import VideoError
from muybridge.video import decode
from muybridge.video.decode import VideoFiles, probe
from muybridge.video.media import MediaFiles
from videos import read_indices, rewrite, write_picture, write_sound, write_video


def source(folder: Path) -> VideoFiles:
    return VideoFiles(str(folder), scale_height=32, scale_width=43)


def fault(folder: Path, name: str) -> tuple[str, str]:
    """Status and reason of a file that cannot be opened, the same from every way in."""
    found = []
    for attempt in (lambda: source(folder).read_frame_times(name), lambda: probe(folder / name)):
        with pytest.raises(VideoError) as caught:
            attempt()
        found.append((caught.value.status, caught.value.reason))
    assert found[0] == found[1]
    status, reason = found[0]
    assert "\n" not in reason
    assert str(folder) not in reason  # the video's name is said beside the reason
    copy = pickle.loads(pickle.dumps(VideoError(caught.value.status, reason)))
    assert (copy.status, copy.reason) == (status, reason)
    return status, reason


def text_file(path: Path) -> Path:
    path.write_text("hello world\n" * 100, encoding="utf-8")
    return path


def bytes_file(path: Path) -> Path:
    path.write_bytes(bytes((7 * place * place) % 251 for place in range(5000)))
    return path


def renamed(make: Callable[[Path], Path], suffix: str) -> Callable[[Path], Path]:
    return lambda path: make(path.with_suffix(suffix)).rename(path)


FILES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "nothing there": (lambda path: None, "missing", "the file does not exist"),
    "below a file": (lambda path: path.parent.joinpath("b.mp4").touch(), "missing", "the file does not exist"),
    "a folder": (lambda path: path.mkdir(), "unreadable", "the path is a folder"),
    "a pipe": (lambda path: os.mkfifo(path), "unreadable", "the path is not a file"),
    "empty": (lambda path: path.touch(), "unreadable", "the file is empty"),
    "text": (text_file, "unreadable", "the file is damaged or no video (Invalid data found"),
    "noise": (bytes_file, "unreadable", "the file is damaged or no video (Invalid data found"),
    "sound": (write_sound, "no_video", "the file holds sound and no video"),
    "mp3": (renamed(lambda path: write_sound(path, "mp3"), ".mp3"), "no_video", "the file holds sound and no video"),
    "sound with a cover": (
        lambda path: write_picture(path, "mjpeg", "yuvj420p", cover=True),
        "no_video",
        "the file holds sound and no video",
    ),
    "png": (renamed(write_picture, ".png"), "no_video", "the file is a picture (png), not a video"),
    "jpeg": (
        renamed(lambda path: write_picture(path, "mjpeg", "yuvj420p"), ".jpg"),
        "no_video",
        "the file is a picture (jpeg), not a video",
    ),
    "bmp": (
        renamed(lambda path: write_picture(path, "bmp", "bgr24"), ".bmp"),
        "no_video",
        "the file is a picture (bmp), not a video",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_videos(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    make, status, reason = FILES[name]
    make(tmp_path / "a.mp4")
    capfd.readouterr()
    found = fault(tmp_path, "b.mp4/a.mp4" if name == "below a file" else "a.mp4")
    assert found[0] == status
    assert found[1].startswith(reason)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 3).chmod(0)
    assert fault(tmp_path, "a.mp4") == ("unreadable", "the file is damaged or no video (Permission denied)")


def shortened(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_a_file_that_was_cut_before_the_end_of_its_table(tmp_path: Path, name: str, share: float) -> None:
    shortened(write_video(tmp_path / name, 50), share)
    status, reason = fault(tmp_path, name)
    assert status == "truncated"
    assert reason.startswith("the table of frames (moov) is missing or incomplete")


@pytest.mark.parametrize("share", [0.75, 0.8, 0.85, 0.9, 0.95, 0.99])
def test_a_download_that_stopped_after_the_table_of_contents(tmp_path: Path, share: float) -> None:
    shortened(write_video(tmp_path / "a.mp4", 40, container_options={"movflags": "+faststart"}), share)
    status, reason = fault(tmp_path, "a.mp4")
    assert status == "truncated"
    assert reason.startswith("the file ends after ")
    assert reason.endswith(" of 40 frames")


def test_an_avi_file_that_stops_within_a_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", 40, codec="mjpeg", pixel_format="yuvj420p")
    shortened(path, 0.6)
    status, reason = fault(tmp_path, "a.avi")
    assert status == "truncated"
    assert reason.startswith("the file ends in the middle of frame ")


_CUT_SHORT: dict[str, dict[str, Any]] = {
    "a.ts": {},
    "a.mkv": {},
    "a.webm": {"codec": "libvpx", "options": {"deadline": "realtime"}},
    "a.flv": {"options": {"bf": "0"}},
    "a.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "a.mpg": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "a.wmv": {"codec": "wmv2", "container": "asf"},
    "a.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}, "gop": 250},
    "a.gif": {"codec": "gif", "pixel_format": "rgb8"},
    "a.apng": {"codec": "apng", "pixel_format": "rgb24", "container": "apng"},
}


@pytest.mark.parametrize("name", _CUT_SHORT)
@pytest.mark.parametrize("share", [0.6, 0.9, 0.97])
def test_a_file_that_was_cut_short_is_truncated(tmp_path: Path, name: str, share: float) -> None:
    shortened(write_video(tmp_path / name, 40, **_CUT_SHORT[name]), share)
    status, reason = fault(tmp_path, name)
    assert status == "truncated"
    assert reason


@pytest.mark.parametrize(("name", "codec"), [("a.mxf", "mpeg2video"), ("a.ivf", "libvpx")])
def test_a_file_that_ends_before_the_duration_of_its_head_is_truncated(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, 40, codec=codec)
    assert len(source(tmp_path).read_frame_times(name).ticks) == 40
    shortened(path, 0.7)
    status, reason = fault(tmp_path, name)
    assert status == "truncated"
    assert re.match(r"the file ends at 1\.\d\d s; its head says 1\.60 s|the file ends in the middle of frame", reason)


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.avi", "a.flv"])
def test_a_tail_of_zeros_is_truncated(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, 40, **_CUT_SHORT[name])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    assert fault(tmp_path, name)[0] == "truncated"


def test_damage_in_the_middle_is_named_and_spares_what_lies_before(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "a.mp4", 50, gop=250, options={"bf": "0", "x264-params": "scenecut=0"})
    rewrite(tmp_path / "a.mp4", tmp_path / "b.mp4", lambda number, _: bytes(40) if number == 20 else None)
    capfd.readouterr()
    files = source(tmp_path)
    ticks = files.read_frame_times("b.mp4").ticks
    assert read_indices(files.read("b.mp4", ticks[[3, 19]]).luma_thw) == [3, 19]
    for places in ([20], [45], [3, 30]):
        with pytest.raises(VideoError) as caught:
            files.read("b.mp4", ticks[places])
        assert caught.value.status == "unreadable"
        assert caught.value.reason.startswith("the file is damaged: decoding fails at 0.80 s (Invalid data found")
    assert capfd.readouterr() == ("", "")


def test_damage_in_a_file_that_has_to_be_counted(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", 50)
    rewrite(tmp_path / "a.avi", tmp_path / "b.avi", lambda number, _: bytes(40) if number == 20 else None)
    status, reason = fault(tmp_path, "b.avi")
    assert status == "unreadable"
    assert "the file is damaged: decoding fails after" in reason


@pytest.mark.parametrize("counted", [False, True])
def test_frames_that_never_come_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: bool) -> None:
    """A decoder that swallows the end of a file without a word."""
    name = "a.avi" if counted else "a.mp4"
    write_video(tmp_path / name, 30)
    files = source(tmp_path)
    ticks = files.read_frame_times(name).ticks
    decoded_frames = decode.decode_frames

    def swallowed(*arguments: object) -> Iterator[av.VideoFrame]:
        for number, frame in enumerate(decoded_frames(*arguments)):  # type: ignore[arg-type]
            if number < 12:
                yield frame

    monkeypatch.setattr(decode, "decode_frames", swallowed)
    monkeypatch.setattr(decode, "split_at_seeks", lambda index, wanted: [range(len(wanted))])
    assert read_indices(files.read(name, ticks[[0, 11]]).luma_thw) == [0, 11]
    with pytest.raises(VideoError, match="the file ends after 12 of 30 frames") as caught:
        files.read(name, ticks[[0, 12]])
    assert caught.value.status == "truncated"


DAMAGED = ("a.mp4", "a.avi", "b.avi", "a.mkv", "a.ts")


@pytest.mark.parametrize("name", DAMAGED)
def test_any_damage_gives_frames_or_a_reason(tmp_path: Path, name: str) -> None:
    codec = {"a.avi": {"codec": "mpeg4"}, "b.avi": {"codec": "mpeg4", "options": {"bf": "2"}}}.get(name, {})
    whole = write_video(tmp_path / name, 30, **codec).read_bytes()
    draws, statuses = random.Random(name), set()
    for _ in range(150):
        data = bytearray(whole)
        place = draws.randrange(len(data))
        match draws.randrange(3):
            case 0:
                data[place : place + draws.randrange(1, 30)] = draws.randbytes(draws.randrange(1, 30))
            case 1:
                del data[place : place + draws.randrange(1, 300)]
            case 2:
                del data[place:]
        (tmp_path / name).write_bytes(data)
        try:
            files = source(tmp_path)
            ticks = files.read_frame_times(name).ticks
            clip = files.read(name, ticks[[0, len(ticks) // 2, -1]])
        except VideoError as error:
            statuses.add(error.status)
        else:
            assert clip.luma_thw.shape == (3, 32, 43)
            statuses.add("ok")
    assert {"ok", "unreadable"} <= statuses <= {"ok", "unreadable", "truncated", "no_video"}


def test_nothing_can_be_decoded(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 5)
    rewrite(tmp_path / "a.mp4", tmp_path / "b.mp4", lambda number, packet: bytes(len(bytes(packet))))
    with pytest.raises(VideoError, match="the file is damaged") as caught:
        probe(tmp_path / "b.mp4")
    assert caught.value.status == "unreadable"
    files = source(tmp_path)
    with pytest.raises(VideoError, match="the file is damaged"):
        files.read("b.mp4", files.read_frame_times("b.mp4").ticks)


def test_a_video_stream_without_frames(tmp_path: Path) -> None:
    data = write_video(tmp_path / "a.mkv", 5).read_bytes()
    (tmp_path / "a.mkv").write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # up to Matroska's first cluster
    assert fault(tmp_path, "a.mkv") == ("unreadable", "the file is damaged or no video (End of file)")
    write_video(tmp_path / "a.avi", 5, codec="mpeg4")
    rewrite(tmp_path / "a.avi", tmp_path / "b.avi", lambda *_: b"\x7f")  # nothing but place-holders
    assert fault(tmp_path, "b.avi") == ("no_video", "the file's video stream has no frames")


class Asked(http.server.BaseHTTPRequestHandler):
    """Notes that somebody came."""

    visits: list[str]

    def do_GET(self) -> None:
        self.visits.append(self.path)
        self.send_error(404)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def address() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine, and the list of what it was asked for."""
    visits: list[str] = []
    server = http.server.HTTPServer(("127.0.0.1", 0), type("Noted", (Asked,), {"visits": visits}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", visits
    server.shutdown()
    thread.join()
    server.server_close()


POINTING = {
    "ffconcat": "ffconcat version 1.0\nfile 'real.ts'\n",
    "ffconcat address": "ffconcat version 1.0\nfile '{address}/x.ts'\n",
    "m3u8": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:1.6,\nreal.ts\n#EXT-X-ENDLIST\n",
    "m3u8 address": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:1.6,\n{address}/x.ts\n#EXT-X-ENDLIST\n",
    "dash": (
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S">'
        '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{address}/x.mp4</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>"
    ),
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8", "a.txt"])
@pytest.mark.parametrize("kind", POINTING)
def test_playlists_are_not_followed(
    tmp_path: Path, kind: str, name: str, address: tuple[str, list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "real.ts", 20)
    (tmp_path / name).write_text(POINTING[kind].replace("{address}", address[0]), encoding="utf-8")
    capfd.readouterr()
    status, reason = fault(tmp_path, name)
    assert status == "unreadable"
    assert reason.startswith(
        ("the file is no video (playlists that point to other files", "the file is damaged or no video")
    )
    assert address[1] == []
    assert capfd.readouterr() == ("", "")


def test_playlists_would_be_followed_otherwise(tmp_path: Path) -> None:
    """The test above can fail: FFmpeg left to itself opens what such a file names."""
    write_video(tmp_path / "real.ts", 20)
    (tmp_path / "a.mp4").write_text(POINTING["ffconcat"], encoding="utf-8")
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 20


@pytest.mark.parametrize("name", ["http:x.mp4", "concat:a.mp4", "file:a.mp4", "pipe:0", "frame%03d.mp4", "*.mp4", "-"])
def test_names_are_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg reads addresses and patterns into names; here a name is a file."""
    assert fault(tmp_path, name) == ("missing", "the file does not exist")
    write_video(tmp_path / "a.mp4", 7).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for root in (tmp_path, Path()):
        assert len(source(root).read_frame_times(name)) == 7
    assert probe(name).num_frames == 7


@pytest.mark.parametrize("name", ["a.mp4", "frames", "a.webp", "a.npy"])
def test_too_many_open_files_say_nothing_about_a_video(tmp_path: Path, name: str) -> None:
    """Recorded as that of the file, the reason would stay in prepared data and in scores."""
    pictures = [Image.fromarray(np.full((16, 16, 3), 20 * number, np.uint8)) for number in range(5)]
    path = tmp_path / name
    if name == "frames":
        path.mkdir()
        for number, picture in enumerate(pictures):
            picture.save(path / f"{number}.png")
    elif name == "a.webp":
        pictures[0].save(path, save_all=True, append_images=pictures[1:])
    elif name == "a.npy":
        np.save(path, np.zeros((5, 16, 16, 3), np.uint8))
    else:
        write_video(path, 5)
    files = MediaFiles(str(tmp_path), scale_height=16, scale_width=16)
    files.read(name, files.read_frame_times(name).ticks)  # imports what is imported late
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptor = os.dup(0)
    os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptor, old[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            MediaFiles(str(tmp_path), scale_height=16, scale_width=16).read_frame_times(name)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
