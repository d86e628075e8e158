from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from muybridge.evaluation.evaluate import evaluate_split
from muybridge.evaluation.overlap import WHILE_TRAINING
from muybridge.evaluation.timeline_metrics import TimelineScores
from muybridge.report.build import build_page as build
from muybridge.report.charts import LineChart, MatrixChart
from muybridge.report.document import Gallery, Page, Paragraph
from muybridge.report.run_page import build_details, build_run_page
from muybridge.report.sections.mistakes import find_clips
from muybridge.report.sections.timelines import TimelineRecord
from muybridge.report.sources import read_run
from muybridge.report.tables import Table
from muybridge.settings import EvaluateSettings, LoadingSettings
from scored import certain, keep_videos, write_score_file


def page_text(page: Page) -> str:
    blocks = [block for section in page.sections for block in section.blocks]
    return " ".join(text.text for text in (*page.lead, *blocks) if isinstance(text, Paragraph))


def table(page: Page, name: str) -> Table:
    return next(one for one in page.tables if one.name == name)


def test_everything_about_a_run_is_there(mistaken_run: Path) -> None:
    page = build([str(mistaken_run)], None)
    assert page.title == "run (r2plus1d_10)"
    names = [section.name for section in page.sections]
    assert names == [
        "accuracy",
        "confusion",
        "classes",
        "mistakes",
        "training",
        "failures",
        "speed",
        "settings",
        "environment",
    ]
    assert "video@1 50.0 % (95 % interval 18.8 to 81.2)" in page_text(page)
    assert "10 uniform" not in page_text(page)
    assert "2 uniform centre-crop clips of 4 frames" in page_text(page)
    rows = {(row[0], row[1]): row for row in table(page, "accuracy").rows}
    assert rows["test", "video@1"][2] == 50.0
    assert rows["test", "video@1"][5:7] == (3, 6)
    assert ("validation", "video@1") in rows
    assert table(page, "classes").rows[0][:4] == ("left", 3, 0, 0.0)
    assert table(page, "classes").rows[0][-1] == "right (3)"
    assert table(page, "confusions").rows == (("left", "right", 3, 3, 100.0),)
    assert table(page, "speed").rows[0] == ("steps", 12)
    assert ("training.batch_size", "4") in table(page, "settings").rows
    assert "Nothing failed" in page_text(page)
    assert page.summary["run"] == "run"


def test_timelines_have_their_section(mistaken_run: Path) -> None:
    run = read_run(mistaken_run, "run")
    scores = TimelineScores(2, 5, 6, 60.0, 0.75, 0.5, 0.8, {"0.50": 0.6}, {"0.50": 0.4}, 0.4)
    timelines = (TimelineRecord("test", "test", scores, None, (("gone.mp4", "cut"),), gaps_are_scored=True),)
    sections = build_details(replace(run, timelines=timelines))
    assert [section.name for section in sections][:2] == ["timelines", "training"]
    assert "timelines" not in [section.name for section in build_details(run)]


def test_mistakes_are_shown_as_they_move(mistaken_run: Path, motions: Path) -> None:
    page = build([str(mistaken_run)], None)
    (gallery,) = [block for section in page.sections for block in section.blocks if isinstance(block, Gallery)]
    assert len(gallery.items) == 3
    for picture in gallery.items:
        assert picture.heading.startswith("right, ")
        assert "labelled left" in picture.lines[0]
        assert picture.animation
        assert picture.animation.startswith("data:image/webp;base64,")
        assert picture.still != picture.animation
        assert "labelled left, taken for right" in picture.alt
        assert picture.lines[1].endswith(" s after its start")
    assert table(page, "mistakes").num_shown == 0


