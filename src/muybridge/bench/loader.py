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
from muybridge.loading.clip_reader import open_clip_reader
from muybridge.loading.datasets import TrainingDataset
from muybridge.loading.draws import TrainingBatchSampler
from muybridge.loading.loader import load_training_batches
from muybridge.prepared.dataset import is_prepared
from muybridge.records import Preprocessing
from muybridge.settings import LoadingSettings
from muybridge.video.views import prepare_network_input

_BATCH_SIZE = 16
_WARM_UP_BATCHES = 4


@dataclass(frozen=True)
class LoaderRates:
    """Clips a second of wall time with `workers` workers: as planes with an idle consumer, and converted as well."""

    workers: int
    planes: float
    converted: float


def measure_loading(
    manifest: Manifest, preprocessing: Preprocessing, *, num_workers: int, seconds: float, device: str
) -> LoaderRates:
    """Draws training clips for about `seconds` each way."""
    target_device = torch.device(device)
    rates = [
        _measure_rate(manifest, preprocessing, num_workers=num_workers, seconds=seconds, device=convert)
        for convert in (None, target_device)
    ]
    return LoaderRates(num_workers, *rates)


def _measure_rate(
    manifest: Manifest, preprocessing: Preprocessing, *, num_workers: int, seconds: float, device: torch.device | None
) -> float:
    draws = TrainingDataset(manifest, open_clip_reader(manifest.root, preprocessing), mirror=True, seed=0)
    steps = TrainingBatchSampler(0, 1_000_000, _BATCH_SIZE, Rank())
    pinned = device is not None and device.type == "cuda"
    batches = load_training_batches(draws, steps, LoadingSettings(workers=num_workers), pin_memory=pinned)
    num_clips, began = 0, time.perf_counter()
    for batch_index, batch in enumerate(batches):
        if batch_index == _WARM_UP_BATCHES * max(1, num_workers):  # what is ready by then was paid for at the start
            num_clips, began = 0, time.perf_counter()
        if device is not None and batch.views is not None:
            prepare_network_input(batch.views, preprocessing, device)
        num_clips += len(batch.videos)
        if batch_index > _WARM_UP_BATCHES * max(1, num_workers) and time.perf_counter() - began > seconds:
            break
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    elapsed = time.perf_counter() - began
    batches.close()  # type: ignore[attr-defined]  # a generator: it ends its workers
    return num_clips / elapsed


def format_verdict(root: str, rates: LoaderRates, clips_per_second: float, num_cores: int) -> str:
    """In words: whether a training that takes `wanted` clips a second would wait, and what to change."""
    if rates.converted >= clips_per_second:
        share = 100 * clips_per_second / rates.converted
        return f"A training at {clips_per_second:.0f} clips a second would not wait for data: it needs {share:.0f} % of this."
    line = (
        f"A training at {clips_per_second:.0f} clips a second would wait "
        f"{100 * (1 - rates.converted / clips_per_second):.0f} % of the time: "
        f"{rates.workers} workers deliver {rates.converted:.0f}."
    )
    if not is_prepared(root):
        return f"{line} Run `muybridge prepare` on it first: prepared clips are read more than ten times as fast."
    if rates.workers < num_cores:
        return f"{line} Raise loading.workers, there are {num_cores} cores."
    if rates.planes >= clips_per_second:
        return f"{line} Decoding alone would keep up ({rates.planes:.0f}): convert on a GPU, with --device cuda."
    num_cores_needed = -(-num_cores * clips_per_second // max(rates.planes, 1))
    return (
        f"{line} All {num_cores} cores are busy; about {num_cores_needed:.0f} like these would do where a GPU converts."
    )


def to_json(rates: LoaderRates, verdict: str) -> dict[str, Any]:
    """Figures and verdict as JSON values."""
    return {**rates.__dict__, "verdict": verdict}
