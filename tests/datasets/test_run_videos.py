"""The videos of a run keep their order, splits and classes where its data has moved, grown or been sorted anew."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muybridge.datasets.manifest import Manifest
from muybridge.datasets.run_videos import FILE_NAME, RunVideos, read_run_videos, write_run_videos


def make_manifest(classes: tuple[str, ...], *videos: tuple[str, str, str]) -> Manifest:
    rows = [{"video": name, "labels": [classes.index(label)], "split": split} for name, label, split in videos]
    return Manifest.from_rows(rows, classes=classes, root="/data")


OLD = make_manifest(
    ("hug", "kick"), ("b", "hug", "train"), ("t", "hug", "test"), ("a", "kick", "validation"), ("c", "kick", "train")
)


def test_order_splits_and_classes_are_those_of_the_run(tmp_path: Path) -> None:
    write_run_videos(tmp_path, RunVideos.from_manifest(OLD))
    videos = read_run_videos(tmp_path)
    assert videos is not None
    grown = make_manifest(
        ("kick", "hug"), ("a", "kick", "train"), ("b", "hug", "test"), ("c", "kick", "train"), ("new", "hug", "train")
    )
    selected = videos.select_from(grown)
    assert selected.table["video"].to_pylist() == ["b", "a", "c"]
    assert selected.table["split"].to_pylist() == ["train", "validation", "train"]
    assert selected.classes == ("hug", "kick")
    assert [selected.get_labels(index) for index in range(3)] == [(0,), (1,), (1,)]


def test_missing_videos_and_other_classes_are_named() -> None:
    videos = RunVideos.from_manifest(OLD)
    with pytest.raises(ValueError, match=r"1 video of the run are not in /data \(c\)"):
        videos.select_from(make_manifest(("hug", "kick"), ("b", "hug", "train"), ("a", "kick", "train")))
    renamed = make_manifest(("hug", "push"), ("b", "hug", "train"), ("a", "push", "train"), ("c", "push", "train"))
    with pytest.raises(ValueError, match="push is not among hug, kick"):
        videos.select_from(renamed)


def test_files_of_other_versions(tmp_path: Path) -> None:
    assert read_run_videos(tmp_path) is None
    pq.write_table(RunVideos.from_manifest(OLD).table, tmp_path / FILE_NAME)
    with pytest.raises(ValueError, match="has format None, this version reads format 1"):
        read_run_videos(tmp_path)
    table = pa.table({"video": ["a"]}).replace_schema_metadata({b"muybridge": b'{"format": 1, "classes": ["x"]}'})
    pq.write_table(table, tmp_path / FILE_NAME)
    with pytest.raises(ValueError, match="lacks videos, splits or classes"):
        read_run_videos(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="is damaged"):
        read_run_videos(tmp_path)
