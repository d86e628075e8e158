"""Jobs on a cluster, with a stand-in for Ray that runs them here; `tests/prepared/test_ray.py` uses a real one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from muybridge.distributed.ray_tasks import run_on_ray


class WorkerCrashedError(Exception):
    pass


class StandIn:
    """What `run_on_ray` uses of Ray; one core."""

    exceptions = SimpleNamespace(WorkerCrashedError=WorkerCrashedError, OutOfMemoryError=MemoryError)

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.most_running = self.num_running = 0
        self.address, self.is_shut_down = "", False

    def init(self, address: str, **options: Any) -> None:
        self.address, self.options = address, {**self.options, **options}

    def remote(self, **options: Any) -> Callable[..., SimpleNamespace]:
        self.options |= options

        def submit(*arguments: Any) -> Any:
            self.num_running += 1
            self.most_running = max(self.most_running, self.num_running)
            return (self.function, arguments)

        def wrap(function: Callable[..., Any]) -> SimpleNamespace:
            self.function = function
            return SimpleNamespace(remote=submit)

        return wrap

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 1.0}

    def wait(self, references: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        return references[-num_returns:], references[:-num_returns]  # the last one is done first

    def get(self, reference: Any) -> Any:
        self.num_running -= 1
        function, arguments = reference
        return function(*arguments)

    def shutdown(self) -> None:
        self.is_shut_down = True


def divide(number: int) -> float:
    if number == 3:
        raise WorkerCrashedError
    return 12 / number


def test_every_job_has_one_result_and_few_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = StandIn()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(sys, "path", ["", "/one", "/two"])
    jobs = ((f"job {number}", (number,)) for number in range(1, 9))
    lost = []
    results = run_on_ray(
        divide, jobs, address="here", num_gpus=0.5, on_worker_lost=lambda name, why: lost.append((name, why)) or -1.0
    )
    expected = {f"job {number}": -1.0 if number == 3 else 12 / number for number in range(1, 9)}
    assert dict(results) == expected
    assert lost == [("job 3", "its Ray worker died 6 times (WorkerCrashedError)")]
    assert ray.most_running == 4
    assert (ray.address, ray.is_shut_down) == ("here", True)
    assert ray.options == {
        "ignore_reinit_error": True,
        "log_to_driver": False,
        "runtime_env": {"env_vars": {"PYTHONPATH": "/one:/two"}},  # workers import what this process imports
        "num_cpus": 1,
        "num_gpus": 0.5,
        "max_retries": 5,
    }
