"""Everything about a GPU in one command of under ten minutes:

    python benchmarks/gpu.py -o benchmarks/results/DATE-MACHINE.json

Training (bf16 autocast, SGD) and inference of R(2+1)D-18 on 16x112x112 at several batch sizes, ours and torchvision's, the
bf16 GEMM rate beside; whether bf16 is right; whether anything is compiled again after the first steps; what copies to the
GPU cost beside a step. What the time does not suffice for is listed as not measured. No GPU was to be had when this was
written: on a CPU (`--device cpu`) its start and its matrix product ran; the rest of it has never run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from muybridge.bench.measure import describe_machine, measure_gemm_gflops, measure_peak_bytes, time_interleaved
from muybridge.bench.model import compute_relative_difference
from muybridge.bench.peers import UnavailablePeer
from muybridge.bench.train import build_variant, compute_step_gflop, create_network_and_clips, make_step
from muybridge.inference.folded import optimize
from muybridge.loading.datasets import TrainingBatch
from muybridge.records import Preprocessing
from muybridge.training.execution import (
    compare_bf16_to_fp32,
    get_cudnn_version,
    list_cudnn_warnings,
    prefetch_to_device,
)
from muybridge.video.views import View, collate_views, prepare_network_input

TRAINING_WAYS = (
    "muybridge",
    "muybridge, compiled",
    "torchvision",  # its reference settings: autocast, channels first
    "torchvision, channels_last_3d",
    "muybridge, unpadded",
    "muybridge, plain conv3d",
    "torchvision, compiled",
)


@dataclass
class Session:
    """What is measured with, until when, and what was found."""

    device: torch.device
    network: str
    clip: tuple[int, ...]
    deadline: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    not_measured: list[str] = field(default_factory=list)

    def measure(self, what: str, prepare: Callable[[], dict[str, Any]]) -> None:
        """Adds a row, or says that the time was over, or that memory was."""
        if time.monotonic() > self.deadline:
            self.not_measured.append(f"{what}: no time left")
            return
        try:
            row = {"what": what, **prepare()}
        except torch.OutOfMemoryError:
            self.not_measured.append(f"{what}: out of memory")
            return
        self.rows.append(row)
        print(json.dumps(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--network", default="r2plus1d_18")
    parser.add_argument("--clip", type=int, nargs=4, default=(3, 16, 112, 112))
    parser.add_argument("--batches", type=int, nargs="+", default=(32, 128, 64, 16, 8))
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("-o", "--output", type=Path)
    found = parser.parse_args()
    session = Session(
        torch.device(found.device), found.network, tuple(found.clip), time.monotonic() + 60 * found.minutes
    )
    facts = about(session)
    for batch in found.batches:  # the most telling first
        for way in TRAINING_WAYS:
            if "compiled" not in way or batch == found.batches[0]:  # compiling takes minutes
                session.measure(
                    f"training, {way}, batch {batch}", lambda way=way, batch=batch: train(session, way, batch)
                )
        for way in ("muybridge.optimize", "torchvision", "torchvision, channels_last_3d"):
            session.measure(f"inference, {way}, batch {batch}", lambda way=way, batch=batch: infer(session, way, batch))
    session.measure("copies", lambda: copies(session, found.batches[0]))
    result = {**facts, "rows": session.rows, "not_measured": session.not_measured}
    print(json.dumps({**facts, "not_measured": session.not_measured}, indent=1))
    if found.output:
        found.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def about(session: Session) -> dict[str, Any]:
    """The machine, its GEMM rate, and whether a step in bf16 is right on it."""
    net, clips = create_network_and_clips(session.network, (2, *session.clip), session.device)
    check = compare_bf16_to_fp32(net, clips)
    return {
        "machine": describe_machine(session.device),
        "cudnn": get_cudnn_version(),
        "network": session.network,
        "clip": session.clip,
        "bf16_gemm_gflops": measure_gemm_gflops(session.device, torch.bfloat16),
        "bf16_check": {
            "cosine": check.cosine,
            "warnings": check.list_warnings() + list_cudnn_warnings(get_cudnn_version()),
        },
    }


def train(session: Session, way: str, batch: int) -> dict[str, Any]:
    net, clips = create_network_and_clips(session.network, (batch, *session.clip), session.device)
    network = build_variant(way, net)
    if isinstance(network, UnavailablePeer):
        return {"absent": network.reason}
    step = make_step(network, clips, way, "bf16")
    for _ in range(3):
        step()
    with torch._dynamo.config.patch(error_on_recompile=True):
        seconds = time_interleaved({way: step}, 10, session.device)[way]
    return told(seconds, batch, compute_step_gflop(net, clips.shape), measure_peak_bytes(step, session.device))


def infer(session: Session, way: str, batch: int) -> dict[str, Any]:
    net, clips = create_network_and_clips(session.network, (batch, *session.clip), session.device)
    net.eval()
    network = optimize(net) if way == "muybridge.optimize" else build_variant(way, net)
    if isinstance(network, UnavailablePeer):
        return {"absent": network.reason}
    given = clips.to(memory_format=torch.channels_last_3d) if "channels_last" in way else clips

    def run() -> torch.Tensor:
        with torch.inference_mode(), torch.autocast(session.device.type, torch.bfloat16):
            return network(given)

    with torch.inference_mode():
        far = compute_relative_difference(run().float(), net(clips))
    seconds = time_interleaved({way: run}, 10, session.device)[way]
    return {
        **told(seconds, batch, compute_step_gflop(net, clips.shape) / 3, measure_peak_bytes(run, session.device)),
        "difference": far,
    }


def copies(session: Session, batch: int) -> dict[str, Any]:
    """Seconds a step with planes that lie on the GPU already, and with planes that are copied as in a run."""
    net, _ = create_network_and_clips(session.network, (1, *session.clip), session.device)
    _, frames, crop, _ = session.clip
    preprocessing = Preprocessing(clip_length=frames, crop=crop, scale_height=crop, scale_width=crop)
    luma = np.zeros((frames, crop, crop), np.uint8)
    view = View(luma, np.zeros((2, frames, crop // 2, crop // 2), np.uint8), 0, 0, False, "bt601", True)
    planes = collate_views([view] * batch)
    pinned = session.device.type == "cuda"
    one = TrainingBatch(planes, torch.zeros(batch, dtype=torch.int64), (), 0, ())
    there = next(iter(prefetch_to_device([one.pin_memory() if pinned else one], session.device)))

    def steps(batches: Iterator[TrainingBatch]) -> None:
        for got in batches:
            assert got.views is not None
            make_step(net, prepare_network_input(got.views, preprocessing, session.device), "muybridge", "bf16")()

    def fresh() -> Iterator[TrainingBatch]:
        return (one.pin_memory() if pinned else one for _ in range(8))

    runs = {
        "there": lambda: steps(there for _ in range(8)),
        "copied": lambda: steps(prefetch_to_device(fresh(), session.device)),
    }
    seconds = time_interleaved(runs, 3, session.device)
    return {name: float(np.median(values)) / 8 for name, values in seconds.items()}


def told(seconds: list[float], batch: int, gflop: float, peak: int) -> dict[str, Any]:
    median = float(np.median(seconds))
    return {"seconds": median, "clips_per_second": batch / median, "gflops": gflop / median, "peak_bytes": peak}


if __name__ == "__main__":
    main()