def test_clips_that_are_gone_are_named(mistaken_run: Path, motions: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    copytree(motions, data)
    lost = sorted((data / "test" / "left").iterdir())[0]
    lost.unlink()
    page = build([str(mistaken_run)], str(data))
    assert f"Not shown: test/left/{lost.name}: the data has no video of this name." in page_text(page)
    assert "not the list of videos that was scored" in page_text(page)
    with pytest.raises(ValueError, match="there is no folder or CSV file"):
        build([str(mistaken_run)], str(tmp_path / "nowhere"))


def test_a_score_file_alone_says_what_it_lacks(tmp_path: Path) -> None:
    path = write_score_file(tmp_path / "mine.parquet", [("a", (0,), [certain(1, 2)]), ("b", (1,), [None])], ("x", "y"))
    page = build([str(path)], None)
    assert [section.name for section in page.sections] == [
        "accuracy", "confusion", "classes", "mistakes", "failures", "environment",
    ]  # fmt: skip
    assert "give it with --data" in page_text(page)
    assert table(page, "mistakes").rows[0][:3] == ("a", "x", "y")
    assert "1 of 2 videos could not be read" in page_text(page)
    assert table(page, "evaluation-failures").rows == (("b", "unreadable", "broken on purpose", 1),)
    assert [column.title for column in table(page, "classes").columns][3] == "unreadable"


def test_scores_of_videos_count_the_clips_that_failed_and_say_why(tmp_path: Path) -> None:
    videos = [("a", (0,), [certain(1, 2), None, None]), ("b", (1,), [None] * 3), ("c", (1,), [certain(1, 2)] * 3)]
    views = write_score_file(tmp_path / "views.parquet", videos, ("x", "y"))
    pages = [build([str(path)], None) for path in (views, keep_videos(views, tmp_path / "videos.parquet"))]
    failures = [sorted(table(page, "evaluation-failures").rows) for page in pages]
    assert failures[1] == [("a", "failed", "broken on purpose", 2), ("b", "failed", "broken on purpose", 3)]
    assert [(*row[:1], *row[2:]) for row in failures[0]] == [(*row[:1], *row[2:]) for row in failures[1]]
    assert table(pages[1], "accuracy").rows[1][2:] == table(pages[0], "accuracy").rows[1][2:]


def test_scores_of_which_everything_failed(tmp_path: Path) -> None:
    path = write_score_file(tmp_path / "s.parquet", [("a", (0,), [None, None]), ("b", (1,), [None, None])], ("x", "y"))
    page = build([str(path)], None)
    assert "video@1 0.0 %" in page_text(page)
    assert "there is no confusion matrix" in page_text(page)
    assert table(page, "accuracy").rows[1][-4:] == (None, 0, 50.0, 50.0)


def test_a_run_that_is_not_scored_yet(finished_run: Path, tmp_path: Path) -> None:
    copytree(finished_run, tmp_path / "run", ignore=lambda folder, names: ["checkpoints", "scores"])
    page = build([str(tmp_path / "run")], None)
    assert page_text(page).count("There are no scores yet") == 2
    assert any(isinstance(chart, LineChart) for chart in page.charts)


def write_gap_scores(run: Path, split: str, *remarks: str, weights: str = "m") -> None:
    videos = [(f"{split}/{number}", (number % 2,), [certain(0, 2)]) for number in range(4)]
    path = run / "scores" / f"{split}.parquet"
    execution = {"remarks": remarks}
    write_score_file(path, videos, ("x", "y"), split=split, model_sha256=64 * weights, execution=execution)


CHOSEN = "not a test result: 4 videos of the validation split by which these weights were chosen (--checkpoint last)"


@pytest.mark.parametrize(
    ("validation", "test", "sentence"),
    [
        (("m", CHOSEN), (), "+0.0 points from test to validation, by which the weights were chosen."),
        (("m", CHOSEN.replace("were", "may have been")), (), "+0.0 points from test to validation."),
        (("m", "validation videos included: 4, by which these weights were not chosen"), (), "to validation."),
        (("m",), (), "+0.0 points from test to validation."),
        (("m", "training videos included: 4"), (), None),
        (("m", CHOSEN), ("training videos included: 1",), None),
        (("v", CHOSEN), (), "The validation scores are of other weights, not of those scored on the test split"),
        (("v", WHILE_TRAINING), (), "The validation scores are of the last validated weights, not of those"),
    ],
)
def test_validation_and_test_are_compared_where_both_are_of_the_same_weights(
    validation: tuple[str, ...], test: tuple[str, ...], sentence: str | None, tmp_path: Path
) -> None:
    weights, *remarks = validation
    write_gap_scores(tmp_path, "validation", *remarks, weights=weights)
    write_gap_scores(tmp_path, "test", *test)
    lead = page_text(build([str(tmp_path)], None)).partition("Measured on")[0]
    assert sentence in lead if sentence else "validation" not in lead


def test_scores_of_other_data_stand_last_and_name_it(finished_run: Path, motions: Path, tmp_path: Path) -> None:
    run = copytree(finished_run, tmp_path / "run", ignore=ignore_patterns("checkpoints"))
    other = copytree(motions, tmp_path / "elsewhere" / motions.name)  # of the same base name
    settings = EvaluateSettings(data=str(other), loading=LoadingSettings(workers=0))
    path = evaluate_split(run, settings).path
    assert path.name.startswith(f"test-{motions.name}-")
    record = read_run(run, "run")
    assert [one.name for one in record.evaluations] == ["validation", path.stem]
    assert [one.is_of_other_data for one in record.evaluations] == [False, True]
    (run / "scores" / "validation.parquet").unlink()
    for address in (run, path):
        page = build([str(address)], None)
        assert page.lead[-1].text.startswith(f"Measured on {other}, split test, 6 videos: ")
        assert f"{other} has no video" not in page_text(page) and "not shown" not in page_text(page)
    evaluate_split(run, replace(settings, data=str(motions), split="validation"))
    path.rename(run / "scores" / "test.parquet")
    assert "test videos" not in page_text(build([str(run)], None))  # no gap between two data sets


def test_validation_scores_of_training_are_said_to_be_of_the_last_validated_weights(
    finished_run: Path, tmp_path: Path
) -> None:
    run = copytree(finished_run, tmp_path / "run", ignore=lambda folder, names: ["checkpoints"])
    remark = "of the last validated weights, not of the best ones"
    write_gap_scores(run, "validation", WHILE_TRAINING, weights="v")
    assert remark in table(build([str(run)], None), "accuracy").note


@pytest.mark.parametrize(("model", "is_said"), [("f_r2d_18", True), ("r2plus1d_18", False)])
def test_f_r2d_that_confuses_a_pair_is_said_to_be_blind_to_order(model: str, is_said: bool, tmp_path: Path) -> None:
    predicted = {0: (0, 1, 1), 1: (0, 0, 1), 2: (2, 2, 0)}
    videos = [
        (f"{label}-{number}", (label,), [certain(other, 3)])
        for label, others in predicted.items()
        for number, other in enumerate(others)
    ]
    run = read_run(write_score_file(tmp_path / "s.parquet", videos, ("open", "close", "wave")), "s")
    page = build_run_page(replace(run, settings={"model": model}), find_clips(run, None))
    text = " ".join(text.text for text in page.lead)
    assert ("It takes open and close for each other" in text) == is_said


def test_guessing_counts_every_label_of_a_video(tmp_path: Path) -> None:
    videos = [(str(number), (number, number + 1), [certain(number, 10)]) for number in range(9)]
    path = write_score_file(tmp_path / "s.parquet", videos, [f"class {number}" for number in range(10)])
    rows = {row[1]: row[-1] for row in table(build([str(path)], None), "accuracy").rows}
    assert rows["video@1"] == pytest.approx(20)
    assert rows["video@5"] == pytest.approx(100 * (1 - 5 * 4 / (10 * 9)))  # less the draws without either label


def test_many_classes_are_shown_in_parts(tmp_path: Path) -> None:
    num = 40
    videos = [
        (f"{label}-{number}", (label,), [certain((label + 20 * (number == 0)) % num, num)])
        for label in range(num)
        for number in range(3)
    ]
    page = build(
        [str(write_score_file(tmp_path / "s.parquet", videos, [f"class {label}" for label in range(num)]))], None
    )
    matrices = [chart for chart in page.charts if isinstance(chart, MatrixChart)]
    assert [len(chart.labels) for chart in matrices] == [40, 16, 16]
    places = {label: place for place, label in enumerate(matrices[0].labels)}
    assert all(abs(places[f"class {label}"] - places[f"class {label + 20}"]) == 1 for label in range(20))
    assert "80 of 120 videos on the diagonal" in matrices[0].alt
    assert len(table(page, "confusions").rows) == 40
    assert table(page, "confusions").num_shown == 20


def test_data_that_a_run_remembers_may_be_gone(hostile: Path) -> None:
    run = read_run(hostile / "first", "first")
    clips = find_clips(run, None)
    assert clips.reader is None
    assert "there is no folder or CSV file" in clips.missing_reason
