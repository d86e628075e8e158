"""Live frames over loopback: which frames come is read from their pixels."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
import time
from contextlib import ExitStack
from itertools import islice, pairwise
from pathlib import Path

import pytest

from live_streams import find_free_port, publishing, running, sending
from muybridge.records import VideoError
from muybridge.video.live_source import DamageCount, hide_credentials, is_live_address, read_live_frames
from videos import read_index, write_video

SIZE = {"scale_height": 48, "scale_width": 64}


def read_indices_and_seconds(address: str, count: int, damage: DamageCount | None = None) -> list[tuple[int, float]]:
    frames = read_live_frames(address, **SIZE, damage=damage or DamageCount())
    return [(read_index(frame.planes.luma_thw[0]), frame.seconds) for frame in islice(frames, count)]


def wait_for_rows(address: str, count: int) -> list[tuple[int, float]]:
    """As `read_indices_and_seconds`, of a server that may still be starting."""
    for _ in range(20):
        try:
            return read_indices_and_seconds(address, count)
        except VideoError:
            time.sleep(0.5)
    return read_indices_and_seconds(address, count)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_frames_come_in_order_with_the_clock_of_the_stream(protocol: str) -> None:
    with sending(protocol, 60) as address:
        rows = read_indices_and_seconds(address, 20)
    indices = [index for index, _ in rows]
    assert indices == list(range(indices[0], indices[0] + 20))
    assert [after[1] - before[1] for before, after in pairwise(rows)] == pytest.approx([0.04] * 19, abs=1e-3)


@pytest.mark.long
def test_rtsp_over_udp_from_a_camera_that_has_nothing_else() -> None:
    with publishing(200) as address:
        rows = wait_for_rows(address, 20)
    indices = [index for index, _ in rows]
    assert indices == list(range(indices[0], indices[0] + 20))
    assert [after[1] - before[1] for before, after in pairwise(rows)] == pytest.approx([0.04] * 19, abs=1e-3)


@pytest.mark.long
def test_rtsp_over_tcp(tmp_path: Path) -> None:
    pytest.importorskip("aio_rtsp_toolkit", reason="pip install aio-rtsp-toolkit")
    write_video(tmp_path / "a.mp4", 100, gop=10, options={"tune": "zerolatency"})
    port = find_free_port()
    script = (
        f"import asyncio, aio_rtsp_toolkit.server as s; asyncio.run(s.serve({str(tmp_path)!r}, '127.0.0.1', {port}))"
    )
    with running(sys.executable, "-c", script):
        rows = wait_for_rows(f"rtsp://127.0.0.1:{port}/a.mp4", 20)
    indices = [index for index, _ in rows]
    assert indices == list(range(indices[0], indices[0] + 20))
    assert [after[1] - before[1] for before, after in pairwise(rows)] == pytest.approx([0.04] * 19, abs=1e-3)


@pytest.mark.long
def test_srt_is_received_by_another_program(tmp_path: Path) -> None:
    """As the refusal of srt:// says, where this FFmpeg has none; else by FFmpeg itself."""
    if shutil.which("srt-live-transmit") is None:
        pytest.skip("srt-live-transmit is not installed (Debian: srt-tools)")
    srt_port = find_free_port(socket.SOCK_DGRAM)
    os.mkfifo(tmp_path / "pipe")
    receive = f"exec srt-live-transmit -q srt://127.0.0.1:{srt_port} file://con > {tmp_path / 'pipe'}"
    with ExitStack() as stack:
        address = stack.enter_context(sending("udp", 200))
        stack.enter_context(running("srt-live-transmit", "-q", address, f"srt://127.0.0.1:{srt_port}?mode=listener"))
        time.sleep(0.5)
        stack.enter_context(running("sh", "-c", receive))
        indices = [index for index, _ in read_indices_and_seconds(str(tmp_path / "pipe"), 20)]
    assert indices == list(range(indices[0], indices[0] + 20))
    try:
        next(read_live_frames(f"srt://127.0.0.1:{srt_port}", **SIZE, damage=DamageCount()))
    except ValueError as error:
        assert "built without srt://" in str(error)
        assert "srt-live-transmit srt://HOST:PORT file://con | muybridge watch -" in str(error)
    except VideoError:
        pass


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    write_video(tmp_path / "a.ts", 12, container="mpegts")
    os.mkfifo(tmp_path / "pipe")
    assert is_live_address(str(tmp_path / "pipe"))

    def feed() -> None:
        (tmp_path / "pipe").write_bytes((tmp_path / "a.ts").read_bytes())

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    assert [index for index, _ in read_indices_and_seconds(str(tmp_path / "pipe"), 100)] == list(range(12))
    thread.join(5)


