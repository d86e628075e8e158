"""Streams on this machine for tests: FFmpeg's own muxers over loopback, at the pace of the frames."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from videos import index_picture

FRAMES_PER_SECOND = 25


def find_free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that nobody listens at."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def send(
    address: Any,
    num_frames: int,
    *,
    paint: Callable[[int], NDArray[np.uint8]] | None = None,
    pause_after: int | None = None,
    pause_seconds: float = 0.0,
    speed: float = 1.0,
) -> None:
    """Encode frames as MPEG-TS into `address`, a key frame every 10, each when its time has come."""
    paint = paint or (lambda index: index_picture(index, 48, 64))
    start = time.monotonic()
    with av.open(address, "w", format="mpegts", options={"pkt_size": "1316"}) as output:
        stream = output.add_stream(
            "libx264", rate=FRAMES_PER_SECOND, options={"tune": "zerolatency", "x264-params": "repeat-headers=1"}
        )
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.gop_size = 10
        stream.codec_context.time_base = Fraction(1, FRAMES_PER_SECOND)
        paused = 0.0
        for number in range(num_frames):
            if pause_after is not None and number == pause_after:
                time.sleep(pause_seconds)
                paused = pause_seconds
            time.sleep(max(0.0, start + paused + number / FRAMES_PER_SECOND / speed - time.monotonic()))
            frame = av.VideoFrame.from_ndarray(paint(number), format="rgb24")
            frame.pts = number + round(paused * FRAMES_PER_SECOND)
            frame.time_base = Fraction(1, FRAMES_PER_SECOND)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


@contextmanager
def sending(protocol: str, num_frames: int, **options: Any) -> Iterator[str]:
    """A thread that sends over udp, or over tcp to the first who connects; yields the address to watch."""
    # FFmpeg's own TCP server would hold the interpreter's lock while it waits for a client of the same process.
    server = socket.create_server(("127.0.0.1", 0)) if protocol == "tcp" else None
    port = server.getsockname()[1] if server else find_free_port(socket.SOCK_DGRAM)
    address = f"{protocol}://127.0.0.1:{port}"

    def run() -> None:
        try:
            if server:
                client, _ = server.accept()
                with client, client.makefile("wb", buffering=0) as file:
                    send(file, num_frames, **options)
            else:
                send(address, num_frames, **options)
        except (av.error.FFmpegError, OSError):
            return  # the watcher has hung up

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield address
    finally:
        if server:
            server.close()
        thread.join(20)


@contextmanager
def publishing(num_frames: int) -> Iterator[str]:
    """An RTSP server that sends over UDP alone, at the pace of the frames; yields its address."""
    rtsp = pytest.importorskip("rtsp", reason="pip install rtsp-rs")
    port = find_free_port()
    server = rtsp.Server(f"127.0.0.1:{port}")
    server.start()
    stopped = threading.Event()

    def run() -> None:
        encoder = av.CodecContext.create("libx264", "w")
        encoder.options = {"tune": "zerolatency", "x264-params": "repeat-headers=1"}
        encoder.height, encoder.width, encoder.pix_fmt, encoder.gop_size = 48, 64, "yuv420p", 10
        encoder.time_base, encoder.framerate = Fraction(1, FRAMES_PER_SECOND), Fraction(FRAMES_PER_SECOND)
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(index_picture(number, 48, 64), format="rgb24")
            frame.pts = number
            for packet in encoder.encode(frame):
                server.send_frame(bytes(packet), 90_000 // FRAMES_PER_SECOND)
            if stopped.wait(1 / FRAMES_PER_SECOND):
                return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"rtsp://127.0.0.1:{port}/stream"
    finally:
        stopped.set()
        thread.join(20)
        server.stop()


@contextmanager
def running(*command: str) -> Iterator[None]:
    """A program that runs meanwhile."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def serving(content: bytes) -> Iterator[str]:
    """A TCP server that sends the same bytes to whoever connects, and hangs up; yields its address."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
                with client:
                    client.sendall(content)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.close()
