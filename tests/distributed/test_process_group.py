"""Ranks on the CPU: what several learn is what one would, and a rank that fails is named and never waited for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rank_work
from muybridge.files.run_folder import read_json_lines
from muybridge.training.checkpoint import find_last_step, list_checkpoints, read_checkpoint
from ranks import run_ranks
from runs import LATER_RECIPE, tiny_run

NUM_STEPS = 2


def steps_of(world_size: int, data: Path, output: Path, changes: dict[str, Any], *, freeze: bool) -> list[Any]:
    settings = tiny_run(data, output / str(world_size), changes)
    found = run_ranks(world_size, rank_work.run_first_steps, settings, NUM_STEPS, freeze)
    assert all(isinstance(rank, dict) for rank in found), found
    return found


def close(ours: dict[str, Any], theirs: dict[str, Any], tolerance: float) -> None:
    for step in range(NUM_STEPS):
        assert ours["losses"][step] == pytest.approx(theirs["losses"][step], rel=1e-5)
        assert ours["counts"][step] == theirs["counts"][step]
        for name, gradient in theirs["gradients"][step].items():
            scale = np.abs(gradient).max() + 1e-6
            assert np.abs(ours["gradients"][step][name] - gradient).max() <= tolerance * scale, name


@pytest.mark.parametrize(
    ("freeze", "synchronise", "batch_size"),
    [
        pytest.param(True, False, 2, marks=pytest.mark.long),  # batch norm at rest, in several passes
        (False, True, 4),  # synchronised, in one
    ],
)
def test_two_ranks_learn_what_one_would_though_a_clip_cannot_be_read(
    motions: Path, tmp_path: Path, freeze: bool, synchronise: bool, batch_size: int
) -> None:
    data = tmp_path / "data"
    for path in motions.rglob("*.mp4"):
        target = data / path.relative_to(motions)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"torn" if path.stem.endswith("3") and "train" in path.parts else path.read_bytes())
    changes = {
        "training.global_batch": 8,
        "training.batch_size": batch_size,
        "training.synchronise_norm": synchronise,
        "loading.max_failed_share": 1.0,
    }
    (two, other) = steps_of(2, data, tmp_path, changes, freeze=freeze)
    (one,) = steps_of(1, data, tmp_path, {**changes, "training.batch_size": 2 * batch_size}, freeze=freeze)
    assert any(failed for _, _, failed in one["counts"])
    assert sorted(two["videos"][0]) == sorted(one["videos"][0])
    close(two, one, 1e-3)
    assert two["losses"] == other["losses"]
    for step in range(NUM_STEPS):
        for name, gradient in two["gradients"][step].items():
            assert np.array_equal(gradient, other["gradients"][step][name])
    if synchronise:
        for name, buffer in one["buffers"].items():
            np.testing.assert_allclose(two["buffers"][name], buffer, rtol=1e-4, atol=1e-6)


def test_every_rank_hears_the_same() -> None:
    for table, names, first in run_ranks(3, rank_work.run_collectives, 7):
        assert table == [[7.0, 0.0], [7.0, 1.0], [7.0, 2.0]]
        assert names == ["rank 0", "rank 1", "rank 2"]
        assert first == 0


def test_weights_are_fetched_by_one_rank(tmp_path: Path) -> None:
    assert run_ranks(3, rank_work.download_slowly, tmp_path) == ["rank 0 "] * 3


def test_gradients_of_several_passes_add_up() -> None:
    clips = torch.randn(4, 3, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    (alone,) = run_ranks(1, rank_work.accumulate_two_passes, clips)
    for rank in run_ranks(2, rank_work.accumulate_two_passes, clips):
        for ours, theirs in zip(rank, alone, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_a_run_over_two_ranks_leaves_one_run_behind_and_goes_on_over_one(motions: Path, tmp_path: Path) -> None:
    """4 clips a step over 2 ranks with synchronised norm; stopped in step 5, it goes on alone with the same batches."""
    changes = {"training.batch_size": 2, "training.synchronise_norm": True, "training.learning_rate": 0.001}
    whole = run_ranks(2, rank_work.train, tiny_run(motions, tmp_path / "whole", changes))
    assert [steps for steps, _, _ in whole] == [12, 12]
    assert whole[0][1] == whole[1][1]  # both know the best accuracy
    assert whole[1][2] == ""  # the second prints nothing

    settings = tiny_run(motions, tmp_path / "run", changes)
    stopped = run_ranks(2, rank_work.train_with_fault, settings, 1, 5, "is asked to stop")
    assert [kind for kind, _ in stopped] == ["StopRequested"] * 2
    assert find_last_step(tmp_path / "run" / "checkpoints") == 5
    ((steps, _, output),) = run_ranks(1, rank_work.train, settings, True)
    assert steps == 12
    assert "resuming at step 5 of 12" in output

    def losses(run: str) -> list[float]:
        return [line["loss"] for line in read_json_lines(tmp_path / run / "log.jsonl") if line["kind"] == "train"]

    assert len(losses("run")) == 12
    assert losses("run")[:5] == losses("whole")[:5]
    assert losses("run")[5] == pytest.approx(losses("whole")[5], rel=0.1)  # two passes of two clips, norms apart


@pytest.mark.long
def test_a_run_goes_on_over_more_ranks_with_the_same_batches(motions: Path, tmp_path: Path) -> None:
    """Batch norm over all clips of a step makes three ranks learn what one would."""
    changes = {"training.synchronise_norm": True, "training.learning_rate": 0.001}
    run_ranks(1, rank_work.train, tiny_run(motions, tmp_path / "whole", changes))
    settings = tiny_run(motions, tmp_path / "run", changes)
    run_ranks(1, rank_work.train_with_fault, settings, 0, 7, "is asked to stop")
    assert [steps for steps, _, _ in run_ranks(3, rank_work.train, settings, True)] == [12] * 3
    ours, theirs = (
        [line["loss"] for line in read_json_lines(tmp_path / run / "log.jsonl") if line["kind"] == "train"]
        for run in ("run", "whole")
    )
    assert ours[:7] == theirs[:7]
    assert ours[7:] == pytest.approx(theirs[7:], rel=1e-3)


@pytest.mark.long
def test_a_run_over_two_ranks_resumes_bit_by_bit(motions: Path, tmp_path: Path) -> None:
    changes = {**LATER_RECIPE, "training.batch_size": 2, "training.schedule": "cosine"}
    run_ranks(2, rank_work.train, tiny_run(motions, tmp_path / "whole", changes))
    settings = tiny_run(motions, tmp_path / "run", changes)
    run_ranks(2, rank_work.train_with_fault, settings, 0, 4, "is asked to stop")
    run_ranks(2, rank_work.train, settings, True)
    ours, theirs = (read_checkpoint(list_checkpoints(tmp_path / run / "checkpoints")[-1]) for run in ("run", "whole"))
    assert ours.train_state == theirs.train_state
    assert theirs.average.keys() == theirs.weights.keys()
    for name, tensor in theirs.weights.items():
        assert torch.equal(ours.weights[name], tensor), name
        assert torch.equal(ours.average[name], theirs.average[name]), name


@pytest.mark.parametrize("how", ["dies", "fails"])
def test_a_rank_that_ends_ends_the_others_by_name(motions: Path, tmp_path: Path, how: str) -> None:
    settings = tiny_run(motions, tmp_path / "run", {"training.batch_size": 2})
    first, second = run_ranks(2, rank_work.train_with_fault, settings, 1, 3, how)  # ends: nobody waits for anybody
    assert second[0] == ("died" if how == "dies" else "MemoryError")
    assert first[0] == "PhaseError"
    assert first[1].startswith("training step 3: ")
    assert ".mp4" in first[1]


def test_a_rank_that_hangs_is_ended_with_a_sentence(motions: Path, tmp_path: Path) -> None:
    settings = tiny_run(motions, tmp_path / "run", {"training.batch_size": 2})
    first, second = run_ranks(2, rank_work.train_with_fault, settings, 1, 2, "hangs", errors=tmp_path / "stderr")
    assert "died" in (first[0], second[0])
    stderr = (tmp_path / "stderr").read_text()
    assert (
        "of 2: training step 2 has taken longer than 0.0166667 minutes (timeouts.step_minutes); the videos are "
        in stderr
    )
    assert ".mp4" in stderr


def test_a_loss_that_is_not_finite_on_one_rank_stops_all_with_its_videos(motions: Path, tmp_path: Path) -> None:
    settings = tiny_run(motions, tmp_path / "run", {"training.batch_size": 2})
    found = run_ranks(2, rank_work.train_with_fault, settings, 1, 2, "learns nothing")
    assert [kind for kind, _ in found] == ["FloatingPointError"] * 2
    assert found[0] == found[1]
    assert found[0][1].startswith("the loss is nan in step 2 with the clips of ")


@pytest.mark.long
def test_a_learning_rate_grows_with_the_ranks(motions: Path, tmp_path: Path) -> None:
    run_ranks(2, rank_work.train, tiny_run(motions, tmp_path / "run", {"training.batch_size": 2}))
    rates = [line["rate"] for line in read_json_lines(tmp_path / "run" / "log.jsonl") if line["kind"] == "train"]
    assert math.isclose(max(rates), 0.02 * 4 / 32)
