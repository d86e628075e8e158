"""A training run that is killed, starved or lied to: nothing that was saved is lost, and what is resumed is the same run."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import rank_work
from muybridge.files.run_folder import read_json_lines
from muybridge.settings import TrainSettings
from muybridge.training.checkpoint import (
    TrainState,
    find_last_step,
    list_checkpoints,
    read_checkpoint,
    read_newest_snapshot,
    save_checkpoint,
)
from muybridge.training.checks import check_supported
from ranks import CONTEXT, SECONDS, preload, run_ranks, started_ranks
from runs import tiny_run

EVERY_STEP = {"checkpoints.every_minutes": 1e-9}


def same_run(ours: Path, theirs: Path) -> None:
    """Losses, weights, optimiser state and scores, bit for bit."""
    found, expected = (read_checkpoint(list_checkpoints(run / "checkpoints")[-1]) for run in (ours, theirs))
    assert found.train_state == expected.train_state
    assert set(found.weights) == set(expected.weights)
    for name, tensor in expected.weights.items():
        assert torch.equal(found.weights[name], tensor), name
    for number, moments in expected.optimizer_state["state"].items():
        for name, tensor in moments.items():
            assert torch.equal(found.optimizer_state["state"][number][name], tensor), (number, name)
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


def num_logged(run: Path) -> int:
    """The last step in the log of a run."""
    return max((line["step"] for line in read_json_lines(run / "log.jsonl")), default=0)


def killed_until_done(settings: TrainSettings, draw: random.Random, num_kills: int) -> int:
    """A run that meets SIGKILL at random moments, at most so many, until it is done; how many it met.

    A kill waits for the run to get some steps further than it was, none included, and then a random while: so it falls into
    the run on a machine of any speed.
    """
    run, num_met = Path(settings.output), 0
    while num_met < num_kills:
        wanted = find_last_step(run / "checkpoints") + draw.choice((0, 1, 1, 2))
        process = CONTEXT.Process(target=rank_work.train, args=(settings, True))
        process.start()
        while process.is_alive() and num_logged(run) < wanted:
            time.sleep(0.002)
        process.join(draw.uniform(0.0, 0.1 if wanted else 0.5))
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            assert process.exitcode == 0
            return num_met
        num_met += 1
    ((steps, _, _),) = run_ranks(1, rank_work.train, settings, True)
    assert steps == 12
    return num_met


def killed_runs_are_the_same(whole: Path, data: Path, output: Path, changes: dict[str, Any], num_kills: int) -> None:
    """As many runs as it takes until they have met so many kills; each of them is bit for bit the one in `whole`."""
    draw, num_runs = random.Random(num_kills), 0
    preload()
    while num_kills > 0:
        settings = tiny_run(data, output / str(num_runs), {**EVERY_STEP, **changes})
        num_kills -= killed_until_done(settings, draw, num_kills)
        same_run(Path(settings.output), whole)
        num_runs += 1


@pytest.mark.parametrize("num_kills", [2, pytest.param(160, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_a_run_killed_at_random_moments_is_the_uninterrupted_one(
    num_kills: int, motions: Path, finished_run: Path, tmp_path: Path
) -> None:
    """Saving after every step, so that many moments lie within a save."""
    killed_runs_are_the_same(finished_run, motions, tmp_path, {}, num_kills)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "changes",
    [{"loading.workers": 2}, {"modality": "flow", "loading.workers": 1}, {"training.precision": "bf16"}],
    ids=["workers", "flow", "bf16"],
)
def test_so_is_one_with_workers_with_flow_and_with_bf16(changes: dict[str, Any], motions: Path, tmp_path: Path) -> None:
    if changes.get("modality") == "flow":
        pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'muybridge[flow]'")
    whole = tiny_run(motions, tmp_path / "whole", changes)
    try:
        check_supported(whole, torch.device("cpu"))
    except ValueError as error:
        pytest.skip(str(error))
    run_ranks(1, rank_work.train, whole)
    killed_runs_are_the_same(tmp_path / "whole", motions, tmp_path / "killed", changes, 15)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_so_are_two_ranks_of_which_any_is_killed(motions: Path, tmp_path: Path) -> None:
    """The other ends by itself, since its neighbour is gone."""
    changes = {"training.batch_size": 2, **EVERY_STEP}
    run_ranks(2, rank_work.train, tiny_run(motions, tmp_path / "whole", changes))
    settings, draw, num_met = tiny_run(motions, tmp_path / "run", changes), random.Random(3), 0
    for wanted in (1, 3, 4, 6, 9):
        with started_ranks(2, rank_work.train, settings, True) as ranks:
            while all(rank.is_alive() for rank in ranks) and num_logged(tmp_path / "run") < wanted:
                time.sleep(0.002)
            killed = draw.choice(ranks)
            killed.kill()
            for rank in ranks:
                rank.join(SECONDS)
                assert rank.exitcode is not None, "a rank hangs"
            num_met += killed.exitcode == -signal.SIGKILL
    assert num_met > 0
    assert [steps for steps, _, _ in run_ranks(2, rank_work.train, settings, True)] == [12, 12]
    same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("stride", [25, pytest.param(1, marks=pytest.mark.long)])
def test_a_process_killed_anywhere_in_a_save_leaves_a_whole_checkpoint(stride: int, tmp_path: Path) -> None:
    """Kill at the first touch of the disk, the second, ... until the save gets through."""
    seen, point = set(), 0  # of the touches every `stride`-th
    while True:
        folder = tmp_path / str(point)
        network = nn.Linear(2, 2)
        with torch.no_grad():
            network.weight.fill_(4.0)
        save_checkpoint(folder, network, torch.optim.AdamW(network.parameters()), TrainState(4), keep=1)
        process = CONTEXT.Process(target=rank_work.checkpoint_and_die, args=(folder, point))
        process.start()
        process.join()
        snapshot, problems = read_newest_snapshot(folder)
        assert snapshot is not None
        assert problems == []
        assert torch.equal(snapshot.weights["weight"], torch.full((2, 2), float(snapshot.train_state.step)))
        seen.add(snapshot.train_state.step)
        if process.exitcode == 0:
            break
        assert process.exitcode == -9
        point += stride
    assert seen == {4, 5}
    assert point > 8


@pytest.mark.long
def test_a_disk_that_fills_up_ends_the_run_and_keeps_the_last_checkpoint(motions: Path, tmp_path: Path) -> None:
    settings = tiny_run(motions, tmp_path / "run", EVERY_STEP)
    ((kind, _),) = run_ranks(1, rank_work.train_with_small_files, settings, 30_000)
    assert kind == "OSError"
    snapshot, problems = read_newest_snapshot(tmp_path / "run" / "checkpoints")
    assert snapshot is not None
    assert snapshot.train_state.step in (2, 3)  # the save of step 3 may still have been under way
    assert problems == []
    ((steps, _, _),) = run_ranks(1, rank_work.train, settings, True)
    assert steps == 12


@pytest.mark.long
def test_a_killed_worker_changes_nothing(motions: Path, tmp_path: Path) -> None:
    """More steps than workers have ready: what the dead one would have read is missed."""
    changes = {"loading.workers": 2, "loading.prefetch": 1, "training.epochs": 3}
    run_ranks(1, rank_work.train, tiny_run(motions, tmp_path / "whole", {**changes, "loading.workers": 0}))
    settings = tiny_run(motions, tmp_path / "run", changes)
    ((steps, _, output),) = run_ranks(1, rank_work.train_while_a_worker_is_killed, settings, 3)
    assert steps == 18
    assert output.count("a data worker was killed") == output.count("restarting the workers") == 1
    same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_workers_end_when_their_run_is_killed(motions: Path, tmp_path: Path) -> None:
    settings = tiny_run(motions, tmp_path / "run", {"loading.workers": 2})
    assert run_ranks(1, rank_work.train_and_leave_workers, settings, tmp_path / "workers") == [("died", "")]
    workers = (tmp_path / "workers").read_text().split()
    assert len(workers) == 2
    while any(Path("/proc", worker).exists() for worker in workers):  # the time limit of the tests ends a failure
        time.sleep(0.01)


@pytest.mark.long
def test_nothing_depends_on_the_wall_clock(motions: Path, finished_run: Path, tmp_path: Path) -> None:
    ((steps, _, _),) = run_ranks(1, rank_work.train_while_the_clock_goes_back, tiny_run(motions, tmp_path / "run"))
    assert steps == 12
    same_run(tmp_path / "run", finished_run)


@pytest.mark.parametrize("non_finite", ["stop", "skip"])
def test_a_loss_that_is_not_finite(non_finite: str, motions: Path, tmp_path: Path) -> None:
    settings = tiny_run(motions, tmp_path / "run", {"training.non_finite": non_finite, "training.epochs": 1})
    (found,) = run_ranks(1, rank_work.train_with_fault, settings, 0, 2, "is not finite")
    if non_finite == "stop":
        assert found[0] == "FloatingPointError"
        return
    steps, _, _ = found
    assert steps == 6
    snapshot = read_checkpoint(list_checkpoints(tmp_path / "run" / "checkpoints")[-1])
    assert snapshot.train_state.num_skipped_steps == 1
    assert all(bool(tensor.isfinite().all()) for tensor in snapshot.weights.values())
