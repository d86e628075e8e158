"""How many training clips a second the workers deliver, and what to change where that is too few.

Enter: a manifest and how many clips a second the network can train on. Leave: rates with one and with more workers, consumer
idle (planes) and converting (network input), and a verdict in words.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from muybridge.datasets.manifest import Manifest
from muybridge.distributed.rank import Rank
from muybridge.loading.draws import StepDraws
from muybridge.loading.loader import TrainingDraws, frame_source, training_batches
from muybridge.prepared.dataset import is_prepared
from muybridge.records import Preprocessing
from muybridge.settings import LoadingSettings
from muybridge.video.views import network_input

_BATCH = 16
_WARM_UP_BATCHES = 4


@dataclass(frozen=True)
class LoaderRates:
    """Clips a second of wall time with `workers` workers: as planes with an idle consumer, and converted as well."""

    workers: int
    planes: float
    converted: float


def measure(
    manifest: Manifest, preprocessing: Preprocessing, *, workers: int, seconds: float, device: str
) -> LoaderRates:
    """Draws training clips for about `seconds` each way."""
    place = torch.device(device)
    rates = [
        _rate(manifest, preprocessing, workers=workers, seconds=seconds, device=convert) for convert in (None, place)
    ]
    return LoaderRates(workers, *rates)


def _rate(
    manifest: Manifest, preprocessing: Preprocessing, *, workers: int, seconds: float, device: torch.device | None
) -> float:
    draws = TrainingDraws(manifest, frame_source(manifest.root, preprocessing), preprocessing, mirror=True, seed=0)
    steps = StepDraws(0, 1_000_000, _BATCH, Rank())
    pinned = device is not None and device.type == "cuda"
    batches = training_batches(draws, steps, LoadingSettings(workers=workers), pin_memory=pinned)
    num_clips, began = 0, time.perf_counter()
    for number, batch in enumerate(batches):
        if number == _WARM_UP_BATCHES * max(1, workers):  # what is ready by then was paid for at the start
            num_clips, began = 0, time.perf_counter()
        if device is not None and batch.views is not None:
            network_input(batch.views, preprocessing, device)
        num_clips += len(batch.videos)
        if number > _WARM_UP_BATCHES * max(1, workers) and time.perf_counter() - began > seconds:
            break
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    elapsed = time.perf_counter() - began
    batches.close()  # type: ignore[attr-defined]  # a generator: it ends its workers
    return num_clips / elapsed


def verdict(root: str, rates: LoaderRates, wanted: float, cores: int) -> str:
    """In words: whether a training that takes `wanted` clips a second would wait, and what to change."""
    if rates.converted >= wanted:
        share = 100 * wanted / rates.converted
        return f"A training at {wanted:.0f} clips a second would not wait for data: it needs {share:.0f} % of this."
    line = (
        f"A training at {wanted:.0f} clips a second would wait {100 * (1 - rates.converted / wanted):.0f} % of the time: "
        f"{rates.workers} workers deliver {rates.converted:.0f}."
    )
    if not is_prepared(root):
        return f"{line} Run `muybridge prepare` on it first: prepared clips are read more than ten times as fast."
    if rates.workers < cores:
        return f"{line} Raise loading.workers, there are {cores} cores."
    if rates.planes >= wanted:
        return f"{line} Decoding alone would keep up ({rates.planes:.0f}): convert on a GPU, with --device cuda."
    needed = -(-cores * wanted // max(rates.planes, 1))
    return f"{line} All {cores} cores are busy; about {needed:.0f} like these would do where a GPU converts."


def to_json(rates: LoaderRates, said: str) -> dict[str, Any]:
    """Figures and verdict as JSON values."""
    return {**rates.__dict__, "verdict": said}
