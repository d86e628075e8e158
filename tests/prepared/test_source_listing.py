"""Rows of a source get unique names (the lists themselves are tested in tests/datasets)."""

from __future__ import annotations

from pathlib import Path

import pytest

from muybridge.datasets.rows import VideoRow
from muybridge.datasets.splits import ValidationSplit
from muybridge.prepared.source_listing import make_unique_names, read_source


def test_names_are_unique() -> None:
    rows = [
        VideoRow("a.mp4", ("x",), "train"),
        VideoRow("a.mp4", ("x",), "test"),
        VideoRow("b.mp4", ("x",), "train", start_seconds=1.0),
        VideoRow("b.mp4", ("x",), "train", start_seconds=2.5),
        VideoRow("c.mp4", ("x",), "train"),
    ]
    assert make_unique_names(rows) == ("a.mp4#train", "a.mp4#test", "b.mp4#1-", "b.mp4#2.5-", "c.mp4")


@pytest.mark.parametrize(("rule", "num_drawn"), [("auto", 2), ("none", 0), ("0.5", 10)])
def test_the_source_says_what_is_held_out_or_the_rule_does(tmp_path: Path, rule: str, num_drawn: int) -> None:
    for number in range(20):
        path = tmp_path / "raw" / "train" / "ab"[number % 2] / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    splits = [
        row.split for row in read_source(str(tmp_path / "raw"), "folder", validation=ValidationSplit(rule=rule)).rows
    ]
    assert (splits.count("validation"), splits.count("train")) == (num_drawn, 20 - num_drawn)
    with pytest.raises(ValueError, match="needs data with a validation split"):
        read_source(str(tmp_path / "raw"), "folder", validation=ValidationSplit(rule="given"))
