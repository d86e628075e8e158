"""Stop requests: a signal sets a flag, the job saves and raises `StopRequested`. Imports no torch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequested(Exception):
    """A running job was stopped by the signal `signal_number` and has saved its state."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C; 75 (EX_TEMPFAIL: run the same line with --resume) for any other signal."""
        return 130 if self.signal_number == signal.SIGINT else 75


class StopFlag:
    """The signal that was received, if any. Read between two steps."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    def _handle_signal(self, signal_number: int, frame: FrameType | None) -> None:
        if signal_number == signal.SIGINT and self.signal_number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C stops at once
        self.signal_number = signal_number


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """Inside the block, SIGINT, SIGTERM and SIGUSR1 (SLURM's usual warning) set a flag instead of ending the process."""
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
