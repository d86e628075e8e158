"""A data address as a manifest: lists and folders with the options that say how they are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from muybridge.datasets.splits import ValidationSplit
from muybridge.loading.open_data import open_data

NUMBERS = "taken as the name of a class, not as a quantity"


@pytest.fixture
def graded(tmp_path: Path) -> str:
    """Grades of six videos, three in each group."""
    rows = [f"{number}.mp4,{grade},{'ab'[number % 2]}" for number, grade in enumerate([2, 10, 2, 10, 2, 10])]
    for number in range(6):
        (tmp_path / f"{number}.mp4").touch()
    (tmp_path / "list.csv").write_text("\n".join(["path,label,group", *rows]))
    return str(tmp_path / "list.csv")


def test_numbers_are_names_unless_the_task_takes_them_as_numbers(graded: str) -> None:
    classes = open_data(graded, validation=ValidationSplit(0, "none"))
    assert classes.classes == ("2", "10")
    assert any(NUMBERS in note for note in classes.notes)
    for task in ("ordinal", "regression"):
        data = open_data(graded, task=task, validation=ValidationSplit(0, "none"))
        assert not any(NUMBERS in note for note in data.notes)
    assert open_data(graded, task="ordinal", levels=("10", "2"), validation=ValidationSplit(0, "none")).classes == (
        "10",
        "2",
    )


def test_folds_need_their_number_and_their_data(graded: str) -> None:
    with pytest.raises(ValueError, match="which of the 2 folds is not said"):
        open_data(graded, num_folds=2)
    with pytest.raises(ValueError, match="has no official folds"):
        open_data(graded, fold=1)
    folds = [open_data(graded, num_folds=2, fold=fold, validation=ValidationSplit(0, "none")) for fold in (1, 2)]
    tests = [
        {data.get_video(index) for index in range(len(data))} for data in (one.select_split("test") for one in folds)
    ]
    assert tests[0] | tests[1] == {f"{number}.mp4" for number in range(6)}
    assert {frozenset(videos) for videos in tests} == {
        frozenset({"0.mp4", "2.mp4", "4.mp4"}),
        frozenset({"1.mp4", "3.mp4", "5.mp4"}),
    }


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"columns": "label=x"}, "--columns is for lists"),
        ({"time_origin": "container"}, "--time-origin is for lists"),
        ({"background": "all"}, "--background is for a list of segments"),
    ],
)
def test_options_of_lists_are_refused_for_prepared_data(tmp_path: Path, options: dict[str, str], problem: str) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(ValueError, match=problem):
        open_data(str(tmp_path), **options)  # type: ignore[arg-type]


def test_the_rate_of_frames_reaches_the_videos(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name / f"{name}1").mkdir(parents=True)
        for number in range(3):
            (tmp_path / name / f"{name}1" / f"{number:05}.jpg").write_bytes(b"")
    data = open_data(str(tmp_path), source_fps=12.0, validation=ValidationSplit(0, "none"))
    assert set(data.table["source_fps"].to_pylist()) == {12.0}
