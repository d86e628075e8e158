"""The fork server that worker processes come from, and what ends workers with their parent. Imports no torch."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext

# Ctrl-C and SLURM's warning reach every process of a job; the parent decides when its workers end.
_BLOCKED_SIGNALS = (signal.SIGINT, signal.SIGUSR1)
_FAILURES_MODULE = "muybridge.distributed.server_failures"  # acts when it is imported, so the parent does not


def create_fork_server_context(module: str) -> BaseContext:
    """A multiprocessing context whose server has imported `module` once, for all workers.

    The server starts with signals blocked and its workers inherit that, so no worker is interrupted while it starts.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_FAILURES_MODULE, module])
    resource_tracker.ensure_running()  # first: starting it unblocks SIGINT
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED_SIGNALS)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)
    return context


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
