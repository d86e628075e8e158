"""Functions on files from outside, run in child processes with limits on time and memory.

No file can hang, crash or exhaust the server: a child that takes too long is killed and replaced, one that dies is replaced,
and the caller gets a `VideoError`. Children keep what they have read (indexes of videos, networks), so calls with the same
`affinity` prefer the same child.
"""

from __future__ import annotations

import importlib
import resource
import signal
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

from muybridge.distributed.fork_server import begin_worker, create_fork_server_context
from muybridge.records import VideoError
from muybridge.studio.errors import StudioError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
CHILD_DIED = "the process that decoded it"  # begins the reason of a VideoError where a child died


@dataclass
class _Child:
    lock: threading.Lock = field(default_factory=threading.Lock)
    process: Any = None
    connection: Connection | None = None


class ChildPool:
    """`num_children` processes, started when they are first needed; `module` is what each of them has imported."""

    def __init__(self, module: str, *, num_children: int, memory_bytes: int) -> None:
        self.module = module
        self.memory_bytes = memory_bytes
        self._children = [_Child() for _ in range(num_children)]
        self._start_lock = threading.Lock()
        self._is_closed = False

    def call(
        self,
        timeout_seconds: float,
        affinity: str,
        function: Callable[Parameters, Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """The result of `function(*args, **kwargs)` in a child; it and its arguments are pickled.

        Raises what the function raises of VideoError, ValueError, OSError and StudioError; VideoError("timed_out") after
        `timeout_seconds`, VideoError("unreadable") where the child dies, StudioError(503) where no child is free in time.
        """
        child = self._acquire(timeout_seconds, affinity)
        try:
            return self._call_in(child, timeout_seconds, (function, args, kwargs))  # type: ignore[no-any-return]
        finally:
            child.lock.release()

    def call_by_name(self, timeout_seconds: float, affinity: str, name: str, *args: Any) -> Any:
        """As `call`, of the function of this name in the children's module, which this process need not import."""
        return self.call(timeout_seconds, affinity, _call_function, self.module, name, *args)

    def close(self) -> None:
        """End all children, also those that are busy."""
        with self._start_lock:
            self._is_closed = True
            for child in self._children:
                if child.process is not None:
                    child.process.kill()

    def _acquire(self, timeout_seconds: float, affinity: str) -> _Child:
        first = zlib.crc32(affinity.encode("utf-8", "replace")) % len(self._children)
        ordered = [*self._children[first:], *self._children[:first]]
        for child in ordered:
            if child.lock.acquire(blocking=False):
                return child
        if ordered[0].lock.acquire(timeout=timeout_seconds):
            return ordered[0]
        raise StudioError(503, "all processes that decode videos are busy; try again in a moment")

    def _call_in(self, child: _Child, timeout_seconds: float, call: Any) -> Any:
        if child.process is None or not child.process.is_alive():
            self._start(child)
        assert child.connection is not None, "a started child has a connection"
        deadline = time.monotonic() + timeout_seconds
        try:
            child.connection.send(call)
            if not child.connection.poll(max(0.0, deadline - time.monotonic())):
                _end(child)
                raise VideoError("timed_out", f"not done within {timeout_seconds:g} s")
            is_result, value = child.connection.recv()
        except (EOFError, OSError) as error:
            raise VideoError("unreadable", f"{CHILD_DIED} {_describe_end(child)}") from error
        if not is_result:
            raise value
        return value

    def _start(self, child: _Child) -> None:
        with self._start_lock:
            context: Any = create_fork_server_context(self.module)
            if self._is_closed:
                raise StudioError(503, "the server is ending")
            child.connection, child_end = context.Pipe()
            process = context.Process(target=_run_child, args=(child_end, self.memory_bytes), daemon=True)
            process.start()
            child_end.close()
            child.process = process


def _call_function(module: str, name: str, *args: Any) -> Any:
    return getattr(importlib.import_module(module), name)(*args)


def _end(child: _Child) -> None:
    child.process.kill()
    child.process.join()
    child.process = None


def _describe_end(child: _Child) -> str:
    child.process.join(timeout=5)
    code = child.process.exitcode
    child.process = None
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    return f"was killed by {signal.Signals(-code).name}"


def limit_memory(num_bytes: int) -> None:
    """Limit the address space of this process; what asks for more gets MemoryError."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    allowed = num_bytes if hard == resource.RLIM_INFINITY else min(num_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))


def _run_child(connection: Connection, memory_bytes: int) -> None:
    """The main function of a child: call after call until the parent closes the connection or exits."""
    begin_worker()
    limit_memory(memory_bytes)
    while True:
        try:
            function, args, kwargs = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer: tuple[bool, Any] = True, function(*args, **kwargs)
        except (VideoError, ValueError, OSError, StudioError) as error:
            answer = False, error
        except MemoryError:
            answer = False, VideoError("unreadable", f"it needs more than {memory_bytes / 2**30:.1f} GiB of memory")
        except Exception as error:  # noqa: BLE001 - a fault of a library, named in the answer
            answer = False, VideoError("unreadable", f"it cannot be read ({type(error).__name__}: {error})")
        with suppress(OSError):  # the parent has ended
            connection.send(answer)
