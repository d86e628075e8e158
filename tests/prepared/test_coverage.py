from __future__ import annotations

from pathlib import Path

import pytest

from muybridge.datasets.manifest import Manifest
from muybridge.prepared.coverage import Coverage, compute_coverage


@pytest.mark.parametrize("num_copies", [2, 3, 300])
def test_a_large_group_of_equal_videos_is_a_short_line_with_all_splits(num_copies: int) -> None:
    group = tuple((f"train/class/{number}.mp4", "train") for number in range(num_copies)) + (("test/x.mp4", "test"),)
    lines = Coverage({}, {}, (), (group,)).format_lines()
    assert lines[1] == "1 video occurs more than once with equal content"
    assert lines[2].startswith("WARNING: 1 of them is in MORE THAN ONE SPLIT")
    [line] = lines[3:]
    assert "train/class/0.mp4 (train) = test/x.mp4 (test)" in line
    assert len(line) < 200
    assert ("more" in line) == (num_copies > 3)


def test_groups_that_are_not_listed_are_counted() -> None:
    groups = tuple(((f"a{number}", "train"), (f"b{number}", "test")) for number in range(13))
    assert Coverage({}, {}, (), groups).format_lines()[-1] == "  and 3 more"


def test_every_row_is_counted_by_split_and_class(tmp_path: Path) -> None:
    """Two labels count in two classes; videos are equal by their stored bytes; unused ones leak nothing."""
    rows = [
        *(("a", [0], "train", "ok", "", "1"), ("b", [0, 1], "train", "ok", "", "2"), ("c", [1], "test", "ok", "", "2")),
        *(("d", [1], "test", "missing", "no file", None), ("e", [2], "test", "truncated", "cut", None)),
        *(("f", [1], "train", "missing", "no file", None), ("g", [2], "unused", "ok", "", "3")),
        *(("h", [], "train", "ok", "", "3"), ("i", [0], "test", "ok", "", "4"), ("j", [0], "test", "ok", "", "4")),
    ]
    names = ("video", "labels", "split", "status", "reason", "sha256")
    manifest = Manifest.from_rows([dict(zip(names, row, strict=True)) for row in rows], classes="xyz", root=tmp_path)
    coverage = compute_coverage(manifest)
    assert coverage.splits == {
        "train": {"ok": 3, "failed": 1},
        "test": {"ok": 3, "failed": 2},
        "unused": {"ok": 1, "failed": 0},
    }
    assert coverage.classes == {
        "x": {"ok": 4, "failed": 0},
        "y": {"ok": 2, "failed": 2},
        "z": {"ok": 1, "failed": 1},
    }
    leak = (("b", "train"), ("c", "test"))
    assert coverage.duplicates == (leak, (("g", "unused"), ("h", "train")), (("i", "test"), ("j", "test")))
    assert coverage.leaks == (leak,)
    assert [(row["video"], row["split"], row["status"], row["reason"]) for row in coverage.failed] == [
        ("d", "test", "missing", "no file"),
        ("e", "test", "truncated", "cut"),
        ("f", "train", "missing", "no file"),
    ]
    assert coverage.to_json()["num_duplicates"] == 3
    assert coverage.to_json()["num_leaks"] == 1
    assert coverage.format_lines() == [
        "split              ok   failed",
        "train               3        1",
        "test                3        2",
        "unused              1        0",
        "classes with failed videos: y 2 of 4, z 1 of 2",
        "missing: 2 videos, such as d (no file)",
        "truncated: 1 video, such as e (cut)",
        "3 videos occur more than once with equal content",
        "WARNING: 1 of them is in MORE THAN ONE SPLIT, so evaluation results will be too high:",
        "  b (train) = c (test)",
    ]


def test_a_group_of_equal_videos_is_shown_whole_up_to_four() -> None:
    group = tuple((f"{number}", "train") for number in range(4))
    lines = [
        Coverage({}, {}, (), ((*group[:number], ("x", "test")),)).format_lines()[-1].removeprefix("  ")
        for number in (2, 3, 4)
    ]
    assert lines == [
        "0 (train) = x (test) = 1 (train)",
        "0 (train) = x (test) = 1 (train) = 2 (train)",
        "0 (train) = x (test) = 1 (train) = 2 (train) and 1 more",
    ]
