"""The progress bar of a run: loss, clip accuracy, clips per second, share of time waiting for data, time left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console

from muybridge.console import create_progress
from muybridge.text import format_count, format_duration
from muybridge.training.schedule import Schedule
from muybridge.training.time_left import TimeLeft, Workload

SMOOTHING = 0.95  # of the moving averages: about the last twenty steps
SECONDS_BETWEEN_LINES = 30.0  # lines replace the bar where standard error is not a terminal
# The time of the whole run is said after so many measured steps and seconds, or after so many seconds if steps take long.
ANNOUNCE_AFTER_STEPS, ANNOUNCE_AFTER_SECONDS, ANNOUNCE_AT_LATEST_SECONDS = 10, 5.0, 30.0


@dataclass(frozen=True)
class StepMetrics:
    """Metrics of one step: mean loss and number of correct clips over all ranks, and the time it took on this rank.

    `waited_seconds` of the `seconds` were spent waiting for a batch. The loss of no clips is NaN. `num_right` is None for
    another task than single_label.
    """

    loss: float
    num_right: float | None
    num_clips: int
    seconds: float
    waited_seconds: float

    @property
    def accuracy(self) -> float:
        """The share of correct clips; NaN of no clips, or where the task has none."""
        return self.num_right / self.num_clips if self.num_right is not None and self.num_clips else math.nan

    def to_log(self) -> dict[str, float]:
        """The metrics as written to log.jsonl."""
        return {
            "loss": self.loss,
            "clip_accuracy": self.accuracy,
            "clips_per_second": self.num_clips / self.seconds,
            "waiting_share": self.waited_seconds / self.seconds,
        }


class ProgressBar:
    """Moving averages of a run's metrics and the time left: a bar on a terminal, a line now and then elsewhere.

    Once the first steps have been measured it says how long the run takes.
    """

    def __init__(
        self,
        console: Console,
        schedule: Schedule,
        first_step: int,
        workload: Workload,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._schedule, self._console, self._workload, self._clock = schedule, console, workload, clock
        self._bar = create_progress(console, transient=False)
        self._task = self._bar.add_task(
            self._describe_epoch(first_step), total=schedule.num_steps, completed=first_step, figures=(), time_left=""
        )
        self._step = first_step
        self._time_left = TimeLeft(workload, first_step, clock)
        self._has_announced = False
        self._loss = self._accuracy = math.nan
        self._clips = self._seconds = self._waited_seconds = 0.0  # exponentially weighted sums
        self._last_line_time = clock()

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, step_metrics: StepMetrics) -> None:
        """Adds the metrics of a step that has ended."""
        self._step += 1
        self._time_left.finish_step()
        if step_metrics.num_clips:
            self._loss = _smooth(self._loss, step_metrics.loss)
            self._accuracy = _smooth(self._accuracy, step_metrics.accuracy)
        self._clips = SMOOTHING * self._clips + step_metrics.num_clips
        self._seconds = SMOOTHING * self._seconds + step_metrics.seconds
        self._waited_seconds = SMOOTHING * self._waited_seconds + step_metrics.waited_seconds
        self._announce_once()
        figures, time_left = self.list_figures(), self._format_time_left()
        self._bar.update(
            self._task,
            completed=self._step,
            description=self._describe_epoch(self._step),
            figures=figures,
            time_left=time_left,
        )
        if not self._console.is_terminal and self._clock() - self._last_line_time > SECONDS_BETWEEN_LINES:
            self._last_line_time = self._clock()
            self._console.print("  ".join([self._describe_epoch(self._step), *figures, time_left]).rstrip())

    def finish_validation(self) -> None:
        """A validation has ended, whose time is not that of a step."""
        self._time_left.finish_validation()

    def list_figures(self) -> list[str]:
        """The moving averages, the most important first."""
        accuracy = [] if math.isnan(self._accuracy) else [f"clip@1 {100 * self._accuracy:.1f} %"]
        return [
            f"loss {self._loss:.3f}",
            *accuracy,
            f"{self._clips / self._seconds:.1f} clips/s",
            f"waiting for data {100 * self._waited_seconds / self._seconds:.0f} %",
        ]

    def _announce_once(self) -> None:
        """Says how long the run takes, as soon as enough steps have been measured."""
        seconds, elapsed = self._time_left.compute_seconds(), self._time_left.elapsed_seconds
        if self._has_announced or seconds is None or elapsed < ANNOUNCE_AFTER_SECONDS:
            return
        if self._time_left.num_timed_steps < ANNOUNCE_AFTER_STEPS and elapsed < ANNOUNCE_AT_LATEST_SECONDS:
            return
        self._has_announced = True
        num_validations = self._workload.count_validations_left(self._step)
        validations = f" and {format_count(num_validations, 'validation')}" if num_validations else ""
        self._console.print(
            f"about {format_duration(seconds)} for the {format_count(self._schedule.num_steps - self._step, 'step')} left"
            f"{validations}, by the first {format_count(self._time_left.num_timed_steps, 'step')} with reading; "
            f"{self.list_figures()[-1]} of the time"
        )

    def _format_time_left(self) -> str:
        seconds = self._time_left.compute_seconds()
        if seconds is None or self._step == self._schedule.num_steps:
            return ""
        return f"{format_duration(seconds)} left"

    def _describe_epoch(self, step: int) -> str:
        schedule = self._schedule
        return f"epoch {schedule.compute_epoch(step):.1f}/{schedule.compute_epoch(schedule.num_steps):g}"


def _smooth(average: float, value: float) -> float:
    return value if math.isnan(average) else SMOOTHING * average + (1 - SMOOTHING) * value
