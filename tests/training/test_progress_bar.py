"""What a person reads while a run goes."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from muybridge.training.progress_bar import ProgressBar, StepMetrics
from muybridge.training.schedule import build_schedule
from muybridge.training.time_left import Workload
from muybridge.training_settings import TrainingSettings

Clock = Callable[[], float]
PLAN = build_schedule(TrainingSettings(batch_size=8, epochs=3, clips_per_epoch=80), num_videos=20)  # 30 steps


def test_a_steps_figures() -> None:
    figures = StepMetrics(loss=0.5, num_right=3, num_clips=4, seconds=2.0, waited_seconds=0.5).to_log()
    assert figures == {"loss": 0.5, "clip_accuracy": 0.75, "clips_per_second": 2.0, "waiting_share": 0.25}
    nothing = StepMetrics(loss=math.nan, num_right=0, num_clips=0, seconds=2.0, waited_seconds=0.5).to_log()
    assert math.isnan(nothing["clip_accuracy"])


def make_bar(
    file: io.StringIO, first_step: int = 0, clock: Callable[[], float] = time.monotonic, **options: Any
) -> ProgressBar:
    return ProgressBar(Console(file=file, **options), PLAN, first_step, Workload(30, 8, 10, 40), clock)


def test_the_means_follow_the_run_and_skip_steps_without_clips() -> None:
    now = 0.0
    file = io.StringIO()
    with make_bar(file, clock=lambda: now, width=200) as bar:
        for _ in range(3):
            bar.update(StepMetrics(2.0, 2, 8, seconds=2.0, waited_seconds=0.5))
        assert bar.list_figures() == ["loss 2.000", "clip@1 25.0 %", "4.0 clips/s", "waiting for data 25 %"]
        bar.update(StepMetrics(math.nan, 0, 0, seconds=2.0, waited_seconds=2.0))
        assert bar.list_figures()[:3] == ["loss 2.000", "clip@1 25.0 %", "2.9 clips/s"]
        for _ in range(200):
            bar.update(StepMetrics(1.0, 8, 8, seconds=1.0, waited_seconds=0.0))
        assert bar.list_figures() == ["loss 1.000", "clip@1 100.0 %", "8.0 clips/s", "waiting for data 0 %"]


def test_in_a_file_there_is_a_line_now_and_then_with_the_time_left() -> None:
    now = 0.0
    file = io.StringIO()
    with make_bar(file, 10, lambda: now, width=200) as bar:
        for _ in range(4):
            now += 20.0
            bar.update(StepMetrics(2.0, 2, 8, seconds=20.0, waited_seconds=4.0))
        now += 100.0
        bar.finish_validation()
        now += 20.0
        bar.update(StepMetrics(2.0, 2, 8, seconds=20.0, waited_seconds=4.0))
    figures = "loss 2.000  clip@1 25.0 %  0.4 clips/s  waiting for data 20 %"
    assert [line.rstrip() for line in file.getvalue().splitlines()] == [
        "about 8 minutes for the 18 steps left and 2 validations, by the first 1 step with reading; "
        "waiting for data 20 % of the time",
        f"epoch 1.2/3  {figures}  8 minutes left",
        f"epoch 1.4/3  {figures}  7 minutes left",
        f"epoch 1.5/3  {figures}  8 minutes left",
    ]


@pytest.mark.parametrize(("first_step", "is_drawn"), [(12, True), (0, False)])
def test_the_bar_of_a_run_that_goes_on_begins_where_it_stopped(first_step: int, is_drawn: bool) -> None:
    file = io.StringIO()
    with make_bar(file, first_step, lambda: 0.0, width=60, force_terminal=True, color_system=None):
        pass
    assert ("━" in file.getvalue()) == is_drawn


def test_the_time_of_a_run_is_said_once_and_on_a_terminal_there_is_a_bar() -> None:
    now = 0.0
    file = io.StringIO()
    with make_bar(file, 12, lambda: now, width=40, force_terminal=True, color_system=None) as bar:
        for _ in range(13):
            now += 1.0
            bar.update(StepMetrics(2.0, 2, 8, seconds=1.0, waited_seconds=0.0))
    text = file.getvalue()
    assert text.count("about ") == 1
    assert "for the 7 steps left and 1 validation, by the first 10 steps" in " ".join(text.split())
    assert "epoch 2.5/3" in text
    assert "8 seconds left" in text
    assert "━" in text
