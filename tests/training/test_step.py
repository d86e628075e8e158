"""One step: what clipping does to the gradients that the optimizer gets."""

from pathlib import Path

import pytest
import torch

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
