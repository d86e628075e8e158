"""Data addresses: every layout the design allows, and one sentence for everything it does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from muybridge.datasets.manifest import Manifest
from muybridge.datasets.splits import ValidationSplit
from muybridge.loading.open_data import open_data


def fill(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def classes_of(root: Path, prefix: str = "", num_videos: int = 3) -> Path:
    return fill(root, *(f"{prefix}{label}/{n}.mp4" for label in ("hug", "kick") for n in range(num_videos)))


def write_csv(root: Path, text: str, *videos: str, encoding: str = "utf-8") -> str:
    fill(root, *videos)
    (root / "list.csv").write_bytes(text.encode(encoding))
    return str(root / "list.csv")


def videos(manifest: Manifest, split: str) -> list[str]:
    part = manifest.select_split(split)
    return [part.get_video(index) for index in range(len(part))]


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    classes_of(tmp_path, num_videos=10)
    fill(
        tmp_path, "hug/notes.txt", "hug/.DS_Store", "hug/.hidden.mp4", "__MACOSX/x.mp4", ".git/y.mp4", "kick/day/A.MKV"
    )
    data = open_data(str(tmp_path))
    assert data.classes == ("hug", "kick")
    names = [data.get_video(index) for index in range(len(data))]
    assert names == [f"hug/{n}.mp4" for n in range(10)] + [f"kick/{n}.mp4" for n in range(10)] + ["kick/day/A.MKV"]
    assert data.get_labels(0) == (0,)
    assert data.get_labels(20) == (1,)
    assert data.root == str(tmp_path)
    assert [len(data.select_split(split)) for split in ("test", "validation", "train")] == [4, 2, 15]
    assert [note.split(":")[0] for note in data.notes[1:]] == ["No split given", "No validation split given"]
    assert data.notes[0] == f"1 file in {tmp_path} is left out, not called like a video: 1 .txt."


@pytest.mark.parametrize("validation", ["val", "validation", "valid"])
def test_split_folders(tmp_path: Path, validation: str) -> None:
    for name in ("train/", f"{validation}/", "test/"):
        classes_of(tmp_path, name)
    data = open_data(str(tmp_path))
    assert data.notes == ()
    assert videos(data, "train") == [f"train/{label}/{n}.mp4" for label in ("hug", "kick") for n in range(3)]
    assert videos(data, "validation")[0] == f"{validation}/hug/0.mp4"
    assert len(videos(data, "test")) == 6


def test_split_folders_without_validation_hold_some_out(tmp_path: Path) -> None:
    classes_of(tmp_path, "train/", num_videos=10)
    classes_of(tmp_path, "test/")
    data = open_data(str(tmp_path), validation=ValidationSplit(3))
    assert len(data.select_split("validation")) == 2
    assert len(data.select_split("train")) == 18
    assert data.notes == (
        "No validation split given: 2 of 20 training videos are held out for it, a tenth of the groups, drawn by seed 3.",
    )
    assert videos(open_data(str(tmp_path), validation=ValidationSplit(3)), "validation") == videos(data, "validation")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    fill(tmp_path, "train/0.mp4", "train/1.mp4", "plane/0.mp4", "plane/1.mp4")
    assert open_data(str(tmp_path)).classes == ("plane", "train")


def test_the_order_does_not_depend_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes_of(tmp_path, num_videos=5)
    expected = open_data(str(tmp_path)).compute_sha256()
    scandir = os.scandir

    class Reversed:
        def __init__(self, path: str | Path) -> None:
            with scandir(path) as entries:
                self.entries = list(entries)[::-1]

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(os, "scandir", Reversed)
    assert open_data(str(tmp_path)).compute_sha256() == expected


def test_loose_videos_are_mentioned(tmp_path: Path) -> None:
    classes_of(fill(tmp_path, "stray.mp4"))
    assert f"1 video directly in {tmp_path} has no class folder and is left out." in open_data(str(tmp_path)).notes


def test_a_csv_with_everything(tmp_path: Path) -> None:
    text = (
        "\ufeffPath, label ,split,group,start_seconds,end_seconds,comment\r\n"
        'clips/a.mp4,hug|kick,Train,g1,,,"with, comma"\r\n'
        '"clips/b,c.mp4",kick,training,g2,1.5,4,\r\n'
        "./clips/long.mp4,hug,val,g3,0,2,\r\n"
        "clips/long.mp4,kick,val,g3,2,,\r\n"
        "clips/d.mp4,hug,TEST,g4,,3\r\n"
        "clips/e.mp4,hug,unused,g4,,,,,\r\n"
        "\r\n"
    )
    data = open_data(write_csv(tmp_path, text, "clips/a.mp4"))
    assert data.classes == ("hug", "kick")
    assert data.notes == (f"Columns of {tmp_path}/list.csv that are not read: comment.",)
    assert data.root == str(tmp_path)
    assert [data.get_video(index) for index in range(6)] == [
        *("clips/a.mp4", "clips/b,c.mp4", "clips/long.mp4#0-2", "clips/long.mp4#2-", "clips/d.mp4", "clips/e.mp4")
    ]
    assert [data.get_path(index) for index in (2, 3)] == ["clips/long.mp4", "clips/long.mp4"]
    assert data.get_labels(0) == (0, 1)
    assert [data.get_bounds(index) for index in range(5)] == [
        (None, None),
        (1.5, 4.0),
        (0.0, 2.0),
        (2.0, None),
        (None, 3.0),
    ]
    assert data.table["split"].to_pylist() == ["train", "train", "validation", "validation", "test", "unused"]
    assert data.table["group"].to_pylist()[0] == "g1"


def test_a_csv_without_splits_keeps_groups_together(tmp_path: Path) -> None:
    lines = [f"{label}{n}.mp4,{label},g{n % 5}" for label in ("hug", "kick") for n in range(20)]
    data = open_data(write_csv(tmp_path, "\n".join(["path,label,group", *lines]), "hug0.mp4"))
    sides: dict[str, set[str]] = {}
    for group, split in zip(data.table["group"].to_pylist(), data.table["split"].to_pylist(), strict=True):
        sides.setdefault(group, set()).add(split)
    assert all(len(side) == 1 for side in sides.values())
    assert sorted(next(iter(side)) for side in sides.values()) == ["test", "train", "train", "train", "validation"]
    assert "drawn by a hash of their group" in data.notes[0]


def test_paths_may_be_absolute_or_beside_the_csv(tmp_path: Path) -> None:
    fill(tmp_path, "elsewhere/a.mp4")
    text = f"path,label,split\n{tmp_path}/elsewhere/a.mp4,hug,train\n../elsewhere/b.mp4,kick,train\n"
    (tmp_path / "lists").mkdir()
    data = open_data(write_csv(tmp_path / "lists", text))
    assert {data.get_path(index) for index in range(2)} == {f"{tmp_path}/elsewhere/a.mp4", "../elsewhere/b.mp4"}


def test_data_for_evaluation_alone_may_have_one_class(tmp_path: Path) -> None:
    data = open_data(write_csv(tmp_path, "path,label,split\na.mp4,hug,test\n", "a.mp4"))
    assert data.count_videos() == {"test": {"hug": 1}}


def refused(address: Path | str, **options: int) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        open_data(str(address), **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_addresses_that_are_nothing(tmp_path: Path) -> None:
    assert "there is no folder or CSV file" in refused(tmp_path / "missing")
    assert "has no class folders" in refused(fill(tmp_path, "a.mp4"))
    assert "neither a folder of class folders nor a .csv file" in refused(tmp_path / "a.mp4")
    prepared = fill(tmp_path / "prepared", "dataset.json")
    assert "dataset.json is not JSON, or damaged" in refused(prepared)


def test_folders_that_cannot_be_learnt_from(tmp_path: Path) -> None:
    empty = fill(classes_of(tmp_path / "empty"), "push/readme.txt")
    assert "class folders without videos: push; fill or remove them" in refused(empty)
    one = fill(tmp_path / "one", "hug/a.mp4", "hug/b.mp4")
    assert "has only one class, 'hug'; training needs at least two" in refused(one)
    alone = fill(tmp_path / "alone", "test/hug/a.mp4", "test/kick/a.mp4")
    assert "has split folders (test) and no train" in refused(alone)
    assert f"name the folder of the classes, {alone}/test" in refused(alone)
    unseen = fill(classes_of(classes_of(tmp_path / "unseen", "train/"), "test/"), "test/push/a.mp4", "test/run/a.mp4")
    assert "labels for validation or test that no training video has: push, run" in refused(unseen)
    twice = fill(classes_of(tmp_path / "twice"), "H-ug/a.mp4")
    assert "cannot be told apart by name: 'H-ug' and 'hug' are the same name" in refused(twice)
    hollow = tmp_path / "hollow"
    (hollow / "train").mkdir(parents=True)
    assert f"expected {hollow}/train/CLASS/video.mp4" in refused(hollow)
    assert "has no official folds; leave --fold out" in refused(classes_of(tmp_path / "folds"), fold=1)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_names_in_another_encoding(tmp_path: Path) -> None:
    classes_of(tmp_path)
    fill(tmp_path, os.fsdecode(b"hug/caf\xe9.mp4"))
    assert r"file names that are not UTF-8: 'hug/caf\udce9.mp4'; rename them" in refused(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "lacks the columns path, label; its first line names nothing"),
        ("where;what\na;hug\n", "lacks the columns path, label; its first line names where, what; say which they are"),
        ("path,kind\na.mp4,hug\n", "lacks the columns label; its first line names path, kind; say which they are"),
        ("path,label\n", "lists no videos"),
        (
            "path,label,split\na.mp4,hug,training\nb.mp4,kick,dev\n",
            "line 3 has the split 'dev', expected one of train,",
        ),
        ("path,label,split\na.mp4,hug,train\nb.mp4,kick,\n", "1 row has no split, unlike the others"),
        ("path,label\na.mp4,\n,hug\n", "line 2 has no label; line 3 has no path"),
        ("path,label,start_seconds\na.mp4,hug,1:30\n", "line 2 has the start_seconds '1:30', expected seconds"),
        ("path,label,end_seconds\na.mp4,hug,nan\n", "line 2 has the end_seconds 'nan', expected seconds"),
        ("path,label,start_seconds,end_seconds\na.mp4,hug,5,4\n", "line 2 ends at 4 s, not after its start"),
        ("path,label\na.mp4,hug\na.mp4,kick\n", "a.mp4 is in 2 lines"),
        ("path,label\nb.mp4,hug\nc.mp4,kick\n", "was found among 2 paths looked at"),
        ('path,label\n"a.mp4,hug\nb.mp4,\n', "line 2 has a quotation mark too few or too many; line 3 has no label"),
        ("path,label,split\na.mp4,hug,train\nb.mp4,kick,test\nc.mp4,hug,test\n", "no training video has: kick"),
    ],
)
def test_csv_files_that_cannot_be_used(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refused(write_csv(tmp_path, text, "a.mp4"))


def test_a_csv_in_another_encoding(tmp_path: Path) -> None:
    text = "path,label\na.mp4,hug\nb.mp4,café\n"
    expected = "line 3 is not UTF-8: it has the byte 0xe9; save the file as UTF-8"
    assert expected in refused(write_csv(tmp_path, text, "a.mp4", encoding="latin-1"))


def test_folders_beside_split_folders_are_no_classes(tmp_path: Path) -> None:
    root = classes_of(classes_of(tmp_path / "data", "train/"), "test/")
    problem = refused(classes_of(root, "raw/"))
    assert f"{root} has split folders (test, train) and others (raw); move the others elsewhere" in problem
