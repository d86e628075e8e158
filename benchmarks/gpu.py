"""GPU benchmark within a given time:

    python benchmarks/gpu.py --minutes 9 -o benchmarks/results/DATE-MACHINE.json
    python benchmarks/gpu.py --only inference --minutes 3 -o inference.json

Training and inference of R(2+1)D-18 on 16x112x112 beside torchvision (bf16 and fp16, compiled and not), R3D-18 and MC3-18, the
latency of one clip, copies to the GPU, a whole `muybridge train` from prepared data, and the tests that need CUDA. The most
important rows come first; the file is written after every row, and what does not fit into the time is listed as not measured.
torch, numpy, PyYAML and annotated-types are enough for most rows; others name the package that they lack. `--device cpu
--network r2plus1d_10 --others r3d_10 --clip 3 4 32 32 --batches 2` rehearses it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")  # as the command of muybridge sets it

import numpy as np
import torch
from torch.nn import functional

from muybridge.bench.measure import describe_machine, measure_gemm_gflops, measure_peak_bytes, time_interleaved
from muybridge.bench.model import compute_relative_difference
from muybridge.bench.peers import UnavailablePeer
from muybridge.bench.train import build_variant, compute_step_gflop, create_network_and_clips, make_step
from muybridge.files.run_folder import read_json_lines
from muybridge.inference.folded import InferenceNetwork, optimize
from muybridge.kernels import batch_norm
from muybridge.kernels.batch_norm import find_fusion_problem
from muybridge.kernels.graphs import NUM_EAGER_CALLS, GraphedNetwork
from muybridge.kernels.precision import (
    choose_inference_precision,
    exact_float32,
    get_cudnn_version,
    set_tf32,
)
from muybridge.records import Preprocessing
from muybridge.training.precision import compare_bf16_to_fp32, list_bf16_warnings
from muybridge.video.views import View, collate_views, prepare_network_input

PARTS = ("train", "inference", "loader", "run", "tests")
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# Variant and precision. "muybridge" is what a run does: fused kernels, CUDA graphs, cudnn.deterministic. The others are without
# one of them. The four peers are torchvision in channels_last_3d, in bf16 and fp16, compiled and not.
OURS, PEER = "muybridge", "torchvision, channels_last_3d"
FIRST_TRAINING = ((OURS, "bf16"), (PEER, "bf16"), (PEER, "fp16"))
COMPILED_TRAINING = ((f"{PEER}, compiled", "bf16"), (f"{PEER}, compiled", "fp16"))
OTHER_TRAINING = (
    *(
        (f"{OURS}, {what}", "bf16")
        for what in ("no graphs", "any algorithm", "unfused", "unpadded", "plain conv3d", "compiled")
    ),
    *((OURS, "fp32"), ("torchvision", "bf16"), ("torchvision", "fp16")),
)
FIRST_INFERENCE = (("muybridge.optimize", "bf16"), (PEER, "bf16"), (PEER, "fp16"))
OTHER_INFERENCE = (
    *(("muybridge.optimize, no graphs", "bf16"), ("muybridge.optimize", "fp32")),
    *(("torchvision", "bf16"), (f"{PEER}, compiled", "bf16")),
)
ROOT = Path(__file__).parents[1]
NUM_RUN_STEPS = 40
NUM_LATENCIES = 50
Row = tuple[str, Callable[[], dict[str, Any]]]


@dataclass
class Session:
    """Device, network and deadline of the measurements, and their results."""

    device: torch.device
    network: str
    clip: tuple[int, ...]
    deadline: float
    output: Path | None
    repeats: int
    others: tuple[str, ...] = ()
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
            except subprocess.TimeoutExpired:
                self.not_measured.append(f"{name}: no time left")
            except torch.OutOfMemoryError:
                self.not_measured.append(f"{name}: out of memory")
            except (RuntimeError, ImportError, subprocess.SubprocessError) as error:  # the next row may work
                self.not_measured.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0]}")
        self.write()

    def write(self) -> None:
        if self.output:
            result = self.result | {
                "ratios": compute_ratios(self.rows),
                "not_measured": self.not_measured,
                "rows": self.rows,
            }
            self.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def compute_ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """How many times as many clips a second muybridge has as each peer in the same part, network and batch."""
    speeds = {row["what"]: row["clips_per_second"] for row in rows if "clips_per_second" in row}
    ratios = {}
    for name, speed in speeds.items():
        part, network, variant, precision, batch = name.split(" | ")
        ours = "muybridge" if part == "training" else "muybridge.optimize"
        reference = speeds.get(" | ".join((part, network, ours, "bf16", batch)))
        if reference is not None and (variant, precision) != (ours, "bf16"):
            ratios[name] = reference / speed
    return ratios


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--network", default="r2plus1d_18")
    parser.add_argument("--others", nargs="*", default=("r3d_18", "mc3_18"))
    parser.add_argument("--clip", type=int, nargs=4, default=(3, 16, 112, 112))
    parser.add_argument("--batches", type=int, nargs="+", default=(128, 32, 64, 8, 1))
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args(argv)
    deadline = time.monotonic() + 60 * args.minutes
    session = Session(
        torch.device(args.device),
        args.network,
        tuple(args.clip),
        deadline,
        args.output,
        args.repeats,
        tuple(args.others),
    )
    set_tf32(True)  # as in training
    session.result = describe(session)
    for name, run in list_rows(session, args.batches, args.only):
        session.measure(name, run)
    print(json.dumps({**session.result, "ratios": compute_ratios(session.rows), "not_measured": session.not_measured}))


def list_rows(session: Session, batches: list[int], only: str | None) -> Iterator[Row]:
    """Names and functions of all rows of a part, or of all parts, in order of importance."""
    main_batches, name = batches[:2], session.network
    with_training, with_inference = only in (None, "train"), only in (None, "inference")
    if with_training:
        yield from list_timings(session, measure_training, name, FIRST_TRAINING, batches[:1])
    if with_inference:
        yield from list_timings(session, measure_inference, name, FIRST_INFERENCE, sorted({*main_batches, batches[-1]}))
        yield f"latency of one clip, {name}", partial(measure_latency, session)
    if with_training:
        yield from list_timings(session, measure_training, name, FIRST_TRAINING, batches[1:])
        yield from list_timings(session, measure_training, name, COMPILED_TRAINING, main_batches[:1])
    if only in (None, "run"):
        yield "muybridge train", partial(measure_run, session, batches[0])
    if with_training:
        for other in session.others:
            variants = (FIRST_TRAINING[0], COMPILED_TRAINING[0])
            yield from list_timings(session, measure_training, other, variants, main_batches[-1:])
        yield from list_timings(session, measure_training, name, COMPILED_TRAINING, main_batches[1:])
        yield from list_timings(session, measure_training, name, OTHER_TRAINING, main_batches)
    if with_inference:
        yield from list_timings(session, measure_inference, name, OTHER_INFERENCE, sorted({batches[-1], *main_batches}))
    if only in (None, "loader"):
        yield "copies", partial(measure_copies, session, batches[0])
    if only in (None, "tests"):
        yield "make test-gpu", partial(run_tests, session)


def list_timings(
    session: Session,
    measure: Callable[[Session, str, str, str, int], dict[str, Any]],
    network: str,
    variants: Sequence[tuple[str, str]],
    batches: Collection[int],
) -> Iterator[Row]:
    """Rows of these variants for each batch; a batch of one clip is no training."""
    part = measure.__name__.removeprefix("measure_")
    for batch in batches:
        for variant, precision in variants if part == "inference" or batch > 1 else ():
            name = " | ".join((part, network, variant, precision, f"batch {batch}"))
            yield name, partial(measure, session, network, variant, precision, batch)


def describe(session: Session) -> dict[str, Any]:
    """Describe the machine, its GEMM rate, and the agreement of bf16 with fp32."""
    net, clips = create_network_and_clips(session.network, (2, *session.clip), session.device)
    cosine = compare_bf16_to_fp32(net, clips)
    return {
        "machine": describe_machine(session.device),
        "cudnn": get_cudnn_version(),
        "fused_batch_norm": find_fusion_problem(session.device) or "yes",
        "network": session.network,
        "clip": session.clip,
        "bf16_gemm_gflops": measure_gemm_gflops(session.device, torch.bfloat16),
        "bf16_check": {"cosine": cosine, "warnings": list_bf16_warnings(cosine)},
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


def measure_training(session: Session, name: str, variant: str, precision: str, batch: int) -> dict[str, Any]:
    net, clips = create_network_and_clips(name, (batch, *session.clip), session.device)
    network = build_variant(variant, net)
    if isinstance(network, UnavailablePeer):
        return {"absent": network.reason}
    reports: list[str] = []
    model: Callable[[torch.Tensor], torch.Tensor] = network
    if variant.startswith("muybridge") and not {"compiled", "no graphs"} & set(variant.split(", ")):
        model = GraphedNetwork(network, reports.append, max_difference=0.05 if "any algorithm" in variant else 0.0)
    inputs = clips.to(memory_format=torch.channels_last_3d) if "channels_last" in variant else clips
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9, nesterov=True)
    scaler = torch.amp.GradScaler(session.device.type, enabled=precision == "fp16")
    labels = torch.arange(batch, device=session.device) % net.specification.num_classes
    dtype = DTYPES[precision]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(session.device.type, dtype, enabled=dtype is not None):
            logits = model(inputs)
        torch.autograd.backward(scaler.scale(functional.cross_entropy(logits.float(), labels)))
        scaler.step(optimizer)
        scaler.update()

    with configured(variant):
        for _ in range(NUM_EAGER_CALLS + 2):
            step()
        with torch._dynamo.config.patch(error_on_recompile=True):
            seconds = time_interleaved({variant: step}, session.repeats, session.device)[variant]
        optimizer.zero_grad(set_to_none=True)
        peak = measure_peak_bytes(step, session.device)
    if isinstance(model, GraphedNetwork):
        peak += model.num_bytes  # which are there all the time
    timing = format_timing(seconds, batch, compute_step_gflop(net, clips.shape), peak)
    return {**timing, "graphs": reports} if isinstance(model, GraphedNetwork) else timing


def measure_inference(session: Session, name: str, variant: str, precision: str, batch: int) -> dict[str, Any]:
    net, clips = create_network_and_clips(name, (batch, *session.clip), session.device)
    net.eval()
    is_ours = variant.startswith("muybridge.optimize")
    has_graphs = is_ours and "no graphs" not in variant
    network = optimize(net, precision=precision, cuda_graphs=has_graphs) if is_ours else build_variant(variant, net)
    if isinstance(network, UnavailablePeer):
        return {"absent": network.reason}
    inputs = clips.to(memory_format=torch.channels_last_3d) if "channels_last" in variant else clips
    dtype = None if is_ours else DTYPES[precision]
    run_network = network.score if isinstance(network, InferenceNetwork) else network

    def run() -> torch.Tensor:
        with torch.inference_mode(), torch.autocast(session.device.type, dtype, enabled=dtype is not None):
            return run_network(inputs)

    with torch.inference_mode(), exact_float32(session.device):
        expected = net(clips).cpu()
    difference = max(compute_relative_difference(run().float().cpu(), expected) for _ in range(NUM_EAGER_CALLS + 2))
    seconds = time_interleaved({variant: run}, session.repeats, session.device)[variant]
    gflop, peak = compute_step_gflop(net, clips.shape) / 3, measure_peak_bytes(run, session.device)
    return {**format_timing(seconds, batch, gflop, peak), "difference": difference}


def measure_latency(session: Session) -> dict[str, Any]:
    """Seconds by the clock from one clip on the GPU to its checked logits on the CPU, with CUDA graphs and without."""
    from muybridge.inference.scorer import NetworkScorer  # noqa: PLC0415 - needs a package that others do not

    net, clips = create_network_and_clips(session.network, (1, *session.clip), session.device)
    precision = choose_inference_precision("auto", session.device)
    medians = {}
    for name, has_graphs in (("with_graphs", True), ("without_graphs", False)):
        fast = optimize(net.eval(), precision=precision, cuda_graphs=has_graphs)
        score, seconds = NetworkScorer(fast, session.device, precision), []
        for _ in range(NUM_LATENCIES):
            start = time.perf_counter()
            score(clips)
            seconds.append(time.perf_counter() - start)
        medians[name] = float(np.median(seconds[NUM_EAGER_CALLS + 1 :]))
    return {"precision": precision, **medians}


def measure_copies(session: Session, batch_size: int) -> dict[str, Any]:
    """Seconds a step with planes already on the GPU, and with planes copied as in training."""
    from muybridge.loading.datasets import TrainingBatch  # noqa: PLC0415 - needs packages that others do not
    from muybridge.training.execution import prefetch_to_device  # noqa: PLC0415

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
    from muybridge.synthetic.dataset import write_motion_dataset  # noqa: PLC0415 - needs packages that others do not
    from muybridge.synthetic.motions import MotionSettings  # noqa: PLC0415

    _, frames, crop, _ = session.clip
    with tempfile.TemporaryDirectory() as folder:
        data, prepared, run = (Path(folder, name) for name in ("data", "prepared", "run"))
        counts = {"train_videos_per_class": 8, "validation_videos_per_class": 1, "test_videos_per_class": 1}
        write_motion_dataset(data, MotionSettings(num_frames=2 * frames, **counts))
        run_command(session, "prepare", data, "-o", prepared)
        settings = [f"--clips.length={frames}", f"--clips.crop={crop}", f"--training.batch_size={batch}"]
        settings += ["--training.epochs=1", "--training.validate_every_epochs=0", "--evaluation.clips=1"]
        settings += [f"--training.clips_per_epoch={NUM_RUN_STEPS * batch}", f"--device={session.device}"]
        said = run_command(session, "train", "--data", prepared, "-o", run, "--model", session.network, *settings)
        steps = [line for line in read_json_lines(run / "log.jsonl") if line["kind"] == "train"]
    later = steps[len(steps) // 2 :]
    medians = {key: float(np.median([step[key] for step in later])) for key in ("clips_per_second", "waiting_share")}
    return {"run": medians, "said": [line for line in said.splitlines() if "graphs" in line or "training in" in line]}


def run_command(session: Session, *arguments: object) -> str:
    """What a command of muybridge prints on standard error. Raises RuntimeError with its last line where it fails."""
    command = [sys.executable, "-m", "muybridge", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{os.environ.get('PYTHONPATH', '')}".rstrip(":")}
    done = subprocess.run(
        command, env=environment, timeout=session.seconds_left, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last_lines = " / ".join(done.stderr.strip().splitlines()[-3:])
        raise RuntimeError(f"{arguments[0]} ended with exit code {done.returncode}: {last_lines}")
    return done.stderr


def run_tests(session: Session) -> dict[str, Any]:
    """The exit code and the last lines of `make test-gpu` with this interpreter."""
    command = ["make", "test-gpu", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=session.seconds_left, check=False)
    return {"exit_code": done.returncode, "output": done.stdout.splitlines()[-20:]}


def format_timing(seconds: list[float], batch: int, gflop: float, peak: int) -> dict[str, Any]:
    median = float(np.median(seconds))
    return {"seconds": median, "clips_per_second": batch / median, "gflops": gflop / median, "peak_bytes": peak}


if __name__ == "__main__":
    main()
