"""Logs of a run: valid JSON, every step once, the same figures in TensorBoard."""

from __future__ import annotations

import json
import math
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from muybridge.files.run_folder import read_json_lines
from muybridge.loading.datasets import Failure
from muybridge.training.metrics_log import MetricsLog

TORN = Failure("a/b.mp4", "unreadable", "torn")


def test_lines_are_json_and_numbers_that_are_none_are_left_out(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0) as curves:
        curves.log_metrics("train", 1, {"loss": 0.5, "clip_accuracy": math.nan})
        curves.log_failures(1, [TORN, TORN])
        curves.log_failures(2, [])
    for line in (tmp_path / "log.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: 1 / 0)  # NaN is no JSON
    assert read_json_lines(tmp_path / "log.jsonl") == [{"kind": "train", "step": 1, "loss": 0.5}]
    failure = {"step": 1, "video": "a/b.mp4", "status": "unreadable", "reason": "torn"}
    assert read_json_lines(tmp_path / "failures.jsonl") == [failure, failure]


def test_a_resumed_run_drops_what_comes_again_and_keeps_the_rest(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0) as curves:
        for step in (1, 2, 3, 4):
            curves.log_metrics("train", step, {"loss": float(step)})
            curves.log_failures(step, [TORN])
            if step == 2:
                curves.log_metrics("validation", step, {"video_top1": 0.5})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"kind": "tr')
    with MetricsLog(tmp_path, 2) as curves:
        curves.log_metrics("train", 3, {"loss": 30.0})
    assert [(line["kind"], line["step"]) for line in read_json_lines(tmp_path / "log.jsonl")] == [
        ("train", 1),
        ("train", 2),
        ("validation", 2),
        ("train", 3),
    ]
    assert [line["step"] for line in read_json_lines(tmp_path / "failures.jsonl")] == [1, 2]


def test_tensorboard_shows_each_step_once_after_a_resume(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0) as curves:
        for step in (1, 2, 3):
            curves.log_metrics("train", step, {"loss": float(step), "name": "text is no point"})
    with MetricsLog(tmp_path, 2) as curves:
        curves.log_metrics("train", 3, {"loss": 30.0})
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert board.Tags()["scalars"] == ["train/loss"]
    assert [(event.step, event.value) for event in board.Scalars("train/loss")] == [(1, 1.0), (2, 2.0), (3, 30.0)]
