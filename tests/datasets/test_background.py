from __future__ import annotations

from pathlib import Path

import pytest

from muybridge.datasets.background import add_background, read_reviewed
from muybridge.datasets.rows import VideoRow
from muybridge.loading.open_data import open_data


def row(label: str, start: float, end: float | None, path: str = "a.mp4") -> VideoRow:
    return VideoRow(path, (label,), "train", "cage1", start, end)


def spans(rows: list[VideoRow]) -> list[tuple[str, float | None, float | None]]:
    return [(each.path, each.start_seconds, each.end_seconds) for each in rows if each.labels == ("background",)]


def test_background_is_reviewed_time_without_a_label() -> None:
    rows = [row("groom", 2, 4), row("rear", 3, 6), row("groom", 20, 22)]
    added, notes = add_background(rows, {"a.mp4": [(0.0, 10.0), (30.0, 32.0)]}, "all")
    # From 10 s to 30 s nobody has watched; two segments overlap from 3 s to 4 s. Windows are two seconds long, as the median.
    assert spans(added) == [("a.mp4", 0, 2), ("a.mp4", 6, 8), ("a.mp4", 8, 10), ("a.mp4", 30, 32)]
    assert {(each.split, each.group) for each in added} == {("train", "cage1")}
    assert added[:3] == rows
    assert notes == ["4 windows of reviewed time without a label are the class background."]


def test_overlapping_ranges_and_marks_by_two_people_count_once() -> None:
    added, _ = add_background([row("groom", 4, 6)], {"a.mp4": [(0.0, 5.0), (2.0, 8.0)]}, "all")
    assert spans(added) == [("a.mp4", 0, 2), ("a.mp4", 2, 4), ("a.mp4", 6, 8)]


def test_gaps_shorter_than_a_mark_is_precise_are_left_out() -> None:
    added, _ = add_background([row("a", 0, 2), row("b", 2.3, 4)], {"a.mp4": [(0.0, 6.0)]}, "all")
    assert spans(added) == [("a.mp4", 4, 6)]


def test_windows_are_drawn_up_to_the_size_of_the_largest_class() -> None:
    rows = [row("a", 0, 1), row("a", 1, 2), row("b", 2, 3)]
    drawn, notes = add_background(rows, {"a.mp4": [(0.0, 100.0)]}, "drawn")
    assert len(spans(drawn)) == 2
    assert notes == ["2 windows of reviewed time without a label are the class background, drawn from 97."]
    again, _ = add_background(rows, {"a.mp4": [(0.0, 100.0)]}, "drawn")
    assert drawn == again


def test_a_file_without_a_label_may_be_all_background() -> None:
    ranges = {"a.mp4": [(0.0, 8.0)], "empty.mp4": [(0.0, 8.0)]}
    without_split = VideoRow("a.mp4", ("a",), None, None, 0, 4)
    added, notes = add_background([without_split], ranges, "all")
    assert spans(added) == [("a.mp4", 4, 8), ("empty.mp4", 0, 4), ("empty.mp4", 4, 8)]
    assert len(notes) == 1
    added, notes = add_background([row("a", 0, 4)], ranges, "all")
    assert spans(added) == [("a.mp4", 4, 8)]  # where the list gives splits, nothing says which one the file is in
    assert notes[1] == "reviewed.csv names files that are in no split, left out: empty.mp4."


def test_segments_without_an_end_and_no_background_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a.mp4#2- has no end_seconds"):
        add_background([row("a", 2, None)], {"a.mp4": [(0.0, 8.0)]}, "all")
    with pytest.raises(ValueError, match="finds none"):
        add_background([row("a", 0, 8)], {"a.mp4": [(0.0, 8.2)]}, "all")


def write_list(folder: Path, reviewed: str | None) -> Path:
    rows = [f"a.mp4,{label},train,{start},{start + 2}" for start, label in ((0, "groom"), (4, "rear"))]
    (folder / "annotations.csv").write_text("\n".join(["path,label,split,start_seconds,end_seconds", *rows]) + "\n")
    (folder / "a.mp4").touch()
    if reviewed is not None:
        (folder / "reviewed.csv").write_text(reviewed)
    return folder / "annotations.csv"


def test_without_marks_unwatched_time_is_not_background(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--background needs reviewed.csv .* nobody has watched is not background"):
        open_data(str(write_list(tmp_path, None)), background="drawn")
    with pytest.raises(ValueError, match=r"--background needs reviewed.csv"):
        read_reviewed(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("path,start_seconds,end_seconds\na.mp4,0,x\n", "line 2 of .*reviewed.csv has the end_seconds 'x'"),
        ("path,start_seconds,end_seconds\na.mp4,0,\n", "has no end_seconds for a.mp4"),
        ("path,start_seconds,end_seconds\na.mp4,9,8\n", "ends at 8 s, not after its start"),
    ],
)
def test_damaged_marks_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        open_data(str(write_list(tmp_path, text)), background="all")


def test_a_list_with_marks_has_one_class_more(tmp_path: Path) -> None:
    address = write_list(tmp_path, "path,start_seconds,end_seconds,annotator\na.mp4,0,10,me\n")
    plain = open_data(str(address))
    manifest = open_data(str(address), background="drawn")
    assert plain.classes == ("groom", "rear")
    assert manifest.classes == ("background", "groom", "rear")
    assert len(manifest) == 3
    assert any(", drawn from 3" in note for note in manifest.notes)
