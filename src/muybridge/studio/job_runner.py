"""Runs one job of the studio apart from the server: `python -m muybridge.studio.job_runner FOLDER LOCK_DESCRIPTOR QUEUE`.

It leaves the server's session, waits until no other job of its kind runs, runs the command, and writes state.json at every
change. SIGTERM is handed on to the command, whose exit code decides the state: 0 and 3 done, 75 stopped, others failed.

A job's folder lies in the project, which somebody else may have made: job.json names a job of the studio, never a program, and
where it reads and writes follows from the folder in which it stands.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from muybridge.files.atomic import write_json
from muybridge.parsing import parse_record, read_json_object
from muybridge.studio.model_address import RUNS_FOLDER
from muybridge.studio.train_command import INIT, build_train_arguments, has_checkpoint, read_train_options
from muybridge.text import sanitize_text, shorten

JOB_FILE, STATE_FILE, OUTPUT_FILE = "job.json", "state.json", "output.txt"
PROGRESS_FILE, LOCK_FILE, RESULTS_FILE = "progress.json", "job.lock", "results.jsonl"
_STATE_BY_CODE = {0: "done", 3: "done", 75: "stopped", 130: "stopped", -signal.SIGTERM: "stopped"}
_MAX_MESSAGE_CHARACTERS = 500
_NUM_MESSAGE_BYTES = 4096


JobKind = Literal["train", "predict", "index", "neighbors", "explain"]
_MODULES = ("predict_job", "batch_job", "index_job", "neighbor_job", "explain_job")


@dataclass(frozen=True)
class JobDescription:
    """What job.json says of every job; more stands in it for the module that runs it."""

    kind: JobKind
    title: str
    command: tuple[str, ...]
    created: str
    run: str | None
    paths: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.run is not None and (Path(self.run).name != self.run or self.run.startswith(".")):
            raise ValueError("run is not the name of a run")
        job_commands = [("-m", f"muybridge.studio.{module}") for module in _MODULES]
        is_training = self.command[1:4] == ("-m", "muybridge", "train")
        if not is_training and not (self.command[1:3] in job_commands and len(self.command) == 4):
            raise ValueError("command is none of a job of the studio")
        if is_training != (self.kind == "train") or is_training != (self.run is not None):
            raise ValueError(f"command is none of a job of the kind {self.kind}")
        if is_training:
            read_train_options(self.command[4:])  # raises ValueError

    @property
    def options(self) -> dict[str, str]:
        """The options of a training, each with its value."""
        return read_train_options(self.command[4:])

    def build_command(self, folder: Path) -> list[str]:
        """The arguments after `python -m` of the job in a folder, whatever folder it was started in."""
        if self.run is None:
            return [self.command[2], str(folder)]
        project_folder, options = find_project_folder(folder), self.options
        if has_checkpoint(project_folder / RUNS_FOLDER / self.run):
            options.pop(INIT, None)  # it may have moved with the project, and is not read again
        return build_train_arguments(project_folder, self.run, options)


def read_job(folder: Path) -> JobDescription:
    """The description of the job in a folder. Raises ValueError for one that is damaged, or runs anything but a job."""
    values = read_json_object(folder / JOB_FILE)
    named = {field.name: values[field.name] for field in fields(JobDescription) if field.name in values}
    return parse_record(JobDescription, named, str(folder / JOB_FILE))


def find_project_folder(folder: Path) -> Path:
    """The project of the job in a folder."""
    return folder.parents[2]


class _StopRequested(BaseException):
    """SIGTERM arrived while the job waited in the queue."""


class _Runner:
    def __init__(self, folder: Path, queue: Path) -> None:
        self.folder, self.queue = folder, queue
        self.process: subprocess.Popen[bytes] | None = None
        self.state: dict[str, Any] = {"process_id": os.getpid()}

    def run(self) -> None:
        """Wait for the turn of the job, then run it."""
        signal.signal(signal.SIGTERM, self._handle_stop)
        try:
            self._write("queued")  # names this process, which may be asked to stop from here on
            with self.queue.open("a") as queue:
                fcntl.flock(queue, fcntl.LOCK_EX)
                self._run_command()
        except _StopRequested:
            self._write("stopped", ended=_now(), message="stopped before it began")
        except OSError as error:
            self._write("failed", ended=_now(), message=f"it could not be run: {error.strerror}")
        except ValueError as error:
            self._write("failed", ended=_now(), message=str(error))

    def _run_command(self) -> None:
        output_path = self.folder / OUTPUT_FILE
        command = [sys.executable, "-P", "-m", *read_job(self.folder).build_command(self.folder)]
        with output_path.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=find_project_folder(self.folder),
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
    folder, descriptor, queue = Path(arguments[0]), int(arguments[1]), Path(arguments[2])
    os.set_inheritable(descriptor, False)
    if os.fork() > 0:
        return 0
    os.setsid()
    _Runner(folder, queue).run()
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
