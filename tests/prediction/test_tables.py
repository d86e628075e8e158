"""features.parquet and predictions.parquet: every video once, also after an interruption."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import muybridge
from muybridge.files import parquet_file
from muybridge.files.resumable_table import ResumableTable
from muybridge.kernels import precision
from muybridge.models.heads import Head
from muybridge.models.network import VideoResNet
from muybridge.prediction import ray as prediction_ray
from muybridge.prediction import tables
from muybridge.prediction.predictions_summary import PredictionsSummary
from muybridge.prediction.recognizer import Features, Prediction, Recognizer, load
from muybridge.prediction.tables import FEATURES_SCHEMA, PREDICTIONS_SCHEMA, FeaturesWriter, PredictionsWriter
from muybridge.weights.address import load_weights

SETTINGS = {"model_sha256": "abc", "clips": 3, "top": 2}


def prediction(number: int) -> Prediction:
    if number == 3:
        return Prediction("3.mp4", "unreadable", "no moov atom")
    return Prediction(f"{number}.mp4", "ok", "", (("left", 1 / (number + 2)), ("right", 0.25)))


def test_rows_are_in_the_order_asked_for_and_each_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "PREDICTIONS_PER_PART", 2)
    path = tmp_path / "p.parquet"
    with pytest.raises(KeyboardInterrupt), PredictionsWriter(path, SETTINGS) as file:
        for number in (4, 1, 3):
            file.add(prediction(number))
        raise KeyboardInterrupt
    assert not path.exists()
    with PredictionsWriter(path, SETTINGS) as file:
        assert file.select_pending(f"{number}.mp4" for number in range(5)) == ["0.mp4", "2.mp4", "3.mp4"]
        with pytest.raises(AssertionError, match="is done already"):
            file.add(prediction(1))
        for number in (0, 2, 3):
            file.add(prediction(number))
        assert (
            file.finish([f"{number}.mp4" for number in (0, 1, 2, 3)]).num_failed == 1
        )  # the fifth is not asked for any more
    rows = pq.read_table(path).to_pylist()
    assert [row["video"] for row in rows] == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]
    assert [row["probabilities"] for row in rows] == [[1 / 2, 0.25], [1 / 3, 0.25], [1 / 4, 0.25], []]
    assert [row["labels"] for row in rows] == [["left", "right"]] * 3 + [[]]
    assert [(row["status"], row["reason"]) for row in rows][2:] == [("ok", ""), ("unreadable", "no moov atom")]
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_of_many_parts_is_resumed_and_finished_in_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "PREDICTIONS_PER_PART", 1)
    monkeypatch.setattr(parquet_file, "check_in_child", lambda *_: pytest.fail("a process for a part"))
    videos = [f"{number}.mp4" for number in range(9) if number != 3]
    with PredictionsWriter(tmp_path / "p.csv", SETTINGS) as file:
        for video in videos:
            file.add(replace(prediction(0), video=video))
    with PredictionsWriter(tmp_path / "p.csv", SETTINGS) as file:
        assert file.select_pending(videos) == []
        assert file.finish(videos).num_videos == 8


def test_parts_of_another_network_are_refused(tmp_path: Path) -> None:
    with PredictionsWriter(tmp_path / "p.parquet", SETTINGS) as file:
        file.add(prediction(1))
    with pytest.raises(ValueError, match=r"unfinished p\.parquet in .* was made by another network"):
        PredictionsWriter(tmp_path / "p.parquet", {**SETTINGS, "clips": 4})


@pytest.fixture
def listed(motions: Path, tmp_path: Path) -> Path:
    """A CSV file of three videos, of which one is none."""
    for name in ("left", "right"):
        copyfile(motions / "test" / name / "00000.mp4", tmp_path / f"{name}.mp4")
    (tmp_path / "torn.mp4").write_bytes(b"torn")
    (tmp_path / "videos.csv").write_text("path,label\nright.mp4,right\ntorn.mp4,left\nleft.mp4,left\n")
    return tmp_path / "videos.csv"


def test_a_table_from_the_command_line(
    finished_run: Path, listed: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    result = cli("predict", finished_run, listed, "--clips", 2, "-o", tmp_path / "p.parquet")
    first, label, failure = result.out.splitlines()
    assert (result.code, first) == (3, f"3 videos, 1 of them failed: {tmp_path / 'p.parquet'}")
    assert label.split()[0] in ("1", "2")
    assert failure.startswith("        1 unreadable, such as ")
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert [Path(row["video"]).name for row in rows] == ["right.mp4", "torn.mp4", "left.mp4"]
    assert [row["status"] for row in rows] == ["ok", "unreadable", "ok"]
    for row in rows[::2]:
        expected = load(finished_run).predict(row["video"], clips=2).classes
        assert tuple(zip(row["labels"], row["probabilities"], strict=True)) == expected


def test_a_csv_has_a_row_a_video(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    predictions = [prediction(number) for number in range(5)]
    predictions.append(Prediction("=evil().mp4", "ok", "", (("-up", 0.75),)))
    with PredictionsWriter(path, SETTINGS) as file:
        for one in reversed(predictions):
            file.add(one)
        summary = file.finish([one.video for one in predictions])
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    assert rows[0] == ["video", "status", "reason", "label", "probability", "label_2", "probability_2"]
    assert [row[0] for row in rows[1:]] == ["0.mp4", "1.mp4", "2.mp4", "3.mp4", "4.mp4", "'=evil().mp4"]
    assert rows[2] == ["1.mp4", "ok", "", "left", repr(1 / 3), "right", "0.25"]
    assert rows[4] == ["3.mp4", "unreadable", "no moov atom", "", "", "", ""]
    assert rows[6] == ["'=evil().mp4", "ok", "", "'-up", "0.75", "", ""]
    assert summary == PredictionsSummary(
        6, {"left": 4, "-up": 1}, {"unreadable": 1}, {"unreadable": ("3.mp4", "no moov atom")}
    )
    assert summary.num_failed == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_of_failures_alone(tmp_path: Path) -> None:
    for name in ("p.csv", "p.parquet"):
        with PredictionsWriter(tmp_path / name, SETTINGS) as file:
            file.add(prediction(3))
            summary = file.finish(["3.mp4"])
        assert (summary.num_failed, dict(summary.classes)) == (1, {})
    assert (tmp_path / "p.csv").read_text().splitlines()[0] == "video,status,reason,label,probability"


def test_a_csv_from_the_command_line_is_resumed(
    finished_run: Path, listed: Path, tmp_path: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("predict", finished_run, listed, "--clips", 2, "-o", tmp_path / "p.csv")
    whole = cli(*words, "--json")
    told = json.loads(whole.out)
    assert (whole.code, told["num_videos"], told["num_failed"]) == (3, 3, 1)
    assert sum(told["classes"].values()) == 2
    assert told["failures"] == {"unreadable": 1}
    text = (tmp_path / "p.csv").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(PredictionsWriter, "finish", lambda self, videos: (_ for _ in ()).throw(KeyboardInterrupt))
        assert cli(*words).code == 130
    pending: list[Path] = []
    predict_each = Recognizer.predict_each

    def count(recognizer: Recognizer, videos: list[str], **options: Any) -> Iterator[Prediction]:
        pending.extend(map(Path, videos))
        return predict_each(recognizer, videos, **options)

    monkeypatch.setattr(Recognizer, "predict_each", count)
    assert cli(*words).code == 3
    assert [video.name for video in pending] == ["torn.mp4"], "what failed is tried again"
    assert (tmp_path / "p.csv").read_text() == text


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]) -> Callable[..., None]:
    """Runs a command line up to where it would write its file."""

    def run(*words: object) -> None:
        with monkeypatch.context() as patch:
            for writer in (PredictionsWriter, FeaturesWriter):
                patch.setattr(writer, "finish", lambda self, videos: (_ for _ in ()).throw(KeyboardInterrupt))
            assert cli(*words).code == 130

    return run


def test_a_video_that_was_supplied_or_replaced_meanwhile_is_done_again(
    finished_run: Path, listed: Path, tmp_path: Path, cli: Callable[..., Any], interrupted: Callable[..., None]
) -> None:
    predict = ("predict", finished_run, listed, "--clips", 2, "-o")
    extract = ("extract", finished_run, tmp_path / "left.mp4", tmp_path / "right.mp4", "--clips", 2, "-o")
    tables = [(*predict, tmp_path / "p.parquet"), (*extract, tmp_path / "f.parquet")]
    for words in tables:
        interrupted(*words)
    copyfile(tmp_path / "left.mp4", tmp_path / "torn.mp4")
    copyfile(tmp_path / "left.mp4", tmp_path / "right.mp4")
    assert [cli(*words).code for words in tables] == [0, 0]
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert [(Path(row["video"]).name, row["status"]) for row in rows] == [
        *(("right.mp4", "ok"), ("torn.mp4", "ok"), ("left.mp4", "ok"))
    ]
    assert rows[0]["probabilities"] == rows[1]["probabilities"] == rows[2]["probabilities"]
    of_clips = pq.read_table(tmp_path / "f.parquet")
    assert of_clips.column_names == FEATURES_SCHEMA.names
    assert [Path(video).name for video in of_clips["video"].to_pylist()] == [*["left.mp4"] * 2, *["right.mp4"] * 2]
    assert of_clips["features"].to_pylist()[:2] == of_clips["features"].to_pylist()[2:]


def test_weights_imported_in_another_way_do_not_resume_a_table(
    finished_run: Path, listed: Path, tmp_path: Path, cli: Callable[..., Any], interrupted: Callable[..., None]
) -> None:
    network, card = load_weights(finished_run)
    stride = replace(card.preprocessing, frame_stride=2)
    deviating = VideoResNet(replace(card.specification, norm_epsilon=0.1))
    deviating.load_state_dict(network.state_dict())
    interrupted("predict", finished_run, listed, "-o", tmp_path / "p.csv")
    interrupted("extract", finished_run, tmp_path / "left.mp4", "-o", tmp_path / "f.csv")
    for number, changes in enumerate(({"classes": ["up", "down"]}, {"preprocessing": stride}, {"network": deviating})):
        values = {"network": network, "classes": card.classes, "preprocessing": card.preprocessing} | changes
        weights = tmp_path / f"{number}.safetensors"
        muybridge.save(values["network"], weights, classes=values["classes"], preprocessing=values["preprocessing"])
        assert load_weights(weights)[1].tensors_sha256 == card.tensors_sha256
        refused = cli("predict", weights, listed, "-o", tmp_path / "p.csv")
        assert refused.code == 2 and "was made by another network or other settings" in refused.err
        if "classes" not in changes:
            assert cli("extract", weights, tmp_path / "left.mp4", "-o", tmp_path / "f.csv").code == 2
    assert cli("predict", finished_run, listed, "-o", tmp_path / "p.csv").code == 3


def test_precisions_that_auto_stands_for_are_not_mixed(
    finished_run: Path,
    listed: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
    interrupted: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("predict", finished_run, listed, "-o", tmp_path / "p.parquet")
    interrupted(*words)
    with monkeypatch.context() as patch:
        patch.setattr(precision, "find_bf16_problem", lambda device: None)
        patch.setattr(precision, "has_fast_bf16", lambda device: True)
        refused = cli(*words)
    assert refused.code == 2 and "was made by another network or other settings" in refused.err
    assert cli(*words, "--precision", "fp32").code == 3
    metadata = pq.read_schema(tmp_path / "p.parquet").metadata
    assert json.loads(metadata[b"muybridge"])["precision"] == "fp32"


@pytest.mark.parametrize("has_bf16", [True, False])
def test_a_gpu_of_a_ray_cluster_chooses_the_precision_of_all_workers(
    has_bf16: bool,
    finished_run: Path,
    listed: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, expected = [], "bf16" if has_bf16 else "fp32"

    def run_here(function: Callable[..., Any], jobs: Iterable[Any], **options: Any) -> Iterator[Any]:
        assert (options["address"], options["num_gpus"]) == ("local", 1)
        for name, arguments in jobs:
            if function is prediction_ray._predict_one:
                asked.append(arguments[1])
                yield name, replace(prediction(0), video=name)
            else:
                yield name, function(*arguments)

    monkeypatch.setattr(prediction_ray, "run_on_ray", run_here)
    monkeypatch.setattr(prediction_ray, "resolve_device", torch.device)
    monkeypatch.setattr(precision, "find_bf16_problem", lambda device: None if has_bf16 else "none")
    path = tmp_path / "p.parquet"
    cli("predict", finished_run, listed, "-o", path, "--ray", "local", "--device", "cuda")
    assert asked and set(asked) == {("cuda", expected, "picture")}
    assert json.loads(pq.read_schema(path).metadata[b"muybridge"])["precision"] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ray", "auto"), "--ray writes predictions into a file; name it, such as -o predictions.parquet"),
        (("-o", "p.parquet", "--explain", "why.mp4"), "of one network and without timelines"),
        (("-o", "p.parquet", "--clips", "0"), "--clips is 0, expected a whole number from 1"),
        (("none.csv", "-o", "p.parquet"), "there is no file none.csv"),
    ],
)
def test_misuse_is_a_sentence(
    arguments: tuple[str, ...], message: str, finished_run: Path, listed: Path, cli: Callable[..., Any]
) -> None:
    result = cli("predict", finished_run, listed, *arguments)
    assert result.code == 2
    assert message in result.err


def features(video: str, num_views: int = 3, seed: int = 0) -> Features:
    drawn = np.random.default_rng(seed)
    return Features(
        video,
        np.arange(num_views, dtype=np.int32) * 2,
        drawn.random(num_views),
        drawn.random((num_views, 5), dtype=np.float32),
    )


def test_rows_are_what_was_added(tmp_path: Path) -> None:
    path = tmp_path / "out" / "features.parquet"
    given = [features("b", 3, seed=1), features("a", 2, seed=2)]
    with FeaturesWriter(path, SETTINGS) as file:
        for item in given:
            file.add(item)
        assert file.finish(["a", "b"]) == 5
    table = pq.read_table(path)
    assert table.column_names == ["video", "view", "start_seconds", "features"]
    assert str(table.schema.field("features").type).startswith("list<") and "float" in str(
        table.schema.field("features")
    )
    assert table["video"].to_pylist() == ["b"] * 3 + ["a"] * 2
    assert table["view"].to_pylist() == [0, 2, 4, 0, 2]
    expected = np.concatenate([item.features for item in given])
    assert np.array_equal(np.array(table["features"].to_pylist(), np.float32), expected)
    assert table["start_seconds"].to_pylist() == [*given[0].start_seconds, *given[1].start_seconds]
    assert json.loads(table.schema.metadata[b"muybridge"]) == {"format": 1, **SETTINGS}
    assert [entry.name for entry in path.parent.iterdir()] == ["features.parquet"]


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "FEATURES_PER_PART", 6)
    path = tmp_path / "features.parquet"
    with pytest.raises(KeyboardInterrupt), FeaturesWriter(path, SETTINGS) as file:
        for name in "abc":
            file.add(features(name))
        raise KeyboardInterrupt
    assert not path.exists()
    with FeaturesWriter(path, SETTINGS) as file:
        assert file.select_pending("abcd") == ["d"]
        file.add(features("d"))
        file.finish("abcd")
    assert list(dict.fromkeys(pq.read_table(path)["video"].to_pylist())) == ["a", "b", "c", "d"]
    with FeaturesWriter(path, SETTINGS) as file:
        assert file.select_pending("abcd") == ["a", "b", "c", "d"]


def test_why_clips_are_missing_is_known_after_an_interruption(tmp_path: Path) -> None:
    path = tmp_path / "features.parquet"
    for name in "ab":
        with FeaturesWriter(path, SETTINGS) as file:
            file.add(replace(features(name), reason=f"1 of 4 clips of {name} could not be read"))
    with FeaturesWriter(path, SETTINGS) as file:
        file.add(features("c"))
        file.finish("bc")
    assert file.reasons == {"b": "1 of 4 clips of b could not be read"}
    assert pq.read_schema(path).remove_metadata().equals(FEATURES_SCHEMA)


def test_a_killed_run_loses_only_what_was_not_yet_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "FEATURES_PER_PART", 6)
    path = tmp_path / "features.parquet"
    killed = FeaturesWriter(path, SETTINGS)
    for name in "abc":
        killed.add(features(name))
    del killed  # and with it the lock, as at the end of a process
    assert FeaturesWriter(path, SETTINGS).select_pending("abcd") == ["c", "d"]


def test_videos_of_another_list_stay_out(tmp_path: Path) -> None:
    path = tmp_path / "features.parquet"
    with FeaturesWriter(path, SETTINGS) as file:
        file.add(features("a"))
        file.add(features("b"))
    with FeaturesWriter(path, SETTINGS) as file:
        with pytest.raises(ValueError, match="do not hold every video once: 1 video is missing"):
            file.finish(["b", "never read"])
        assert file.finish(["b"]) == 3
    assert set(pq.read_table(path)["video"].to_pylist()) == {"b"}


def test_features_of_other_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "features.parquet"
    with FeaturesWriter(path, SETTINGS) as file:
        file.add(features("a"))
    with pytest.raises(ValueError, match=r"unfinished features.parquet in .* other settings; delete that folder"):
        FeaturesWriter(path, {**SETTINGS, "clips": 4})


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "features.parquet"
    path.write_text("the old one")

    class Full:
        def __init__(self, *arguments: Any, **options: Any) -> None:
            raise OSError(28, "No space left on device")

    with FeaturesWriter(path, SETTINGS) as file:
        file.add(features("a"))
        file._parts.flush()
        monkeypatch.setattr(pq, "ParquetWriter", Full)
        with pytest.raises(OSError, match="No space"):
            file.finish("a")
    assert path.read_text() == "the old one"


def test_features_in_parts_of_version_0_1_are_started_anew(tmp_path: Path) -> None:
    """Their schema metadata has the settings under another key."""
    metadata = {b"muybridge": json.dumps({"format": 1, **SETTINGS})}
    (tmp_path / ".features.parquet.parts").mkdir()
    part = FEATURES_SCHEMA.with_metadata(metadata).empty_table()
    pq.write_table(part, tmp_path / ".features.parquet.parts" / "000000.parquet")
    with FeaturesWriter(tmp_path / "features.parquet", SETTINGS) as file:
        assert file.select_pending(["a", "b"]) == ["a", "b"]
        file.add(features("a"))
        assert file.finish("a") == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["features.parquet"]


def test_tables_of_other_tasks_have_what_was_predicted(tmp_path: Path) -> None:
    number = Head("regression", ("ef", "esv"), "identity", ("%", ""), (0.0, 0.0), (1.0, 1.0))
    values = [Prediction(f"{ef}", "ok", values=(("ef", ef, "%"), ("esv", 1.0, ""))) for ef in (60.0, 40.0)]
    with PredictionsWriter(tmp_path / "n.csv", SETTINGS, number) as file:
        for one in (*values, prediction(3)):
            file.add(one)
        summary = file.finish(["60.0", "40.0", "3.mp4"])
    rows = list(csv.reader((tmp_path / "n.csv").read_text().splitlines()))
    assert rows[0] == ["video", "status", "reason", "value_ef", "value_esv"]
    assert rows[1:3] == [["60.0", "ok", "", "60.0", "1.0"], ["40.0", "ok", "", "40.0", "1.0"]]
    assert rows[3] == ["3.mp4", "unreadable", "no moov atom", "", ""]
    assert summary.to_json()["values"]["ef"] == {"lowest": 40.0, "mean": 50.0, "highest": 60.0, "unit": "%"}

    labels = Head("multi_label", ("hug", "push"), "sigmoid")
    both = Prediction("a", "ok", classes=(("push", 0.9), ("hug", 0.6)), labels=("hug", "push"))
    none = Prediction("b", "ok", classes=(("hug", 0.2), ("push", 0.1)), labels=())
    with PredictionsWriter(tmp_path / "l.csv", SETTINGS, labels) as file:
        file.add(both)
        file.add(none)
        summary = file.finish(["a", "b"])
    first, second = csv.DictReader((tmp_path / "l.csv").read_text().splitlines())
    assert (first["predicted"], first["label"], first["probability_2"]) == ("hug|push", "push", "0.6")
    assert (second["predicted"], second["label"]) == ("", "hug")
    assert summary.classes == {"hug": 1, "push": 1}


def test_parts_of_an_older_version_are_resumed(tmp_path: Path) -> None:
    """They say neither which files they were made from, nor how the weights were imported."""
    path = tmp_path / "p.parquet"
    (tmp_path / "1.mp4").write_bytes(b"some")
    row = prediction(1)
    labels, probabilities = (list(column) for column in zip(*row.classes, strict=True))
    with ResumableTable(path, PREDICTIONS_SCHEMA, {"format": 1, **SETTINGS}, rows_per_part=9) as old:
        rows = [[row.video], [row.status], [row.reason], [labels], [probabilities]]
        old.add(pa.RecordBatch.from_arrays(list(map(pa.array, rows)), schema=PREDICTIONS_SCHEMA))
    late_settings = {"precision": "bf16", "classes_sha256": "abc"}
    with PredictionsWriter(path, SETTINGS, late_settings=late_settings) as file:
        assert file.select_pending(["1.mp4", "2.mp4"]) == ["2.mp4"]
        file.add(prediction(2))
    with pytest.raises(ValueError, match="other settings"):
        PredictionsWriter(path, SETTINGS, late_settings={**late_settings, "precision": "fp32"})
    with PredictionsWriter(path, SETTINGS, late_settings=late_settings) as file:
        assert file.finish(["1.mp4", "2.mp4"]).num_failed == 0
    assert pq.read_schema(path).remove_metadata().equals(PREDICTIONS_SCHEMA)
    assert json.loads(pq.read_schema(path).metadata[b"muybridge"]) == {"format": 1, **SETTINGS}


def test_a_video_is_done_while_its_file_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [
        "kept.mp4",
        "touched.mp4",
        "longer.mp4#1-2",
        "gone.mp4",
        "frames",
        "overwritten",
        "data/a.mp4",
        "again/a.mp4",
    ]
    files = [Path(name.partition("#")[0]) for name in names[:4]]
    files += [Path("frames/1.png"), Path("overwritten/1.png"), Path("data/dataset.json"), Path("again/dataset.json")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"some")
    with FeaturesWriter("f.parquet", SETTINGS) as writer:
        assert writer.select_pending(names) == names
        for name in names:
            writer.add(features(name))
    os.utime("touched.mp4", (1, 1))
    Path("longer.mp4").write_bytes(b"some more")
    Path("gone.mp4").unlink()
    for name in ("overwritten/1.png", "again/dataset.json"):
        Path(name).write_bytes(b"other")
    with FeaturesWriter("f.parquet", SETTINGS) as writer:
        assert writer.select_pending(names) == ["touched.mp4", "longer.mp4#1-2", "overwritten", "again/a.mp4"]
        for name in writer.select_pending(names):
            writer.add(features(name, seed=1))
        assert writer.finish(names) == 3 * len(names)
    rows = pq.read_table("f.parquet")
    assert rows["features"].to_pylist()[0] == features("kept.mp4").features[0].tolist()
    assert rows["features"].to_pylist()[-1] == features("again/a.mp4", seed=1).features[2].tolist()
