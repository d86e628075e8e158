"""Videos of a project: listed, examined in children, played with ranges, and read frame by frame."""

from __future__ import annotations

import io
import os
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import anyio
import av
import numpy as np
import pytest
from PIL import Image
from starlette.requests import ClientDisconnect

from muybridge.files.run_folder import append_json_line
from muybridge.records import VideoError
from muybridge.studio.child_pool import CHILD_DIED, ChildPool
from muybridge.studio.errors import StudioError
from muybridge.studio.folders import AllowedFolders
from muybridge.studio.media import MediaCache, VideoStream
from muybridge.studio.routes.conversion import ConversionResponse
from muybridge.studio.video_records import VideoProperties
from muybridge.studio.videos import VideoCatalogue
from studio_client import StudioClient, wait_until
from videos import read_index, write_video


def test_videos_are_listed_and_examined_in_the_background(studio_client: StudioClient) -> None:
    def examined() -> dict[str, dict[str, object]] | None:
        videos = {video["path"]: video for video in studio_client.get("videos")["videos"]}
        return videos if all(video["status"] != "pending" for video in videos.values()) else None

    videos = wait_until(examined)
    assert list(videos) == ["a.mp4", "broken.mp4", "sub/b.avi"]
    assert videos["a.mp4"]["num_frames"] == 50
    assert videos["a.mp4"]["duration_seconds"] == pytest.approx(2.0)
    assert videos["a.mp4"]["media"] == {"kind": "original", "progress": 1.0, "offset_seconds": 0.0}
    assert videos["broken.mp4"]["status"] == "unreadable"
    assert videos["broken.mp4"]["reason"]
    assert videos["sub/b.avi"]["codec"] == "mpeg4"
    assert (studio_client.folder / ".muybridge" / "videos.jsonl").exists()


def test_what_other_processes_learn_is_read_as_it_comes(studio_client: StudioClient) -> None:
    folders = AllowedFolders([studio_client.folder])
    others, ours = (VideoCatalogue(studio_client.folder, folders, _NoPool(), 1.0) for _ in range(2))  # type: ignore[arg-type]
    assert ours.get_known("new.mp4") is None
    log = studio_client.folder / ".muybridge" / "videos.jsonl"
    content = log.read_bytes()
    for number in (1, 2):
        write_video(studio_client.folder / "new.mp4", 10 * number)
        status = (studio_client.folder / "new.mp4").stat()
        append_json_line(
            log,
            {
                "path": "new.mp4",
                "change_time": status.st_mtime_ns,
                "num_bytes": status.st_size,
                "status": "unreadable",
                "reason": f"number {number}",
                "properties": None,
            },
        )
        for catalogue in (ours, others):
            known = catalogue.get_known("new.mp4")
            assert known is not None
            assert known.reason == f"number {number}"
    log.write_bytes(content)  # begun anew, shorter
    assert ours.get_known("a.mp4") is not None
    (studio_client.folder / "new.mp4").unlink()


class _NoPool:
    """Nothing is examined."""


_BUSY = (
    VideoError("timed_out", "not done within 60 s"),
    VideoError("unreadable", f"{CHILD_DIED} was killed by SIGKILL"),
)


@pytest.mark.parametrize("error", _BUSY)
def test_a_busy_moment_does_not_make_a_video_bad(tmp_path: Path, error: VideoError) -> None:
    """It is examined again when it is opened and after a restart, also where an older version wrote it down."""
    write_video(tmp_path / "a.mp4", 10)
    properties = VideoProperties(10, 0.4, 25.0, 64, 64, "h264", True, 0.0)
    pool = _ScriptedPool(error, error, properties, properties)
    ours, others, restarted = (VideoCatalogue(tmp_path, AllowedFolders([tmp_path]), pool, 1.0) for _ in range(3))  # type: ignore[arg-type]
    assert ours.examine("a.mp4").status == error.status
    busy = ours.get_known("a.mp4")
    assert busy is not None
    assert others.get_known("a.mp4") is None
    with pytest.raises(VideoError):
        ours.get_properties("a.mp4")
    (tmp_path / ".muybridge").mkdir(exist_ok=True)
    append_json_line(tmp_path / ".muybridge" / "videos.jsonl", {"path": "a.mp4", **asdict(busy)})
    assert restarted.get_known("a.mp4") is None
    assert restarted.get_properties("a.mp4") == ours.get_properties("a.mp4") == properties
    assert others.get_properties("a.mp4") == properties, "what is known to be usable is not examined again"


