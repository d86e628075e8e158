"""Numbers and several labels from a list through prepared data to metrics: raw and prepared videos have the same targets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muybridge.evaluation.scores import read_any_scores
from muybridge.loading.open_data import open_data
from muybridge.records import Task
from task_data import SIZE, describe_targets, write_task_data

FEW = {"train": 8, "validation": 2, "test": 4}
FAST = ["--model", "r2plus1d_10", "--network.width", "4", "--loading.workers", "0", "--device", "cpu"]
CLIPS = ["--clips.length", "4", "--clips.scale", f"[{SIZE},{SIZE}]", "--clips.crop", str(SIZE)]
ONE_STEP = ["--training.batch-size", "4", "--training.clips-per-epoch", "4", "--training.epochs", "1"]


def describe_two_numbers(task: Task, speeds: tuple[float, float]) -> dict[str, str]:
    """The speeds, the second of which is known where the first is low."""
    return {"target_upper": f"{speeds[0]:.3f}", "target_lower": f"{speeds[1]:.3f}" if speeds[0] < 2 else ""}


@pytest.mark.parametrize(
    ("task", "describe", "figures"),
    [
        ("regression", describe_two_numbers, {"mae", "rmse", "r2"}),
        ("regression", describe_targets, {"mae", "rmse", "r2"}),
        ("multi_label", describe_targets, {"mean_average_precision"}),
    ],
)
def test_from_a_list_to_metrics(
    tmp_path: Path, cli: Callable[..., Any], task: Task, describe: Any, figures: set[str]
) -> None:
    source = write_task_data(tmp_path / "raw", task, num_videos=FEW, describe=describe)
    prepared = tmp_path / "prepared"
    options = ["--scale", str(SIZE), str(SIZE), "--workers", "1", "--task", task]
    told = cli("prepare", source, "-o", prepared, *options)
    assert told.code == 0, told.err
    assert "class" not in told.err, "numbers are no classes, and a note on classes is none"
    raw, stored = open_data(str(source), task=task), open_data(str(prepared), task=task)
    assert (stored.classes, stored.target_names) == (raw.classes, raw.target_names)
    assert stored.table["labels"].to_pylist() == raw.table["labels"].to_pylist()
    targets = [[data.get_targets(index) for index in range(len(data))] for data in (raw, stored)]
    np.testing.assert_array_equal(*map(np.array, targets))
    run = tmp_path / "run"
    told = cli("train", "--data", prepared, "-o", run, "--training.task", task, *FAST, *CLIPS, *ONE_STEP)
    assert told.code == 0, told.err
    told = cli("evaluate", run, "--data", prepared, "--json", "--evaluation.clips", "1", "--loading.workers", "0")
    assert told.code == 0, told.err
    found = json.loads(told.out)
    assert figures <= set(_list_keys(found))
    scores = read_any_scores(Path(found["scores"]))
    assert scores.table.num_rows == FEW["test"] == scores.header.num_videos


def _list_keys(values: object) -> list[str]:
    if isinstance(values, dict):
        return [key for name, value in values.items() for key in (name, *_list_keys(value))]
    return [key for value in values for key in _list_keys(value)] if isinstance(values, list) else []


def test_videos_without_a_label_are_not_for_one_label(tmp_path: Path, cli: Callable[..., Any]) -> None:
    source = write_task_data(tmp_path / "raw", "multi_label", num_videos=FEW)
    options = ["--scale", str(SIZE), str(SIZE), "--workers", "1"]
    told = cli("prepare", source, "-o", tmp_path / "refused", *options)
    assert told.code == 2 and "has no label" in told.err and "the task is multi_label" in told.err
    assert cli("prepare", source, "-o", tmp_path / "prepared", "--task", "multi_label", *options).code == 0
    told = cli("train", "--data", tmp_path / "prepared", "-o", tmp_path / "run", *FAST, *CLIPS, *ONE_STEP)
    assert told.code == 2 and "no label; add --training.task multi_label" in told.err
