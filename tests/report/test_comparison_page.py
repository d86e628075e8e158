from __future__ import annotations

from pathlib import Path

import pytest

from muybridge.evaluation.scores import compute_video_indices, read_scores
from muybridge.report.build import build_page as build
from muybridge.report.document import Gallery, Page, Paragraph
from scored import Video, certain, write_score_file

CLASSES = ("kick", "hug")


def scored(path: Path, right: str, *, first: int = 0, classes: tuple[str, ...] = CLASSES) -> Path:
    """One video a sign: 1 right, 0 wrong, x unreadable; their labels take turns and are the same in every file."""
    videos: list[Video] = []
    for number, sign in enumerate(right, first):
        label = classes.index(CLASSES[number % 2])
        views = [None if sign == "x" else certain(label if sign == "1" else 1 - label, 2)]
        videos.append((f"{number}.mp4", (label,), views))
    return write_score_file(path, videos, classes)


def page_text(page: Page) -> str:
    blocks = [block for section in page.sections for block in section.blocks]
    return " ".join(text.text for text in (*page.lead, *blocks) if isinstance(text, Paragraph))


def paired(page: Page) -> tuple[object, ...]:
    return next(table for table in page.tables if table.name == "paired").rows[0]


def test_two_runs_on_the_same_videos(tmp_path: Path) -> None:
    first, second = scored(tmp_path / "a.parquet", "11110000x0"), scored(tmp_path / "b.parquet", "1111111110")
    page = build([str(first), str(second)], None)
    assert page.title == "a and b, compared"
    # b is right about five more, of which a could not read one; a about none
    assert paired(page)[:3] == ("b", "a", 50.0)
    assert paired(page)[5:] == (10, 5, 0, "0.062")
    assert "the difference of 50.0 points (95 % interval 20.0 to 80.0) between b and a is not significant" in page_text(
        page
    )
    assert "p = 0.062." in page_text(page)
    assert "every run is right about 4 and none about 1; at least one is right about 90.0 %" in page_text(page)
    anchors = {section.name: section.title for section in page.sections}
    assert (anchors["settings"], anchors["environment"]) == ("Settings", "Environment")
    assert all(" " not in name for name in anchors)
    other_way = build([str(second), str(first)], None)
    assert paired(other_way)[2] == 50.0  # the better run comes first, as in the sentence
    assert "the difference of 50.0 points (95 % interval 20.0 to 80.0) between b and a is not significant" in page_text(
        other_way
    )
    (fact,) = page.summary["paired"]  # type: ignore[misc]
    assert fact["difference"] == 0.5  # type: ignore[index]


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    first = scored(tmp_path / "a.parquet", "1010")
    second = scored(tmp_path / "b.parquet", "1010", classes=("hug", "kick"))
    page = build([str(first), str(second)], None)
    assert "are right equally often" in page_text(page)
    rows = {row[0]: row[2:4] for table in page.tables if table.name == "classes" for row in table.rows}
    assert rows == {"kick": (100.0, 100.0), "hug": (0.0, 0.0)}


def test_only_common_videos_are_tested(tmp_path: Path) -> None:
    first, second = scored(tmp_path / "a.parquet", "111100"), scored(tmp_path / "b.parquet", "0011", first=4)
    page = build([str(first), str(second)], None)
    assert paired(page)[5] == 2
    assert "2 are common to all" in page_text(page)
    third = scored(tmp_path / "c.parquet", "11", first=20)
    with pytest.raises(ValueError, match="a and c have no labelled video in common"):
        build([str(first), str(third)], None)


def test_contradicting_labels_are_refused(tmp_path: Path) -> None:
    first = scored(tmp_path / "a.parquet", "11")
    second = write_score_file(tmp_path / "b.parquet", [("0.mp4", (1,), [certain(1, 2)])], CLASSES)
    with pytest.raises(ValueError, match=r"0\.mp4 has other labels in a than in b"):
        build([str(first), str(second)], None)


def test_runs_of_different_splits_do_not_compare(tmp_path: Path) -> None:
    first = scored(tmp_path / "a.parquet", "11")
    second = write_score_file(tmp_path / "b.parquet", [("0.mp4", (0,), [certain(0, 2)])], CLASSES, split="validation")
    with pytest.raises(ValueError, match="no scores of the same split and fold: a has test; b has validation"):
        build([str(first), str(second)], None)


def test_protocols_that_differ_are_said(tmp_path: Path) -> None:
    first = scored(tmp_path / "a.parquet", "11")
    second = write_score_file(
        tmp_path / "b.parquet", [("0.mp4", (0,), [certain(0, 2)] * 3), ("1.mp4", (1,), [certain(1, 2)] * 3)], CLASSES
    )
    assert "The protocols differ" in page_text(build([str(first), str(second)], None))


