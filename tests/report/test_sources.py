from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import pytest
import torch

from muybridge.records import Checkpoint
from muybridge.report.sources import RunRecord, StudyRecord, read_run, read_sources
from muybridge.weights.card import load_card, load_network, save
from scored import certain, write_score_file

CLASSES = ("kick", "hug")
VIDEOS = [("a.mp4", (0,), [certain(0, 2), None]), ("b.mp4", (1,), [certain(0, 2), certain(0, 2)])]


def scores(path: Path, split: str = "test") -> Path:
    return write_score_file(path, VIDEOS, CLASSES, split=split)


def runs(*addresses: Path | str) -> list[RunRecord]:
    records = read_sources([str(address) for address in addresses])
    assert isinstance(records, list)
    return records


def test_a_score_file_is_a_run_of_which_nothing_else_is_known(tmp_path: Path) -> None:
    (run,) = runs(scores(tmp_path / "mine.parquet"))
    assert run.name == "mine"
    assert run.evaluations[0].accuracy.video_top1.of_all.right == 1
    assert [(view.video, view.view, view.reason) for view in run.evaluations[0].failures] == [
        ("a.mp4", 1, "broken on purpose")
    ]
    assert [one.video for one in run.evaluations[0].mistakes] == ["b.mp4"]
    assert (run.data, run.settings, run.log) == (None, {}, ())


def test_a_run_folder_is_read_whole(finished_run: Path) -> None:
    (run,) = runs(finished_run)
    assert run.name == "run"
    assert run.settings["model"] == "r2plus1d_10"
    assert run.network
    assert run.environment["packages"]["torch"]
    assert sum(line["kind"] == "train" for line in run.log) == 12
    assert [one.name for one in run.evaluations] == ["validation"]


def test_test_scores_come_before_validation(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "scores"
    for name, split in (("a-better-one", "test"), ("test", "test"), ("train", "train"), ("validation", "validation")):
        scores(folder / f"{name}.parquet", split)
    (run,) = runs(tmp_path / "run")
    assert [one.name for one in run.evaluations] == ["test", "a-better-one", "validation", "train"]


def test_scores_of_weights_that_the_run_does_not_stand_for_are_named(finished_run: Path, tmp_path: Path) -> None:
    folder = Path(copytree(finished_run, tmp_path / "run", ignore=ignore_patterns("checkpoints")))
    network, card = load_network(folder / "last.safetensors")
    with torch.no_grad():
        network.fc.bias += 1
    last = save(network, folder / "last.safetensors", classes=card.classes, preprocessing=card.preprocessing)
    best = load_card(folder / "best.safetensors")
    for name, sha256 in (("best", best.tensors_sha256), ("last", last.tensors_sha256), ("stale", "0" * 64)):
        write_score_file(folder / "scores" / f"{name}.parquet", VIDEOS, CLASSES, model_sha256=sha256)

    def read_weights() -> dict[str, tuple[Checkpoint | None, str]]:
        (run,) = runs(folder)
        return {one.name: (one.checkpoint, "; ".join(one.remarks)) for one in run.evaluations}

    found = read_weights()
    assert found["best"] == ("best", "")
    assert found["last"] == ("last", "of the last weights of the run, not of the best ones")
    assert found["stale"][0] is None and found["stale"][1].startswith("of weights that the run no longer has")
    (folder / "best.safetensors").unlink()
    assert read_weights()["last"] == ("last", "")
    (folder / "last.safetensors").unlink()  # of a run without weights nothing is said
    assert read_weights()["stale"] == (None, "")


@pytest.mark.parametrize(
    ("addresses", "names"),
    [
        (("x/rgb", "x/flow"), ["rgb", "flow"]),
        (("x/seed0/run", "x/seed1/run"), ["seed0/run", "seed1/run"]),
        (("x/rgb/scores/test.parquet", "x/flow/scores/test.parquet"), ["rgb", "flow"]),
        (("x/one.parquet", "x/two.parquet"), ["one", "two"]),
    ],
)
def test_names_are_as_short_as_they_can_be(tmp_path: Path, addresses: tuple[str, ...], names: list[str]) -> None:
    for address in addresses:
        path = tmp_path / address
        scores(path if path.suffix else path / "scores" / "test.parquet")
    assert [run.name for run in runs(*(tmp_path / address for address in addresses))] == names


def test_what_is_no_run_is_refused_in_a_sentence(tmp_path: Path, finished_run: Path) -> None:
    with pytest.raises(ValueError, match="there is no run folder, score file or study"):
        runs(tmp_path / "nothing")
    with pytest.raises(ValueError, match="there is no score file"):
        runs(tmp_path / "nothing.parquet")
    with pytest.raises(
        ValueError, match=r"is not a run folder: it contains none of settings\.yaml, log\.jsonl, scores"
    ):
        runs(tmp_path)
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / "settings.yaml").write_text("model: r2plus1d_10\n")
    with pytest.raises(ValueError, match="neither scores nor a log yet"):
        runs(tmp_path / "early")
    with pytest.raises(ValueError, match="given twice"):
        runs(finished_run, finished_run)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("settings.yaml", "a: [", "is not a YAML file"),
        ("settings.yaml", "- 1", "does not contain settings"),
        ("environment.json", "{", "is not JSON, or damaged"),
        ("network.json", "[]", "expected a JSON object"),
        ("scores/validation.parquet", "PAR1", "not a Parquet file, or a damaged one"),
    ],
)
def test_damage_is_named(name: str, content: str, message: str, tmp_path: Path, finished_run: Path) -> None:
    copytree(finished_run, tmp_path / "run", ignore=lambda folder, names: ["checkpoints", "tensorboard"])
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(ValueError, match=message) as refused:
        read_run(tmp_path / "run", "run")
    assert name.split("/")[-1] in str(refused.value)


