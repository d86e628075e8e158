"""Each task learns from generated motion, from the list to the metrics of the test videos and to predictions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import muybridge
from muybridge.evaluation.evaluate import evaluate_split
from muybridge.evaluation.multi_label import MultiLabelMetrics
from muybridge.evaluation.ordinal import OrdinalMetrics
from muybridge.evaluation.scores import read_any_scores, read_scores
from muybridge.evaluation.task_metrics import TaskMetrics
from muybridge.files.run_folder import read_json_lines
from muybridge.prediction.timeline import TimelineOptions
from muybridge.records import Task
from muybridge.settings import EvaluateSettings, EvaluationSettings, LoadingSettings, TrainSettings
from muybridge.training.train import train
from runs import tiny_run
from task_data import SIZE, write_task_data

FAST = {"clips.length": 8, "clips.crop": SIZE, "evaluation.clips": 1, "training.batch_size": 8, "network.width": 8}


def run_task(folder: Path, task: Task, changes: dict[str, Any]) -> tuple[TrainSettings, TaskMetrics]:
    data = write_task_data(folder / "data", task)
    long_enough = {"training.epochs": 4, "training.clips_per_epoch": 96, "training.task": task}
    settings = tiny_run(data, folder / "run", {**FAST, **long_enough, **changes})
    train(settings)
    test = EvaluateSettings(data=str(data), evaluation=EvaluationSettings(clips=1), loading=LoadingSettings(workers=0))
    metrics = evaluate_split(settings.output, test, folder / "test.parquet").metrics
    assert isinstance(metrics, TaskMetrics)
    assert metrics.num_videos == 16
    return settings, metrics


def test_several_labels(tmp_path: Path, cli: Callable[..., Any]) -> None:
    settings, metrics = run_task(tmp_path, "multi_label", {"training.epochs": 3})
    assert isinstance(metrics.metrics, MultiLabelMetrics)
    assert metrics.metrics.mean_average_precision.value > 0.9
    assert metrics.metrics.chance == 0.5
    recognizer = muybridge.load(settings.output)
    assert recognizer.card.format == 2
    assert recognizer.card.head is not None
    assert recognizer.card.head.thresholds is not None  # of the validation videos
    assert recognizer.card.head.thresholds != (0.5, 0.5)
    prediction = recognizer.predict(tmp_path / "data" / "test-003.mp4", clips=1)
    assert prediction.labels is not None
    assert set(prediction.labels) == {
        name
        for (name, probability) in prediction.classes
        if probability >= dict(zip(recognizer.classes, recognizer.card.head.thresholds, strict=True))[name]
    }
    logged = [line for line in read_json_lines(Path(settings.output) / "log.jsonl") if line["kind"] == "validation"]
    assert {"mean_average_precision", "micro_f1"} <= logged[-1].keys()
    with pytest.raises(ValueError, match="the scores are of the task multi_label, expected single_label"):
        read_scores(tmp_path / "test.parquet")
    told = cli("evaluate", settings.output, "--data", settings.data, "--evaluation.keep", "videos")
    assert (told.code, "evaluation.keep videos is for the task single_label" in told.err) == (2, True)


def test_a_number(tmp_path: Path, cli: Callable[..., Any]) -> None:
    settings, metrics = run_task(tmp_path, "regression", {"training.units": ("px/frame",)})
    assert isinstance(metrics.metrics, tuple)
    (speed,) = metrics.metrics
    assert speed.r2.value > 0.5
    assert speed.mae.value < 0.6 * speed.baseline_mae
    told = cli("predict", settings.output, str(tmp_path / "data" / "test-001.mp4"), "--json", "--clips", "1")
    (value,) = json.loads(told.out)["values"]
    scores = read_any_scores(tmp_path / "test.parquet")
    head = muybridge.load(settings.output).card.head
    assert head is not None
    assert scores.header.head == head
    row = scores.table["video"].to_pylist().index("test-001.mp4")
    expected = scores.table["outputs"][row].as_py()[0] * head.target_std[0] + head.target_mean[0]  # type: ignore[index]
    assert value == {"name": "label", "value": pytest.approx(expected, rel=1e-4), "unit": "px/frame"}
    told = cli("predict", settings.output, str(tmp_path / "data" / "test-001.mp4"), "--timeline")
    assert (told.code, "a timeline is of classes" in told.err) == (2, True)


def score_slow(clips: torch.Tensor) -> torch.Tensor:
    """40 % still, 30 % slow, 30 % fast: the median is slow."""
    return torch.tensor([[0.4, -0.85]]).repeat(len(clips), 1)


def test_levels(tmp_path: Path, cli: Callable[..., Any]) -> None:
    settings, metrics = run_task(
        tmp_path, "ordinal", {"training.epochs": 3, "training.levels": ("still", "slow", "fast")}
    )
    assert isinstance(metrics.metrics, OrdinalMetrics)
    assert metrics.metrics.kappa.value > 0.5
    assert metrics.metrics.mae.value < metrics.metrics.baseline_mae
    prediction = muybridge.load(settings.output).predict(tmp_path / "data" / "test-002.mp4", clips=1)
    assert sum(probability for _, probability in prediction.classes) == pytest.approx(1)
    assert prediction.labels is not None
    assert len(prediction.labels) == 1
    constant = replace(muybridge.load(settings.output), scorer=score_slow)
    prediction = constant.predict(tmp_path / "data" / "test-002.mp4", timeline=TimelineOptions(step_frames=2))
    assert prediction.classes[0] == ("still", pytest.approx(0.4, abs=0.01))
    assert prediction.labels == ("slow",) == tuple(segment.label for segment in prediction.segments)
    told = cli("evaluate", settings.output, "--data", settings.data, "--evaluation.clips", "1")
    assert told.code == 0
    assert "kappa" in told.out
    assert "0.1 times the default's multiply-adds; split test; task ordinal" in told.out
    told = cli("evaluate", settings.output, "--data", settings.data, "--timeline")
    assert (told.code, "evaluate --timeline is for the task single_label" in told.err) == (2, True)
