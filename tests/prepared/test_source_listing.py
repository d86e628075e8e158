"""Rows of a source get unique names (the lists themselves are tested in tests/datasets)."""

from __future__ import annotations

from muybridge.datasets.rows import VideoRow
from muybridge.prepared.source_listing import make_unique_names


def test_names_are_unique() -> None:
    rows = [
        VideoRow("a.mp4", ("x",), "train"),
        VideoRow("a.mp4", ("x",), "test"),
        VideoRow("b.mp4", ("x",), "train", start_seconds=1.0),
        VideoRow("b.mp4", ("x",), "train", start_seconds=2.5),
        VideoRow("c.mp4", ("x",), "train"),
    ]
    assert make_unique_names(rows) == ("a.mp4#train", "a.mp4#test", "b.mp4#1-", "b.mp4#2.5-", "c.mp4")