def test_damaged_frames_and_those_after_them_are_left_out(tmp_path: Path) -> None:
    """Packets are lost in the second group of pictures: its rest is not shown, the third group is whole."""
    write_video(tmp_path / "a.ts", 36, gop=12, container="mpegts", options={"tune": "zerolatency"})
    content = bytearray((tmp_path / "a.ts").read_bytes())
    middle = len(content) // 2 // 188 * 188
    del content[middle : middle + 188 * 2]
    os.mkfifo(tmp_path / "pipe")
    thread = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(content), daemon=True)
    thread.start()
    damage = DamageCount()
    indices = [index for index, _ in read_indices_and_seconds(str(tmp_path / "pipe"), 100, damage)]
    thread.join(5)
    assert damage.num_frames > 0
    assert indices[:12] == list(range(12))
    assert indices[-1] == 35
    assert len(indices) <= 36 - damage.num_frames + 1
    assert indices == sorted(indices)


def test_the_first_whole_picture_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who joins amid a group of pictures waits; that is no damage, and is said once."""
    monkeypatch.setattr("muybridge.video.live_source._KEY_FRAME_SECONDS", -1.0)
    write_video(tmp_path / "a.ts", 36, gop=12, container="mpegts", options={"tune": "zerolatency"})
    content = (tmp_path / "a.ts").read_bytes()
    os.mkfifo(tmp_path / "pipe")
    late = content[len(content) // 10 // 188 * 188 :]
    thread = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(late), daemon=True)
    thread.start()
    damage, sentences = DamageCount(), list[str]()
    frames = read_live_frames(str(tmp_path / "pipe"), **SIZE, damage=damage, on_wait=sentences.append)
    indices = [read_index(frame.planes.luma_thw[0]) for frame in frames]
    thread.join(5)
    assert 3 < indices[0] <= 12  # FFmpeg knows some pictures to be whole before the next key frame
    assert indices == list(range(indices[0], 36))
    assert damage.num_frames == 0
    assert len(sentences) == 1
    assert "no picture yet" in sentences[0]


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="the stream cannot be opened"):
        next(read_live_frames(f"tcp://127.0.0.1:{find_free_port()}", **SIZE, damage=DamageCount()))
    write_video(tmp_path / "a.mp4", 4)
    with pytest.raises(ValueError, match=r"a\.mp4 is no stream"):
        next(read_live_frames(str(tmp_path / "a.mp4"), **SIZE, damage=DamageCount()))


def test_a_network_stream_cannot_read_files_of_this_machine(tmp_path: Path) -> None:
    """A playlist from the network that refers to a local file is refused by the protocols that are open."""
    write_video(tmp_path / "secret.ts", 12, container="mpegts")
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{tmp_path / 'secret.ts'}\n#EXT-X-ENDLIST\n"
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                client.recv(4096)
                body = playlist.encode()
                client.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\n"
                    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
                )

    threading.Thread(target=serve, daemon=True).start()
    with pytest.raises(VideoError):
        list(read_live_frames(f"http://127.0.0.1:{server.getsockname()[1]}/a.m3u8", **SIZE, damage=DamageCount()))
    server.close()


@pytest.mark.parametrize("address", ["rtsp://camera/1", "udp://127.0.0.1:1", "-", "srt://x:1", "https://x/y.m3u8"])
def test_addresses_that_are_live(address: str) -> None:
    assert is_live_address(address)


@pytest.mark.parametrize("address", ["match.mp4", "file:///etc/passwd", "concat:a|b", "nothing"])
def test_addresses_that_are_not(address: str) -> None:
    assert not is_live_address(address)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://admin:p%40ss@camera.local:554/stream?token=x", "rtsp://camera.local:554/stream"),
        ("srt://host:9000?passphrase=secret", "srt://host:9000"),
        ("videos/a@b?c.mp4", "videos/a@b?c.mp4"),
    ],
)
def test_addresses_are_shown_without_passwords(address: str, shown: str) -> None:
    assert hide_credentials(address) == shown
