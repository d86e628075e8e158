"""The transcoding of `children.py` as tasks of a Ray cluster (extra `ray`): same jobs in, same outcomes out.

A task is one video, transcoded in a child process of its worker under the same time-out. A worker or machine that dies loses
the videos it had in hand; Ray gives them to others. The process that keeps the books alone writes, so a run is resumed as any
other. Every machine must see the source under the same path.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from muybridge.data.children import Outcome, transcode_in_children
from muybridge.data.transcode import Transcoding
from muybridge.records import VideoError

_IN_FLIGHT_A_CORE = 4  # enough that no worker waits for its next video
_RETRIES = 5


def transcode_on_ray(
    jobs: Iterable[tuple[int, Transcoding]], *, address: str, timeout_seconds: float
) -> Iterator[tuple[int, Outcome]]:
    """Each job's number and outcome, as they are done; `address` as `ray.init` takes it, or "local" for this machine alone."""
    import ray  # noqa: PLC0415 - an extra

    paths = {"PYTHONPATH": ":".join(path for path in sys.path if path)}  # workers import what this process imports
    ray.init(address, ignore_reinit_error=True, log_to_driver=False, runtime_env={"env_vars": paths})
    task = ray.remote(num_cpus=1, max_retries=_RETRIES)(_one)
    waiting = iter(jobs)
    running: dict[Any, int] = {}
    try:
        while True:
            room = _IN_FLIGHT_A_CORE * int(ray.cluster_resources().get("CPU", 1)) - len(running)
            for number, wanted in islice(waiting, room):
                running[task.remote(wanted, timeout_seconds)] = number
            if not running:
                return
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                number = running.pop(reference)
                try:
                    outcome: Outcome = ray.get(reference)
                except ray.exceptions.WorkerCrashedError:
                    outcome = VideoError("unreadable", f"the Ray worker that decoded it died {_RETRIES + 1} times")
                yield number, outcome
    finally:
        ray.shutdown()


def _one(wanted: Transcoding, timeout_seconds: float) -> Outcome:
    ((_, outcome),) = transcode_in_children([(0, wanted)], num_children=1, timeout_seconds=timeout_seconds)
    return outcome