def test_three_runs_are_tested_two_by_two(tmp_path: Path) -> None:
    paths = [
        scored(tmp_path / f"{name}.parquet", right)
        for name, right in (("a", "1" * 10), ("b", "0" * 10), ("c", "0" * 9 + "1"))
    ]
    page = build([str(path) for path in paths], None)
    tests = page.summary["paired"]
    assert [(test["second"], test["first"]) for test in tests] == [("b", "a"), ("c", "a"), ("c", "b")]  # type: ignore[attr-defined]
    assert [test["p_value"] for test in tests] == [2 / 2**10, 2 / 2**9, 1.0]  # type: ignore[attr-defined]
    assert tests[0]["p_value_holm"] == 3 * 2 / 2**10  # type: ignore[index]
    assert "adjusted for 3 pairs" in page_text(page)


def test_groups_are_resampled_where_they_are_known(tmp_path: Path) -> None:
    paths = [scored(tmp_path / "a.parquet", "10" * 6), scored(tmp_path / "b.parquet", "11" * 6)]
    lines = ["path,label,split,group", "train.mp4,kick,train,", "train2.mp4,hug,train,"]
    lines += [f"{number}.mp4,{CLASSES[number % 2]},test,{number // 2}" for number in range(12)]
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "0.mp4").write_bytes(b"no video")
    page = build([str(path) for path in paths], str(tmp_path / "data.csv"))
    (test,) = page.summary["paired"]  # type: ignore[misc]
    assert test["num_groups"] == 6  # type: ignore[index]
    assert test["low"] == test["high"] == 0.5  # type: ignore[index]  # one of two in each group
    note = next(table for table in page.tables if table.name == "paired").note
    assert "whole groups of related videos (6)" in note
    (tmp_path / "data.csv").write_text("\n".join([*lines[:-1], "11.mp4,hug,test,"]) + "\n")
    partly = build([str(path) for path in paths], str(tmp_path / "data.csv"))
    assert partly.summary["paired"][0]["num_groups"] is None  # type: ignore[index]
    assert (
        "no groups of related videos are known" in next(table for table in partly.tables if table.name == "paired").note
    )


def test_mistakes_that_the_other_run_does_not_make(mistaken_run: Path, tmp_path: Path) -> None:
    """A run that says `right` always, beside one that is right about all but one of `left` and wrong about `right`."""
    scores = read_scores(mistaken_run / "scores" / "test.parquet")
    _, names = compute_video_indices(scores.table)
    videos = [
        (name, (int("/right/" in name),), [certain(int(number == 0), 2)] * 2) for number, name in enumerate(names)
    ]
    other = write_score_file(tmp_path / "other.parquet", videos, ("left", "right"))
    page = build([str(mistaken_run), str(other)], None)
    assert "2 of the 3 most confident mistakes of run: other is right." in page_text(page)
    assert "3 of the 4 most confident mistakes of other: run is right." in page_text(page)
    tables = {table.name: table for table in page.tables}
    assert {row[0] for row in tables["mistakes-1"].rows} == set(names[1:3])
    assert {row[0] for row in tables["mistakes-2"].rows} == set(names[3:])
    galleries = [block for section in page.sections for block in section.blocks if isinstance(block, Gallery)]
    assert [len(gallery.items) for gallery in galleries] == [
        2,
        3,
    ]  # the score file's data is that of the run beside it


def test_what_differs_between_the_runs_is_listed(hostile: Path) -> None:
    page = build([str(hostile / "first"), str(hostile / "second")], None)
    (settings,) = [table for table in page.tables if table.name == "settings"]
    assert settings.rows == (("seed", "0", "1"),)
    assert {chart.name for chart in page.charts} >= {"loss", "curves", "speed", "video-1", "clip-1"}


def test_scores_of_data_in_different_places_are_said_to_be(tmp_path: Path) -> None:
    videos: list[Video] = [(f"{number}.mp4", (number % 2,), [certain(0, 2)]) for number in range(4)]
    files = [
        write_score_file(tmp_path / f"{name}.parquet", videos, CLASSES, execution={"data": f"/copies/{place}"})
        for name, place in (("a", "x"), ("b", "y"), ("c", "x"))
    ]
    sentence = (
        "The scores are of data in different places, so videos of one name may differ: a of /copies/x; b of /copies/y."
    )
    assert sentence in page_text(build([str(files[0]), str(files[1])], None))
    assert "different places" not in page_text(build([str(files[0]), str(files[2])], None))
