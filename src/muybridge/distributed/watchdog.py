"""Time limits on the phases of a process: no job hangs, and every failure names its rank, phase and videos.

The main thread says which phase it is in; a thread of the watchdog ends the process with one sentence when the phase
outlasts its limit, and torchrun then ends the other ranks. Time is monotonic: setting the clock has no effect.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from muybridge.distributed.rank import Rank
from muybridge.terminal import print_line

MAX_VIDEOS_NAMED = 5
EXIT_CODE = 1


@dataclass(frozen=True)
class _Phase:
    """What the process is doing. `setting_name` is the setting that `limit_minutes` comes from."""

    name: str = "start"
    limit_minutes: float = math.inf
    setting_name: str = ""
    list_videos: Callable[[], Sequence[str]] | None = None


class PhaseError(RuntimeError):
    """A RuntimeError whose message names the phase it happened in."""


class Watchdog:
    """Ends this process when a phase lasts longer than its limit. One thread; starting a phase costs microseconds."""

    def __init__(self, rank: Rank, *, on_timeout: Callable[[str], None] | None = None) -> None:
        self._rank = rank
        self._on_timeout = on_timeout or _end_process
        self._changed = threading.Condition()
        self._deadline = self._wake_time = math.inf
        self._phase = _Phase()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

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
        """`start_phase` for the duration of a block; a RuntimeError inside it is raised as by `name_phase`."""
        self.start_phase(name, limit_minutes, setting_name, list_videos=list_videos)
        try:
            yield
        except RuntimeError as error:
            named_error = self.name_phase(error)
            if named_error is error:
                raise
            raise named_error from error
        finally:
            self.end_phase()

    def start_phase(
        self,
        name: str,
        limit_minutes: float,
        setting_name: str,
        *,
        list_videos: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        """Starts a phase such as "reading the clips of step 12", and ends the one before.

        It may last `limit_minutes`, the value of the setting `setting_name`. `list_videos` is called on a failure only.
        """
        with self._changed:
            self._phase = _Phase(name, limit_minutes, setting_name, list_videos)
            self._deadline = time.monotonic() + 60 * limit_minutes
            if self._deadline < self._wake_time:  # else it finds the new deadline when it wakes for the old one
                self._changed.notify()

    def end_phase(self) -> None:
        """Ends the phase: no limit applies until the next one starts."""
        with self._changed:
            self._deadline = math.inf

    def reset_deadline(self) -> None:
        """Starts the time of the current phase again, because it has made progress."""
        with self._changed:
            self._deadline = time.monotonic() + 60 * self._phase.limit_minutes

    def name_phase(self, error: RuntimeError) -> RuntimeError:
        """`error`, or among several ranks a `PhaseError` that names the phase and its videos.

        There a RuntimeError is most often the broken connection to another rank, which says nothing of what was being done.
        """
        if self._rank.world_size == 1 or isinstance(error, PhaseError):
            return error
        return PhaseError(f"{self._phase.name}: {_get_first_line(error)}{_format_videos(self._phase.list_videos)}")

    def _format_timeout(self) -> str:
        phase = self._phase
        prefix = f"rank {self._rank.rank} of {self._rank.world_size}: " if self._rank.world_size > 1 else ""
        return (
            f"{prefix}{phase.name} has taken longer than {phase.limit_minutes:g} minutes ({phase.setting_name})"
            f"{_format_videos(phase.list_videos)}"
        )

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                if now >= self._deadline:
                    self._deadline = math.inf
                    self._on_timeout(self._format_timeout())
                self._wake_time = self._deadline
                self._changed.wait(None if math.isinf(self._deadline) else max(0.0, self._deadline - now))


def _end_process(message: str) -> None:
    """Prints one sentence and exits: what hangs, a read or another rank, cannot be asked to stop."""
    print_line(f"muybridge: {message}; run the same line with --resume to continue", error=True)
    os._exit(EXIT_CODE)


def _format_videos(list_videos: Callable[[], Sequence[str]] | None) -> str:
    names = sorted(set(list_videos())) if list_videos else []
    if not names:
        return ""
    more = f" and {len(names) - MAX_VIDEOS_NAMED} more" if len(names) > MAX_VIDEOS_NAMED else ""
    return f"; the videos are {', '.join(names[:MAX_VIDEOS_NAMED])}{more}"


def _get_first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0]
