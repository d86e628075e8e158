"""Transcoding in child processes, so that no file can hang, crash or exhaust the memory of the main process.

Input: `TranscodeJob`s with indices. Output: their results in order of completion. A worker that exceeds the timeout is
killed and a worker that dies is replaced; in both cases the result is a VideoError.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TypeAlias

from muybridge.distributed.fork_server import begin_worker, create_fork_server_context
from muybridge.distributed.stop import StopFlag, stop_on_signals
from muybridge.limits import raise_if_system_is_short
from muybridge.memory import declare_reader_process
from muybridge.prepared.transcode import StoredVideo, TranscodeJob, transcode
from muybridge.records import VideoError

TranscodeResult: TypeAlias = StoredVideo | VideoError
_SIGNAL_POLL_SECONDS = 0.2


@dataclass
class _Worker:
    process: Any
    connection: Connection
    job_index: int = -1
    deadline: float = 0.0


def transcode_in_workers(
    jobs: Iterable[tuple[int, TranscodeJob]], *, num_workers: int, timeout_seconds: float
) -> Iterator[tuple[int, TranscodeResult]]:
    """Yield the index and the result of each job; VideoError("timed_out") if one takes longer than `timeout_seconds`.

    After a stop signal it ends early, without the results of the jobs in progress.
    """
    with stop_on_signals("video") as stop:
        yield from _run_jobs(iter(jobs), stop, num_workers=num_workers, timeout_seconds=timeout_seconds)


def _run_jobs(
    remaining_jobs: Iterator[tuple[int, TranscodeJob]], stop: StopFlag, *, num_workers: int, timeout_seconds: float
) -> Iterator[tuple[int, TranscodeResult]]:
    context = create_fork_server_context(__name__)
    workers: dict[Connection, _Worker] = {}
    try:
        for job in remaining_jobs:
            worker = _start_worker(context)
            workers[worker.connection] = worker
            _send_job(worker, job, timeout_seconds)
            if len(workers) == num_workers:
                break
        while workers:
            next_deadline = min(worker.deadline for worker in workers.values())
            wait_seconds = min(next_deadline - time.monotonic(), _SIGNAL_POLL_SECONDS)
            ready = wait(list(workers), timeout=max(0.0, wait_seconds))
            if stop.signal_number is not None and not ready:
                return  # a video may take minutes: it is transcoded again
            done = [workers[connection] for connection in ready if isinstance(connection, Connection)]
            now = time.monotonic()
            timed_out = [worker for worker in workers.values() if worker not in done and worker.deadline < now]
            for worker in [*done, *timed_out]:
                job_index = worker.job_index
                result = _stop_timed_out(worker, timeout_seconds) if worker in timed_out else _receive_result(worker)
                if stop.signal_number is not None and not worker.process.is_alive():
                    return  # it died of the signal to the process group, not of its video
                del workers[worker.connection]
                next_job = next(remaining_jobs, None)
                if next_job is None or not worker.process.is_alive():
                    _close_worker(worker)
                    worker = _start_worker(context) if next_job else worker
                if next_job is not None:
                    workers[worker.connection] = worker
                    _send_job(worker, next_job, timeout_seconds)
                yield job_index, result
    finally:
        for worker in workers.values():
            worker.process.kill()
            _close_worker(worker)


def _start_worker(context: Any) -> _Worker:
    parent_end, worker_end = context.Pipe()
    process = context.Process(target=_run_worker, args=(worker_end,), daemon=True)
    process.start()
    worker_end.close()
    return _Worker(process, parent_end)


def _send_job(worker: _Worker, job: tuple[int, TranscodeJob], timeout_seconds: float) -> None:
    worker.job_index, worker.deadline = job[0], time.monotonic() + timeout_seconds
    worker.connection.send(job[1])


def _receive_result(worker: _Worker) -> TranscodeResult:
    try:
        result: TranscodeResult | OSError = worker.connection.recv()
    except (EOFError, OSError):  # the latter where it died in the middle of its result
        worker.process.join()
        code = worker.process.exitcode
        if code == -signal.SIGTERM:
            time.sleep(_SIGNAL_POLL_SECONDS)  # a signal to the process group may reach this process a little later
        cause = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return VideoError("unreadable", f"the process that decoded it {cause}")
    if isinstance(result, OSError):
        raise_if_system_is_short(result)
        return VideoError("unreadable", f"the file cannot be read ({result})")
    return result


def _stop_timed_out(worker: _Worker, timeout_seconds: float) -> TranscodeResult:
    worker.process.kill()
    worker.process.join()
    return VideoError("timed_out", f"not decoded within {timeout_seconds:g} s")


def _close_worker(worker: _Worker) -> None:
    worker.connection.close()  # an idle worker exits when its connection closes
    worker.process.join()


def _run_worker(connection: Connection) -> None:
    """The main function of a worker: transcode job after job until the parent closes the connection or exits."""
    begin_worker()
    declare_reader_process()
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        try:
            result: TranscodeResult | OSError = transcode(job)
        except (VideoError, OSError) as error:
            result = error
        except Exception as error:  # noqa: BLE001 - MemoryError or a fault of a library: it is this video's, and is named
            result = VideoError("unreadable", f"the file cannot be transcoded ({type(error).__name__}: {error})")
        try:
            connection.send(result)
        except OSError:
            return
