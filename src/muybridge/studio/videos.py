"""`VideoCatalogue`: the videos of a project and what is known of each.

Files are listed at once and examined in child processes, one after another in the background. What was learned is kept in
`.muybridge/videos.jsonl` until the file changes, and shared with the other processes of the server; not that it took too long
or that its process was killed: that may be the machine's fault. What cannot be used is examined again when it is opened.
"""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from muybridge.datasets.video_files import iterate_videos
from muybridge.files.run_folder import append_json_line, read_json_lines
from muybridge.parsing import parse_record
from muybridge.records import Status, VideoError
from muybridge.studio.annotation_store import STUDIO_FOLDER
from muybridge.studio.child_pool import CHILD_DIED, ChildPool
from muybridge.studio.errors import StudioError
from muybridge.studio.folders import AllowedFolders
from muybridge.studio.video_records import RenderedFrame, VideoProperties

_LISTING_SECONDS = 2.0  # how long a listing of the folder is used
_READ_BYTES_PER_SECOND = 20 << 20  # of a slow disk: to know its frames, a file is read once as a whole
_MAX_CACHED_TIMES = 8  # 1.7 MB for two hours at 30 frames a second
VideoStatus = Status | Literal["pending"]


@dataclass(frozen=True)
class ExaminedVideo:
    """What is known of a file with this time of change and size: its properties, or why it cannot be used."""

    change_time: int
    num_bytes: int
    status: Status
    reason: str
    properties: VideoProperties | None

    @property
    def may_pass(self) -> bool:
        """Whether it is unknown what the video is: it took too long, or the process that decoded it ended."""
        return self.status == "timed_out" or self.reason.startswith(CHILD_DIED)


