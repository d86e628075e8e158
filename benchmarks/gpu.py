"""GPU benchmark in less than ten minutes:

    python benchmarks/gpu.py -o benchmarks/results/DATE-MACHINE.json

Measures training (bf16 autocast, SGD) and inference of R(2+1)D-18 on 16x112x112 at several batch sizes beside torchvision, the
bf16 GEMM rate, the correctness of bf16, recompilation after the first steps, and the cost of copies to the GPU. What does not
fit into the time is listed as not measured. Only the start and the matrix product have been run, on a CPU (`--device cpu`).
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

TRAINING_VARIANTS = (
    "muybridge",
    "muybridge, compiled",
    "torchvision",  # its reference settings: autocast, contiguous
    "torchvision, channels_last_3d",
    "muybridge, unpadded",
    "muybridge, plain conv3d",
    "torchvision, compiled",
)


@dataclass
class Session:
    """Device, network and deadline of the measurements, and their results."""

    device: torch.device
    network: str
    clip: tuple[int, ...]
    deadline: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    not_measured: list[str] = field(default_factory=list)

    def measure(self, name: str, run: Callable[[], dict[str, Any]]) -> None:
        """Add a row, or a line to `not_measured` after the deadline or when out of memory."""
        if time.monotonic() > self.deadline:
            self.not_measured.append(f"{name}: no time left")
            return
        try:
            row = {"what": name, **run()}
        except torch.OutOfMemoryError:
            self.not_measured.append(f"{name}: out of memory")
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
    args = parser.parse_args()
    session = Session(torch.device(args.device), args.network, tuple(args.clip), time.monotonic() + 60 * args.minutes)
    description = describe(session)
    for batch in args.batches:  # in order of importance
        for variant in TRAINING_VARIANTS:
            if "compiled" not in variant or batch == args.batches[0]:  # compiling takes minutes
                session.measure(
                    f"training, {variant}, batch {batch}",
                    lambda variant=variant, batch=batch: measure_training(session, variant, batch),
                )
        for variant in ("muybridge.optimize", "torchvision", "torchvision, channels_last_3d"):
            session.measure(
                f"inference, {variant}, batch {batch}",
                lambda variant=variant, batch=batch: measure_inference(session, variant, batch),
            )
    session.measure("copies", lambda: measure_copies(session, args.batches[0]))
    result = {**description, "rows": session.rows, "not_measured": session.not_measured}
    print(json.dumps({**description, "not_measured": session.not_measured}, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def describe(session: Session) -> dict[str, Any]:
    """Describe the machine, its GEMM rate, and the agreement of bf16 with fp32."""
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


def measure_training(session: Session, variant: str, batch: int) -> dict[str, Any]:
    net, clips = create_network_and_clips(session.network, (batch, *session.clip), session.device)
    network = build_variant(variant, net)
    if isinstance(network, UnavailablePeer):
        return {"absent": network.reason}
    step = make_step(network, clips, variant, "bf16")
    for _ in range(3):
        step()
    with torch._dynamo.config.patch(error_on_recompile=True):
        seconds = time_interleaved({variant: step}, 10, session.device)[variant]
    return format_timing(seconds, batch, compute_step_gflop(net, clips.shape), measure_peak_bytes(step, session.device))


def measure_inference(session: Session, variant: str, batch: int) -> dict[str, Any]:
    net, clips = create_network_and_clips(session.network, (batch, *session.clip), session.device)
    net.eval()
    network = optimize(net) if variant == "muybridge.optimize" else build_variant(variant, net)
    if isinstance(network, UnavailablePeer):
        return {"absent": network.reason}
    inputs = clips.to(memory_format=torch.channels_last_3d) if "channels_last" in variant else clips

    def run() -> torch.Tensor:
        with torch.inference_mode(), torch.autocast(session.device.type, torch.bfloat16):
            return network(inputs)

    with torch.inference_mode():
        difference = compute_relative_difference(run().float(), net(clips))
    seconds = time_interleaved({variant: run}, 10, session.device)[variant]
    return {
        **format_timing(
            seconds, batch, compute_step_gflop(net, clips.shape) / 3, measure_peak_bytes(run, session.device)
        ),
        "difference": difference,
    }


def measure_copies(session: Session, batch_size: int) -> dict[str, Any]:
    """Seconds a step with planes already on the GPU, and with planes copied as in training."""
    net, _ = create_network_and_clips(session.network, (1, *session.clip), session.device)
    _, frames, crop, _ = session.clip
    preprocessing = Preprocessing(clip_length=frames, crop=crop, scale_height=crop, scale_width=crop)
    luma = np.zeros((frames, crop, crop), np.uint8)
    view = View(luma, np.zeros((2, frames, crop // 2, crop // 2), np.uint8), 0, 0, False, "bt601", True)
    planes = collate_views([view] * batch_size)
    pinned = session.device.type == "cuda"
    host_batch = TrainingBatch(planes, torch.zeros(batch_size, dtype=torch.int64), (), 0, ())
    device_batch = next(iter(prefetch_to_device([host_batch.pin_memory() if pinned else host_batch], session.device)))

    def run_steps(batches: Iterator[TrainingBatch]) -> None:
        for batch in batches:
            assert batch.views is not None
            make_step(net, prepare_network_input(batch.views, preprocessing, session.device), "muybridge", "bf16")()

    def make_batches() -> Iterator[TrainingBatch]:
        return (host_batch.pin_memory() if pinned else host_batch for _ in range(8))

    runs = {
        "there": lambda: run_steps(device_batch for _ in range(8)),
        "copied": lambda: run_steps(prefetch_to_device(make_batches(), session.device)),
    }
    seconds = time_interleaved(runs, 3, session.device)
    return {name: float(np.median(values)) / 8 for name, values in seconds.items()}


def format_timing(seconds: list[float], batch: int, gflop: float, peak: int) -> dict[str, Any]:
    median = float(np.median(seconds))
    return {"seconds": median, "clips_per_second": batch / median, "gflops": gflop / median, "peak_bytes": peak}


if __name__ == "__main__":
    main()
