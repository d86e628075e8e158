"""One step: what clipping does to the gradients that the optimizer gets."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from muybridge.loading.datasets import Failure, collate_training
from muybridge.training import step
from muybridge.training.augment import Pass, mix_clips
from muybridge.training.job import TrainingJob, prepare_job
from muybridge.training.optimizer import build_optimizer
from muybridge.training.step import StepContext, training_step
from muybridge.training.step_batches import StepBatches
from runs import tiny_run


def take_step(motions: Path, folder: Path, max_norm: float | None) -> TrainingJob:
    changes = {"training.max_gradient_norm": max_norm, "loading.workers": 0}
    job = prepare_job(tiny_run(motions, folder, changes))
    batches = StepBatches(job, 0, on_worker_restart=lambda *_: None)
    training_step(StepContext(job, job.network, build_optimizer(job.network, job.settings.training)), next(batches), 0)
    return job


def compute_norm(job: TrainingJob) -> float:
    gradients = [parameter.grad for parameter in job.network.parameters() if parameter.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))


def test_a_step_updates_batch_norm_also_after_a_validation(motions: Path, tmp_path: Path) -> None:
    """Validation leaves the network in evaluation mode."""
    job = prepare_job(tiny_run(motions, tmp_path / "run", {"loading.workers": 0}))
    job.network.eval()
    before = job.network.stem[1].running_mean.clone()  # type: ignore[union-attr,operator]
    batches = StepBatches(job, 0, on_worker_restart=lambda *_: None)
    training_step(StepContext(job, job.network, build_optimizer(job.network, job.settings.training)), next(batches), 0)
    assert job.network.training
    assert not torch.equal(job.network.stem[1].running_mean, before)  # type: ignore[arg-type]


def test_gradients_are_scaled_down_to_the_largest_norm_and_never_up(motions: Path, tmp_path: Path) -> None:
    free = take_step(motions, tmp_path / "free", None)
    norm = compute_norm(free)
    clipped = take_step(motions, tmp_path / "clipped", norm / 4)
    assert compute_norm(clipped) == pytest.approx(norm / 4, rel=1e-3)
    roomy = take_step(motions, tmp_path / "roomy", norm * 4)
    assert compute_norm(roomy) == norm
    ours, theirs = (dict(job.network.named_parameters()) for job in (clipped, free))
    for name, parameter in theirs.items():
        if parameter.grad is not None:
            torch.testing.assert_close(ours[name].grad, parameter.grad / 4, rtol=1e-3, atol=1e-7)


class Oracle(torch.nn.Module):
    """The true logits of constant clips, which are negative for class 0 and positive for class 1."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network  # for gradients, all 0

    def forward(self, clips_ncthw: torch.Tensor) -> torch.Tensor:
        return 0 * self.network(clips_ncthw) + torch.outer(clips_ncthw.mean((1, 2, 3, 4)), torch.tensor([-1.0, 1.0]))


@pytest.mark.parametrize("augmentation", ["mixup_alpha", "cutmix_alpha"])
def test_a_mixed_clip_is_right_by_the_shares_of_its_two_clips(
    augmentation: str, motions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = prepare_job(tiny_run(motions, tmp_path / "run", {f"training.{augmentation}": 1.0}))
    (batch,) = next(StepBatches(job, 0))
    batch = replace(batch, labels_n=torch.tensor([0, 0, 0, 1]))  # the first and the last are mixed
    values = (2.0 * batch.labels_n - 1)[:, None, None, None, None]
    monkeypatch.setattr(step, "_prepare_clips", lambda *_: values.expand(4, 3, 4, 28, 28))
    context = StepContext(job, Oracle(job.network), build_optimizer(job.network, job.settings.training))
    for number in range(10):
        own_share = mix_clips(torch.zeros(4, 1, 4, 1, 1), job.settings.training, Pass(0, number, 0))[1]
        result = training_step(context, [batch], number)
        assert result.num_right == pytest.approx(2 + 2 * max(own_share, 1 - own_share), abs=1e-5)


def test_a_lone_clip_too_small_for_batch_norm_is_left_out(motions: Path, tmp_path: Path) -> None:
    changes = {"training.multigrid": ((0.5, 4, 16),), "training.batch_size": 2, "training.global_batch": 4}
    jobs = [prepare_job(tiny_run(motions, tmp_path / name, changes)) for name in ("given", "expected")]
    batches = StepBatches(jobs[0], 0)
    (pair, _), failure = next(batches), Failure("b.mp4", "unreadable", "torn")
    lone = collate_training([batches.dataset[0], failure])
    results = []
    for job, second in zip(jobs, (lone, collate_training([failure])), strict=True):
        context = StepContext(job, job.network, build_optimizer(job.network, job.settings.training))
        results.append(training_step(context, [pair, second], 0))
    assert results[0] == results[1]
    assert (results[0].num_clips, results[0].failures) == (2, (failure,))
    whole = training_step(context, [lone], job.schedule.num_steps - 1)  # of 28 pixels two positions a side are left
    assert (whole.num_clips, whole.skipped) == (1, False)


@pytest.mark.parametrize("non_finite", ["stop", "skip"])
def test_finite_gradients_whose_norm_overflows_are_not_clipped_to_nothing(
    non_finite: str, motions: Path, tmp_path: Path
) -> None:
    changes = {"training.max_gradient_norm": 1.0, "training.non_finite": non_finite}
    job = prepare_job(tiny_run(motions, tmp_path / "run", changes))
    job.network.fc.weight.register_hook(lambda gradient: torch.full_like(gradient, 1e20))
    context = StepContext(job, job.network, build_optimizer(job.network, job.settings.training))
    before = [parameter.clone() for parameter in job.network.parameters()]
    if non_finite == "stop":
        with pytest.raises(FloatingPointError, match=r"the norm of the gradients is not finite \(inf\) in step 1"):
            training_step(context, next(StepBatches(job, 0)), 0)
    else:
        assert training_step(context, next(StepBatches(job, 0)), 0).skipped
    assert all(torch.equal(*pair) for pair in zip(job.network.parameters(), before, strict=True))
