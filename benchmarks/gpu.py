"""GPU benchmark within a given time:

    python benchmarks/gpu.py --minutes 9 -o benchmarks/results/DATE-MACHINE.json
    python benchmarks/gpu.py --only inference --minutes 3 -o inference.json

Training and inference of R(2+1)D-18 on 16x112x112 beside torchvision (bf16 and fp16, compiled and not), copies to the GPU, a
whole `muybridge train` from prepared data, and the tests that need CUDA. The most important rows come first; the file is
written after every row, and what does not fit into the time is listed as not measured. `--device cpu --network r2plus1d_10
--clip 3 4 32 32 --batches 2` rehearses it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from muybridge.bench.measure import describe_machine, measure_gemm_gflops, measure_peak_bytes, time_interleaved
from muybridge.bench.model import compute_relative_difference
from muybridge.bench.peers import UnavailablePeer
from muybridge.bench.train import build_variant, compute_step_gflop, create_network_and_clips, make_step
from muybridge.files.run_folder import read_json_lines
from muybridge.inference.folded import optimize
from muybridge.inference.scorer import NetworkScorer
from muybridge.kernels import batch_norm
from muybridge.kernels.batch_norm import find_fusion_problem
from muybridge.kernels.precision import get_cudnn_version, list_cudnn_warnings
from muybridge.loading.datasets import TrainingBatch
from muybridge.records import Preprocessing
from muybridge.synthetic.dataset import write_motion_dataset
from muybridge.synthetic.motions import MotionSettings
from muybridge.training.execution import prefetch_to_device
from muybridge.training.precision import compare_bf16_to_fp32
from muybridge.video.views import View, collate_views, prepare_network_input

PARTS = ("training", "inference", "loader", "run", "tests")
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# Variant and precision, the most important first. "unfused" and "any algorithm" are ours without fused kernels, and without
# cudnn.deterministic, which training turns on.
TRAINING_VARIANTS = (
    ("muybridge", "bf16"),
    ("torchvision, channels_last_3d", "bf16"),
    ("torchvision, channels_last_3d", "fp16"),
    ("torchvision, channels_last_3d, compiled", "bf16"),
    ("torchvision, channels_last_3d, compiled", "fp16"),
    ("muybridge, any algorithm", "bf16"),
    ("muybridge, unfused", "bf16"),
    ("muybridge", "fp32"),
    ("muybridge, compiled", "bf16"),
    ("torchvision", "bf16"),
    ("torchvision", "fp16"),
    ("muybridge, unpadded", "bf16"),
    ("muybridge, plain conv3d", "bf16"),
)
INFERENCE_VARIANTS = (
    ("muybridge.optimize", "bf16"),
    ("torchvision, channels_last_3d", "bf16"),
    ("torchvision, channels_last_3d", "fp16"),
    ("torchvision", "bf16"),
    ("muybridge.optimize", "fp32"),
)


@dataclass
class Session:
    """Device, network and deadline of the measurements, and their results."""

    device: torch.device
    network: str
    clip: tuple[int, ...]
    deadline: float
    output: Path | None
    repeats: int
    result: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    not_measured: list[str] = field(default_factory=list)

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def measure(self, name: str, run: Callable[[], dict[str, Any]]) -> None:
        """Add a row, or a line to `not_measured` after the deadline, when out of memory, or when it fails; write the file."""
        if self.seconds_left <= 0:
            self.not_measured.append(f"{name}: no time left")
        else:
            try:
                self.rows.append({"what": name, **run()})
                print(json.dumps(self.rows[-1]), flush=True)
            except torch.OutOfMemoryError:
                self.not_measured.append(f"{name}: out of memory")
            except (RuntimeError, subprocess.SubprocessError) as error:  # the next row may work
                self.not_measured.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0]}")
        self.write()

    def write(self) -> None:
        if self.output:
            result = {**self.result, "rows": self.rows, "not_measured": self.not_measured}
            self.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--network", default="r2plus1d_18")
    parser.add_argument("--clip", type=int, nargs=4, default=(3, 16, 112, 112))
    parser.add_argument("--batches", type=int, nargs="+", default=(128, 32, 64, 8, 1))
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args(argv)
    deadline = time.monotonic() + 60 * args.minutes
    session = Session(torch.device(args.device), args.network, tuple(args.clip), deadline, args.output, args.repeats)
    session.result = describe(session)
    for name, run in list_rows(session, args.batches, args.only):
        session.measure(name, run)
    print(json.dumps({**session.result, "not_measured": session.not_measured}, indent=1))


def list_rows(
    session: Session, batches: list[int], only: str | None
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Names and functions of all rows of a part, or of all parts, in order of importance."""
    for batch in batches:
        if only in (None, "training") and batch > 1:
            for variant, precision in TRAINING_VARIANTS:
                if "compiled" not in variant or batch in batches[:2]:  # compiling takes minutes
                    name = f"training, {variant}, {precision}, batch {batch}"
                    yield name, partial(measure_training, session, variant, precision, batch)
        if only in (None, "inference"):
            for variant, precision in INFERENCE_VARIANTS:
                name = f"inference, {variant}, {precision}, batch {batch}"
                yield name, partial(measure_inference, session, variant, precision, batch)
    if only in (None, "loader"):
        yield "copies", partial(measure_copies, session, batches[0])
    if only in (None, "run"):
        yield "muybridge train", partial(measure_run, session, batches[0])
    if only in (None, "tests"):
        yield "make test-gpu", partial(run_tests, session)


