"""`JobStore`: trainings and predictions as processes of their own, which go on when page and server end.

A job is a folder in `.muybridge/jobs` of its project: job.json (what it runs), state.json (how far it is), output.txt (what it
printed). `job_runner` runs it and writes its state; while it lives it holds the lock of the folder, so that a job whose process
was killed is recognized whenever the folder is read.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from muybridge.files.atomic import write_json
from muybridge.files.run_folder import is_finite_number, read_json_lines, read_run_log, read_settings
from muybridge.parsing import read_json_object
from muybridge.studio.annotation_records import StudioRecord, current_time
from muybridge.studio.annotation_store import STUDIO_FOLDER
from muybridge.studio.config import CONFIG_VARIABLE
from muybridge.studio.errors import StudioError
from muybridge.studio.folders import AllowedFolders, compute_project_id
from muybridge.studio.job_inputs import settle_job_inputs
from muybridge.studio.job_runner import (
    JOB_FILE,
    LOCK_FILE,
    OUTPUT_FILE,
    PROGRESS_FILE,
    RESULTS_FILE,
    STATE_FILE,
    JobDescription,
    JobKind,
    read_job,
)
from muybridge.studio.timelines import place_prediction
from muybridge.text import sanitize_text

JobState = Literal["queued", "running", "stopping", "stopped", "done", "failed"]
LIVE_STATES = ("queued", "running", "stopping")
MAX_JOBS = 200  # of a project, so that nobody fills the disk
_START_SECONDS = 30.0
_RETRY_SECONDS = 2.0
_NUM_OUTPUT_BYTES = 64 << 10
_FORMAT = 1


class Job(StudioRecord):
    """A training or prediction and its state."""

    id: str
    kind: JobKind
    state: JobState
    title: str
    created: datetime
    started: datetime | None = None
    ended: datetime | None = None
    progress: float | None = None
    message: str
    run: str | None = None
    paths: tuple[str, ...] = ()
    predictions: tuple[str, ...] = ()


class JobStore:
    """The jobs of a project. `queue_folder` is the machine's: one job of a kind runs at a time, the others wait."""

    def __init__(self, project_folder: Path, queue_folder: Path, folders: AllowedFolders) -> None:
        self.project_folder = project_folder
        self.folders = folders
        self.folder = project_folder / STUDIO_FOLDER / "jobs"
        self.queue_folder = queue_folder

    def start(
        self,
        kind: JobKind,
        title: str,
        command: Sequence[str],
        *,
        run: str | None = None,
        paths: Sequence[str] = (),
        values: Mapping[str, Any] | None = None,
    ) -> Job:
        """Start a job. `{job}` in `command` stands for its folder; `values` are kept in job.json for the command to read.

        Raises StudioError(429) where the project has too many jobs.
        """
        if self.folder.is_dir() and sum(1 for _ in self.folder.iterdir()) >= MAX_JOBS:
            raise StudioError(429, f"this project has {MAX_JOBS} jobs; remove ended ones first")
        job_id = f"{current_time():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        folder = self.folder / job_id
        folder.mkdir(parents=True)
        description = {
            "format": _FORMAT,
            "kind": kind,
            "title": title,
            "command": [sys.executable, "-m", *(part.replace("{job}", str(folder)) for part in command)],
            "created": current_time().isoformat(),
            "run": run,
            "paths": list(paths),
            **(values or {}),
        }
        write_json(folder / JOB_FILE, description)
        self._launch(folder)
        return self.get(job_id)

    def list_jobs(self) -> list[Job]:
        """All jobs, newest first."""
        if not self.folder.is_dir():
            return []
        names = sorted((path.name for path in self.folder.iterdir() if _is_job(path)), reverse=True)
        return [self.get(name) for name in names]

    def find(self, kind: JobKind, paths: Sequence[str], values: Mapping[str, Any]) -> Job | None:
        """The newest job that was started with the same arguments and did not fail."""
        wanted = json.loads(json.dumps({"kind": kind, "paths": paths, **values}))  # as they are in job.json
        for job in self.list_jobs():
            if job.kind == kind and job.state not in ("failed", "stopped"):
                description = read_json_object(self.folder / job.id / JOB_FILE)
                if all(description.get(name) == value for name, value in wanted.items()):
                    return job
        return None

    def remove_ended(self, kind: JobKind, num_kept: int) -> None:
        """Forget all but the newest jobs of a kind; those that run stay."""
        for job in [job for job in self.list_jobs() if job.kind == kind][num_kept:]:
            if job.state not in LIVE_STATES:
                self.remove(job.id)

    def get(self, job_id: str) -> Job:
        """A job; one whose files are damaged has failed. Raises StudioError(404) where there is none of this id."""
        folder = self.find_folder(job_id)
        try:
            return self._describe(job_id, folder, read_job(folder), _read_state(folder))
        except ValueError as error:
            message = sanitize_text(" ".join(str(error).split()))
            created = datetime.fromtimestamp((folder / JOB_FILE).stat().st_mtime, UTC)
            return Job(id=job_id, kind="predict", state="failed", title="damaged", created=created, message=message)

    def _describe(self, job_id: str, folder: Path, description: JobDescription, state: Mapping[str, Any]) -> Job:
        name = state.get("state", "queued")
        message = str(state.get("message", ""))
        if name in LIVE_STATES and not _is_locked(folder):
            name = "stopped" if description.kind == "train" else "failed"
            message = "its process was ended from outside; it can be resumed"
        progress = 1.0 if name == "done" else self._read_progress(folder, description)
        job = Job(
            id=job_id,
            kind=description.kind,
            state=name,
            title=description.title,
            created=datetime.fromisoformat(description.created),
            started=state.get("started"),
            ended=state.get("ended"),
            progress=progress,
            message=message or _read_progress_file(folder).get("message", ""),
            run=description.run,
            paths=description.paths,
            predictions=_read_progress_file(folder).get("predictions", ()),
        )
        project_id = compute_project_id(self.project_folder)  # that of a project that was copied is another one
        predictions = tuple(place_prediction(project_id, name) for name in job.predictions)
        return job.model_copy(update={"predictions": predictions})

    def stop(self, job_id: str) -> Job:
        """Ask a job to end: it saves what it has. Raises StudioError(409) for one that has ended."""
        folder = self.find_folder(job_id)
        if self.get(job_id).state not in LIVE_STATES:
            raise StudioError(409, "the job has ended already")
        process_id = _retry(lambda: _read_state(folder).get("process_id"))  # a runner has just been started
        if isinstance(process_id, int) and process_id > 1 and _is_locked(folder):
            os.kill(process_id, signal.SIGTERM)
        return self.get(job_id)

    def resume(self, job_id: str) -> Job:
        """Run a job again that was stopped or failed; it goes on where it was. Raises StudioError(409) for others.

        Raises StudioError(403) or (404) for one whose network, videos or run are not in the allowed folders.
        """
        folder = self.find_folder(job_id)
        if self.get(job_id).state not in ("stopped", "failed"):
            raise StudioError(409, "only a job that was stopped or failed can be resumed")
        settle_job_inputs(folder, self.folders)
        self._launch(folder)
        return self.get(job_id)

    def remove(self, job_id: str) -> None:
        """Forget an ended job. Raises StudioError(409) for one that runs."""
        folder = self.find_folder(job_id)
        if self.get(job_id).state in LIVE_STATES:
            raise StudioError(409, "the job is running; stop it first")
        shutil.rmtree(folder)

    def read_output(self, job_id: str) -> str:
        """The end of what a job printed."""
        path = self.find_folder(job_id) / OUTPUT_FILE
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _NUM_OUTPUT_BYTES))
            return file.read().decode("utf-8", "replace")

    def read_results(self, job_id: str) -> list[dict[str, Any]]:
        """The results of a batch so far, in order."""
        return read_json_lines(self.find_folder(job_id) / RESULTS_FILE)

    def count_results(self, job_id: str) -> tuple[int, int]:
        """How many results a batch has, and how many of them failed."""
        progress = _read_progress_file(self.find_folder(job_id))
        return int(progress.get("num_done", 0)), int(progress.get("num_failed", 0))

    def stop_and_remove(self, job_id: str) -> None:
        """Stop a job if it runs, and forget it."""
        if self.get(job_id).state in LIVE_STATES:
            self.stop(job_id)
            _retry(lambda: self.get(job_id).state not in LIVE_STATES)
        self.remove(job_id)

    def find_folder(self, job_id: str) -> Path:
        """The folder of a job. Raises StudioError(404) where there is none of this id, (403) where it holds links."""
        folder = self.folder / job_id
        if not job_id or "/" in job_id or job_id.startswith(".") or not (folder / JOB_FILE).is_file():
            raise StudioError(404, f"there is no job {job_id!r}")
        if not _is_job(folder):
            raise StudioError(403, f"{folder} is or holds a link, which no job of the studio does; remove it")
        return folder

    def _launch(self, folder: Path) -> None:
        """Start the runner. It is handed the lock, so that there is no time in which nobody holds it."""
        queue = self.queue_folder / f"{read_job(folder).kind}.queue"
        self.queue_folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if not _retry(lambda: _try_lock(descriptor)):  # a runner writes its last state just before it ends
                raise StudioError(409, "the job is running already")
            write_json(folder / STATE_FILE, {"state": "queued"})
            environment = {name: value for name, value in os.environ.items() if name != CONFIG_VARIABLE}
            subprocess.run(
                [sys.executable, "-P", "-m", "muybridge.studio.job_runner", str(folder), str(descriptor), str(queue)],
                pass_fds=(descriptor,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                timeout=_START_SECONDS,
                check=True,
            )
        except (subprocess.SubprocessError, OSError) as error:
            raise StudioError(503, f"the job could not be started ({error})") from error
        finally:
            os.close(descriptor)

    def _read_progress(self, folder: Path, description: JobDescription) -> float | None:
        if description.kind == "train":
            return _read_training_progress(self.project_folder / "runs" / str(description.run))
        progress = _read_progress_file(folder).get("progress")
        return float(progress) if is_finite_number(progress) else None


def _read_training_progress(run: Path) -> float | None:
    """The share of a run's epochs that is done, by its log; None where that is not known yet."""
    epochs = read_run_epochs(run)
    lines = [line for line in read_run_log(run) if line.get("kind") == "train"]
    if not lines or not epochs:
        return None
    return min(1.0, float(lines[-1].get("epoch") or 0.0) / epochs)


def read_run_epochs(folder: Path) -> float | None:
    """The epochs of a run by its settings."""
    if not (folder / "settings.yaml").is_file():
        return None
    training = read_settings(folder / "settings.yaml").get("training")
    epochs = training.get("epochs") if isinstance(training, dict) else None
    return float(epochs) if is_finite_number(epochs) and epochs > 0 else None


def _is_job(folder: Path) -> bool:
    """Whether a folder is a job's. One with links is none: what the job writes would replace what they lead to."""
    return (folder / JOB_FILE).is_file() and not any(path.is_symlink() for path in (folder, *folder.iterdir()))


def _read_state(folder: Path) -> dict[str, Any]:
    path = folder / STATE_FILE
    return read_json_object(path) if path.exists() else {}


def _read_progress_file(folder: Path) -> dict[str, Any]:
    path = folder / PROGRESS_FILE
    return read_json_object(path) if path.exists() else {}


def _retry(attempt: Callable[[], Any]) -> Any:
    """The first true value of `attempt` within two seconds, else its last one."""
    deadline = time.monotonic() + _RETRY_SECONDS
    while not (value := attempt()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return value


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_locked(folder: Path) -> bool:
    """Whether the runner of a job lives."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
