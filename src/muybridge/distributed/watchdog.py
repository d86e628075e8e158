"""What a rank is doing, so that whoever fails or waits too long can say so: never a hang, never a bare "connection closed".

A `Watch` knows the phase this process is in, since when, and on which videos. A phase that outlasts its limit ends the
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

NUM_VIDEOS_NAMED = 5
EXIT_CODE = 1


class Watch:
    """Ends this process when a phase lasts longer than its limit. One thread; entering a phase costs microseconds."""

    def __init__(self, place: Rank, *, end: Callable[[str], None] | None = None) -> None:
        self._place = place
        self._end = end or end_process
        self._changed = threading.Condition()
        self._deadline = self._wakes_at = math.inf
        self._minutes = math.inf
        self._sentence: Callable[[], str] = str
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    @contextmanager
    def phase(
        self, name: str, minutes: float, setting: str, *, videos: Callable[[], Sequence[str]] | None = None
    ) -> Iterator[None]:
        """`name` in words ("reading the clips of step 12") may last `minutes`, which is `setting`'s value.

        `videos` is asked for the videos in hand when something goes wrong. A RuntimeError from inside, such as a broken
        connection to another rank, goes on as one that names rank and phase.
        """
        self._set(minutes, lambda: self._too_long(name, minutes, setting, videos))
        try:
            yield
        except RuntimeError as error:
            if self._place.world_size == 1 or isinstance(error, NamedFailure):
                raise
            raise NamedFailure(f"{name}: {_first_line(error)}{_named(videos)}") from error
        finally:
            self._clear()

    def still_going(self) -> None:
        """The present phase has got somewhere: its time starts again."""
        with self._changed:
            self._deadline = time.monotonic() + 60 * self._minutes

    def _too_long(self, name: str, minutes: float, setting: str, videos: Callable[[], Sequence[str]] | None) -> str:
        who = f"rank {self._place.rank} of {self._place.world_size}: " if self._place.world_size > 1 else ""
        return f"{who}{name} has taken longer than {minutes:g} minutes ({setting}){_named(videos)}"

    def _set(self, minutes: float, sentence: Callable[[], str]) -> None:
        with self._changed:
            self._minutes = minutes
            self._deadline, self._sentence = time.monotonic() + 60 * minutes, sentence
            if self._deadline < self._wakes_at:  # else it finds the new deadline when it wakes for the old one
                self._changed.notify()

    def _clear(self) -> None:
        with self._changed:
            self._deadline = math.inf

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                if now >= self._deadline:
                    self._deadline = math.inf
                    self._end(self._sentence())
                self._wakes_at = self._deadline
                self._changed.wait(None if math.isinf(self._deadline) else max(0.0, self._deadline - now))


class NamedFailure(RuntimeError):
    """A failure whose sentence names phase and videos already."""


def end_process(sentence: str) -> None:
    """One sentence on standard error, and out: whatever hangs, a read or another rank, could not be asked to stop."""
    print(f"muybridge: {sentence}; run the same line with --resume to go on", file=sys.stderr, flush=True)
    os._exit(EXIT_CODE)


def _named(videos: Callable[[], Sequence[str]] | None) -> str:
    names = sorted(set(videos())) if videos else []
    if not names:
        return ""
    more = f" and {len(names) - NUM_VIDEOS_NAMED} more" if len(names) > NUM_VIDEOS_NAMED else ""
    return f"; the videos are {', '.join(names[:NUM_VIDEOS_NAMED])}{more}"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0]
