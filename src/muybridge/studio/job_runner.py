"""Runs one job of the studio apart from the server: `python -m muybridge.studio.job_runner FOLDER LOCK_DESCRIPTOR`.

It leaves the server's session, waits until no other job of its kind runs, runs the command, and writes state.json at every
change. SIGTERM is handed on to the command, whose exit code decides the state: 0 and 3 done, 75 stopped, others failed.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from muybridge.files.atomic import write_json
from muybridge.parsing import read_json_object
from muybridge.text import sanitize_text, shorten

JOB_FILE, STATE_FILE, OUTPUT_FILE = "job.json", "state.json", "output.txt"
PROGRESS_FILE, LOCK_FILE, RESULTS_FILE = "progress.json", "job.lock", "results.jsonl"
_STATE_BY_CODE = {0: "done", 3: "done", 75: "stopped", 130: "stopped", -signal.SIGTERM: "stopped"}
_MAX_MESSAGE_CHARACTERS = 500
_NUM_MESSAGE_BYTES = 4096


class _StopRequested(BaseException):
    """SIGTERM arrived while the job waited in the queue."""


class _Runner:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.description = read_json_object(folder / JOB_FILE)
        self.process: subprocess.Popen[bytes] | None = None
        self.state: dict[str, Any] = {"process_id": os.getpid()}

    def run(self) -> None:
        """Wait for the turn of the job, then run it."""
        signal.signal(signal.SIGTERM, self._handle_stop)
        try:
            self._write("queued")  # names this process, which may be asked to stop from here on
            with Path(self.description["queue"]).open("a") as queue:
                fcntl.flock(queue, fcntl.LOCK_EX)
                self._run_command()
        except _StopRequested:
            self._write("stopped", ended=_now(), message="stopped before it began")
        except OSError as error:
            self._write("failed", ended=_now(), message=f"it could not be run: {error.strerror}")

    def _run_command(self) -> None:
        output_path = self.folder / OUTPUT_FILE
        with output_path.open("ab") as output:
            self.process = subprocess.Popen(
                self.description["command"],
                cwd=self.description["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            self._write("running", started=_now())
            code = self.process.wait()
        state = _STATE_BY_CODE.get(code, "failed")
        message = "" if state == "done" else _read_last_line(output_path)
        self._write(state, ended=_now(), exit_code=code, message=message)

    def _handle_stop(self, signal_number: int, frame: FrameType | None) -> None:
        if self.process is None:
            raise _StopRequested
        if self.process.returncode is None:
            self._write("stopping")
            self.process.terminate()

    def _write(self, state: str, **values: Any) -> None:
        self.state |= {"state": state, **values}
        write_json(self.folder / STATE_FILE, self.state)


def _read_last_line(path: Path) -> str:
    """The last line that the command printed, without the name of the program."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _NUM_MESSAGE_BYTES))
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").replace("\r", "\n").splitlines()]
    last = next((line for line in reversed(lines) if line), "it printed nothing")
    return shorten(sanitize_text(re.sub(r"^muybridge( \w+)?: ", "", last)), _MAX_MESSAGE_CHARACTERS)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _main(arguments: list[str]) -> int:
    """Detach from the server, which waits for this only, and run the job; its lock ends with this process."""
    folder, descriptor = Path(arguments[0]), int(arguments[1])
    os.set_inheritable(descriptor, False)
    if os.fork() > 0:
        return 0
    os.setsid()
    _Runner(folder).run()
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
