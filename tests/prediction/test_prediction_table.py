"""predictions.parquet: every video once, in the order asked for, however often it was broken off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shutil import copyfile
from typing import Any

import pyarrow.parquet as pq
import pytest

from muybridge.prediction import prediction_table
from muybridge.prediction.prediction_table import PredictionsWriter
from muybridge.prediction.recognizer import Prediction, load

SETTINGS = {"model_sha256": "abc", "clips": 3, "top": 2}


def prediction(number: int) -> Prediction:
    if number == 3:
        return Prediction("3.mp4", "unreadable", "no moov atom")
    return Prediction(f"{number}.mp4", "ok", "", (("left", 1 / (number + 2)), ("right", 0.25)))


def test_rows_are_in_the_order_asked_for_and_each_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_table, "PART_VIDEOS", 2)
    path = tmp_path / "p.parquet"
    with pytest.raises(KeyboardInterrupt), PredictionsWriter(path, SETTINGS) as file:
        for number in (4, 1, 3):
            file.add(prediction(number))
        raise KeyboardInterrupt
    assert not path.exists()
    with PredictionsWriter(path, SETTINGS) as file:
        assert file.done_videos == {"4.mp4", "1.mp4", "3.mp4"}
        with pytest.raises(AssertionError, match="is done already"):
            file.add(prediction(1))
        for number in (0, 2):
            file.add(prediction(number))
        assert file.finish([f"{number}.mp4" for number in (0, 1, 2, 3)]) == 1  # the fifth is not asked for any more
    rows = pq.read_table(path).to_pylist()
    assert [row["video"] for row in rows] == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]
    assert [row["probabilities"] for row in rows] == [[1 / 2, 0.25], [1 / 3, 0.25], [1 / 4, 0.25], []]
    assert [row["labels"] for row in rows] == [["left", "right"]] * 3 + [[]]
    assert [(row["status"], row["reason"]) for row in rows][2:] == [("ok", ""), ("unreadable", "no moov atom")]
    assert list(tmp_path.iterdir()) == [path]


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
    told = cli("predict", finished_run, listed, "--clips", 2, "-o", tmp_path / "p.parquet")
    assert (told.code, told.out) == (3, f"3 videos, 1 of them failed: {tmp_path / 'p.parquet'}\n")
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert [Path(row["video"]).name for row in rows] == ["right.mp4", "torn.mp4", "left.mp4"]
    assert [row["status"] for row in rows] == ["ok", "unreadable", "ok"]
    for row in rows[::2]:
        expected = load(finished_run).predict(row["video"], clips=2).classes
        assert tuple(zip(row["labels"], row["probabilities"], strict=True)) == expected


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--ray", "auto"), "--ray writes predictions into a file; name it, such as -o predictions.parquet"),
        (("-o", "p.parquet", "--timeline"), "of one network and without timelines"),
        (("-o", "p.parquet", "--clips", "0"), "--clips and --top must be at least 1"),
        (("none.csv", "-o", "p.parquet"), "there is no file none.csv"),
    ],
)
def test_misuse_is_a_sentence(
    words: tuple[str, ...], sentence: str, finished_run: Path, listed: Path, cli: Callable[..., Any]
) -> None:
    told = cli("predict", finished_run, listed, *words)
    assert told.code == 2
    assert sentence in told.err


def test_a_csv_file_that_lists_nothing(tmp_path: Path, finished_run: Path, cli: Callable[..., Any]) -> None:
    (tmp_path / "a.csv").write_text("video\na.mp4\n")
    (tmp_path / "b.csv").write_text("path\n")
    assert "has no column path" in cli("predict", finished_run, tmp_path / "a.csv").err
    assert "lists no video" in cli("predict", finished_run, tmp_path / "b.csv").err
