"""What a browser plays: the file itself where it can, else H.264 in MP4, made by a child process and kept.

Input: a video. Output: a file to serve with ranges, or a stream that begins at a given time while the whole file is being
made. Sound is left out of what is made. Files are named by a hash of path, size and time of change; above a limit the oldest
are removed.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from weakref import WeakSet

from muybridge.studio.annotation_records import StudioRecord
from muybridge.studio.errors import StudioError
from muybridge.studio.videos import ExaminedVideo

MediaKind = Literal["original", "transcoding", "ready", "failed", "none"]
_MAX_CACHE_BYTES = 20 << 30
_MAX_PROCESSES = 4
_CHUNK_BYTES = 1 << 16


class MediaInfo(StudioRecord):
    """How a video is played. A player's clock shows seconds + `offset_seconds`."""

    kind: MediaKind
    progress: float
    offset_seconds: float


@dataclass
class _Transcoding:
    file: Path
    process: subprocess.Popen[bytes]
    progress_file: Path


class VideoStream:
    """What a child process writes, in chunks. The process is ended at the end, by `close`, or when nobody holds the stream.

    It is no generator: one that was never begun would not end its process.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._end = weakref.finalize(self, _end_process, self._process)

    @property
    def is_open(self) -> bool:
        """Whether its process was not ended yet."""
        return self._end.alive

    def close(self) -> None:
        """End the process. Another thread that waits for a chunk gets the end."""
        self._end()

    def __iter__(self) -> VideoStream:
        return self

    def __next__(self) -> bytes:
        assert self._process.stdout is not None, "the output is a pipe"
        chunk = self._process.stdout.read(_CHUNK_BYTES) if self.is_open else b""
        if not chunk:
            self.close()
            raise StopIteration
        return chunk


class MediaCache:
    """Transcoded videos in the state folder."""

    def __init__(self, state_folder: Path) -> None:
        self.folder = state_folder / "media"
        self._running: dict[Path, _Transcoding] = {}
        self._failed: set[Path] = set()
        self._streams: WeakSet[VideoStream] = WeakSet()
        self._mutex = threading.Lock()

    def describe(self, file: Path, examined: ExaminedVideo | None) -> MediaInfo:
        """How a video is played at present. None: it was not examined."""
        properties = examined.properties if examined else None
        if examined is None or properties is None:
            return MediaInfo(kind="none", progress=0.0, offset_seconds=0.0)
        if properties.is_playable:
            return MediaInfo(kind="original", progress=1.0, offset_seconds=round(properties.offset_seconds, 6))
        target = self._get_target(file)
        if target.exists():
            return MediaInfo(kind="ready", progress=1.0, offset_seconds=0.0)
        with self._mutex:
            running = self._running.get(target)
            if running is not None and running.process.poll() is None:
                return MediaInfo(kind="transcoding", progress=_read_progress(running.progress_file), offset_seconds=0.0)
            failed = running is not None or target in self._failed
        return MediaInfo(kind="failed" if failed else "none", progress=0.0, offset_seconds=0.0)

    def find(self, file: Path) -> Path | None:
        """The transcoded file of a video, None if it is not there yet."""
        target = self._get_target(file)
        return target if target.exists() else None

    def start(self, file: Path) -> None:
        """Begin to transcode a video unless that has begun. Raises StudioError(429) where too many are under way."""
        target = self._get_target(file)
        with self._mutex:
            if target in self._running and self._running[target].process.poll() is None:
                return
            running = [one for one in self._running.values() if one.process.poll() is None]
            if len(running) >= _MAX_PROCESSES:
                return  # the stream plays; the whole file is made another time
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_oldest()
            progress_file = target.with_suffix(".progress")
            command = _build_command(file, "--output", str(target), "--progress", str(progress_file))
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            self._running[target] = _Transcoding(file, process, progress_file)

    def stream(self, file: Path, start_seconds: float) -> VideoStream:
        """MP4 in fragments from `start_seconds` on. Raises StudioError(429) where too many streams are open."""
        with self._mutex:
            if sum(stream.is_open for stream in self._streams) >= _MAX_PROCESSES:
                raise StudioError(429, f"{_MAX_PROCESSES} videos are being converted already; close one of the players")
            stream = VideoStream(_build_command(file, "--start", repr(start_seconds)))
            self._streams.add(stream)
            return stream

    def read_running(self) -> dict[Path, float]:
        """The files that are being transcoded or were, each with its progress; -1 for those that are done or failed."""
        with self._mutex:
            return {
                running.file: _read_progress(running.progress_file) if running.process.poll() is None else -1.0
                for running in self._running.values()
            }

    def close(self) -> None:
        """End all processes."""
        with self._mutex:
            for running in self._running.values():
                running.process.kill()
                running.process.wait()

    def _get_target(self, file: Path) -> Path:
        status = file.stat()
        text = f"{file}\0{status.st_size}\0{status.st_mtime_ns}"
        return self.folder / f"{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.mp4"

    def _remove_oldest(self) -> None:
        entries = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self.folder.glob("*.mp4"))
        excess = sum(num_bytes for _, num_bytes, _ in entries) - _MAX_CACHE_BYTES
        for _, num_bytes, path in entries:
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= num_bytes


def _end_process(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _build_command(file: Path, *options: str) -> list[str]:
    return [sys.executable, "-P", "-m", "muybridge.studio.browser_video", str(file), *options]


def _read_progress(path: Path) -> float:
    try:
        return min(1.0, max(0.0, float(path.read_text())))
    except (OSError, ValueError):
        return 0.0
