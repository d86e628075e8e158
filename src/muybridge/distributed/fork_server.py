"""The fork server that worker processes come from, and what ends workers with their parent. Imports no torch.

Workers do not import the main module, as Python's do: a script that calls this library without `if __name__ == "__main__"`
would run once more in each of them. Nothing that is sent to a worker is defined there. Nor do they import from the working
folder: a folder of videos that somebody else made may hold a `json.py`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker, spawn
from multiprocessing.context import BaseContext, ForkServerContext, ForkServerProcess
from typing import Any

# Ctrl-C and SLURM's warning reach every process of a job; the parent decides when its workers end.
_BLOCKED_SIGNALS = (signal.SIGINT, signal.SIGUSR1)
_SAFE_PATH_VARIABLE = "PYTHONSAFEPATH"  # as Python's option -P
_FAILURES_MODULE = "muybridge.distributed.server_failures"  # acts when it is imported, so the parent does not


def create_fork_server_context(module: str) -> BaseContext:
    """A multiprocessing context whose server has imported `module` once, for all workers.

    The server starts with signals blocked and its workers inherit that, so no worker is interrupted while it starts.
    """
    context = _WorkerContext()
    context.set_forkserver_preload([_FAILURES_MODULE, module])
    with safe_import_path():
        resource_tracker.ensure_running()  # first: starting it unblocks SIGINT
        previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED_SIGNALS)
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)
    return context


@contextmanager
def safe_import_path() -> Iterator[None]:
    """Python processes that are started within do not import modules from their working folder."""
    previous = os.environ.get(_SAFE_PATH_VARIABLE)
    os.environ[_SAFE_PATH_VARIABLE] = "1"
    try:
        yield
    finally:
        del os.environ[_SAFE_PATH_VARIABLE]
        if previous is not None:
            os.environ[_SAFE_PATH_VARIABLE] = previous


class _WorkerProcess(ForkServerProcess):
    """A process that does not import the main module before it runs."""

    _start_lock = threading.Lock()

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        thread = threading.get_ident()
        with _WorkerProcess._start_lock:
            describe_parent = spawn.get_preparation_data

            def describe_without_main(name: str) -> dict[str, Any]:
                described = describe_parent(name)
                is_ours = threading.get_ident() == thread  # another thread may start a process of somebody else
                return {key: value for key, value in described.items() if not (is_ours and key.startswith("init_main"))}

            spawn.get_preparation_data = describe_without_main
            try:
                return ForkServerProcess._Popen(process_obj)
            finally:
                spawn.get_preparation_data = describe_parent


class _WorkerContext(ForkServerContext):
    Process = _WorkerProcess


def begin_worker() -> None:
    """First in a worker: no Ctrl-C (a server that the caller's own code has started does not block it), and an end
    when the parent has ended, however it did; a thread waits for that.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED_SIGNALS)
    threading.Thread(target=_wait_for_parent, name="parent", daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker was started by somebody"
    parent.join()
    os._exit(1)
