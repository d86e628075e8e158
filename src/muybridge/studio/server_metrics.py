"""Measurements of the server for Prometheus: requests, predictions, and how many batches wait, run and have ended.

With several worker processes the values of all are added up, in files of the folder that PROMETHEUS_MULTIPROC_DIR names; the
command sets it (`prepare_for_workers`) before the workers start.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import prometheus_client
from prometheus_client import REGISTRY, CollectorRegistry, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muybridge.studio.jobs import JobState

_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "muybridge_studio"

REQUESTS = prometheus_client.Counter(f"{_PREFIX}_requests", "HTTP requests", ("method", "route", "status"))
REQUEST_SECONDS = Histogram(f"{_PREFIX}_request_seconds", "Time until an answer begins", ("route",))
PREDICTIONS = prometheus_client.Counter(
    f"{_PREFIX}_predictions", "Videos predicted for other programs", ("task", "status")
)


class RequestMeter:
    """An ASGI middleware that counts requests and measures how long they take."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()

        async def measure(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")  # never the address itself, which has no bounds
                method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "PUT", "DELETE") else "other"
                REQUESTS.labels(method, route, str(message["status"])).inc()
                REQUEST_SECONDS.labels(route).observe(time.perf_counter() - started)
            await send(message)

        await self.app(scope, receive, measure)


def prepare_for_workers(folder: Path) -> None:
    """Let the processes that this one starts add up their measurements in a folder, which is emptied."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ[_FOLDER_VARIABLE] = str(folder)


def format_metrics(batch_states: Sequence[str]) -> bytes:
    """The measurements in Prometheus' text format; `batch_states` are the states of all batches, which are in files."""
    batches = CollectorRegistry()
    batches.register(_BatchCollector(batch_states))
    registry = REGISTRY
    if _FOLDER_VARIABLE in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry) + generate_latest(batches)


class _BatchCollector(Collector):
    def __init__(self, states: Sequence[str]) -> None:
        self.counts = Counter(states)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """A number for every state, also for those that no batch is in."""
        family = GaugeMetricFamily(f"{_PREFIX}_batches", "Batches by state", labels=["state"])
        for state in get_args(JobState):
            family.add_metric([state], self.counts[state])
        yield family
