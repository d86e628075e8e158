"""Throughput of the data loader in training clips a second.

Input: a manifest and a number of workers. Output: rates of wall time with a consumer that discards the planes and with one that
converts them to network input, and advice whether a training at a given rate would wait for data.
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
_WARM_UP_BATCHES = 4  # per worker


@dataclass(frozen=True)
class LoaderRates:
    """Clips a second of wall time: `planes` only, and `converted` to network input as well."""

    workers: int
    planes: float
    converted: float


def measure_loading(
    manifest: Manifest, preprocessing: Preprocessing, *, num_workers: int, seconds: float, device: str
) -> LoaderRates:
    """Measure each rate for about `seconds`."""
    target_device = torch.device(device)
    rates = [
        _measure_rate(manifest, preprocessing, num_workers=num_workers, seconds=seconds, device=convert)
        for convert in (None, target_device)
    ]
    return LoaderRates(num_workers, *rates)


def _measure_rate(
    manifest: Manifest, preprocessing: Preprocessing, *, num_workers: int, seconds: float, device: torch.device | None
) -> float:
    dataset = TrainingDataset(manifest, open_clip_reader(manifest.root, preprocessing), mirror=True, seed=0)
    steps = TrainingBatchSampler(0, 1_000_000, _BATCH_SIZE, Rank())
    pinned = device is not None and device.type == "cuda"
    batches = load_training_batches(dataset, steps, LoadingSettings(workers=num_workers), pin_memory=pinned)
    num_warm_up_batches = _WARM_UP_BATCHES * max(1, num_workers)
    num_clips, start = 0, time.perf_counter()
    for batch_index, batch in enumerate(batches):
        if batch_index == num_warm_up_batches:  # batches ready by now were prefetched during start-up
            num_clips, start = 0, time.perf_counter()
        if device is not None and batch.views is not None:
            prepare_network_input(batch.views, preprocessing, device)
        num_clips += len(batch.videos)
        if batch_index > num_warm_up_batches and time.perf_counter() - start > seconds:
            break
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    elapsed = time.perf_counter() - start
    batches.close()  # type: ignore[attr-defined]  # a generator that stops its workers when closed
    return num_clips / elapsed


def format_verdict(root: str, rates: LoaderRates, clips_per_second: float, num_cores: int) -> str:
    """Say whether training at `clips_per_second` would wait for data, and what to change."""
    if rates.converted >= clips_per_second:
        share = 100 * clips_per_second / rates.converted
        return f"A training at {clips_per_second:.0f} clips a second would not wait for data: it needs {share:.0f} % of it."
    line = (
        f"A training at {clips_per_second:.0f} clips a second would wait "
        f"{100 * (1 - rates.converted / clips_per_second):.0f} % of the time: "
        f"{rates.workers} workers deliver {rates.converted:.0f}."
    )
    if not is_prepared(root):
        return f"{line} Run `muybridge prepare` first: prepared clips are read more than ten times as fast."
    if rates.workers < num_cores:
        return f"{line} Increase loading.workers up to {num_cores}, the number of cores."
    if rates.planes >= clips_per_second:
        return f"{line} Decoding alone is fast enough ({rates.planes:.0f}): convert on a GPU with --device cuda."
    num_cores_needed = -(-num_cores * clips_per_second // max(rates.planes, 1))
    return f"{line} All {num_cores} cores are busy; about {num_cores_needed:.0f} such cores would suffice if a GPU converts."


def rates_to_json(rates: LoaderRates, verdict: str) -> dict[str, Any]:
    """Rates and verdict as JSON values."""
    return {**rates.__dict__, "verdict": verdict}
