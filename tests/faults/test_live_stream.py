"""A camera that misbehaves for minutes: it hangs up, pauses, loses packets and changes its resolution; the watcher goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from videos import write_video

PACKET_BYTES = 188
LONG_SECONDS, SOAK_SECONDS = 180, 3600


class BadCamera:
    """Sends a file in a loop to whoever connects, at about its own pace: with pauses, lost packets, and hanging up at times."""

    def __init__(self, folder: Path) -> None:
        sizes = ((48, 64), (96, 128), (120, 90))
        self.streams = [
            write_video(
                folder / f"{height}.ts",
                75,
                height=height,
                width=width,
                gop=10,
                container="mpegts",
                options={"tune": "zerolatency"},
            ).read_bytes()
            for height, width in sizes
        ]
        self.rng = random.Random(5)
        self.server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.server.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            with client:
                try:
                    self._send(client, self.rng.choice(self.streams))
                except OSError:
                    continue

    def _send(self, client: socket.socket, content: bytes) -> None:
        packets = [content[start : start + PACKET_BYTES] for start in range(0, len(content), PACKET_BYTES)]
        pause_at = self.rng.randrange(len(packets))
        for index, packet in enumerate(packets):
            if self.rng.random() > 0.005:
                client.sendall(packet)
            time.sleep(3.0 / len(packets))
            if index == pause_at and self.rng.random() < 0.2:
                time.sleep(2)


def read_memory_bytes(process: int) -> int:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def watch_for(run: Path, camera: BadCamera, seconds: float, log: Path) -> tuple[list[dict[str, object]], list[int]]:
    """Rows of the watcher's JSON, and its memory every few seconds."""
    command = [sys.executable, "-m", "muybridge", "watch", camera.address, "--model", str(run), "--json"]
    memory = []
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE)
        end = time.monotonic() + seconds
        while time.monotonic() < end and process.poll() is None:
            time.sleep(min(5.0, seconds / 10))
            memory.append(read_memory_bytes(process.pid))
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors.decode()
    assert b"Traceback" not in errors
    return [json.loads(line) for line in log.read_text().splitlines()], memory


def check_watch(run: Path, folder: Path, seconds: float) -> None:
    rows, memory = watch_for(run, BadCamera(folder), seconds, folder / "log.jsonl")
    windows = [row for row in rows if row["type"] == "window"]
    summary = rows[-1]
    assert summary["type"] == "summary"
    assert len(windows) > seconds / 2
    starts = [float(str(row["start_seconds"])) for row in windows]
    assert starts == sorted(starts)
    assert seconds - 60 < starts[-1] < seconds  # the clock goes on through every break; starting takes a while
    assert int(str(summary["num_reconnects"])) >= seconds / 40
    assert float(str(summary["median_delay_seconds"])) < 3
    settled = memory[len(memory) // 3]
    assert max(memory[len(memory) // 3 :]) - settled < 64 << 20


@pytest.mark.long
def test_a_bad_camera_for_minutes(finished_run: Path, tmp_path: Path) -> None:
    check_watch(finished_run, tmp_path, LONG_SECONDS)


@pytest.mark.soak
def test_a_bad_camera_for_an_hour(finished_run: Path, tmp_path: Path) -> None:
    check_watch(finished_run, tmp_path, SOAK_SECONDS)
