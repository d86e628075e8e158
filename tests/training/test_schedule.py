"""The paper's schedule, checked against numbers worked out by hand."""

import pytest

from muybridge.training.schedule import build_schedule
from muybridge.training_settings import TrainingSettings


def test_the_papers_run() -> None:
    """64 GPUs with 32 clips each, 1M clips an epoch: 488 steps an epoch, about 22k in all."""
    plan = build_schedule(TrainingSettings(clips_per_epoch=1_000_000), num_videos=240_000, world_size=64)
    assert plan.global_batch == 2048
    assert plan.steps_per_epoch == 488
    assert plan.num_steps == 45 * 488
    assert plan.compute_learning_rate(4880 - 1) == pytest.approx(0.64)
    assert plan.compute_learning_rate(0) == pytest.approx(0.64 / 4880)
    assert plan.compute_learning_rate(2440 - 1) == pytest.approx(0.32)
    assert plan.compute_learning_rate(20 * 488 - 1) == pytest.approx(0.64)
    assert plan.compute_learning_rate(20 * 488) == pytest.approx(0.064)
    assert plan.compute_learning_rate(30 * 488) == pytest.approx(0.0064)
    assert plan.compute_learning_rate(45 * 488 - 1) == pytest.approx(0.00064)


def test_an_epoch_is_four_clips_a_video_by_default() -> None:
    plan = build_schedule(TrainingSettings(batch_size=10), num_videos=50)
    assert plan.steps_per_epoch == 20
    assert plan.num_clips == 45 * 200
    assert plan.compute_epoch(30) == 1.5


def test_the_rate_is_the_papers_for_32_clips() -> None:
    constant = TrainingSettings(batch_size=8, warmup_epochs=0, decay_epochs=())
    plan = build_schedule(constant, num_videos=100)
    assert {plan.compute_learning_rate(step) for step in range(plan.num_steps)} == {0.01 * 8 / 32}


def test_the_rate_never_jumps_up() -> None:
    plan = build_schedule(TrainingSettings(epochs=4.5, batch_size=4), num_videos=30)
    rates = [plan.compute_learning_rate(step) for step in range(plan.num_steps)]
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_a_tiny_run_has_a_step() -> None:
    assert build_schedule(TrainingSettings(epochs=0.01), num_videos=1).num_steps == 1


def test_a_cosine_falls_from_the_peak_after_warmup_to_nothing() -> None:
    training = TrainingSettings(batch_size=32, epochs=10, warmup_epochs=2, schedule="cosine", clips_per_epoch=320)
    plan = build_schedule(training, num_videos=1)
    assert plan.compute_learning_rate(0) == pytest.approx(0.01 / 20)
    assert plan.compute_learning_rate(19) == plan.compute_learning_rate(20) == pytest.approx(0.01)
    assert plan.compute_learning_rate(60) == pytest.approx(0.005)  # half-way from step 20 to step 100
    assert plan.compute_learning_rate(40) == pytest.approx(0.01 * (1 + 2**-0.5) / 2)  # a quarter of it
    assert plan.compute_learning_rate(99) < 1e-5


def test_a_phase_that_is_all_warm_up_is_no_longer_than_its_epochs() -> None:
    for epochs in range(1, 50):
        for added in range(1, 50):
            training = TrainingSettings(epochs=epochs, warmup_epochs=epochs, phases=((added, 0.01),))
            phase = build_schedule(training, num_videos=8).next_phase
            assert phase is not None and phase.warmup_steps == pytest.approx(phase.num_own_steps)
