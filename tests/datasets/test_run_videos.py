"""The videos of a run: the data it is resumed with may have moved, grown and changed its order of rows and classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muybridge.datasets.manifest import Manifest
from muybridge.datasets.run_videos import FILE_NAME, RunVideos, read_run_videos, write_run_videos


def row(video: str, split: str, label: int) -> dict[str, Any]:
    return {"video": video, "split": split, "labels": [label], "path": f"files/{video}"}


FIRST = Manifest.from_rows(
    [row("c", "train", 1), row("t", "test", 0), row("a", "validation", 0), row("b", "train", 2)],
    classes=("hug", "kick", "wave"),
    root="/first",
)
# The same videos and a new one; other splits, rows and classes in another order.
LATER = Manifest.from_rows(
    [row("a", "train", 2), row("b", "test", 0), row("new", "train", 1), row("c", "unused", 1)],
    classes=("wave", "kick", "hug"),
    root="/later",
)


def test_a_run_keeps_its_order_splits_and_classes_where_the_data_changes(tmp_path: Path) -> None:
    write_run_videos(tmp_path, RunVideos.from_manifest(FIRST))
    videos = read_run_videos(tmp_path)
    assert videos is not None
    assert videos.table.to_pydict() == {"video": ["c", "a", "b"], "split": ["train", "validation", "train"]}
    assert videos.classes == ("hug", "kick", "wave")
    selected = videos.select_from(LATER)
    assert [selected.get_video(number) for number in range(3)] == ["c", "a", "b"]
    assert selected.table["split"].to_pylist() == ["train", "validation", "train"]
    assert (selected.classes, selected.root) == (("hug", "kick", "wave"), "/later")
    names = [[selected.classes[label] for label in selected.get_labels(number)] for number in range(3)]
    assert names == [["kick"], ["hug"], ["wave"]]  # as LATER has them
    assert [selected.get_path(number) for number in range(3)] == ["files/c", "files/a", "files/b"]


def test_labels_are_those_of_training_whatever_their_order() -> None:
    rows = [
        {**row("a", "train", 0), "labels": [0, 2]},
        {**row("b", "train", 1), "labels": []},
        row("c", "validation", 2),
    ]
    data = Manifest.from_rows(rows, classes=("hug", "kick", "wave"), root="/first")
    videos = RunVideos.from_manifest(data, "multi_label")

    def check(labels: list[list[int]], classes: tuple[str, ...] = data.classes) -> bool:
        changed = [{**row, "labels": new} for row, new in zip(rows, labels, strict=True)]
        later = Manifest.from_rows(reversed(changed), classes=classes, root="/later")
        return videos.has_labels_of(videos.select_from(later), "multi_label")

    assert check([[0, 2], [], [2]])
    assert check([[2, 0], [], [2]])
    assert check([[2, 0], [], [0]], ("wave", "kick", "hug"))
    assert not check([[0, 2], [2], []])
    assert not check([[0], [], [2]])
    assert not check([[0, 1], [], [2]])
    assert RunVideos(videos.table, videos.classes).has_labels_of(
        data, "multi_label"
    )  # of a version that did not record them


def test_bounds_are_those_of_training_whether_the_data_is_prepared_or_not() -> None:
    def make(start: float | None, *, prefix: str = "", is_prepared: bool = False) -> Manifest:
        table = FIRST.table
        for name, bound in (("start_seconds", start), ("end_seconds", 3.0)):
            bounds = pa.array([bound] * len(table), pa.float64())
            table = table.drop_columns([name] * (prefix == "")).append_column(f"{prefix}{name}", bounds)
        if is_prepared:
            table = table.append_column("shard", pa.array([0] * len(table), pa.int32()))
        return FIRST.replace_table(table)

    videos = RunVideos.from_manifest(make(1.5))
    for data, is_equal in (
        (make(1.5), True),
        (make(1.25), False),
        (make(None), False),
        (make(1.5, prefix="source_", is_prepared=True), True),
        (make(1.25, prefix="source_", is_prepared=True), False),
        (make(None, is_prepared=True), True),  # of version 0.1, which did not record them
    ):
        assert videos.has_bounds_of(videos.select_from(data)) == is_equal
    assert RunVideos(videos.table, videos.classes).has_bounds_of(make(1.25))  # of a version that did not record them


def test_missing_videos_and_other_classes_are_named() -> None:
    videos = RunVideos.from_manifest(FIRST)
    with pytest.raises(ValueError, match=r"/later lacks 2 videos of the run \(c, b\)"):
        videos.select_from(LATER.replace_table(LATER.table.take([0, 2])))
    with pytest.raises(ValueError, match="hug"):
        RunVideos(videos.table, ("kick", "wave")).select_from(LATER)


def test_what_is_no_list_of_videos_is_named(tmp_path: Path) -> None:
    assert read_run_videos(tmp_path) is None
    (tmp_path / FILE_NAME).write_bytes(b"not parquet")
    with pytest.raises(ValueError, match=r"videos.parquet: the file is damaged"):
        read_run_videos(tmp_path)
    table = RunVideos.from_manifest(FIRST).table
    for metadata, sentence in (
        ('{"format": 2, "classes": []}', "has format 2, this version reads format 1"),
        ('{"format": 1}', "classes is missing"),
        ('{"format": 1, "classes": [1]}', r"classes\.0 is 1, expected a valid string"),
    ):
        pq.write_table(table.replace_schema_metadata({"muybridge": metadata}), tmp_path / FILE_NAME)
        with pytest.raises(ValueError, match=sentence):
            read_run_videos(tmp_path)
    complete = {"muybridge": '{"format": 1, "classes": []}'}
    pq.write_table(table.select(["video"]).replace_schema_metadata(complete), tmp_path / FILE_NAME)
    with pytest.raises(ValueError, match="the columns split are missing"):
        read_run_videos(tmp_path)
    splits = pa.array(["test"] * len(table))
    pq.write_table(table.set_column(1, "split", splits).replace_schema_metadata(complete), tmp_path / FILE_NAME)
    with pytest.raises(ValueError, match="has the split 'test', expected train or validation"):
        read_run_videos(tmp_path)
