"""What a rank is doing, so that whoever fails or waits too long can say so: never a hang, never a bare "connection closed".

A `Watchdog` knows the phase this process is in, since when, and on which videos. A phase that outlasts its limit ends the
process with one sentence that names rank, phase and videos; torchrun then ends the others. Time is monotonic: setting the
clock moves nothing.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from muybridge.distributed.rank import Rank

MAX_VIDEOS_NAMED = 5
EXIT_CODE = 1


class Watchdog:
    """Ends this process when a phase lasts longer than its limit. One thread; entering a phase costs microseconds."""

    def __init__(self, rank: Rank, *, on_timeout: Callable[[str], None] | None = None) -> None:
        self._rank = rank
        self._on_timeout = on_timeout or end_process
        self._changed = threading.Condition()
        self._deadline = self._wake_time = math.inf
        self._limit_minutes = math.inf
        self._format_message: Callable[[], str] = str
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    @contextmanager
    def limit_phase(
        self,
        name: str,
        limit_minutes: float,
        setting_name: str,
        *,
        list_videos: Callable[[], Sequence[str]] | None = None,
    ) -> Iterator[None]:
        """`name` in words ("reading the clips of step 12") may last `minutes`, which is `setting`'s value.

        `videos` is asked for the videos in hand when something goes wrong. A RuntimeError from inside, such as a broken
        connection to another rank, goes on as one that names rank and phase.
        """
        self._arm(limit_minutes, lambda: self._format_timeout(name, limit_minutes, setting_name, list_videos))
        try:
            yield
        except RuntimeError as error:
            if self._rank.world_size == 1 or isinstance(error, PhaseError):
                raise
            raise PhaseError(f"{name}: {_get_first_line(error)}{_format_videos(list_videos)}") from error
        finally:
            self._disarm()

    def reset_deadline(self) -> None:
        """The present phase has got somewhere: its time starts again."""
        with self._changed:
            self._deadline = time.monotonic() + 60 * self._limit_minutes

    def _format_timeout(
        self, name: str, limit_minutes: float, setting_name: str, list_videos: Callable[[], Sequence[str]] | None
    ) -> str:
        prefix = f"rank {self._rank.rank} of {self._rank.world_size}: " if self._rank.world_size > 1 else ""
        return f"{prefix}{name} has taken longer than {limit_minutes:g} minutes ({setting_name}){_format_videos(list_videos)}"

    def _arm(self, limit_minutes: float, format_message: Callable[[], str]) -> None:
        with self._changed:
            self._limit_minutes = limit_minutes
            self._deadline, self._format_message = time.monotonic() + 60 * limit_minutes, format_message
            if self._deadline < self._wake_time:  # else it finds the new deadline when it wakes for the old one
                self._changed.notify()

    def _disarm(self) -> None:
        with self._changed:
            self._deadline = math.inf

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                if now >= self._deadline:
                    self._deadline = math.inf
                    self._on_timeout(self._format_message())
                self._wake_time = self._deadline
                self._changed.wait(None if math.isinf(self._deadline) else max(0.0, self._deadline - now))


class PhaseError(RuntimeError):
    """A failure whose sentence names phase and videos already."""


def end_process(message: str) -> None:
    """One sentence on standard error, and out: whatever hangs, a read or another rank, could not be asked to stop."""
    print(f"muybridge: {message}; run the same line with --resume to go on", file=sys.stderr, flush=True)
    os._exit(EXIT_CODE)


def _format_videos(list_videos: Callable[[], Sequence[str]] | None) -> str:
    names = sorted(set(list_videos())) if list_videos else []
    if not names:
        return ""
    more = f" and {len(names) - MAX_VIDEOS_NAMED} more" if len(names) > MAX_VIDEOS_NAMED else ""
    return f"; the videos are {', '.join(names[:MAX_VIDEOS_NAMED])}{more}"


def _get_first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0]
