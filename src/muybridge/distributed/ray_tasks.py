"""A function applied to many jobs as tasks of a Ray cluster (extra `ray`)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

_Name = TypeVar("_Name")
_Result = TypeVar("_Result")

_MAX_TASKS_PER_CORE = 4  # enough that no worker waits for its next task
_MAX_RETRIES = 5


def run_on_ray(
    function: Callable[..., _Result],
    jobs: Iterable[tuple[_Name, tuple[Any, ...]]],
    *,
    address: str,
    num_gpus: float = 0,
    on_worker_lost: Callable[[_Name, str], _Result],
) -> Iterator[tuple[_Name, _Result]]:
    """Yield each job's name and `function(*arguments)` in order of completion; a task uses one core and `num_gpus` GPUs.

    `address` is that of `ray.init`; "local" starts Ray on this machine. `on_worker_lost(name, reason)` is the result of a job
    whose worker died at every attempt.
    """
    import ray  # noqa: PLC0415 - an extra

    paths = {"PYTHONPATH": ":".join(path for path in sys.path if path)}  # workers import the same code
    ray.init(address, ignore_reinit_error=True, log_to_driver=False, runtime_env={"env_vars": paths})
    task = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=_MAX_RETRIES)(function)
    pending = iter(jobs)
    running: dict[Any, _Name] = {}
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
                    result: _Result = ray.get(reference)
                except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
                    result = on_worker_lost(name, f"its Ray worker died repeatedly ({type(error).__name__})")
                yield name, result
    finally:
        ray.shutdown()
