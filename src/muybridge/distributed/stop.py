"""How a running job is asked to stop: signals set a flag, the job saves and raises `StopRequested`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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

    def _handle_signal(self, signal_number: int, frame: FrameType | None) -> None:
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
    signal_numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    previous_handlers = {number: signal.signal(number, flag._handle_signal) for number in signal_numbers}
    try:
        yield flag
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