class _ScriptedPool:
    """Children whose calls end in these ways, one after another."""

    def __init__(self, *ends: VideoError | VideoProperties) -> None:
        self.ends = list(ends)

    def call_by_name(self, *_: object) -> VideoProperties:
        end = self.ends.pop(0)
        if isinstance(end, VideoError):
            raise end
        return end


def test_the_file_is_played_with_ranges(studio_client: StudioClient) -> None:
    content = (studio_client.folder / "a.mp4").read_bytes()
    address = f"{studio_client.project}/media?path=a.mp4"
    part = studio_client.request("GET", address, headers={"Range": "bytes=10-19"})
    assert part.status_code == 206
    assert part.content == content[10:20]
    assert part.headers["content-type"] == "video/mp4"


def test_what_browsers_do_not_play_is_converted(studio_client: StudioClient) -> None:
    address = f"{studio_client.project}/media?path=sub/b.avi"
    stream = studio_client.request("GET", address)
    assert _count_frames(stream.content) == 30
    wait_until(lambda: studio_client.get("video", path="sub/b.avi")["media"]["kind"] == "ready")
    part = studio_client.request("GET", address, headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert _count_frames(studio_client.request("GET", address).content) == 30


def test_a_converted_stream_begins_where_it_is_asked_to(studio_client: StudioClient) -> None:
    write_video(studio_client.folder / "c.avi", 50, codec="mpeg4")
    response = studio_client.request("GET", f"{studio_client.project}/media?path=c.avi&start_seconds=1.2")
    assert _count_frames(response.content) == 20
    (studio_client.folder / "c.avi").unlink()


def test_players_that_leave_make_room_for_others(studio_client: StudioClient, tmp_path: Path) -> None:
    """Four that left before the first byte kept everybody else from converting until the server was restarted."""
    cache, file = MediaCache(tmp_path), studio_client.folder / "sub" / "b.avi"

    async def leave() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def ignore(message: object) -> None:
        await anyio.sleep(0)

    async def answer(stream: VideoStream) -> None:
        response = ConversionResponse(stream)
        with suppress(ClientDisconnect):
            await response({"type": "http", "asgi": {"spec_version": "2.3"}}, leave, ignore)

    for _ in range(5):
        stream = cache.stream(file, 0.0)
        anyio.run(answer, stream)
        assert not stream.is_open
        assert list(stream) == []
    streams = [cache.stream(file, 0.0) for _ in range(4)]
    with pytest.raises(StudioError, match="4 videos are being converted") as caught:
        cache.stream(file, 0.0)
    assert caught.value.status == 429
    streams.pop()  # dropped by a request that ended before it was answered
    streams.append(cache.stream(file, 0.0))
    assert _count_frames(b"".join(streams[0])) == 30
    cache.stream(file, 0.0).close()
    for stream in streams:
        stream.close()


@pytest.mark.parametrize("path", ["a.mp4", "sub/b.avi"])
def test_frames_are_exact(studio_client: StudioClient, path: str) -> None:
    times = studio_client.get("frames", path=path)
    assert times["seconds"][:3] == [0.0, 0.04, 0.08]
    assert len(times["seconds"]) == times["num_frames"]
    for index in (0, 7, 29):
        seconds = times["seconds"][index]
        for params in ({"index": index}, {"seconds": seconds}, {"seconds": seconds + 0.039}):
            response = studio_client.request("GET", f"{studio_client.project}/frame", params={"path": path, **params})
            assert response.headers["x-frame-index"] == str(index)
            assert float(response.headers["x-frame-seconds"]) == pytest.approx(seconds)
            assert read_index(np.array(Image.open(io.BytesIO(response.content)).convert("L"))) == index


def test_a_window_of_frame_times(studio_client: StudioClient) -> None:
    window = studio_client.get("frames", path="a.mp4", around_seconds=1.0, count=5)
    assert window["start_index"] == 23
    assert window["seconds"] == [0.92, 0.96, 1.0, 1.04, 1.08]
    assert studio_client.get("frames", path="a.mp4", start_index=49)["seconds"] == [1.96]


def test_wrong_frames_are_refused(studio_client: StudioClient) -> None:
    address = f"{studio_client.project}/frame"
    assert "50 frames" in studio_client.refuse("GET", address, 400, params={"path": "a.mp4", "index": 50})
    assert studio_client.refuse("GET", address, 400, params={"path": "a.mp4"})
    assert studio_client.refuse("GET", address, 404, params={"path": "absent.mp4", "index": 0})
    assert studio_client.refuse("GET", address, 400, params={"path": "broken.mp4", "index": 0})
    assert studio_client.refuse("GET", address, 422, params={"path": "a.mp4", "seconds": "nan"})


def test_uploads_are_videos_with_names_of_their_own(studio_client: StudioClient) -> None:
    address = f"{studio_client.project}/videos"
    content = (studio_client.folder / "a.mp4").read_bytes()

    def send(name: str, content: bytes) -> dict[str, object]:
        return {"files": [("file", (name, content, "video/mp4"))]}

    uploaded = studio_client.call("POST", address, **send("../up.mp4", content))
    assert [(video["path"], video["status"]) for video in uploaded["videos"]] == [("up.mp4", "ok")]
    assert (studio_client.folder / "up.mp4").read_bytes() == content
    assert "already" in studio_client.refuse("POST", address, 409, **send("up.mp4", content))
    for name in (".hidden.mp4", "annotations.csv", "x" * 300 + ".mp4"):
        assert studio_client.refuse("POST", address, 400, **send(name, content))
    refused = studio_client.call("POST", address, **send("text.mp4", b"text"))
    assert refused["videos"][0]["status"] == "unreadable"
    assert refused["removed"] == ["text.mp4"]
    assert not (studio_client.folder / "text.mp4").exists()
    (studio_client.folder / "up.mp4").unlink()


@pytest.mark.parametrize("error", [*_BUSY, StudioError(503, "busy")])
def test_an_upload_is_kept_where_the_machine_is_too_busy_to_tell_what_it_is(
    studio_client: StudioClient, monkeypatch: pytest.MonkeyPatch, error: VideoError | StudioError
) -> None:
    content = (studio_client.folder / "a.mp4").read_bytes()

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as busy:
        busy.setattr(ChildPool, "call_by_name", fail)
        answer = studio_client.call("POST", f"{studio_client.project}/videos", files=[("file", ("up.mp4", content))])
    assert answer["removed"] == []
    assert answer["videos"][0]["status"] == (error.status if isinstance(error, VideoError) else "pending")
    assert studio_client.get("video", path="up.mp4")["status"] == "ok"
    assert (studio_client.folder / "up.mp4").read_bytes() == content
    (studio_client.folder / "up.mp4").unlink()


@pytest.mark.parametrize("names", [("n.mp4", "n.mp4"), ("n.mp4", "sub/N.mp4")])
def test_two_uploads_of_one_name_are_refused(studio_client: StudioClient, names: tuple[str, str]) -> None:
    content = (studio_client.folder / "a.mp4").read_bytes()
    files = [("file", (name, part)) for name, part in zip(names, (content, b"no video"), strict=True)]
    assert "n.mp4" in studio_client.refuse("POST", f"{studio_client.project}/videos", 400, files=files)
    assert not (studio_client.folder / "n.mp4").exists()


def test_children_are_limited_in_time_and_memory() -> None:
    pool = ChildPool("muybridge.studio.examine", num_children=1, memory_bytes=1 << 30)
    assert pool.call(30, "x", os.path.basename, "a/b") == "b"
    with pytest.raises(VideoError, match=r"not done within 0\.5 s") as timed_out:
        pool.call(0.5, "x", time.sleep, 60)
    assert timed_out.value.status == "timed_out"
    with pytest.raises(VideoError, match="GiB of memory"):
        pool.call(30, "x", bytes, 4 << 30)
    with pytest.raises(VideoError, match="ended with exit code 7"):
        pool.call(30, "x", os._exit, 7)
    assert pool.call(30, "x", os.path.basename, "a/c") == "c"
    pool.close()


def _count_frames(content: bytes) -> int:
    with av.open(io.BytesIO(content)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_frames_are_those_of_their_index_in_any_order(studio_client: StudioClient) -> None:
    """Frames are decoded in blocks: around the borders, forth, back, and in two sizes."""
    for index in (7, 8, 9, 8, 7, 0, 49, 48, 15, 16):
        for width in (64, 32):
            address = f"{studio_client.project}/frame?path=a.mp4&index={index}&max_width={width}"
            response = studio_client.request("GET", address)
            picture = np.asarray(Image.open(io.BytesIO(response.content)).convert("L"))
            assert (read_index(picture), picture.shape[1]) == (index, width)


def test_a_damaged_frame_does_not_take_its_neighbours(studio_client: StudioClient) -> None:
    file = write_video(studio_client.folder / "damaged.mp4", 24, gop=1)
    with av.open(str(file)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][10]
    content = bytearray(file.read_bytes())
    content[packet.pos + 8 : packet.pos + packet.size] = b"\xff" * (packet.size - 8)
    file.write_bytes(content)
    codes = {
        index: studio_client.request("GET", f"{studio_client.project}/frame?path=damaged.mp4&index={index}").status_code
        for index in (9, 10, 11)
    }
    file.unlink()
    assert codes == {9: 200, 10: 400, 11: 200}
