"""The bar a person watches while a run goes: loss, clip accuracy, clips a second, waiting for data, time left."""

from __future__ import annotations

import math
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from muybridge.training.schedule import Schedule

SMOOTHING = 0.95  # of the moving means: about the last twenty steps
SECONDS_BETWEEN_LINES = 30.0  # where standard error is a file, a line now and then instead of a bar


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
        )
        self._task = self._bar.add_task(
            "training", total=schedule.num_steps, completed=first_step, epoch=self._epochs(first_step), figures=""
        )
        self._step = first_step
        self._loss = self._accuracy = math.nan
        self._began = self._line_at = time.perf_counter()
        self._clips = 0
        self._waited_seconds = 0.0

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def waited(self, seconds: float) -> None:
        """Time in which the network stood still because no batch was ready."""
        self._waited_seconds += seconds

    def stepped(self, loss: float, num_right: int, num_clips: int) -> None:
        """One step is done."""
        self._step += 1
        self._clips += num_clips
        if num_clips:
            self._loss = _smoothed(self._loss, loss)
            self._accuracy = _smoothed(self._accuracy, num_right / num_clips)
        self._bar.update(self._task, completed=self._step, epoch=self._epochs(self._step), figures=self._sentence())
        if not self._console.is_terminal and time.perf_counter() - self._line_at > SECONDS_BETWEEN_LINES:
            self._line_at = time.perf_counter()
            self._console.print(f"epoch {self._epochs(self._step)}  {self._sentence()}", highlight=False)

    def figures(self) -> dict[str, float]:
        """Smoothed loss and clip accuracy, clips a second and the share of time spent waiting, over this session."""
        seconds = max(time.perf_counter() - self._began, 1e-9)
        return {
            "loss": self._loss,
            "clip_accuracy": self._accuracy,
            "clips_per_second": self._clips / seconds,
            "waiting_share": self._waited_seconds / seconds,
        }

    def _epochs(self, step: int) -> str:
        total = self._schedule.num_steps / self._schedule.steps_per_epoch
        return f"{self._schedule.epoch(step):.1f}/{total:g}"

    def _sentence(self) -> str:
        figures = self.figures()
        return (
            f"loss {figures['loss']:.3f}  clip@1 {figures['clip_accuracy']:.1%}  "
            f"{figures['clips_per_second']:.1f} clips/s  waiting for data {figures['waiting_share']:.0%}"
        )


def _smoothed(before: float, now: float) -> float:
    return now if math.isnan(before) else SMOOTHING * before + (1 - SMOOTHING) * now
