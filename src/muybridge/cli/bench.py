"""`muybridge bench`: the speed of this machine at each part of the work, beside other libraries."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Interval

from muybridge.bounds import BatchSize, ClipLength, FrameSize, InputChannels, NumWorkers
from muybridge.cli.output import print_json
from muybridge.files.atomic import check_output_file
from muybridge.terminal import print_line, print_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from muybridge.bench.results import BenchmarkResult


Repeats = Annotated[int, Interval(ge=1, le=100_000)]


@dataclass(frozen=True)
class WorkloadArguments:
    """workload"""

    clip: tuple[InputChannels, ClipLength, FrameSize, FrameSize] = (3, 16, 112, 112)
    """Channels, frames, height and width."""
    batch: BatchSize | None = None
    """Clips at once (default: 1, and 2 for training)."""
    repeats: Repeats = 5
    """Repetitions, of which the median is reported."""
    threads: Annotated[int, Interval(ge=1, le=4096)] = 1
    """Processor threads."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of a training step."""
    compile: bool = False
    """Also measure torch.compile; takes minutes more."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def model(
    networks: list[str] | None = None, *, workload: WorkloadArguments, json: bool = False, output: str | None = None
) -> int:
    """Measures inference beside torchvision, ONNX Runtime and OpenVINO, those that are installed.

    Args:
        networks: Networks of the family (default: r2plus1d_18).
        json: Print JSON.
        output: Also write JSON to this file.

    Examples:
        muybridge bench model
        muybridge bench model r3d_18 --clip 3 16 112 112 --threads 1 --compile
    """
    from muybridge.bench.model import measure_model

    def measure(name: str, device: torch.device) -> BenchmarkResult:
        shape = (workload.batch or 1, *workload.clip)
        return measure_model(name, shape, device=device, repeats=workload.repeats, compiled=workload.compile)

    return _measure_networks(networks, measure, workload, json=json, output=output)


def train(
    networks: list[str] | None = None, *, workload: WorkloadArguments, json: bool = False, output: str | None = None
) -> int:
    """Measures a training step beside torchvision, where it is installed.

    Args:
        networks: Networks of the family (default: r2plus1d_18).
        json: Print JSON.
        output: Also write JSON to this file.

    Examples:
        muybridge bench train r2plus1d_18 --batch 4 --json
    """
    from muybridge.bench.train import measure_training

    def measure(name: str, device: torch.device) -> BenchmarkResult:
        shape = (workload.batch or 2, *workload.clip)
        return measure_training(
            name,
            shape,
            device=device,
            repeats=workload.repeats,
            compiled=workload.compile,
            precision=workload.precision,
        )

    return _measure_networks(networks, measure, workload, json=json, output=output)


def _measure_networks(
    networks: list[str] | None,
    measure: Callable[[str, torch.device], BenchmarkResult],
    workload: WorkloadArguments,
    *,
    json: bool,
    output: str | None,
) -> int:
    if output:
        check_output_file(Path(output), (".json",))
    import torch

    from muybridge.bench.results import print_results
    from muybridge.inference.scorer import resolve_device

    device = resolve_device(workload.device)
    torch.set_num_threads(workload.threads)
    results = [measure(name, device) for name in networks or ["r2plus1d_18"]]
    print_results(results, as_json=json, output=output)
    return 0


def decode(videos: list[str], *, clips: BatchSize = 100, rounds: Repeats = 5, json: bool = False) -> int:
    """Measures random 16-frame clips a processor second, raw and prepared, beside other libraries.

    Args:
        videos: Video files of at least 16 frames.
        clips: Clips in a round.
        rounds: Rounds, of which the median is reported.
        json: Print JSON.

    Examples:
        muybridge bench decode holiday.mp4
    """
    from muybridge.bench.decode import make_benchmark_videos, measure_decoding

    paths = [Path(video) for video in videos]
    with tempfile.TemporaryDirectory() as folder:
        prepared = make_benchmark_videos(paths, Path(folder))
        measured = measure_decoding(paths, prepared, num_clips=clips, num_rounds=rounds)
    if json:
        print_json(measured)
        return 0
    for row in sorted(measured["clips_per_processor_second"], key=lambda row: -row["clips_per_second"]):
        print_line(f"{row['clips_per_second']:8.1f} clips/s  {row['name']:<14}{row['material']:<20}to {row['reaches']}")
    for name, ratio in measured["ratios"].items():
        print_line(f"{ratio:8.2f} x       {name}")
    print_lines(measured["absent"])
    return 0


def loader(
    *,
    data: str,
    workers: NumWorkers | None = None,
    clips_per_second: Annotated[float, Interval(gt=0, le=1_000_000_000)] = 1050.0,
    seconds: Annotated[float, Interval(gt=0, le=1_000_000)] = 10.0,
    device: str = "cpu",
    json: bool = False,
) -> int:
    """Measures training clips a second from a data set, and whether training would wait for them.

    Args:
        data: A data set, as for train; clips of its training videos are drawn.
        workers: Worker processes (default: one for each core).
        clips_per_second: What the network can train on.
        seconds: Length of each measurement.
        device: Where clips are converted: cpu, cuda or cuda:N.
        json: Print JSON.

    Examples:
        muybridge bench loader --data prepared --workers 8 --clips-per-second 300
    """
    from muybridge.bench.loader import format_verdict, measure_loading, rates_to_json
    from muybridge.distributed.rank import resolve_num_workers
    from muybridge.loading.open_data import open_data
    from muybridge.records import Preprocessing

    manifest = open_data(data)
    rates = measure_loading(
        manifest.select_split("train"),
        Preprocessing(),
        num_workers=resolve_num_workers(workers),
        seconds=seconds,
        device=device,
    )
    verdict = format_verdict(manifest.root, rates, clips_per_second, resolve_num_workers(None))
    if json:
        print_json(rates_to_json(rates, verdict))
    else:
        print_line(f"{rates.workers} workers: {rates.planes:.0f} clips/s as planes, {rates.converted:.0f} converted")
        print_lines(verdict.splitlines())
    return 0


VERBS = {"model": model, "train": train, "decode": decode, "loader": loader}