def describe(session: Session) -> dict[str, Any]:
    """Describe the machine, its GEMM rate, and the agreement of bf16 with fp32."""
    net, clips = create_network_and_clips(session.network, (2, *session.clip), session.device)
    check = compare_bf16_to_fp32(net, clips)
    return {
        "machine": describe_machine(session.device),
        "cudnn": get_cudnn_version(),
        "fused_batch_norm": find_fusion_problem(session.device) or "yes",
        "network": session.network,
        "clip": session.clip,
        "bf16_gemm_gflops": measure_gemm_gflops(session.device, torch.bfloat16),
        "bf16_check": {
            "cosine": check.cosine,
            "warnings": check.list_warnings() + list_cudnn_warnings(get_cudnn_version()),
        },
    }


@contextmanager
def configured(variant: str) -> Iterator[None]:
    """Context manager: cuDNN as in training, and without fused batch norm where the variant says so."""
    before, fused = torch.backends.cudnn.deterministic, set(batch_norm.FUSED_DEVICE_TYPES)
    torch.backends.cudnn.deterministic = variant.startswith("muybridge") and "any algorithm" not in variant
    if "unfused" in variant:
        batch_norm.FUSED_DEVICE_TYPES.clear()
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before
        batch_norm.FUSED_DEVICE_TYPES.update(fused)


def measure_training(session: Session, variant: str, precision: str, batch: int) -> dict[str, Any]:
    net, clips = create_network_and_clips(session.network, (batch, *session.clip), session.device)
    network = build_variant(variant, net)
    if isinstance(network, UnavailablePeer):
        return {"absent": network.reason}
    inputs = clips.to(memory_format=torch.channels_last_3d) if "channels_last" in variant else clips
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9, nesterov=True)
    scaler = torch.amp.GradScaler(session.device.type, enabled=precision == "fp16")
    labels = torch.arange(batch, device=session.device)
    dtype = DTYPES[precision]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(session.device.type, dtype, enabled=dtype is not None):
            logits = network(inputs)
        torch.autograd.backward(scaler.scale(functional.cross_entropy(logits.float(), labels)))
        scaler.step(optimizer)
        scaler.update()

    with configured(variant):
        for _ in range(3):
            step()
        with torch._dynamo.config.patch(error_on_recompile=True):
            seconds = time_interleaved({variant: step}, session.repeats, session.device)[variant]
        peak = measure_peak_bytes(step, session.device)
    return format_timing(seconds, batch, compute_step_gflop(net, clips.shape), peak)


def measure_inference(session: Session, variant: str, precision: str, batch: int) -> dict[str, Any]:
    net, clips = create_network_and_clips(session.network, (batch, *session.clip), session.device)
    net.eval()
    is_ours = variant == "muybridge.optimize"
    network = optimize(net, precision=precision) if is_ours else build_variant(variant, net)
    if isinstance(network, UnavailablePeer):
        return {"absent": network.reason}
    inputs = clips.to(memory_format=torch.channels_last_3d) if "channels_last" in variant else clips
    dtype = None if is_ours else DTYPES[precision]

    def run() -> torch.Tensor:
        with torch.inference_mode(), torch.autocast(session.device.type, dtype, enabled=dtype is not None):
            return network(inputs)

    difference = compute_relative_difference(run().float().cpu(), NetworkScorer(net, session.device)(clips))
    seconds = time_interleaved({variant: run}, session.repeats, session.device)[variant]
    gflop, peak = compute_step_gflop(net, clips.shape) / 3, measure_peak_bytes(run, session.device)
    return {**format_timing(seconds, batch, gflop, peak), "difference": difference}


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


def measure_run(session: Session, batch: int) -> dict[str, Any]:
    """Clips a second of a whole run on generated and prepared videos, and the share of time that it waits for data."""
    _, frames, crop, _ = session.clip
    with tempfile.TemporaryDirectory() as folder:
        data, prepared, run = (Path(folder, name) for name in ("data", "prepared", "run"))
        counts = {"train_videos_per_class": 8, "validation_videos_per_class": 1, "test_videos_per_class": 1}
        write_motion_dataset(data, MotionSettings(num_frames=2 * frames, **counts))
        words = [sys.executable, "-m", "muybridge"]
        subprocess.run([*words, "prepare", data, "-o", prepared], check=True, timeout=session.seconds_left)
        settings = [f"--clips.length={frames}", f"--clips.crop={crop}", f"--training.batch_size={batch}"]
        settings += [
            "--training.epochs=1",
            f"--training.clips_per_epoch={40 * batch}",
        ]
        where = [f"--device={session.device}", "--data", prepared, "-o", run, "--model", session.network]
        subprocess.run([*words, "train", *where, *settings], check=True, timeout=session.seconds_left)
        steps = [line for line in read_json_lines(run / "log.jsonl") if line["kind"] == "train"]
    return {"steps": steps[len(steps) // 2 :]}


def run_tests(session: Session) -> dict[str, Any]:
    """The exit code and the last lines of `make test-gpu` with this interpreter."""
    command = ["make", "test-gpu", f"PYTHON={sys.executable}"]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=session.seconds_left, check=False)
    return {"exit_code": done.returncode, "output": done.stdout.splitlines()[-20:]}


def format_timing(seconds: list[float], batch: int, gflop: float, peak: int) -> dict[str, Any]:
    median = float(np.median(seconds))
    return {"seconds": median, "clips_per_second": batch / median, "gflops": gflop / median, "peak_bytes": peak}


if __name__ == "__main__":
    main()
