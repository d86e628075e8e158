"""What a step does to clips and weights: against numpy, hand-computed averages, and a run that was stopped."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from muybridge.augmentation_settings import AugmentationSettings
from muybridge.distributed.stop import StopRequested
from muybridge.loading.datasets import TrainingBatch
from muybridge.training.augment import (
    Pass,
    WeightAverage,
    find_multigrid_size,
    mix_clips,
    reverse_batch,
    seed_dropout,
    shrink_clips,
)
from muybridge.training.checkpoint import list_checkpoints, read_checkpoint
from muybridge.training.job import TrainingJob, prepare_job
from muybridge.training.optimizer import build_optimizer
from muybridge.training.step import StepContext, training_step
from muybridge.training.step_batches import StepBatches
from muybridge.training_settings import TrainingSettings
from muybridge.video.views import prepare_network_input
from muybridge.weights.address import load_weights
from runs import LATER_RECIPE, tiny_run


def passes(number: int) -> list[Pass]:
    return [Pass(7, step, 0) for step in range(number)]


def test_clips_are_shorter_and_smaller_first() -> None:
    settings = AugmentationSettings(multigrid=((0.25, 2, 4), (0.25, 6, 5)))
    sizes = [find_multigrid_size(settings, step, 8) for step in range(9)]
    assert sizes == [(2, 4)] * 2 + [(6, 5)] * 2 + [None] * 5
    assert find_multigrid_size(AugmentationSettings(), 0, 8) is None
    clips = torch.randn(3, 2, 6, 8, 8)
    blocks = clips.numpy().reshape(3, 2, 6, 4, 2, 4, 2).mean((4, 6))
    for frames in (2, 6):
        np.testing.assert_allclose(shrink_clips(clips, frames, 4).numpy(), blocks[:, :, :frames], atol=1e-6)


def test_a_phase_ends_with_the_step_in_which_its_share_is_reached() -> None:
    half = AugmentationSettings(multigrid=((0.5, 2, 4),))
    for num_steps in range(2, 400):
        sizes = [find_multigrid_size(half, step, num_steps) for step in range(num_steps)]
        assert sizes == [(2, 4) if step / num_steps < 0.5 else None for step in range(num_steps)]
    rounded = AugmentationSettings(multigrid=((0.1, 2, 4), (0.2, 2, 4)))  # 0.1 + 0.2 > 0.3
    assert [find_multigrid_size(rounded, step, 10) for step in range(2, 4)] == [(2, 4), None]


def test_mixup_is_the_sum_of_two_clips() -> None:
    clips, shares = torch.randn(5, 3, 4, 6, 6), []
    for this_pass in passes(200):
        mixed, share = mix_clips(clips, AugmentationSettings(mixup_alpha=0.5), this_pass)
        expected = share * clips.numpy() + (1 - share) * clips.numpy()[::-1]
        np.testing.assert_allclose(mixed.numpy(), expected, atol=1e-5)
        shares.append(share)
    # the variance of a beta distribution of equal parameters is 1 / (4 (2 alpha + 1))
    assert np.mean(shares) == pytest.approx(0.5, abs=0.08)
    assert np.var(shares) == pytest.approx(1 / 8, abs=0.03)


def test_cutmix_replaces_one_run_of_frames() -> None:
    clips = torch.arange(4.0)[:, None, None, None, None].expand(4, 2, 8, 3, 3)
    replaced, starts = set(), set()
    for this_pass in passes(200):
        mixed, share = mix_clips(clips, AugmentationSettings(cutmix_alpha=1.0), this_pass)
        is_other = (mixed != clips).all(dim=(1, 3, 4))  # a frame is of one clip
        assert torch.equal(mixed, torch.where(is_other[:, None, :, None, None], clips.flip(0), clips))
        frames = is_other[0].nonzero()[:, 0].tolist()
        assert share == 1 - len(frames) / 8
        assert frames == list(range(frames[0], frames[0] + len(frames))) if frames else True
        replaced.add(len(frames))
        starts.update(frames[:1])
    assert replaced == set(range(9))
    assert starts == set(range(8))
    assert torch.equal(clips, torch.arange(4.0)[:, None, None, None, None].expand(4, 2, 8, 3, 3))  # unchanged


def test_both_alphas_draw_one_of_the_two_for_each_pass() -> None:
    clips, settings = torch.randn(2, 1, 4, 2, 2), AugmentationSettings(mixup_alpha=1.0, cutmix_alpha=1.0)
    by_time = [mix_clips(clips, settings, this_pass)[1] in (0, 0.25, 0.5, 0.75, 1) for this_pass in passes(200)]
    assert 70 < sum(by_time) < 130
    one = mix_clips(clips, settings, Pass(7, 3, 1))
    assert torch.equal(one[0], mix_clips(clips, settings, Pass(7, 3, 1))[0])
    assert one[1] != mix_clips(clips, settings, Pass(7, 3, 2))[1]


def test_a_clip_alone_and_no_clip_are_not_mixed() -> None:
    settings = AugmentationSettings(mixup_alpha=1.0)
    for number in (0, 1):
        clips = torch.randn(number, 3, 2, 4, 4)
        assert mix_clips(clips, settings, Pass(0, 0, 0)) == (clips, 1.0)


def test_labels_are_reversed_as_clips_are() -> None:
    batch = TrainingBatch(None, torch.tensor([0, 1, 2]), ("a", "b", "c"), 0, (), torch.tensor([[0.0], [1.0], [2.0]]))
    other = reverse_batch(batch)
    assert other.labels_n.tolist() == [2, 1, 0]
    assert other.targets_nd.tolist() == [[2.0], [1.0], [0.0]]


def test_the_average_is_that_of_the_definition() -> None:
    network = nn.BatchNorm1d(1)
    average = WeightAverage(network, 0.5)
    expected = 1.0
    for step, value in enumerate((3.0, 5.0, 9.0, 2.0, 4.0, 8.0, 7.0, 1.0, 6.0)):
        with torch.no_grad():
            network.weight.fill_(value)
            network.num_batches_tracked.fill_(step)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.tensors["weight"].item() == pytest.approx(expected, rel=1e-6)
    assert average.tensors["num_batches_tracked"].item() == 8
    with average.applied():
        assert network.weight.item() == pytest.approx(expected, rel=1e-6)
    assert network.weight.item() == 6.0
    assert average.tensors["weight"].item() == pytest.approx(expected, rel=1e-6)


def job_of(motions: Path, output: Path, changes: dict[str, Any]) -> TrainingJob:
    return prepare_job(tiny_run(motions, output, changes))


def test_the_loss_of_mixed_clips_is_the_mixed_loss(motions: Path, tmp_path: Path) -> None:
    losses = []
    for name, changes in (("plain", {}), ("mixed", {"training.mixup_alpha": 1.0})):
        job = job_of(motions, tmp_path / name, {"training.learning_rate": 1e-9, **changes})
        (batch,) = next(StepBatches(job, 0))
        context = StepContext(job, job.network, build_optimizer(job.network, job.settings.training))
        losses.append((batch, training_step(context, [batch], 0).loss, job))
    batch, loss, job = losses[1]
    reference = job_of(motions, tmp_path / "reference", {"training.mixup_alpha": 1.0})
    network = reference.network.train()
    clips = prepare_network_input(batch.views, job.preprocessing, torch.device("cpu"))
    mixed, share = mix_clips(clips, job.settings.training, Pass(job.settings.seed, 0, 0))
    log_probabilities = network(mixed).log_softmax(1).detach().numpy()
    own = -log_probabilities[range(len(clips)), batch.labels_n.numpy()]
    other = -log_probabilities[range(len(clips)), batch.labels_n.numpy()[::-1]]
    assert 0.01 < share < 0.99
    assert loss == pytest.approx(float((share * own + (1 - share) * other).mean()), rel=1e-5)
    assert loss != pytest.approx(losses[0][1], rel=1e-3)


def test_dropout_is_in_training_alone(motions: Path, tmp_path: Path) -> None:
    job = job_of(motions, tmp_path / "run", {"training.dropout": 0.5})
    clips = torch.randn(2, 3, 4, 28, 28)
    assert torch.equal(job.network.eval()(clips), job.network.eval()(clips))
    first, second = job.network.train()(clips), job.network.train()(clips)
    assert not torch.allclose(first, second)


def test_a_stopped_run_with_every_part_is_the_uninterrupted_one(
    motions: Path, tmp_path: Path, trained: Callable[..., Any], signal_in_step: Callable[[int, int], None]
) -> None:
    whole = tmp_path / "whole"
    trained(tiny_run(motions, whole, LATER_RECIPE))
    settings = tiny_run(motions, tmp_path / "run", LATER_RECIPE)
    for step in (2, 7):
        signal_in_step(signal.SIGTERM, step)
        with pytest.raises(StopRequested):
            trained(settings, resume=step > 2)
    signal_in_step(signal.SIGTERM, 0)
    trained(settings, resume=True)
    for name in ("best.safetensors", "last.safetensors"):
        ours, theirs = load_weights(tmp_path / "run" / name)[1], load_weights(whole / name)[1]
        assert ours.tensors_sha256 == theirs.tensors_sha256
    snapshot = read_checkpoint(list_checkpoints(whole / "checkpoints")[-1])
    assert not torch.equal(snapshot.average["fc.weight"], snapshot.weights["fc.weight"])
    saved = load_weights(whole / "last.safetensors")[0].state_dict()
    assert all(torch.equal(saved[name], tensor) for name, tensor in snapshot.average.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.task": "regression", "training.mixup_alpha": 0.1}, "mix classes"),
        ({"training.task": "ordinal", "training.label_smoothing": 0.1}, "not for training.task ordinal; set it to 0.0"),
        ({"training.multigrid": ((0.6, 4, 16), (0.4, 4, 16))}, "below 1"),
        ({"training.multigrid": ((0.7, 4, 16), (0.2, 4, 16), (0.1, 4, 16))}, "none of 12 steps"),
        ({"training.multigrid": ((0.95, 4, 16),)}, "none of 12 steps"),
        ({"training.multigrid": ((0.5, 5, 16),)}, "5 frames"),
        ({"training.multigrid": ((0.5, 4, 29),)}, "29 pixels"),
        ({"modality": "flow", "training.color_jitter": 0.1}, "varies colours"),
        ({"model": "r2d_10", "training.multigrid": ((0.5, 2, 16),)}, "as channels"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str, motions: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        job_of(motions, tmp_path / "run", changes)


def test_everything_is_off_by_default() -> None:
    assert TrainingSettings().multigrid == ()
    assert all(
        not getattr(TrainingSettings(), name)
        for name in vars(AugmentationSettings())
        if name != "repeated_augmentation"
    )


def test_dropout_is_drawn_anew_in_every_pass_and_on_every_rank() -> None:
    seeds = []
    for step, index, rank in [(step, index, rank) for step in range(60) for index in range(3) for rank in range(2)]:
        with seed_dropout(Pass(7, step, index), rank, torch.device("cpu")):
            seeds.append(torch.initial_seed())
    assert len(set(seeds)) == len(seeds)
    with seed_dropout(Pass(7, 0, 0), 0, torch.device("cpu")):  # a resumed run draws the same
        assert torch.initial_seed() == seeds[0]


def test_a_step_with_dropout_leaves_the_callers_draws_alone(motions: Path, tmp_path: Path) -> None:
    job = job_of(motions, tmp_path / "run", {"training.dropout": 0.5})
    context = StepContext(job, job.network, build_optimizer(job.network, job.settings.training))
    (batch,) = next(StepBatches(job, 0))
    with torch.random.fork_rng([]):
        torch.manual_seed(5)
        expected = torch.rand(2)
        torch.manual_seed(5)
        first = torch.rand(1)
        training_step(context, [batch], 0)
        assert torch.equal(torch.cat([first, torch.rand(1)]), expected)
