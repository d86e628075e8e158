"""Workers of a local Ray cluster, found among the processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path


@cache
def why_no_cluster() -> str:
    """Why no local cluster starts here, as in some containers; nothing where one does."""
    words = (
        "import ray; ray.init(num_cpus=1, include_dashboard=False); print(ray.get(ray.remote(lambda: 'well').remote()))"
    )
    try:
        tried = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, timeout=180, check=False)
    except subprocess.TimeoutExpired:
        return "a local Ray cluster did not start within 180 s"
    return "" if "well" in tried.stdout else f"no local Ray cluster starts here: {tried.stderr[-300:]}"


def workers_with(task: str) -> list[int]:
    """The processes that run this task now; ray has others of its own."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            with suppress(OSError):  # it ended in the meantime
                if (path / "cmdline").read_bytes().startswith(f"ray::{task}".encode()):
                    found.append(int(path.name))
    return found


@contextmanager
def a_worker_killed(task: str) -> Iterator[tuple[threading.Event, list[int]]]:
    """From when the event is set, the first worker that is found with the task is killed; the list then has its number."""
    begin, end, killed = threading.Event(), threading.Event(), list[int]()

    def hunt() -> None:
        begin.wait()
        while not killed and not end.is_set():
            for worker in workers_with(task)[:1]:
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
                    killed.append(worker)

    thread = threading.Thread(target=hunt)
    thread.start()
    try:
        yield begin, killed
    finally:
        end.set()
        begin.set()
        thread.join()
