"""Runs a function over many jobs, such as one per video, as tasks on a Ray cluster (extra `ray`)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

Name = TypeVar("Name")
Result = TypeVar("Result")

_MAX_TASKS_PER_CORE = 4  # enough that no worker waits for its next video
_MAX_RETRIES = 5


def run_on_ray(
    function: Callable[..., Result],
    jobs: Iterable[tuple[Name, tuple[Any, ...]]],
    *,
    address: str,
    num_gpus: float = 0,
    on_worker_lost: Callable[[Name, str], Result],
) -> Iterator[tuple[Name, Result]]:
    """Yields the name and the result of each job, in the order they finish; each uses one core, or `num_gpus` GPUs.

    `jobs` are names with the arguments of `function`. `address` is as for `ray.init`, or "local" for this machine alone.
    `on_worker_lost` makes the result of a job whose workers died on every retry, from its name and the reason.
    """
    import ray  # noqa: PLC0415 - an extra

    paths = {"PYTHONPATH": ":".join(path for path in sys.path if path)}  # workers import what this process imports
    ray.init(address, ignore_reinit_error=True, log_to_driver=False, runtime_env={"env_vars": paths})
    task = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=_MAX_RETRIES)(function)
    pending = iter(jobs)
    running: dict[Any, Name] = {}
    try:
        while True:
            num_free_slots = _MAX_TASKS_PER_CORE * int(ray.cluster_resources().get("CPU", 1)) - len(running)
            for name, arguments in islice(pending, max(0, num_free_slots)):
                running[task.remote(*arguments)] = name
            if not running:
                return
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                name = running.pop(reference)
                try:
                    result: Result = ray.get(reference)
                except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
                    result = on_worker_lost(
                        name, f"its Ray worker died {_MAX_RETRIES + 1} times ({type(error).__name__})"
                    )
                yield name, result
    finally:
        ray.shutdown()
