"""The estimate of the time left, against runs whose every second is simulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from muybridge.training.time_left import TimeLeft, Workload

WORK = Workload(num_steps=400, clips_per_step=8, validation_interval_steps=100, clips_per_validation=200)


class SimulatedRun:
    """A run on a clock of its own: seconds of each step and of each validation."""

    def __init__(
        self,
        workload: Workload,
        step_seconds: Callable[[int], float],
        validation_seconds: float,
        first_step: int = 0,
    ) -> None:
        self.now = 1000.0
        self.workload, self.step_seconds, self.validation_seconds = workload, step_seconds, validation_seconds
        self.step = first_step
        self.estimate = TimeLeft(workload, first_step, lambda: self.now)

    def run(self) -> Iterator[tuple[int, float | None, float]]:
        """(steps of this process, the estimate, the true time left) after each step and its validation."""
        moments: list[tuple[int, float | None, float]] = []
        first_step = self.step
        while self.step < self.workload.num_steps:
            self.now += self.step_seconds(self.step - first_step)
            self.step += 1
            self.estimate.finish_step()
            moments.append((self.step - first_step, self.estimate.compute_seconds(), self.now))
            if self.workload.is_validation_due(self.step):
                self.now += self.validation_seconds
                self.estimate.finish_validation()
                moments.append((self.step - first_step, self.estimate.compute_seconds(), self.now))
        for step, estimated, now in moments:
            yield step, estimated, self.now - now


def assert_within_twice(run: SimulatedRun, after_steps: int) -> None:
    checked = 0
    for step, estimated, true in run.run():
        if step >= after_steps and true > 0:
            assert estimated is not None
            assert true / 2 <= estimated <= 2 * true, (step, estimated, true)
            checked += 1
    assert checked > 100


def test_a_steady_run_is_known_from_its_second_step() -> None:
    run = SimulatedRun(WORK, lambda step: 2.0, 50.0)
    moments = list(run.run())
    assert moments[0][1] is None
    _, estimated, true = moments[1]
    assert estimated == 398 * 2.0 + 4 * 0.5 * 200 / 8 * 2.0
    assert true == 398 * 2.0 + 4 * 50.0
    assert moments[-1][1] == 0.0
    assert_within_twice(SimulatedRun(WORK, lambda step: 2.0, 50.0), 2)


@pytest.mark.parametrize("num_slow", [1, 5, 20])
def test_a_slow_start_is_forgotten(num_slow: int) -> None:
    assert_within_twice(SimulatedRun(WORK, lambda step: 30.0 if step < num_slow else 1.0, 30.0), 2 * num_slow + 3)


def test_reading_in_bursts() -> None:
    """Eight workers deliver eight batches at a time."""
    assert_within_twice(SimulatedRun(WORK, lambda step: 8.0 if step % 8 == 0 else 0.2, 20.0), 16)


def test_steps_after_a_validation_are_fast_since_workers_read_ahead() -> None:
    run = SimulatedRun(WORK, lambda step: 0.2 if step > 90 and step % 100 < 32 else 4.0, 100.0)
    assert_within_twice(run, 2)


@pytest.mark.parametrize("validation_seconds", [5.0, 400.0, 2000.0])
def test_validation_counts_as_measured(validation_seconds: float) -> None:
    assert_within_twice(
        SimulatedRun(WORK, lambda step: 1.0, validation_seconds), 101 if validation_seconds > 100 else 2
    )


def test_a_run_that_slows_down_and_one_that_speeds_up() -> None:
    assert_within_twice(SimulatedRun(WORK, lambda step: 1.0 if step < 100 else 2.5, 10.0), 200)
    assert_within_twice(SimulatedRun(WORK, lambda step: 2.5 if step < 100 else 1.0, 10.0), 140)


def test_a_resumed_run_counts_what_is_left() -> None:
    run = SimulatedRun(WORK, lambda step: 20.0 if step == 0 else 1.0, 25.0, first_step=150)
    moments = list(run.run())
    assert moments[1][1] == 248 * 1.0 + 3 * 0.5 * 200 / 8 * 1.0
    assert_within_twice(SimulatedRun(WORK, lambda step: 20.0 if step == 0 else 1.0, 25.0, first_step=150), 2)


@pytest.mark.parametrize(
    ("interval", "num_steps", "step", "left"),
    [(4, 10, 0, 3), (4, 10, 4, 2), (4, 10, 9, 1), (4, 8, 4, 1), (4, 8, 8, 0), (0, 8, 3, 1), (0, 8, 8, 0)],
)
def test_validations_left(interval: int, num_steps: int, step: int, left: int) -> None:
    work = Workload(num_steps, 8, interval, 10)
    assert work.count_validations_left(step) == left
    assert sum(work.is_validation_due(later) for later in range(step + 1, num_steps + 1)) == left
    assert Workload(num_steps, 8, interval, 0).count_validations_left(step) == 0
