"""The progress bar of a run: loss, clip accuracy, clips per second, share of time waiting for data, time left."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from muybridge.training.schedule import Schedule

SMOOTHING = 0.95  # of the moving averages: about the last twenty steps
SECONDS_BETWEEN_LINES = 30.0  # lines replace the bar where standard error is not a terminal
SPEED_ESTIMATE_SECONDS = 600.0  # window of the estimate of the time left: a step may take a minute


@dataclass(frozen=True)
class StepMetrics:
    """Metrics of one step: mean loss and number of correct clips over all ranks, and the time it took on this rank.

    `waited_seconds` of the `seconds` were spent waiting for a batch. The loss of no clips is NaN. `num_right` is None for
    another task than single_label.
    """

    loss: float
    num_right: int | None
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
    """Moving averages of a run's metrics: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console, schedule: Schedule, first_step: int) -> None:
        self._schedule = schedule
        self._console = console
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            speed_estimate_period=SPEED_ESTIMATE_SECONDS,
        )
        self._task = self._bar.add_task(
            "training", total=schedule.num_steps, completed=first_step, epoch=self._format_epoch(first_step), figures=""
        )
        self._step = first_step
        self._loss = self._accuracy = math.nan
        self._steps = self._clips = self._seconds = self._waited_seconds = 0.0  # exponentially weighted sums
        self._last_line_time = time.monotonic()

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, step_metrics: StepMetrics) -> None:
        """Adds the metrics of a step."""
        self._step += 1
        if step_metrics.num_clips:
            self._loss = _smooth(self._loss, step_metrics.loss)
            self._accuracy = _smooth(self._accuracy, step_metrics.accuracy)
        self._steps = SMOOTHING * self._steps + 1
        self._clips = SMOOTHING * self._clips + step_metrics.num_clips
        self._seconds = SMOOTHING * self._seconds + step_metrics.seconds
        self._waited_seconds = SMOOTHING * self._waited_seconds + step_metrics.waited_seconds
        self._bar.update(
            self._task, completed=self._step, epoch=self._format_epoch(self._step), figures=self.format_metrics()
        )
        if not self._console.is_terminal and time.monotonic() - self._last_line_time > SECONDS_BETWEEN_LINES:
            self._last_line_time = time.monotonic()
            self._console.print(
                f"epoch {self._format_epoch(self._step)}  {self.format_metrics()}  {self._format_time_left()}"
            )

    def format_metrics(self) -> str:
        """The moving averages in one line."""
        accuracy = "" if math.isnan(self._accuracy) else f"clip@1 {100 * self._accuracy:.1f} %  "
        return (
            f"loss {self._loss:.3f}  {accuracy}{self._clips / self._seconds:.1f} clips/s  "
            f"waiting for data {100 * self._waited_seconds / self._seconds:.0f} %"
        )

    def _format_time_left(self) -> str:
        steps_left = self._schedule.num_steps - self._step
        return f"{format_duration(steps_left * self._seconds / self._steps)} left"

    def _format_epoch(self, step: int) -> str:
        return f"{self._schedule.compute_epoch(step):.1f}/{self._schedule.compute_epoch(self._schedule.num_steps):g}"


def format_duration(seconds: float) -> str:
    """A duration in its natural unit: `40 seconds`, `3 minutes`, `2.5 hours`, `3.1 days`."""
    if seconds < 90:
        return _format_count(max(1, round(seconds)), "second")
    if seconds < 90 * 60:
        return _format_count(round(seconds / 60), "minute")
    hours = seconds / 3600
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"


def _format_count(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def _smooth(average: float, value: float) -> float:
    return value if math.isnan(average) else SMOOTHING * average + (1 - SMOOTHING) * value
