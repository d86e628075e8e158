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
SECONDS_OF_SPEED = 600.0  # what the time left is judged by: a step may take a minute


@dataclass(frozen=True)
class StepReport:
    """What came of one step on this rank: mean loss and right clips before the step moved anything, and how long it took.

    `waited_seconds` of `seconds` the network stood still because no batch was ready. No clips, no loss: NaN.
    """

    loss: float
    num_right: int
    num_clips: int
    seconds: float
    waited_seconds: float

    def figures(self) -> dict[str, float]:
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
            speed_estimate_period=SECONDS_OF_SPEED,
        )
        self._task = self._bar.add_task(
            "training", total=schedule.num_steps, completed=first_step, epoch=self._epochs(first_step), figures=""
        )
        self._step = first_step
        self._loss = self._accuracy = math.nan
        self._steps = self._clips = self._seconds = self._waited_seconds = 0.0  # sums in which what is old fades
        self._line_at = time.monotonic()

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def stepped(self, report: StepReport) -> None:
        """One step is done."""
        self._step += 1
        if report.num_clips:
            self._loss = _smoothed(self._loss, report.loss)
            self._accuracy = _smoothed(self._accuracy, report.num_right / report.num_clips)
        self._steps = SMOOTHING * self._steps + 1
        self._clips = SMOOTHING * self._clips + report.num_clips
        self._seconds = SMOOTHING * self._seconds + report.seconds
        self._waited_seconds = SMOOTHING * self._waited_seconds + report.waited_seconds
        self._bar.update(self._task, completed=self._step, epoch=self._epochs(self._step), figures=self.sentence())
        if not self._console.is_terminal and time.monotonic() - self._line_at > SECONDS_BETWEEN_LINES:
            self._line_at = time.monotonic()
            self._console.print(f"epoch {self._epochs(self._step)}  {self.sentence()}  {self._time_left()}")

    def sentence(self) -> str:
        """The moving means in one line."""
        return (
            f"loss {self._loss:.3f}  clip@1 {100 * self._accuracy:.1f} %  {self._clips / self._seconds:.1f} clips/s  "
            f"waiting for data {100 * self._waited_seconds / self._seconds:.0f} %"
        )

    def _time_left(self) -> str:
        steps_left = self._schedule.num_steps - self._step
        return f"{spoken_duration(steps_left * self._seconds / self._steps)} left"

    def _epochs(self, step: int) -> str:
        return f"{self._schedule.epoch(step):.1f}/{self._schedule.epoch(self._schedule.num_steps):g}"


def spoken_duration(seconds: float) -> str:
    """A length of time in the unit that people would use: `40 seconds`, `3 minutes`, `2.5 hours`, `3.1 days`."""
    if seconds < 90:
        return _counted(max(1, round(seconds)), "second")
    if seconds < 90 * 60:
        return _counted(round(seconds / 60), "minute")
    hours = seconds / 3600
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _smoothed(before: float, now: float) -> float:
    return now if math.isnan(before) else SMOOTHING * before + (1 - SMOOTHING) * now
