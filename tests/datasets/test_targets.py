"""Targets of lists, of folders and of data prepared as classes; levels in their order."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from muybridge.datasets.manifest import Manifest
from muybridge.datasets.targets import match_targets, prepare_for_task
from muybridge.loading.open_data import open_data
from muybridge.prepared.source_listing import read_source


def write_list(folder: Path, header: str, *rows: str, name: str = "data.csv") -> str:
    for row in rows:
        (folder / row.split(",")[0]).touch()
    (folder / name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(folder / name)


def test_numbers_of_the_label_are_targets(tmp_path: Path) -> None:
    address = write_list(tmp_path, "path,EF,split", "a.mp4,61.5,train", "b.mp4,-3e1,train", "c.mp4,7,test")
    data = open_data(address, task="regression", columns="label=EF")
    assert data.target_names == ("EF",)
    assert [data.get_targets(index) for index in range(3)] == [(61.5,), (-30.0,), (7.0,)]
    assert data.classes == ()
    other = write_list(
        tmp_path, "path,EF,split", "a.mp4,61.5,train", "b.mp4,-30,train", "c.mp4,8,test", name="other.csv"
    )
    changed = open_data(other, task="regression", columns="label=EF")
    assert changed.compute_sha256() != data.compute_sha256()


def test_columns_of_targets_may_have_gaps(tmp_path: Path) -> None:
    address = write_list(tmp_path, "path,target_ef,target_esv,split", "a.mp4,61,,train", "b.mp4,NA,40,train")
    data = open_data(address, task="regression")
    assert data.target_names == ("ef", "esv")
    assert data.get_targets(0)[0] == 61
    assert math.isnan(data.get_targets(0)[1])
    assert math.isnan(data.get_targets(1)[0])


def test_columns_of_any_names_are_targets(tmp_path: Path) -> None:
    address = write_list(tmp_path, "FileName,EF,ESV,Split", "a.mp4,61,,TRAIN", "b.mp4,35,40,TRAIN", "c.mp4,50,44,TEST")
    data = open_data(address, task="regression", columns="target_ef=EF,target_esv=ESV")
    assert data.target_names == ("ef", "esv")
    assert data.get_targets(1) == (35.0, 40.0)
    assert "path=FileName,split=Split,target_ef=EF,target_esv=ESV." in data.notes[0]
    saved = "path=FileName,split=Split,target_ef=EF,target_esv=ESV"  # what a run saves and reads again
    assert open_data(address, task="regression", columns=saved).target_names == ("ef", "esv")
    with pytest.raises(ValueError, match=r"expected ROLE=COLUMN with a role among path, .*, target_<name>"):
        open_data(address, task="regression", columns="target_=EF")


def test_all_wrong_cells_are_named(tmp_path: Path) -> None:
    address = write_list(tmp_path, "path,target_ef,split", "a.mp4,high,train", "b.mp4,,train", "c.mp4,inf,train")
    with pytest.raises(
        ValueError, match="line 2 has the ef 'high', expected a number; line 3 has no ef; line 4 has the ef"
    ):
        open_data(address, task="regression")
    plain = write_list(tmp_path, "path,length,split", "a.mp4,1,train", name="plain.csv")
    with pytest.raises(ValueError, match="needs numbers in a column label or in columns target_<name>"):
        open_data(plain, task="regression")


def test_columns_of_targets_are_ignored_by_other_tasks(tmp_path: Path) -> None:
    address = write_list(tmp_path, "path,label,target_note", "a.mp4,hug,good", "b.mp4,push,bad", "c.mp4,hug,good")
    assert open_data(address).target_names == ()
    assert read_source(address, "csv").rows[0].targets == ()
    numbers = write_list(tmp_path, "path,label,target_x", "a.mp4,hug,1", "b.mp4,push,2", "c.mp4,hug,", name="n.csv")
    rows = read_source(numbers, "csv").rows
    assert [(row.labels, row.targets[0][0]) for row in rows] == [(("hug",), "x"), (("push",), "x"), (("hug",), "x")]


def test_a_regression_without_splits_is_split(tmp_path: Path) -> None:
    address = write_list(tmp_path, "path,label", *(f"{index}.mp4,{index / 3:.3f}" for index in range(30)))
    data = open_data(address, task="regression")
    assert {split: len(data.select_split(split)) for split in ("train", "validation", "test")} == {
        "train": 22,
        "validation": 2,
        "test": 6,
    }


def test_with_several_labels_a_video_may_have_none(tmp_path: Path) -> None:
    address = write_list(tmp_path, "path,label,split", "a.mp4,hug|push,train", "b.mp4,,train", "c.mp4,hug,test")
    data = open_data(address, task="multi_label")
    assert [data.get_labels(index) for index in range(3)] == [(0, 1), (), (0,)]
    with pytest.raises(ValueError, match="line 3 has no label"):
        open_data(address)


def classes(*names: str) -> Manifest:
    rows = [{"video": f"{index}", "labels": [index], "split": "train"} for index in range(len(names))]
    return Manifest.from_rows(rows, classes=names, root="data")


def test_labels_that_are_numbers_become_targets() -> None:
    data = prepare_for_task(classes("10", "2.5"), "regression")
    assert (data.target_names, data.get_targets(0), data.get_targets(1)) == (("label",), (10.0,), (2.5,))
    with pytest.raises(ValueError, match="data has the labels hug"):
        prepare_for_task(classes("1", "hug"), "regression")


def test_levels_have_an_order() -> None:
    assert prepare_for_task(classes("10", "9", "-1"), "ordinal").classes == ("-1", "9", "10")
    data = prepare_for_task(classes("mild", "none", "severe"), "ordinal", ("none", "mild", "severe"))
    assert data.classes == ("none", "mild", "severe")
    assert [data.get_labels(index) for index in range(3)] == [(1,), (0,), (2,)]
    with pytest.raises(ValueError, match=r"order of the labels mild, none is not known; .* training.levels"):
        prepare_for_task(classes("mild", "none"), "ordinal")
    with pytest.raises(ValueError, match="severe is not among"):
        prepare_for_task(classes("mild", "severe"), "ordinal", ("mild", "none"))
    several = Manifest.from_rows([{"video": "a", "labels": [0, 1], "split": "train"}], classes=("1", "2"), root="data")
    with pytest.raises(ValueError, match="a video of the task ordinal has one label, but 1 video"):
        prepare_for_task(several, "ordinal")


def test_targets_are_matched_by_name(tmp_path: Path) -> None:
    data = open_data(write_list(tmp_path, "path,target_B,target_a,split", "x.mp4,1,2,test"), task="regression")
    assert match_targets(data, ("a", "b")).get_targets(0) == (2.0, 1.0)
    with pytest.raises(ValueError, match="does not have the targets of the network"):
        match_targets(data, ("c",))
    one = prepare_for_task(classes("1", "2"), "regression")
    assert match_targets(one, ("EF",)).target_names == ("EF",)


@pytest.mark.parametrize(
    ("splits", "sentence"),
    [
        (["train", "unused"], "1 video of data has no label; add --training.task multi_label, or label them"),
        (["train", "test"], "2 videos of data have no label; add --training.task multi_label, or label them"),
    ],
)
def test_prepared_videos_without_labels_are_of_other_tasks(splits: list[str], sentence: str) -> None:
    rows = [{"video": "a", "labels": [0], "split": "train"}]
    rows += [{"video": split, "labels": [], "split": split} for split in splits]
    data = Manifest.from_rows(rows, classes=("x",), root="data")
    assert prepare_for_task(data, "multi_label") is data
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        prepare_for_task(data, "single_label")
    unused = Manifest.from_rows([rows[0], {**rows[1], "split": "unused"}], classes=("x",), root="data")
    assert prepare_for_task(unused, "single_label") is unused


def test_segments_keep_what_their_times_count_from(tmp_path: Path) -> None:
    address = write_list(tmp_path, "path,label,start_seconds,end_seconds", "a.mp4,1,0,2", "b.mp4,2,1,3")
    data = open_data(address, time_origin="container")
    numbers = prepare_for_task(data, "regression")
    assert numbers.target_names == ("label",)
    assert {numbers.time_origin, match_targets(numbers, ["EF"]).time_origin} == {"container"}
    assert prepare_for_task(data, "ordinal", ["1", "2"]).time_origin == "container"


def test_a_column_that_is_named_keeps_its_bad_cells(tmp_path: Path) -> None:
    rows = ("a.mp4,0,61,x,train", "b.mp4,1,~55,y,train", "c.mp4,0,50,z,test")
    address = write_list(tmp_path, "path,label,EF,target_note,split", *rows)
    with pytest.raises(ValueError, match=r"line 3 has the ef '~55', expected a number"):
        read_source(address, "csv", columns="target_ef=EF,label=label")
    other = write_list(tmp_path, "path,label,target_ef,target_note,split", *rows, name="other.csv")
    with pytest.raises(ValueError, match=r"line 3 has the ef '~55', expected a number"):
        read_source(other, "csv")
    address = write_list(
        tmp_path, "path,label,target_note,split", "a.mp4,0,x,train", "b.mp4,1,,train", name="notes.csv"
    )
    assert read_source(address, "csv").rows[0].targets == ()
