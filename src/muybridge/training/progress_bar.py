"""The bar a person watches while a run goes: loss, clip accuracy, clips a second, waiting for data, time left."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from muybridge.training.schedule import Schedule

SMOOTHING = 0.95  # of the moving means: about the last twenty steps
SECONDS_BETWEEN_LINES = 30.0  # where standard error is a file, a line now and then instead of a bar
SPEED_ESTIMATE_SECONDS = 600.0  # what the time left is judged by: a step may take a minute


@dataclass(frozen=True)
class StepMetrics:
    """What came of one step on this rank: mean loss and right clips before the step moved anything, and how long it took.

    `waited_seconds` of `seconds` the network stood still because no batch was ready. No clips, no loss: NaN.
    """

    loss: float
    num_right: int
    num_clips: int
    seconds: float
    waited_seconds: float

    def to_log(self) -> dict[str, float]:
        """As they stand in log.jsonl."""
        return {
            "loss": self.loss,
            "clip_accuracy": self.num_right / self.num_clips if self.num_clips else math.nan,
            "clips_per_second": self.num_clips / self.seconds,
            "waiting_share": self.waited_seconds / self.seconds,
        }


class ProgressBar:
    """Moving means of a run's figures, on a bar where there is a terminal and in lines where there is none."""

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
        self._steps = self._clips = self._seconds = self._waited_seconds = 0.0  # sums in which what is old fades
        self._last_line_time = time.monotonic()

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, step_metrics: StepMetrics) -> None:
        """One step is done."""
        self._step += 1
        if step_metrics.num_clips:
            self._loss = _smooth(self._loss, step_metrics.loss)
            self._accuracy = _smooth(self._accuracy, step_metrics.num_right / step_metrics.num_clips)
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
        """The moving means in one line."""
        return (
            f"loss {self._loss:.3f}  clip@1 {100 * self._accuracy:.1f} %  {self._clips / self._seconds:.1f} clips/s  "
            f"waiting for data {100 * self._waited_seconds / self._seconds:.0f} %"
        )

    def _format_time_left(self) -> str:
        steps_left = self._schedule.num_steps - self._step
        return f"{format_duration(steps_left * self._seconds / self._steps)} left"

    def _format_epoch(self, step: int) -> str:
        return f"{self._schedule.compute_epoch(step):.1f}/{self._schedule.compute_epoch(self._schedule.num_steps):g}"


def format_duration(seconds: float) -> str:
    """A length of time in the unit that people would use: `40 seconds`, `3 minutes`, `2.5 hours`, `3.1 days`."""
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
