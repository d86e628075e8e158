"""Overhead of the training loop: `python benchmarks/loop.py [-o RESULT.json]`.

Measures processor seconds a step besides the training step (logging, metrics), and how long a save blocks the loop. The step is
replaced by a sleep of 50 ms, which takes no processor time. The network is r2plus1d_18 of full width with SGD's momentum, for
checkpoints of realistic size.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from muybridge.files.run_folder import get_processor_name
from muybridge.loading.datasets import TrainingBatch
from muybridge.settings import CheckpointSettings, ClipSettings, LoadingSettings, TrainSettings
from muybridge.synthetic.dataset import write_motion_dataset
from muybridge.synthetic.motions import MotionSettings
from muybridge.training import fit as loop
from muybridge.training import step_batches
from muybridge.training.checkpoint import TrainState
from muybridge.training.checkpointer import AsyncCheckpointer
from muybridge.training.job import TrainingJob, prepare_job
from muybridge.training.optimizer import build_optimizer
from muybridge.training.step import StepResult
from muybridge.training_settings import TrainingSettings

STEP_SECONDS, NUM_STEPS, REPEATS = 0.05, 100, 3
DATA = MotionSettings(
    classes=2,
    train_videos_per_class=2,
    validation_videos_per_class=1,
    test_videos_per_class=1,
    num_frames=13,
    height=32,
    width=32,
)


def make_job(folder: Path, name: str) -> TrainingJob:
    settings = TrainSettings(
        data=str(folder / "data"),
        output=str(folder / name),
        clips=ClipSettings(length=4, scale=(32, 32), crop=28),
        training=TrainingSettings(batch_size=4, epochs=1, clips_per_epoch=4 * NUM_STEPS, validate_every_epochs=0),
        loading=LoadingSettings(workers=0),
        checkpoints=CheckpointSettings(every_minutes=60),
    )
    return prepare_job(settings)


def measure_overhead(job: TrainingJob) -> float:
    """Processor seconds a step outside of the training step and data loading."""
    batch = TrainingBatch(None, torch.zeros(4, dtype=torch.int64), ("a.mp4",) * 4, 0, ())
    marks: list[float] = []

    def batches(*_: Any, **__: Any) -> Iterator[TrainingBatch]:
        while True:
            yield batch

    def step(*_: Any) -> StepResult:
        marks.append(time.process_time())
        time.sleep(STEP_SECONDS)
        return StepResult(0.7, 2, 4, 0, ())

    step_batches.load_training_batches, loop.training_step = batches, step  # type: ignore[assignment]
    loop.is_validation_due = lambda *_: False
    loop.fit(job, Console(file=io.StringIO(), width=200))
    return statistics.median(after - before for before, after in pairwise(marks))


def measure_saves(job: TrainingJob) -> list[float]:
    """Processor seconds for which each save blocks the training thread."""
    optimizer = build_optimizer(job.network, job.settings.training)
    for parameter in job.network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    seconds = []
    with AsyncCheckpointer(job, optimizer) as checkpointer:
        for step in range(1, REPEATS + 1):
            start = time.thread_time()
            checkpointer.save(TrainState(step))
            seconds.append(time.thread_time() - start)
            checkpointer.wait()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_motion_dataset(folder / "data", DATA)
        stalls = measure_saves(make_job(folder, "save"))
        overheads = [measure_overhead(make_job(folder, f"loop{index}")) for index in range(REPEATS)]
    overhead, stall = statistics.median(overheads), statistics.median(stalls)
    result = {
        "what": "training loop besides learning, r2plus1d_18: processor seconds, medians",
        "processor": get_processor_name(),
        "torch": torch.__version__,
        "overhead_ms_a_step": 1000 * overhead,
        "share_of_a_50_ms_step": overhead / STEP_SECONDS,
        "save_ms": 1000 * stall,
        "save_share_every_10_minutes": stall / 600,
        "repeats": {"overhead_seconds": overheads, "save_seconds": stalls},
    }
    text = json.dumps(result, indent=2)
    print(text)
    if args.output:
        args.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
