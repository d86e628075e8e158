"""A training run that is killed, starved or lied to: nothing that was saved is lost, and what is resumed is the same run."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import rank_work
from muybridge.journal import read_json_lines
from muybridge.training.checkpoint import Progress, checkpoints, newest_snapshot, read_checkpoint, save_checkpoint
from ranks import CONTEXT, run_ranks
from runs import tiny_run

EVERY_STEP = {"checkpoints.every_minutes": 1e-9}


def same_run(ours: Path, theirs: Path) -> None:
    """Losses, weights, optimiser state and scores, bit for bit."""
    found, expected = (read_checkpoint(checkpoints(run / "checkpoints")[-1]) for run in (ours, theirs))
    assert found.progress == expected.progress
    assert set(found.weights) == set(expected.weights)
    for name, tensor in expected.weights.items():
        assert torch.equal(found.weights[name], tensor), name
    for number, moments in expected.moments["state"].items():
        for name, tensor in moments.items():
            assert torch.equal(found.moments["state"][number][name], tensor), (number, name)
    logs = [
        [
            (line["kind"], line["step"], line.get("loss"), line.get("video_top1"))
            for line in read_json_lines(run / "log.jsonl")
        ]
        for run in (ours, theirs)
    ]
    assert logs[0] == logs[1]
    for name in ("last.safetensors", "best.safetensors"):
        for key, tensor in load_file(theirs / name).items():
            assert torch.equal(load_file(ours / name)[key], tensor)
    assert (ours / "scores" / "validation.parquet").read_bytes() == (
        theirs / "scores" / "validation.parquet"
    ).read_bytes()


def killed_until_done(settings: Any, num_kills: int, seed: int) -> int:
    """Runs and resumes, with SIGKILL at random moments; how many of them hit a run that was going."""
    draw, num_hits = random.Random(seed), 0
    CONTEXT.set_forkserver_preload(["muybridge.training.fit", "muybridge.data.loader"])
    for _ in range(num_kills):
        process = CONTEXT.Process(target=rank_work.train, args=(settings, True))
        process.start()
        process.join(draw.uniform(0.1, 3.0))
        num_hits += process.is_alive()
        process.kill()
        process.join()
    ((steps, _, _),) = run_ranks(1, rank_work.train, settings, True)
    assert steps == 12
    return num_hits


@pytest.mark.parametrize("num_kills", [2, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_a_run_killed_at_random_moments_is_the_uninterrupted_one(
    num_kills: int, motions: Path, finished_run: Path, tmp_path: Path
) -> None:
    """Saving after every step, so that many moments lie within a save. A finished run starts anew until all kills are made."""
    num_runs = max(1, num_kills // 10)
    num_hits = 0
    for number in range(num_runs):
        settings = tiny_run(motions, tmp_path / str(number), EVERY_STEP)
        num_hits += killed_until_done(settings, num_kills // num_runs, number)
        same_run(tmp_path / str(number), finished_run)
    assert num_hits > 0


@pytest.mark.parametrize("stride", [9, pytest.param(1, marks=pytest.mark.long)])
def test_a_process_killed_anywhere_in_a_save_leaves_a_whole_checkpoint(stride: int, tmp_path: Path) -> None:
    """Kill at the first touch of the disk, the second, ... until the save gets through."""
    seen, point = set(), 0  # of the touches every `stride`-th
    while True:
        folder = tmp_path / str(point)
        network = nn.Linear(2, 2)
        with torch.no_grad():
            network.weight.fill_(4.0)
        save_checkpoint(folder, network, torch.optim.AdamW(network.parameters()), Progress(4), keep=1)
        process = CONTEXT.Process(target=rank_work.checkpoint_and_die, args=(folder, point))
        process.start()
        process.join()
        taken, told = newest_snapshot(folder)
        assert taken is not None
        assert told == []
        assert torch.equal(taken.weights["weight"], torch.full((2, 2), float(taken.progress.step)))
        seen.add(taken.progress.step)
        if process.exitcode == 0:
            break
        assert process.exitcode == -9
        point += stride
    assert seen == {4, 5}
    assert point > 8


def test_a_disk_that_fills_up_ends_the_run_and_keeps_the_last_checkpoint(motions: Path, tmp_path: Path) -> None:
    settings = tiny_run(motions, tmp_path / "run", EVERY_STEP)
    ((kind, _),) = run_ranks(1, rank_work.train_with_small_files, settings, 30_000)
    assert kind == "OSError"
    taken, told = newest_snapshot(tmp_path / "run" / "checkpoints")
    assert taken is not None
    assert taken.progress.step in (2, 3)  # the save of step 3 may still have been under way
    assert told == []
    ((steps, _, _),) = run_ranks(1, rank_work.train, settings, True)
    assert steps == 12


def test_nothing_depends_on_the_wall_clock(motions: Path, finished_run: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    ((steps, _, _),) = run_ranks(1, rank_work.train_while_the_clock_goes_back, tiny_run(motions, tmp_path / "run"))
    assert steps == 12
    assert time.monotonic() - began < 200
    same_run(tmp_path / "run", finished_run)


@pytest.mark.parametrize("non_finite", ["stop", "skip"])
def test_a_loss_that_is_not_finite(non_finite: str, motions: Path, tmp_path: Path) -> None:
    settings = tiny_run(motions, tmp_path / "run", {"training.non_finite": non_finite, "training.epochs": 1})
    (found,) = run_ranks(1, rank_work.train_and_misbehave, settings, 0, 2, "is not finite")
    if non_finite == "stop":
        assert found[0] == "FloatingPointError"
        return
    steps, _, _ = found
    assert steps == 6
    taken = read_checkpoint(checkpoints(tmp_path / "run" / "checkpoints")[-1])
    assert taken.progress.num_skipped_steps == 1
    assert all(bool(tensor.isfinite().all()) for tensor in taken.weights.values())
