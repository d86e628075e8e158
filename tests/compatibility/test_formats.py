"""What version 0.1.0 wrote is read by this one: run folders, prepared data, weights, score files, studies (data/README.md)."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import muybridge
from muybridge.cli.main import main

DATA = Path(__file__).parent / "data"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the old files as the working folder: the run names its data by a relative path."""
    shutil.copytree(DATA, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def same(found: object, expected: object) -> bool:
    """Equal JSON values; numbers up to the rounding of another processor."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(same(found.get(key), value) for key, value in expected.items())
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, float):
        return found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    return found == expected


def test_a_run_is_evaluated_as_before(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["evaluate", "run", "--data", "prepared", "--evaluation.clips", "2", "--json", "-o", "new.parquet"]
    assert main(line) == 0
    found, expected = json.loads(capsys.readouterr().out), json.loads((DATA / "evaluate.json").read_text())
    del expected["scores"]
    assert same(found, expected)
    assert set(json.loads((DATA / "evaluate.json").read_text())) <= set(found)
    new, old = pq.read_table(folder / "new.parquet"), pq.read_table(DATA / "scores.parquet")
    assert new.schema.equals(old.schema)
    assert new.select(["video", "view", "labels", "status"]).equals(old.select(["video", "view", "labels", "status"]))
    assert same(new["logits"].to_pylist(), old["logits"].to_pylist())


def test_a_run_predicts_as_before(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "run", "prepared", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert same(found, [json.loads(line) for line in (DATA / "predict.json").read_text().splitlines()])


def test_a_run_is_resumed_to_the_same_weights(folder: Path) -> None:
    expected = load_file(folder / "run" / "last.safetensors")
    line = ["train", "--config", "recipe.yaml", "--data", "prepared", "-o", "run", "--resume"]
    assert main(line) == 0
    found = load_file(folder / "run" / "last.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5)
    assert {path.name for path in (folder / "run" / "checkpoints").iterdir()} == {"step-00000002", "step-00000004"}


def test_files_of_features_and_predictions_keep_their_columns(folder: Path) -> None:
    assert main(["extract", "run", "prepared", "--clips", "2", "-o", "new-features.parquet"]) == 0
    assert main(["predict", "run", "prepared", "-o", "new-predictions.parquet"]) == 0
    for name in ("features", "predictions"):
        new, old = pq.read_table(folder / f"new-{name}.parquet"), pq.read_table(DATA / f"{name}.parquet")
        assert new.schema.equals(old.schema)
        assert same(new.to_pylist(), old.to_pylist())
        assert old.schema.metadata.keys() <= new.schema.metadata.keys()


def test_score_files_are_fused_and_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuse", "scores.parquet", "run/scores/test.parquet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    for address in ("run", "scores.parquet", "videos.parquet", "studies/table1"):
        assert main(["report", address, "-o", "page.html"]) == 0
        assert (folder / "page.html").stat().st_size > 5_000


def test_prepared_data_is_intact_and_trains_on_its_flow(folder: Path) -> None:
    assert main(["prepare", "--check", "prepared"]) == 0
    line = ["train", "--config", "recipe.yaml", "--data", "prepared", "--modality", "flow", "-o", "flow"]
    assert main([*line, "--training.epochs", "1"]) == 0
    assert muybridge.load("flow").card.preprocessing.modality == "flow"


def test_settings_keep_their_names(folder: Path) -> None:
    """A new run's settings.yaml has all keys of an old one, in the same groups."""
    import yaml

    assert main(["train", "--config", "recipe.yaml", "--data", "prepared", "-o", "new", "--training.epochs", "1"]) == 0
    old, new = (yaml.safe_load((folder / run / "settings.yaml").read_text()) for run in ("run", "new"))
    assert old.keys() <= new.keys()
    for group, values in old.items():
        if isinstance(values, dict):
            assert values.keys() <= new[group].keys(), group
