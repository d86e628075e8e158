"""What the commands of jobs share: progress.json as they go, and one sentence where they fail."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from muybridge.files.atomic import write_json
from muybridge.parsing import read_json_object
from muybridge.studio.job_runner import PROGRESS_FILE
from muybridge.terminal import print_line
from muybridge.text import format_count

_PROGRESS_SECONDS = 1.0


class JobProgress:
    """What a job has done, video by video; progress.json is written at most once a second.

    `done` maps the path of a finished video to the id of its prediction: empty where the job makes none, None where it failed.
    A job that is run again tries those once more.
    """

    def __init__(self, folder: Path, num_videos: int) -> None:
        self.file = folder / PROGRESS_FILE
        self.num_videos = num_videos
        values = read_json_object(self.file) if self.file.exists() else {}
        self.done: dict[str, str | None] = {
            path: name for path, name in values.get("done", {}).items() if name is not None
        }
        self.note = ""
        """What a person should know of the results; it is printed, and the message of a job that is done."""
        self._written = 0.0

    def write(self, share_of_video: float = 0.0, message: str = "", *, force: bool = False) -> None:
        """Write the progress, `share_of_video` of the present one included."""
        if force or time.monotonic() - self._written > _PROGRESS_SECONDS:
            self._written = time.monotonic()
            values = {
                "progress": min(1.0, (len(self.done) + share_of_video) / self.num_videos),
                "message": message,
                "done": self.done,
                "predictions": [name for name in self.done.values() if name],
            }
            write_json(self.file, values)

    def finish(self) -> int:
        """Write what failed; returns the exit code: 0, 3 where some videos could not be read, 1 where none could."""
        num_failed = sum(name is None for name in self.done.values())
        failed = f"{num_failed} of {format_count(self.num_videos, 'video')} could not be read" if num_failed else ""
        self.write(message="; ".join(filter(None, (failed, self.note))), force=True)
        return 1 if num_failed == self.num_videos else 3 if num_failed else 0


def run_command(run: Callable[[Path], int], folder: Path) -> int:
    """Run a job in its folder. A failure is one sentence, the last line of the job's output, and exit code 1."""
    try:
        return run(folder)
    except (ValueError, OSError, RuntimeError, MemoryError, ImportError) as error:
        print_line(f"muybridge: {' '.join(str(error).split()) or 'the memory is not enough'}", error=True)
        return 1
