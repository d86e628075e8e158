"""Data parallel benchmark, one rank against two on the CPU (gloo): `python benchmarks/ranks.py [-o RESULT.json]`.

Measures seconds and processor seconds for the same global batches, one thread a rank. Wall time
scales only if two cores are idle; processor seconds show the additional work of the second rank regardless of other load.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from muybridge.distributed.process_group import join_process_group
from muybridge.distributed.rank import current_rank
from muybridge.files.run_folder import get_processor_name
from muybridge.loading.datasets import TrainingBatch
from muybridge.models.network import create_model
from muybridge.settings import ClipSettings, NetworkSettings, TrainSettings
from muybridge.training.data_parallel import wrap_for_training
from muybridge.training.job import TrainingJob
from muybridge.training.optimizer import build_optimizer
from muybridge.training.schedule import build_schedule
from muybridge.training.step import StepContext, make_example_clips, training_step
from muybridge.training_settings import TrainingSettings
from muybridge.video.views import View, collate_views

GLOBAL_BATCH, NUM_STEPS, REPEATS, WIDTH, LENGTH, CROP = 4, 3, 2, 16, 8, 56


def measure_rank() -> tuple[float, float]:
    """Seconds and processor seconds of the steps on this rank."""
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    with join_process_group(cpu) as ranks:
        training = TrainingSettings(batch_size=GLOBAL_BATCH // ranks.world_size, global_batch=GLOBAL_BATCH)
        clips, shape = ClipSettings(length=LENGTH, scale=(64, 64), crop=CROP), NetworkSettings(width=WIDTH)
        settings = TrainSettings(data="", clips=clips, training=training, network=shape)
        network = create_model("r2plus1d_18", num_classes=10, clip_length=LENGTH, width=WIDTH)
        plan = build_schedule(training, num_videos=100, world_size=ranks.world_size)
        job = TrainingJob(settings, Path(), None, None, network, plan, cpu, (), ranks)  # type: ignore[arg-type]
        model = wrap_for_training(network, ranks, sync_batch_norm=False, example_clips=make_example_clips(job, 2))
        context = StepContext(job, model, build_optimizer(network, training))
        batch = make_batch(training.batch_size)
        training_step(context, [batch], 0)
        ranks.all_gather_floats([0.0])
        start, processor_start = time.perf_counter(), time.process_time()
        for step in range(NUM_STEPS):
            training_step(context, [batch], step)
        return time.perf_counter() - start, time.process_time() - processor_start


def make_batch(num_clips: int) -> TrainingBatch:
    generator = torch.Generator().manual_seed(current_rank().rank)
    luma = torch.randint(0, 255, (LENGTH, CROP, CROP), dtype=torch.uint8, generator=generator).numpy()
    chroma = torch.randint(0, 255, (2, LENGTH, CROP // 2, CROP // 2), dtype=torch.uint8, generator=generator).numpy()
    view = View(luma, chroma, 0, 0, False, "bt601", False)
    labels = torch.zeros(num_clips, dtype=torch.int64)
    return TrainingBatch(collate_views([view] * num_clips), labels, ("a.mp4",) * num_clips, 0, ())


def run_ranks(world_size: int) -> tuple[float, float]:
    """Seconds of the slowest rank, and the sum of processor seconds of all ranks."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RANKS_WORKER": "1"}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={world_size}",
        __file__,
    ]
    lines = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()
    ranks = [json.loads(line) for line in lines if line.startswith("[")]
    assert len(ranks) == world_size
    return max(seconds for seconds, _ in ranks), sum(processor_seconds for _, processor_seconds in ranks)


def main() -> None:
    if os.environ.get("RANKS_WORKER"):
        sys.stdout.write(f"{json.dumps(measure_rank())}\n")  # in one write: two ranks share the pipe
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    rows: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    for _ in range(REPEATS):
        for world_size, repeats in rows.items():  # alternating
            repeats.append(run_ranks(world_size))
    medians = {
        size: [statistics.median(column) for column in zip(*repeats, strict=True)] for size, repeats in rows.items()
    }
    result = {
        "what": f"r2plus1d_18 of width {WIDTH}, {NUM_STEPS} steps of {GLOBAL_BATCH} clips {LENGTH}x{CROP}x{CROP}",
        "processor": get_processor_name(),
        "torch": torch.__version__,
        "load_average": os.getloadavg(),
        "seconds": {size: row[0] for size, row in medians.items()},
        "processor_seconds": {size: row[1] for size, row in medians.items()},
        "speed_up": medians[1][0] / medians[2][0],
        "work_ratio": medians[2][1] / medians[1][1],
        "limit": 2.0,
        "repeats": rows,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if args.output:
        args.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
