"""One command over three folds: each is trained on its own, tested on its own, and the mean is theirs."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from muybridge.datasets.splits import ValidationSplit
from muybridge.evaluation import evaluate as evaluate_module
from muybridge.evaluation import overlap as overlap_module
from muybridge.evaluation.aggregate import compute_video_scores
from muybridge.evaluation.evaluate import EvaluationResult
from muybridge.evaluation.metrics import compute_accuracy
from muybridge.evaluation.scores import read_scores
from muybridge.loading.open_data import open_data
from muybridge.settings import settings_to_dict
from muybridge.studies import folds as folds_module
from muybridge.training import job as job_module
from runs import tiny_run


@pytest.fixture
def three_folds(motions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data with folds: fold K is the folder K, each with another number of test videos."""
    root = tmp_path / "data"
    for fold in (1, 2, 3):
        shutil.copytree(motions, root / str(fold))
        for label in ("left", "right"):
            for extra in sorted((root / str(fold) / "test" / label).iterdir())[fold:]:
                extra.unlink()

    def opened(address: str, *, fold: int | None = None, validation: ValidationSplit, **_: Any) -> Any:
        assert fold in (1, 2, 3)
        return open_data(f"{address}/{fold}", validation=validation)

    monkeypatch.setattr(evaluate_module, "open_data", opened)
    monkeypatch.setattr(job_module, "open_data", opened)
    monkeypatch.setattr(overlap_module, "open_data", opened)
    return root


def test_the_mean_is_over_the_folds(
    three_folds: Path, tmp_path: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    plain = settings_to_dict(tiny_run(three_folds, runs, {"training.epochs": 0.5}))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")
    told = cli("folds", "--config", str(tmp_path / "recipe.yaml"), "--json")
    assert told.code == 0, told.err
    values = json.loads(told.out[told.out.index("{") :])
    found = []
    for fold, row in zip((1, 2, 3), values["folds"], strict=True):
        scores = read_scores(runs / f"fold-{fold}" / "scores" / "test.parquet")
        measured = compute_accuracy(compute_video_scores(scores))
        assert (scores.header.fold, measured.num_videos) == (fold, 2 * fold) == (row["fold"], row["num_videos"])
        assert row["video_top1"] == pytest.approx(100 * measured.video_top1.of_all.share)
        found.append(row["video_top1"])
    assert values["mean"]["video_top1"] == pytest.approx(statistics.mean(found))
    assert values["deviation"]["video_top1"] == pytest.approx(statistics.stdev(found))
    assert values["remarks"] == [] and values["mean"]["chance"] == 50
    again = cli("folds", "--config", str(tmp_path / "recipe.yaml"))
    assert again.code == 0, again.err
    assert again.out.splitlines()[-2].split()[0] == "mean"
    result = EvaluationResult(measured, 0, runs, remarks=("training videos included: 1",))
    monkeypatch.setattr(folds_module, "evaluate_split", lambda *_: result)
    words = cli("folds", "--config", str(tmp_path / "recipe.yaml")).out.splitlines()
    assert words[-3:] == [f"fold {fold}: training videos included: 1" for fold in (1, 2, 3)]


def test_one_fold_is_not_all(tmp_path: Path, cli: Callable[..., Any]) -> None:
    told = cli("folds", "--data", "x", "--fold", "2", "-o", str(tmp_path))
    assert told.code == 2
    assert "leave --fold out" in told.err


def test_nothing_is_trained_where_a_later_fold_is_refused(
    three_folds: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    plain = settings_to_dict(tiny_run(three_folds, tmp_path / "runs", {"training.epochs": 0.5}))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")
    (tmp_path / "runs" / "fold-3").mkdir(parents=True)
    (tmp_path / "runs" / "fold-3" / "thesis.tex").write_text("mine")
    told = cli("folds", "--config", str(tmp_path / "recipe.yaml"))
    assert told.code == 2
    assert "fold-3 contains something other than a run" in told.err
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["fold-3"]


def test_every_group_is_tested_once(motions: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    """`folds --by group -k 3` of a list: six groups, two of them tested by each of three networks."""
    files = [path for path in sorted((motions / "train").rglob("*.mp4")) if int(path.stem) < 6]
    rows = [f"{path},{path.parent.name},g{int(path.stem)}" for path in files]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,group", *rows]) + "\n", encoding="utf-8")
    plain = settings_to_dict(tiny_run("", tmp_path / "runs", {"training.epochs": 0.5, "evaluation.clips": 1}))
    del plain["data"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")
    line = ("folds", tmp_path / "list.csv", "--by", "group", "-k", "3", "--config", tmp_path / "recipe.yaml")
    told = cli(*line)
    assert told.code == 0, told.err
    lines = [one.split() for one in told.out.splitlines() if one]
    rows_of_folds, (mean, deviation) = lines[-5:-2], lines[-2:]
    tested: list[str] = []
    accuracies = []
    for fold, row in zip((1, 2, 3), rows_of_folds, strict=True):
        scores = read_scores(tmp_path / "runs" / f"fold-{fold}" / "scores" / "test.parquet")
        videos = set(scores.table["video"].to_pylist())
        groups = {int(Path(video).stem) for video in videos}
        assert (len(groups), len(videos)) == (2, 4), "groups stay whole"
        tested += groups
        accuracies.append(100 * compute_accuracy(compute_video_scores(scores)).video_top1.of_all.share)
        assert row[0] == str(fold) and float(row[2]) == round(accuracies[-1], 1)
    assert sorted(tested) == list(range(6))
    assert (mean[0], float(mean[2])) == ("mean", round(statistics.mean(accuracies), 1))
    assert (deviation[0], float(deviation[2])) == ("+-", round(statistics.stdev(accuracies), 1))
    assert "video@5" not in told.out, "there are two classes"


def test_a_figure_that_a_fold_lacks_has_no_mean() -> None:
    result = folds_module.FoldsResult([{"fold": 1.0, "mae": 2.0, "r2": math.nan}, {"fold": 2.0, "mae": 4.0, "r2": 0.5}])
    assert result.mean["mae"] == 3 and math.isnan(result.mean["r2"]) and math.isnan(result.deviation["r2"])
    values = result.to_json()
    assert values["mean"] == {"mae": 3.0, "r2": None} and values["folds"][0]["r2"] is None