def test_truncated_scores_are_named(tmp_path: Path) -> None:
    path = scores(tmp_path / "cut.parquet")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"cut\.parquet: not a Parquet file, or a damaged one"):
        runs(path)


def test_scores_without_labels_are_named(tmp_path: Path) -> None:
    path = write_score_file(tmp_path / "s.parquet", [("a", (), [certain(0, 2)])], CLASSES)
    with pytest.raises(ValueError, match=r"s\.parquet: none of 1 video of split test has a label"):
        runs(path)


def test_studies(tmp_path: Path, finished_run: Path) -> None:
    path = tmp_path / "study.json"
    study = {"format": 1, "name": "n", "title": "t", "claim": "c", "verdict": {}, "tables": [], "figures": []}
    path.write_text(json.dumps(study))
    for address in (tmp_path, path):
        records = read_sources([str(address)])
        assert isinstance(records, StudyRecord)
        assert records.values == study
    with pytest.raises(ValueError, match="which is reported alone"):
        read_sources([str(finished_run), str(tmp_path)])
    path.write_text(json.dumps({**study, "format": 2}))
    with pytest.raises(ValueError, match="has study format 2, but this version reads format 1"):
        read_sources([str(tmp_path)])
    del study["claim"]
    path.write_text(json.dumps(study))
    with pytest.raises(ValueError, match="lacks claim"):
        read_sources([str(tmp_path)])


def test_scores_of_whole_videos_are_read_like_those_of_views(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    for keep in ("views", "videos"):
        options = ("--data", motions, "--evaluation.keep", keep, "--evaluation.clips=3", "--loading.workers=0")
        assert cli("evaluate", finished_run, *options, "-o", tmp_path / f"{keep}.parquet").code == 0
    ((views,), (videos,)) = (run.evaluations for run in runs(tmp_path / "views.parquet", tmp_path / "videos.parquet"))
    assert videos.accuracy == views.accuracy
    assert [(one.video, one.predicted_class) for one in videos.mistakes] == [
        (one.video, one.predicted_class) for one in views.mistakes
    ]
    assert {one.view for one in videos.mistakes} <= {1}
