"""`muybridge demo` on a smaller data set: every part of it speaks, and a second call goes on from the first."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from muybridge.evaluation.aggregate import compute_video_scores
from muybridge.evaluation.metrics import compute_accuracy
from muybridge.evaluation.scores import read_scores
from muybridge.loading import workers
from muybridge.studies import demo
from muybridge.synthetic import motions


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pair of classes, few videos, few steps; all else as it is."""

    def run(*arguments: Any, **options: Any) -> Any:
        settings = original(*arguments, **options)
        return replace(settings, training=replace(settings.training, clips_per_epoch=16, batch_size=8))

    original = demo.motion_run
    few = motions.MotionSettings(
        classes=2, train_videos_per_class=4, validation_videos_per_class=1, test_videos_per_class=2
    )
    monkeypatch.setattr(demo, "motion_run", run)
    monkeypatch.setattr(demo, "MOTIONS", few)
    monkeypatch.setattr(demo, "UNTRIMMED", {"validation": ("right", "left"), "test": ("left", "right")})
    monkeypatch.setattr(
        workers, "resolve_num_workers", lambda wanted: 0
    )  # each pool of workers takes longer than all else here


def test_it_runs_in_one_process(tmp_path: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = cli("demo", "-o", tmp_path / "demo")
    assert told.code == 2
    assert "the demo runs in one process; leave torchrun out" in told.err


@pytest.mark.usefixtures("small_demo")
def test_the_demo_goes_the_whole_road_and_can_be_run_again(tmp_path: Path, cli: Callable[..., Any]) -> None:
    folder = tmp_path / "demo"
    told = cli("demo", "-o", folder, "--epochs", 1)
    assert told.code == 0
    for part in (
        "1. rendering",
        "2. training a small f-R2D-10",
        "3. training a small R(2+1)D-10",
        f"6. the reports: {folder / 'report.html'} and {folder / 'comparison.html'}",
        f"look at it: muybridge studio {folder / 'untrimmed'} --allow {folder}",
        "next: muybridge train",
    ):
        assert part in told.err
    table = {
        line[:14].strip(): line[14:].split()
        for line in told.out.splitlines()
        if line.startswith(("f-R2D", "R(2", "ceil"))
    }
    assert list(table) == ["f-R2D-10", "R(2+1)D-10", "ceiling"]
    assert table["ceiling"][0] == "50.0"
    for name, model in zip(("f-R2D-10", "R(2+1)D-10"), demo.MODELS, strict=True):
        measured = compute_accuracy(compute_video_scores(read_scores(folder / model / "scores" / "test.parquet")))
        assert float(table[name][1]) == round(100 * measured.video_top1.of_all.share, 1)
        assert measured.num_videos == 4
    assert float(table["f-R2D-10"][1]) <= 50
    assert "along an untrimmed video" in told.out
    assert "true motion" in told.out
    assert "segments right (F1@50)" in told.out
    assert "r2plus1d_10" in (folder / "report.html").read_text()
    assert "Paired tests on the same videos" in (folder / "comparison.html").read_text()

    again = cli("demo", "-o", folder, "--epochs", 1, "--json")
    assert again.code == 0
    assert "all 2 steps of the run are done" in again.err
    found = json.loads(again.out)
    assert found["ceiling"] == 50
    assert found["reports"] == [str(folder / "report.html"), str(folder / "comparison.html")]
    assert {model: round(row["video_top1"], 1) for model, row in found["networks"].items()} == {
        model: float(table[name][1]) for name, model in zip(("f-R2D-10", "R(2+1)D-10"), demo.MODELS, strict=True)
    }
    assert [segment["label"] for segment in found["untrimmed"]["truth"]] == ["left", "right"]
    assert found["untrimmed"]["predicted"][0]["start_seconds"] == 0
