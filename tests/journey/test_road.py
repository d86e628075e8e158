"""The whole road by the command line on tiny data: train, evaluate, predict, extract; every number worked out again.

What is worked out again uses pyarrow, safetensors and numpy only: softmax, averages, ranks and the classifier are written
out here once more.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

from muybridge.settings import settings_to_dict
from runs import tiny_run


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.fixture
def road(motions: Path, tmp_path: Path, cli: Callable[..., Any]) -> tuple[Path, Path, dict[str, Any]]:
    """The run folder, the score file and the accuracy that was reported, all by the command line."""
    plain = settings_to_dict(tiny_run(motions, tmp_path / "run"))
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(plain))
    assert cli("train", "--config", tmp_path / "tiny.yaml").code == 0
    told = cli("evaluate", tmp_path / "run", "--data", motions, "--json", "--loading.workers", 1)
    assert told.code == 0
    return tmp_path / "run", tmp_path / "run" / "scores" / "test.parquet", json.loads(told.out)


def test_from_files_to_a_reported_accuracy(
    road: tuple[Path, Path, dict[str, Any]], motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    run, path, reported = road
    table = pq.read_table(path)
    header = json.loads(table.schema.metadata[b"muybridge"])
    names = [f"test/{label}/0000{number}.mp4" for label in ("left", "right") for number in range(3)]

    # Every planned view is there once, with the right label, and its header says what made it.
    assert list(zip(table["video"].to_pylist(), table["view"].to_pylist(), strict=True)) == [
        (name, view) for name in names for view in range(10)
    ]
    assert header["classes"] == ["left", "right"]
    assert table["labels"].to_pylist() == [[0]] * 30 + [[1]] * 30
    assert set(table["status"].to_pylist()) == {"ok"}
    # 13 frames at 24 a second, spans of 4: one clip at each of the ten places.
    assert np.allclose(table["start_seconds"].to_numpy().reshape(6, 10), np.arange(10) / 24)
    with safe_open(run / "best.safetensors", "numpy") as file:
        card = json.loads(file.metadata()["muybridge"])
    assert header["model_sha256"] == card["tensors_sha256"]

    # The reported accuracy, from the logits.
    logits = np.array(table["logits"].to_pylist()).reshape(6, 10, 2)
    labels = np.repeat([0, 1], 3)
    means = softmax(logits).mean(1)
    assert reported["video_top1"]["of_all"]["right"] == int((means.argmax(1) == labels).sum())
    assert reported["clip_top1"]["of_all"]["right"] == int((logits.argmax(2) == labels[:, None]).sum())
    assert reported["video_top5"]["of_all"]["right"] == 6
    assert (reported["video_top1"]["of_all"]["of"], reported["clip_top1"]["of_all"]["of"]) == (6, 60)
    assert [row["right"] for row in reported["per_class"]] == [
        int(((means.argmax(1) == labels) & (labels == label)).sum()) for label in (0, 1)
    ]

    # `predict` takes another way through the code to the same probabilities.
    told = cli("predict", run, motions / "test", "--json")
    assert told.code == 0
    for line, mean in zip(told.out.splitlines(), means, strict=True):
        classes = {named["label"]: named["probability"] for named in json.loads(line)["classes"]}
        assert classes["left"] == pytest.approx(mean[0], abs=1e-5)
        assert classes["right"] == pytest.approx(mean[1], abs=1e-5)

    # `extract` writes what enters the classifier: the classifier of the file makes the same logits of it.
    assert cli("extract", run, motions / "test", "-o", tmp_path / "features.parquet").code == 0
    features = pq.read_table(tmp_path / "features.parquet")
    assert features["video"].to_pylist() == [str(motions / name) for name in names for _ in range(10)]
    weights = load_file(run / "best.safetensors")
    rebuilt = np.array(features["features"].to_pylist()) @ weights["fc.weight"].T + weights["fc.bias"]
    assert np.allclose(rebuilt.reshape(6, 10, 2), logits, atol=1e-4)


def test_the_settings_of_the_run_folder_make_the_same_run_again(
    road: tuple[Path, Path, dict[str, Any]], tmp_path: Path, cli: Callable[..., Any]
) -> None:
    run, _, _ = road
    assert cli("train", "--config", run / "settings.yaml", "-o", tmp_path / "again").code == 0
    ours, theirs = load_file(run / "last.safetensors"), load_file(tmp_path / "again" / "last.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_prepared_data_gives_the_same_scores_up_to_the_encoding(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    assert cli("prepare", motions, "-o", tmp_path / "prepared", "--scale", 32, 32, "--workers", 1).code == 0
    tables = []
    for data in (motions, tmp_path / "prepared"):
        path = tmp_path / f"{data.name}.parquet"
        assert cli("evaluate", finished_run, "--data", data, "-o", path, "--loading.workers", 0).code == 0
        tables.append(pq.read_table(path))
    raw, stored = tables
    for column in ("video", "view", "start_seconds", "labels", "status"):
        assert raw[column].to_pylist() == stored[column].to_pylist(), column
    ours, theirs = (softmax(np.array(table["logits"].to_pylist())) for table in tables)
    differences = np.abs(ours - theirs)
    assert 0 < differences.mean() < 0.05
    assert np.corrcoef(ours[:, 0], theirs[:, 0])[0, 1] > 0.6  # of the same clip, not of any

    # `predict` takes a prepared folder for a folder of videos, and gives what `evaluate` gives.
    told = cli("predict", finished_run, tmp_path / "prepared", "--json")
    assert told.code == 0
    predicted = {line["video"]: line for line in map(json.loads, told.out.splitlines())}
    assert len(predicted) == 16 + 4 + 6
    means = theirs.reshape(6, 10, 2).mean(1)
    for name, mean in zip(stored["video"].to_pylist()[::10], means, strict=True):
        found = predicted[str(tmp_path / "prepared" / name)]["classes"]
        assert {named["label"]: named["probability"] for named in found}["left"] == pytest.approx(mean[0], abs=1e-5)
    one = cli("predict", finished_run, tmp_path / "prepared" / name, tmp_path / "prepared" / "no.mp4", "--json")
    assert one.code == 3
    first, second = map(json.loads, one.out.splitlines())
    assert first == predicted[first["video"]]
    assert (second["status"], "has no video of this name" in second["reason"]) == ("missing", True)
