"""Videos transcoded in child processes, so that no file can stop, crash or fill the process that keeps the books.

What enters are numbered `Transcoding`s, what leaves are their outcomes in the order in which they are done. A child that
hangs is killed, one that dies is replaced; either way the video is what failed, and says so.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TypeAlias

from muybridge.prepared.transcode import StoredVideo, Transcoding, transcode
from muybridge.records import VideoError

Outcome: TypeAlias = StoredVideo | VideoError


@dataclass
class _Child:
    process: Any
    connection: Connection
    number: int = -1
    deadline: float = 0.0


def transcode_in_children(
    jobs: Iterable[tuple[int, Transcoding]], *, num_children: int, timeout_seconds: float
) -> Iterator[tuple[int, Outcome]]:
    """Each job's number and outcome; a VideoError("timed_out") where one takes longer than `timeout_seconds`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # PyAV is imported once, not once a child
    waiting = iter(jobs)
    children: dict[Connection, _Child] = {}
    try:
        for job in waiting:
            child = _started(context)
            children[child.connection] = child
            _give(child, job, timeout_seconds)
            if len(children) == num_children:
                break
        while children:
            soonest = min(child.deadline for child in children.values())
            ready = wait(list(children), timeout=max(0.0, soonest - time.monotonic()))
            done = [children[connection] for connection in ready if isinstance(connection, Connection)]
            late = [child for child in children.values() if child not in done and child.deadline < time.monotonic()]
            for child in [*done, *late]:
                number = child.number
                outcome = _late(child, timeout_seconds) if child in late else _outcome(child)
                del children[child.connection]
                following = next(waiting, None)
                if following is None or not child.process.is_alive():
                    _end(child)
                    child = _started(context) if following else child
                if following is not None:
                    children[child.connection] = child
                    _give(child, following, timeout_seconds)
                yield number, outcome
    finally:
        for child in children.values():
            child.process.kill()
            _end(child)


def _started(context: Any) -> _Child:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return _Child(process, ours)


def _give(child: _Child, job: tuple[int, Transcoding], timeout_seconds: float) -> None:
    child.number, child.deadline = job[0], time.monotonic() + timeout_seconds
    child.connection.send(job[1])


def _outcome(child: _Child) -> Outcome:
    try:
        outcome: Outcome = child.connection.recv()
    except (EOFError, ConnectionResetError):
        child.process.join()
        code = child.process.exitcode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return VideoError("unreadable", f"the process that decoded it {how}")
    return outcome


def _late(child: _Child, timeout_seconds: float) -> Outcome:
    child.process.kill()
    child.process.join()
    return VideoError("timed_out", f"not decoded within {timeout_seconds:g} s")


def _end(child: _Child) -> None:
    child.connection.close()  # at which an idle child leaves
    child.process.join()


def _serve(connection: Connection) -> None:
    """What a child does: one job after the other until its parent closes the line or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent decides
    while True:
        try:
            wanted = connection.recv()
        except EOFError:
            return
        try:
            outcome: Outcome = transcode(wanted)
        except VideoError as error:
            outcome = error
        connection.send(outcome)
