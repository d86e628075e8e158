"""Scores as CSV and JSON, from `evaluate` and `fuse`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from muybridge.evaluation.video_scores import read_video_scores


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