class VideoCatalogue:
    """The videos below a folder."""

    def __init__(self, folder: Path, folders: AllowedFolders, pool: ChildPool, timeout_seconds: float) -> None:
        self.folder = folder
        self.folders = folders
        self.pool = pool
        self.timeout_seconds = timeout_seconds
        self._examined: dict[str, ExaminedVideo] = {}
        self._frame_seconds: dict[tuple[str, int], tuple[NDArray[np.float64], float]] = {}
        self._paths: tuple[float, list[str]] = (-_LISTING_SECONDS, [])
        self._mutex = threading.Lock()
        self._thread: threading.Thread | None = None
        self._log_bytes = 0
        self._changes: list[str] = []

    def list_paths(self) -> list[str]:
        """The paths of the videos, relative to the folder, in order."""
        with self._mutex:
            listed, paths = self._paths
        if time.monotonic() - listed < _LISTING_SECONDS:
            return paths
        paths = [
            path for path in iterate_videos(self.folder) if _is_utf8(path) and self.folders.contains(self.folder / path)
        ]
        with self._mutex:
            self._paths = (time.monotonic(), paths)
        return paths

    def resolve(self, path: str) -> Path:
        """The file of a video, without links. Raises StudioError(403) outside of the allowed folders, (404) for no file."""
        file = self.folders.resolve_below(self.folder, path)
        if not file.exists():
            raise StudioError(404, f"there is no video {path!r} in this project")
        return file

    def get_known(self, path: str) -> ExaminedVideo | None:
        """What is known of a video, None if it was not examined since it changed."""
        self._load_log()
        key = _read_key(self.folder / path)
        with self._mutex:
            examined = self._examined.get(path)
        return examined if examined and key == (examined.change_time, examined.num_bytes) else None

    def examine(self, path: str) -> ExaminedVideo:
        """What a video is; examines it in a child process unless it is known to be usable. Raises StudioError as `resolve`."""
        file = self.resolve(path)
        known = self.get_known(path)
        if known is not None and known.status == "ok":
            return known
        change_time, num_bytes = _read_key(file) or (0, 0)
        try:
            properties = self._call("examine_video", file)
            examined = ExaminedVideo(change_time, num_bytes, "ok", "", properties)
        except VideoError as error:
            examined = ExaminedVideo(change_time, num_bytes, error.status, error.reason, None)
        if examined != known:
            self._note(path, examined)
        return examined

    def read_changes(self, position: int) -> tuple[int, list[str]]:
        """The videos that were examined since `position`, and the position after them; -1 is now."""
        self._load_log()
        with self._mutex:
            return len(self._changes), [] if position < 0 else list(dict.fromkeys(self._changes[position:]))

    def examine_in_background(self) -> None:
        """Examine all videos that are not known, in a thread, unless one is at it already."""
        with self._mutex:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._examine_all, name="examine", daemon=True)
                self._thread.start()

    def get_properties(self, path: str) -> VideoProperties:
        """The properties of a video. Raises VideoError where it cannot be used."""
        examined = self.examine(path)
        if examined.properties is None:
            raise VideoError(examined.status, examined.reason)
        return examined.properties

    def read_frame_seconds(self, path: str) -> tuple[NDArray[np.float64], float]:
        """The time of each frame, float64 (N,), and the duration. Raises VideoError where the video cannot be used."""
        file = self.resolve(path)
        key = (str(file), file.stat().st_mtime_ns)
        with self._mutex:
            cached = self._frame_seconds.get(key)
        if cached is None:
            times = self._call("read_frame_seconds", file)
            cached = (times[0], float(times[1]))
            with self._mutex:
                while len(self._frame_seconds) >= _MAX_CACHED_TIMES:
                    del self._frame_seconds[next(iter(self._frame_seconds))]
                self._frame_seconds[key] = cached
        return cached

    def render_frame(self, path: str, index: int | None, seconds: float | None, max_width: int) -> RenderedFrame:
        """A frame as JPEG. Raises VideoError where it cannot be decoded, ValueError for an index that there is not."""
        frame: RenderedFrame = self._call("render_frame", self.resolve(path), index, seconds, max_width)
        return frame

    def _call(self, name: str, file: Path, *args: Any) -> Any:
        """A function of `examine` on a file, in a child process."""
        timeout = self.timeout_seconds + file.stat().st_size / _READ_BYTES_PER_SECOND
        return self.pool.call_by_name(timeout, str(file), name, str(file), *args)

    def _examine_all(self) -> None:
        for path in self.list_paths():
            try:
                if self.get_known(path) is None:
                    self.examine(path)
            except (StudioError, OSError, ValueError):
                continue  # it is gone, or no child is free: it stays pending until it is asked for

    @property
    def _log_path(self) -> Path:
        return self.folder / STUDIO_FOLDER / "videos.jsonl"

    def _load_log(self) -> None:
        """Read what other processes learned, if the log grew."""
        try:
            num_bytes = self._log_path.stat().st_size
        except OSError:
            return
        with self._mutex:
            if num_bytes == self._log_bytes:
                return
            # Only what is new: while thousands of videos are examined, the log grows and is looked at every second.
            position = self._log_bytes if self._log_bytes <= num_bytes else 0
            self._log_bytes = num_bytes
            for line in read_json_lines(self._log_path, position):
                path = line.pop("path", None)
                try:
                    examined = parse_record(ExaminedVideo, line, str(self._log_path), optional=None)
                except ValueError:
                    continue  # of another version: the video is examined again
                if examined.may_pass:
                    continue  # as versions before 2026-12 wrote
                if self._examined.get(str(path)) != examined:
                    self._examined[str(path)] = examined
                    self._changes.append(str(path))

    def _note(self, path: str, examined: ExaminedVideo) -> None:
        with self._mutex:
            self._examined[path] = examined
            self._changes.append(path)
        if not examined.may_pass:
            self._append_log(path, examined)

    def _append_log(self, path: str, examined: ExaminedVideo) -> None:
        try:
            self._log_path.parent.mkdir(exist_ok=True)
            append_json_line(self._log_path, {"path": path, **asdict(examined)})
        except OSError:
            return  # a folder that cannot be written is examined again after a restart


def _read_key(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
