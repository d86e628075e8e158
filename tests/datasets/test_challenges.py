"""The official lists of Something-Something V2, Jester, Moments in Time and ActivityNet."""

import json
from pathlib import Path

import pytest

from muybridge.loading.open_data import open_data
from muybridge.prepared.source_listing import read_source


def write(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return str(root)


def summarize(root: str, source_format: str) -> list[tuple[str, str, str | None]]:
    rows = read_source(root, source_format).rows
    return [(row.path, "|".join(row.labels), row.split) for row in rows]


def test_something_something(tmp_path: Path) -> None:
    entries = [{"id": str(n), "template": "Holding [something]", "label": "holding a cup"} for n in (1, 2, 3)]
    files = {
        "labels/something-something-v2-train.json": json.dumps(entries[:2]),
        "labels/something-something-v2-validation.json": json.dumps(entries[2:]),
        "labels/something-something-v2-test.json": json.dumps([{"id": "4"}]),
        **{f"20bn-something-something-v2/{n}.webm": "" for n in (1, 3)},
    }
    assert summarize(write(tmp_path, files), "something_something_v2") == [
        ("20bn-something-something-v2/1.webm", "Holding something", "train"),
        ("2", "Holding something", "train"),
        ("20bn-something-something-v2/3.webm", "Holding something", "validation"),
    ]


def test_jester_and_moments(tmp_path: Path) -> None:
    files = {
        "jester-v1-train.csv": "34870;Drumming Fingers\n56557;Sliding Two Fingers\n",
        "jester-v1-validation.csv": "9223;Drumming Fingers\n",
        "20bn-jester-v1/34870/00001.jpg": "",
        "20bn-jester-v1/9223.mp4": "",
    }
    assert summarize(write(tmp_path / "jester", files), "jester") == [
        ("20bn-jester-v1/34870", "Drumming Fingers", "train"),
        ("56557", "Sliding Two Fingers", "train"),
        ("20bn-jester-v1/9223.mp4", "Drumming Fingers", "validation"),
    ]
    files = {
        "trainingSet.csv": "abseiling/a.mp4,abseiling,4,0\n",
        "validationSet.csv": "abseiling/b.mp4,abseiling,3,0\n",
        "training/abseiling/a.mp4": "",
        "validation/abseiling/b.mp4": "",
    }
    assert summarize(write(tmp_path / "moments", files), "moments_in_time") == [
        ("training/abseiling/a.mp4", "abseiling", "train"),
        ("validation/abseiling/b.mp4", "abseiling", "validation"),
    ]


def test_activitynet(tmp_path: Path) -> None:
    segments = [{"label": "Surfing", "segment": [0, 2]}, {"label": "Rowing", "segment": [2.5, 4]}]
    database = {"abc": {"subset": "training", "annotations": segments}}
    files = {"activity_net.v1-3.min.json": json.dumps({"database": database}), "videos/v_abc.mkv": ""}
    source = read_source(write(tmp_path, files), "activitynet")
    assert source.names == ("videos/v_abc.mkv#0-2", "videos/v_abc.mkv#2.5-4")
    assert source.classes == ("Rowing", "Surfing")


def test_a_list_in_activitynets_form_may_name_files(tmp_path: Path) -> None:
    """As the studio writes it; ActivityNet itself names videos without `v_` and extension."""
    database = {
        name: {"subset": "training", "annotations": [{"label": label, "segment": [0, 2]}]}
        for name, label in (("clips/a.mp4", "hug"), ("clips/b.mp4", "kick"))
    }
    write(tmp_path, {"marks.json": json.dumps({"database": database}), "clips/a.mp4": "", "clips/b.mp4": ""})
    data = open_data(str(tmp_path / "marks.json"))
    assert data.table["path"].to_pylist() == ["clips/a.mp4", "clips/b.mp4"]


def test_training_on_official_lists_says_how_to_prepare_them(tmp_path: Path) -> None:
    write(tmp_path, {"lists/trainlist01.txt": "hug/v_hug_g01_c01.avi 1", "hug/v_hug_g01_c01.avi": "", "kick/a.avi": ""})
    with pytest.raises(
        ValueError, match=f"without videos: lists; .* read by `muybridge prepare {tmp_path} --format ucf101"
    ):
        open_data(str(tmp_path))
    (tmp_path / "lists" / "trainlist01.txt").rename(tmp_path / "trainlist01.txt")
    (tmp_path / "lists").rmdir()
    assert any("has lists of ucf101, which are not read" in note for note in open_data(str(tmp_path)).notes)


@pytest.mark.parametrize("source_format", ["something_something_v2", "jester", "moments_in_time", "activitynet"])
def test_a_folder_without_lists_is_refused(tmp_path: Path, source_format: str) -> None:
    with pytest.raises(ValueError, match=r"has no list of|should have one list of"):
        read_source(str(tmp_path), source_format)
