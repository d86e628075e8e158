"""What the training loop costs besides learning: processor seconds a step of logging, metrics and turns, and a save's stall.

The step itself is replaced by a pause of 50 ms, which takes no processor time; what is left is the loop's. The network is
r2plus1d_18 of full width with SGD's momentum, so that saving is of real size. Run: python benchmarks/loop.py [-o RESULT.json]
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
from muybridge.settings import CheckpointSettings, ClipSettings, LoadingSettings, TrainingSettings, TrainSettings
from muybridge.synthetic.dataset import write_motion_dataset
from muybridge.synthetic.motions import MotionSettings
from muybridge.training import fit as loop
from muybridge.training.checkpoint import TrainState
from muybridge.training.checkpointer import AsyncCheckpointer
from muybridge.training.job import TrainingJob, prepare_job
from muybridge.training.optimizer import build_optimizer
from muybridge.training.step import StepResult

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


def job_of(folder: Path, name: str) -> TrainingJob:
    settings = TrainSettings(
        data=str(folder / "data"),
        output=str(folder / name),
        clips=ClipSettings(length=4, scale=(32, 32), crop=28),
        training=TrainingSettings(batch_size=4, epochs=1, clips_per_epoch=4 * NUM_STEPS, validate_every_epochs=0),
        loading=LoadingSettings(workers=0),
        checkpoints=CheckpointSettings(every_minutes=60),
    )
    return prepare_job(settings)


def overhead_seconds(job: TrainingJob) -> float:
    """Processor seconds a step outside of learning and reading."""
    batch = TrainingBatch(None, torch.zeros(4, dtype=torch.int64), ("a.mp4",) * 4, 0, ())
    marks: list[float] = []

    def batches(*_: Any, **__: Any) -> Iterator[TrainingBatch]:
        while True:
            yield batch

    def step(*_: Any) -> StepResult:
        marks.append(time.process_time())
        time.sleep(STEP_SECONDS)
        return StepResult(0.7, 2, 4, 0, ())

    loop.load_training_batches, loop.training_step = batches, step  # type: ignore[assignment]
    loop.is_validation_due = lambda *_: False
    loop.fit(job, Console(file=io.StringIO(), width=200))
    return statistics.median(after - before for before, after in pairwise(marks))


def save_seconds(job: TrainingJob) -> list[float]:
    """Processor seconds for which training stands still at a save, the disk not waited for."""
    optimizer = build_optimizer(job.network, job.settings.training)
    for parameter in job.network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    found = []
    with AsyncCheckpointer(job, optimizer) as keeper:
        for number in range(REPEATS):
            began = time.thread_time()
            keeper.save(TrainState(number + 1))
            found.append(time.thread_time() - began)
            keeper.wait()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_motion_dataset(folder / "data", DATA)
        stalls = save_seconds(job_of(folder, "save"))
        overheads = [overhead_seconds(job_of(folder, f"loop{number}")) for number in range(REPEATS)]
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
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
