"""Scores as CSV and JSON, from `evaluate` and `fuse`."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from muybridge.evaluation.scores_text import write_scores_text
from muybridge.evaluation.video_scores import read_any_video_scores, read_video_scores
from muybridge.models.heads import Head, make_ordinal_outputs
from scored import TaskVideo, write_task_scores


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(copytree(finished_run, tmp_path / "run"))


def test_a_row_a_video(run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    line = ("evaluate", run, "--data", motions, "--evaluation.clips", 2, "-o")
    told = cli(*line, tmp_path / "x.csv")
    assert told.code == 0
    assert told.out.splitlines()[-1] == f"wrote {tmp_path / 'x.csv'}"
    assert cli(*line, tmp_path / "x.json").code == 0
    saved = json.loads((tmp_path / "x.json").read_text())
    scores = read_video_scores(Path(saved["scores"]))
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["video"] for row in rows] == [row["video"] for row in saved["videos"]] == list(scores.videos)
    for row, video, probabilities in zip(rows, saved["videos"], scores.probabilities, strict=True):
        assert [float(row[f"probability_{name}"]) for name in scores.header.classes] == probabilities.tolist()
        assert row["predicted"] == video["predicted"] == max(video["probabilities"], key=video["probabilities"].get)
        assert row["labels"] == video["labels"][0] == Path(row["video"]).parent.name
        assert int(row["is_right"]) == video["is_right"] == (row["labels"] == row["predicted"])
    assert sum(int(row["is_right"]) for row in rows) == saved["video_top1"]["of_all"]["right"]


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_numbers_stand_beside_their_targets(tmp_path: Path) -> None:
    head = Head("regression", ("ef",), "identity", ("%",), (50.0,), (10.0,))
    videos: list[TaskVideo] = [("x", (math.nan,), [None]), ("a", (60.0,), [[2.0]])]
    outputs = read_any_video_scores(write_task_scores(tmp_path / "s.parquet", head, ("ef",), videos))
    write_scores_text(tmp_path / "s.csv", outputs, {})
    failed, row = read_rows(tmp_path / "s.csv")
    assert row == {"video": "a", "num_views": "1", "num_failed_views": "0", "target_ef": "60.0", "value_ef": "70.0"}
    assert failed == {"video": "x", "num_views": "1", "num_failed_views": "1", "target_ef": "", "value_ef": ""}
    write_scores_text(tmp_path / "s.json", outputs, {"scores": "s"})
    saved = json.loads((tmp_path / "s.json").read_text())
    assert saved["videos"][0]["values"] is None
    assert saved["videos"][1]["values"] == {"ef": 70.0}


def test_labels_and_levels_are_named(tmp_path: Path) -> None:
    labels = Head("multi_label", ("hug", "push"), "sigmoid", thresholds=(0.5, 0.1))
    videos: list[TaskVideo] = [
        ("a", (1.0, 1.0), [[1.0, -1.0]]),
        ("b", (0.0, 0.0), [[1.0, -9.0]]),
        ("c", (0.0, 1.0), [None]),
    ]
    outputs = read_any_video_scores(write_task_scores(tmp_path / "l.parquet", labels, labels.outputs, videos))
    write_scores_text(tmp_path / "l.csv", outputs, {})
    names = [(row["labels"], row["predicted"], row["is_right"]) for row in read_rows(tmp_path / "l.csv")]
    assert names == [("hug|push", "hug|push", "1"), ("", "hug", "0"), ("push", "", "")]

    levels = ("none", "mild", "severe")
    head = Head("ordinal", make_ordinal_outputs(levels), "cumulative_sigmoid")
    outputs = read_any_video_scores(
        write_task_scores(tmp_path / "o.parquet", head, levels, [("a", (2.0,), [[3.0, -1.0]])])
    )
    write_scores_text(tmp_path / "o.csv", outputs, {})
    (row,) = read_rows(tmp_path / "o.csv")
    assert (row["labels"], row["predicted"], row["is_right"]) == ("severe", "mild", "0")
    assert [float(row[f"probability_{name}"]) for name in levels] == pytest.approx([0.0474, 0.6837, 0.2689], abs=1e-4)


def test_fused_scores(run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    for name in ("one", "two"):
        line = ("evaluate", run, "--data", motions, "--evaluation.clips", 2, "-o", tmp_path / f"{name}.parquet")
        assert cli(*line).code == 0
    fused = ("fuse", tmp_path / "one.parquet", tmp_path / "two.parquet", "-o")
    assert cli(*fused, tmp_path / "f.json").code == 0
    saved = json.loads((tmp_path / "f.json").read_text())
    scores = read_video_scores(tmp_path / "one.parquet")
    values = [list(video["probabilities"].values()) for video in saved["videos"]]
    assert values == [pytest.approx(row) for row in scores.probabilities.tolist()]
    refused = cli(*fused, tmp_path / "f.parquet")
    assert refused.code == 2
    assert "give it a name that ends in .csv or .json" in refused.err
