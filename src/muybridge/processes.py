"""Who we are among processes: rank and world size, worker count, and how a run is asked to stop.

Reads torchrun's environment variables only; torch.distributed itself is started in training/distribute.py.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass(frozen=True)
class Place:
    """This process among the ranks of one job."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this rank writes and prints."""
        return self.rank == 0


def place() -> Place:
    """From torchrun's environment; alone without it."""
    return Place(
        rank=int(os.environ.get("RANK", "0")),
        world_size=int(os.environ.get("WORLD_SIZE", "1")),
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
    )


def num_restarts() -> int:
    """How often torchrun has started this job again after a failure (`--max-restarts`): the run then goes on."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def num_workers(wanted: int | None) -> int:
    """The worker processes to start: as set, else one a core this process may use, at most 16, shared by local ranks."""
    if wanted is not None:
        return wanted
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(16, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


class StopRequested(Exception):
    """A running job was asked to stop and has saved what it had; `signal_number` says by what."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 75 (try again: run the same line with --resume) for everything else."""
        return 130 if self.signal_number == signal.SIGINT else 75


class StopFlag:
    """Set by a signal, read between two steps."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    def _set(self, signal_number: int, frame: FrameType | None) -> None:
        if signal_number == signal.SIGINT and self.signal_number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C means now
        self.signal_number = signal_number


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """While inside, SIGINT, SIGTERM and SIGUSR1 (SLURM's usual warning) set a flag instead of ending the process."""
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag  # signal handlers can be set in the main thread only
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, flag._set) for number in numbers}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def keep_freed_memory(num_bytes: int) -> None:
    """Has glibc reuse freed buffers up to this size instead of giving each back and asking for it again.

    Fresh memory is cleared page by page when it is first touched, which costs what a layer computes or a worker decodes
    (docs/performance.md). Twice as much may stay with the process. Nothing happens with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # numbers of malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
        mallopt(-1, 2 * num_bytes - 1)
        mallopt(-3, num_bytes)
