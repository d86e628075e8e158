"""The manifest: what it refuses, what it gives back, and that its hash is of its content."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from muybridge.datasets.manifest import SCHEMA, Manifest
from muybridge.loading.open_data import open_data

CLASSES = ("hug", "kick", "push")


def row(video: str, *labels: int, split: str = "train", **rest: Any) -> dict[str, Any]:
    return {"video": video, "labels": list(labels), "split": split, **rest}


def manifest(*rows: dict[str, Any]) -> Manifest:
    return Manifest.from_rows(rows, classes=CLASSES, root="/data")


EXAMPLE = (
    row("a.mp4", 0),
    row("b.mp4#1-2", 1, 2, split="test", path="b.mp4", start_seconds=1.0, end_seconds=2.0, group="x"),
    row("c.mp4", 2, split="test", status="unreadable", reason="damaged"),
)


def test_rows_come_back() -> None:
    data = manifest(*EXAMPLE)
    assert len(data) == 3
    assert [data.get_video(i) for i in range(3)] == ["a.mp4", "b.mp4#1-2", "c.mp4"]
    assert [data.get_path(i) for i in range(3)] == ["a.mp4", "b.mp4", "c.mp4"]
    assert [data.get_labels(i) for i in range(3)] == [(0,), (1, 2), (2,)]
    assert [data.get_bounds(i) for i in range(3)] == [(None, None), (1.0, 2.0), (None, None)]
    assert data.table["status"].to_pylist() == ["ok", "ok", "unreadable"]
    assert data.table["group"].to_pylist() == [None, "x", None]


def test_selection_keeps_order_failures_and_all_else() -> None:
    test = manifest(*EXAMPLE).select_split("test")
    assert [test.get_video(i) for i in range(len(test))] == ["b.mp4#1-2", "c.mp4"]
    assert (test.classes, test.root) == (CLASSES, "/data")
    assert len(manifest(*EXAMPLE).select_split("validation")) == 0
    with pytest.raises(ValueError, match="no split 'val'; the splits are train, validation, test, unused"):
        manifest(*EXAMPLE).select_split("val")


def test_counts_count_every_label() -> None:
    assert manifest(*EXAMPLE).count_videos() == {
        "train": {"hug": 1, "kick": 0, "push": 0},
        "test": {"hug": 0, "kick": 1, "push": 2},
    }
    assert manifest().count_videos() == {}


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(ValueError, match="the manifest cannot be used") as caught:
        manifest(
            row("a.mp4", 0, split="tset"),
            row("a.mp4", 7),
            row("b.mp4", -1, status="broken"),
            row("c.mp4", 0, start_seconds=3.0, end_seconds=2.0),
            row("d.mp4", 0, start_seconds=float("nan")),
            row("e.mp4", 0, end_seconds=float("inf")),
            row("", 0),
        )
    text = str(caught.value)
    for part in (
        "split is tset in some rows, but must be one of train, validation, test, unused",
        "status is broken in some rows",
        "1 row has no video",
        "1 video is in several rows (a.mp4)",
        "the labels 7, -1 are not indices of 3 classes",
        "3 segments do not start at 0 s or later and end after that (c.mp4, d.mp4, e.mp4)",
    ):
        assert part in text
    assert "\n" not in text


def test_missing_and_wrong_columns_are_named() -> None:
    table = manifest(*EXAMPLE).table
    with pytest.raises(ValueError, match="lacks the columns labels, status; it has video, path, split"):
        Manifest(table.drop_columns(["labels", "status"]), CLASSES, "/data")
    texts = table.set_column(2, "labels", pa.array(["a", "b", "c"]))
    with pytest.raises(ValueError, match=r"wrong type: labels string, not list<item: int32>"):
        Manifest(texts, CLASSES, "/data")


def test_further_columns_are_kept() -> None:
    table = manifest(*EXAMPLE).table.append_column("shard", pa.array(["s0", "s0", "s1"]))
    assert Manifest(table, CLASSES, "/data").select_split("test").table["shard"].to_pylist() == ["s0", "s1"]


def test_the_hash_is_of_the_content_alone() -> None:
    data = manifest(*EXAMPLE)
    chunks = pa.concat_tables([data.table.slice(index, 1) for index in range(3)])
    assert Manifest(chunks, CLASSES, "/elsewhere", ("a note",)).compute_sha256() == data.compute_sha256()
    assert pickle.loads(pickle.dumps(data)).compute_sha256() == data.compute_sha256()
    # A slice of a larger table shares its memory, offsets and all.
    assert (
        manifest(row("z.mp4", 1), *EXAMPLE).select_split("test").compute_sha256()
        == data.select_split("test").compute_sha256()
    )


@pytest.mark.parametrize(
    "changed",
    [
        (EXAMPLE[1], EXAMPLE[0], EXAMPLE[2]),
        EXAMPLE[:2],
        (row("a.mp4", 1), *EXAMPLE[1:]),
        # The same letters and labels, parted elsewhere.
        (row("a.mp4b", 0, path="a.mp4"), {**EXAMPLE[1], "video": ".mp4#1-2"}, EXAMPLE[2]),
        (row("a.mp4", 0, 1), {**EXAMPLE[1], "labels": [2]}, EXAMPLE[2]),
        (row("a.mp4", 0, split="test"), *EXAMPLE[1:]),
        (row("a.mp4", 0, start_seconds=0.0), *EXAMPLE[1:]),
        (row("a.mp4", 0, group=""), *EXAMPLE[1:]),
        (row("a.mp4", 0, num_frames=4), *EXAMPLE[1:]),
    ],
)
def test_the_hash_sees_every_change(changed: tuple[dict[str, Any], ...]) -> None:
    assert manifest(*changed).compute_sha256() != manifest(*EXAMPLE).compute_sha256()


def test_the_hash_sees_the_classes() -> None:
    other = Manifest.from_rows(EXAMPLE, classes=("hug", "kick", "pull"), root="/data")
    assert other.compute_sha256() != manifest(*EXAMPLE).compute_sha256()


def test_the_schema_is_the_designs() -> None:
    assert str(SCHEMA.field("labels").type) == "list<item: int32>"
    assert SCHEMA.names == [
        *(
            "video",
            "path",
            "labels",
            "split",
            "group",
            "start_seconds",
            "end_seconds",
            "num_frames",
            "duration_seconds",
        ),
        *("frames_per_second", "width", "height", "status", "reason", "sha256"),
    ]


def test_labels_are_remapped_by_name() -> None:
    """Every class of the data keeps its meaning among classes in another order, of which the data has not all."""
    target = ("Push", "wave", "HUG", "kick")
    remapped = manifest(*EXAMPLE).remap_labels(target)
    assert remapped.classes == target
    assert [remapped.get_labels(i) for i in range(3)] == [(2,), (3, 0), (0,)]
    with pytest.raises(ValueError, match="push is not among hug, kick"):
        manifest(*EXAMPLE).remap_labels(("hug", "kick"))


def test_the_hash_knows_the_rate_of_frames_that_have_none(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label / "frames").mkdir(parents=True)
        (tmp_path / label / "frames" / "0.png").touch()
    hashes = {rate: open_data(str(tmp_path), source_fps=rate).compute_sha256() for rate in (None, 10.0, 30.0)}
    assert len(set(hashes.values())) == 3
