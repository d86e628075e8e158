"""Stop requests by signals: SIGINT, SIGTERM and SIGUSR1 (SLURM's usual warning). Imports no torch.

Inside `stop_on_signals` a signal sets a flag: the work saves what is done and raises `StopRequested`. Everywhere else in a
verb `exit_on_signals` ends the process at once, with one sentence: whatever is being written there is written atomically.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from muybridge.distributed.rank import current_rank

SIGNAL_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_PARENT_POLL_SECONDS = 0.5
_SHOW_CURSOR, _CLEAR_LINE = "\x1b[?25h", "\x1b[2K"


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
    """The signal that was received, if any. Read between two steps; `unit` is what a step is called."""

    def __init__(self, unit: str) -> None:
        self.signal_number: int | None = None
        self._unit = unit
        self._outer_handlers: dict[int, Any] = {}

    def raise_if_requested(self) -> None:
        """Raises `StopRequested` where a signal was received."""
        if self.signal_number is not None:
            raise StopRequested(self.signal_number)

    def handle_signal(self, signal_number: int, frame: FrameType | None) -> None:
        """Sets the flag and says so; a second Ctrl-C goes to the handler outside, which ends the process at once."""
        if signal_number == signal.SIGINT and self.signal_number == signal.SIGINT:
            outer_handler = self._outer_handlers.get(signal_number)
            if not callable(outer_handler):
                raise KeyboardInterrupt
            outer_handler(signal_number, frame)
        if self.signal_number is None and signal_number == signal.SIGINT and current_rank().is_rank0:
            _write_error(f"stopping after this {self._unit}; Ctrl-C again to stop now")
        self.signal_number = signal_number


@contextmanager
def stop_on_signals(unit: str = "step") -> Iterator[StopFlag]:
    """Inside the block, a stop signal sets the flag instead of ending the process. A block inside another shares its flag.

    `unit` is what is finished first, such as a video; the first Ctrl-C says so.

    A failure after a signal is its consequence (the signal reaches child processes and other ranks too), so any Exception
    that leaves the block with the flag set becomes `StopRequested`.
    """
    flag = _find_active_flag() or StopFlag(unit)
    is_main_thread = threading.current_thread() is threading.main_thread()  # the only one that can set handlers
    is_outermost = is_main_thread and not flag._outer_handlers
    if is_outermost:
        flag._outer_handlers = {number: signal.getsignal(number) for number in SIGNAL_NUMBERS}
        for number in SIGNAL_NUMBERS:
            signal.signal(number, flag.handle_signal)
    try:
        yield flag
    except StopRequested:
        raise
    except Exception:
        if flag.signal_number is None:
            raise
        raise StopRequested(flag.signal_number) from None
    finally:
        if is_outermost:
            for signal_number, handler in flag._outer_handlers.items():
                signal.signal(signal_number, handler)


def _find_active_flag() -> StopFlag | None:
    owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return owner if isinstance(owner, StopFlag) else None


@contextmanager
def exit_on_signals(describe: Callable[[StopRequested], str]) -> Iterator[None]:
    """Inside the block, a stop signal ends the process at once, with the sentence of `describe` and the code 75 or 130.

    An exception instead could be lost in a destructor or an import, and would reach a person as a traceback.
    """

    def handle_signal(signal_number: int, frame: FrameType | None) -> None:
        for number in SIGNAL_NUMBERS:
            signal.signal(number, signal.SIG_IGN)  # until the process has ended
        _end_stopped_process(StopRequested(signal_number), describe)

    previous_handlers = {number: signal.signal(number, handle_signal) for number in SIGNAL_NUMBERS}
    try:
        yield
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


def _end_stopped_process(stop: StopRequested, describe: Callable[[StopRequested], str]) -> None:
    """Prints the sentence, ends the child processes and exits without running anything that could still fail."""
    with suppress(Exception):  # the signal may have come in the middle of a write to the same stream
        sys.stdout.flush()
    _write_error(describe(stop))
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(stop.exit_code)


def _write_error(line: str) -> None:
    """Writes a line on standard error, past whatever the signal has interrupted."""
    text = f"{line}\n"
    if sys.stderr is not None and sys.stderr.isatty():
        text = f"{_SHOW_CURSOR}\r{_CLEAR_LINE}{text}"  # a progress bar hides the cursor
    with suppress(OSError):
        os.write(2, text.encode(errors="backslashreplace"))


def stop_with_parent() -> None:
    """Sends this process SIGTERM when its parent has ended, so that it saves and ends too; a thread watches."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
