"""What a person reads while a run goes."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from muybridge.settings import TrainingSettings
from muybridge.training import progress_bar as progress_module
from muybridge.training.progress_bar import ProgressBar, StepMetrics, format_duration
from muybridge.training.schedule import build_schedule

PLAN = build_schedule(TrainingSettings(batch_size=8, epochs=3, clips_per_epoch=80), num_videos=20)  # 30 steps


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 second"),
        (1, "1 second"),
        (40.4, "40 seconds"),
        (89.6, "90 seconds"),
        (90, "2 minutes"),
        (3600, "60 minutes"),
        (5400, "1.5 hours"),
        (20 * 3600, "20.0 hours"),
        (74.4 * 3600, "3.1 days"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


def test_a_steps_figures() -> None:
    figures = StepMetrics(loss=0.5, num_right=3, num_clips=4, seconds=2.0, waited_seconds=0.5).to_log()
    assert figures == {"loss": 0.5, "clip_accuracy": 0.75, "clips_per_second": 2.0, "waiting_share": 0.25}
    nothing = StepMetrics(loss=math.nan, num_right=0, num_clips=0, seconds=2.0, waited_seconds=0.5).to_log()
    assert math.isnan(nothing["clip_accuracy"])


def test_the_means_follow_the_run_and_skip_steps_without_clips() -> None:
    bar = ProgressBar(Console(file=io.StringIO()), PLAN, 0)
    with bar:
        for _ in range(3):
            bar.update(StepMetrics(2.0, 2, 8, seconds=2.0, waited_seconds=0.5))
        assert bar.format_metrics() == "loss 2.000  clip@1 25.0 %  4.0 clips/s  waiting for data 25 %"
        bar.update(StepMetrics(math.nan, 0, 0, seconds=2.0, waited_seconds=2.0))
        assert bar.format_metrics().startswith("loss 2.000  clip@1 25.0 %  2.9 clips/s")
        for _ in range(200):
            bar.update(StepMetrics(1.0, 8, 8, seconds=1.0, waited_seconds=0.0))
        assert bar.format_metrics() == "loss 1.000  clip@1 100.0 %  8.0 clips/s  waiting for data 0 %"


def test_in_a_file_there_is_a_line_now_and_then_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now)
    file = io.StringIO()
    with ProgressBar(Console(file=file, width=200), PLAN, 10) as bar:
        for _ in range(5):
            now += 20.0
            bar.update(StepMetrics(2.0, 2, 8, seconds=20.0, waited_seconds=0.0))
    assert [line.rstrip() for line in file.getvalue().splitlines()] == [
        "epoch 1.2/3  loss 2.000  clip@1 25.0 %  0.4 clips/s  waiting for data 0 %  6 minutes left",
        "epoch 1.4/3  loss 2.000  clip@1 25.0 %  0.4 clips/s  waiting for data 0 %  5 minutes left",
    ]


def test_on_a_terminal_there_is_a_bar() -> None:
    file = io.StringIO()
    with ProgressBar(Console(file=file, width=150, force_terminal=True), PLAN, 15) as bar:
        bar.update(StepMetrics(2.0, 2, 8, seconds=2.0, waited_seconds=0.0))
    assert "epoch 1.6/3" in file.getvalue()
    assert "━" in file.getvalue()
    assert "loss 2.000" in file.getvalue()
