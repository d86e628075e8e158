"""`evaluate_timelines` with a trained network and whole files, and the command that prints it."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from shutil import copyfile, copytree
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from muybridge.prediction.timeline import TimelineOptions
from muybridge.prediction.timeline_evaluation import METADATA_KEY, evaluate_timelines, read_segments
from muybridge.prediction.timeline_tuning import read_choice, write_choice
from muybridge.report.build import build_page
from muybridge.report.document import Paragraph
from muybridge.report.tables import Table
from muybridge.settings import EvaluateSettings
from muybridge.synthetic.dataset import write_untrimmed_video
from muybridge.weights.card import load_network, save
from runs import MOTIONS
from videos import write_video


@pytest.fixture
def segments(tmp_path: Path) -> Path:
    """A list of two untrimmed files, one for validation and one for test."""
    rows = ["path,label,split,start_seconds,end_seconds"]
    for name, split, labels in (("v.mp4", "validation", "lr"), ("t.mp4", "test", "rl")):
        names = [{"l": "left", "r": "right"}[letter] for letter in labels]
        rows += [
            f"{name},{segment.label},{split},{segment.start_seconds},{segment.end_seconds}"
            for segment in write_untrimmed_video(tmp_path / name, MOTIONS, labels=names)
        ]
    (tmp_path / "segments.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "segments.csv"


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(copytree(finished_run, tmp_path / "run"))


def test_segments_curves_and_bouts_are_written(run: Path, segments: Path, tmp_path: Path) -> None:
    path = tmp_path / "out" / "test.timeline.parquet"
    progress: list[tuple[int, int]] = []
    result = evaluate_timelines(
        run,
        EvaluateSettings(data=str(segments)),
        path,
        step_frames=1,
        on_progress=lambda done, total: progress.append((done, total)),
    )
    assert progress == [(1, 2), (2, 2)]
    assert result.scores.num_true_segments == 2
    assert not result.failures
    files = result.files
    table = pq.read_table(files.segments)
    assert set(table["video"].to_pylist()) == {"t.mp4"}  # not the validation file
    header = json.loads(table.schema.metadata[METADATA_KEY])
    assert header["scores"]["frame_accuracy"] == result.scores.frame_accuracy
    curves = pq.read_table(files.curves)
    assert all(sum(row) == pytest.approx(1, abs=1e-5) for row in curves["probabilities"].to_pylist())
    rows = list(csv.DictReader(files.bouts.read_text().splitlines()))
    assert [(row["origin"], row["label"], row["num_bouts"]) for row in rows[:2]] == [
        ("true", "left", "1"),
        ("true", "right", "1"),
    ]


def test_labelled_segments_that_touch_are_one_bout(run: Path, segments: Path, tmp_path: Path) -> None:
    *rows, last = segments.read_text().splitlines()
    name, label, split, start, end = last.split(",")
    half = (float(start) + float(end)) / 2
    segments.write_text(
        "\n".join([*rows, f"{name},{label},{split},{start},{half}", f"{name},{label},{split},{half},{end}", ""])
    )
    result = evaluate_timelines(run, EvaluateSettings(data=str(segments)), tmp_path / "x.parquet", step_frames=2)
    bouts = [row for row in csv.DictReader(result.files.bouts.read_text().splitlines()) if row["origin"] == "true"]
    assert [(row["label"], row["num_bouts"]) for row in bouts] == [("left", "1"), ("right", "1")]
    assert result.scores.num_true_segments == 2


def test_labelled_time_after_the_end_of_a_file_is_named_and_not_scored(
    run: Path, segments: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    path = tmp_path / "x.timeline.parquet"
    whole = evaluate_timelines(run, EvaluateSettings(data=str(segments)), path, step_frames=2)
    rows = segments.read_text().splitlines()
    end = rows[-1].rpartition(",")[2]
    rows[-1] = f"{rows[-1].removesuffix(end)}1000"
    segments.write_text("\n".join([*rows, "t.mp4,left,test,2000,2001", ""]))
    late = evaluate_timelines(run, EvaluateSettings(data=str(segments)), path, step_frames=2)
    assert late.scores.scored_seconds == pytest.approx(whole.scores.scored_seconds, abs=0.1)
    assert late.failures == (("t.mp4", "1 labelled segment after the end of the file"),)
    assert cli("evaluate", run, "--data", segments, "--timeline").code == 3  # its only video was read and scored


def test_a_report_has_the_scores_of_timelines(run: Path, segments: Path, cli: Callable[..., Any]) -> None:
    settings = EvaluateSettings(data=str(segments))
    result = evaluate_timelines(run, settings, run / "scores" / "untrimmed.timeline.parquet", step_frames=2)
    page = build_page([str(run)])
    (section,) = (section for section in page.sections if section.name == "timelines")
    table = section.blocks[-1]
    assert isinstance(table, Table)
    rows = {row[1]: row[2:] for row in table.rows}
    assert result.scores.frame_accuracy is not None and result.scores.majority_accuracy is not None
    assert rows["frame accuracy"] == (100 * result.scores.frame_accuracy, 100 * result.scores.majority_accuracy)
    assert result.scores.f1 is not None
    assert rows["F1@50"] == (100 * result.scores.f1["0.50"], None)
    assert isinstance(section.blocks[0], Paragraph)
    text = section.blocks[0].text
    assert "untrimmed: 1 video of split test, 2 labelled segments and" in text
    assert "chosen on 1 validation video" in text
    remark = "of weights that the run no longer has"
    assert not any(remark in block.text for block in section.blocks if isinstance(block, Paragraph))
    for name in ("best", "last"):
        network, card = load_network(run / f"{name}.safetensors")
        with torch.no_grad():
            network.fc.bias += 1
        save(network, run / f"{name}.safetensors", classes=card.classes, preprocessing=card.preprocessing)
    (section,) = (section for section in build_page([str(run)]).sections if section.name == "timelines")
    assert any(remark in block.text for block in section.blocks if isinstance(block, Paragraph))
    assert (
        json.loads(cli("report", run, "--json", "-o", run / "r.html").out)["timelines"]["untrimmed"]["num_videos"] == 1
    )


def test_the_choice_is_kept_in_the_run_and_made_once(run: Path, segments: Path, tmp_path: Path) -> None:
    files = tmp_path / "test.timeline.parquet"
    settings = EvaluateSettings(data=str(segments))
    first = evaluate_timelines(run, settings, files)
    choice = read_choice(run)
    assert choice == first.choice
    assert choice is not None
    assert choice.num_videos == 1
    progress: list[int] = []
    evaluate_timelines(run, settings, files, on_progress=lambda done, total: progress.append(total))
    assert progress == [1]  # validation was not watched again


@pytest.mark.parametrize("with_ends", [True, False])
def test_validation_videos_that_cannot_be_read_choose_nothing(
    run: Path, segments: Path, cli: Callable[..., Any], with_ends: bool
) -> None:
    text = segments.read_text()
    if not with_ends:
        head, *rows = text.splitlines()
        rows = [f"{row.rpartition(',')[0]}," if row.startswith("v.mp4") else row for row in rows]
        segments.write_text("\n".join([head, *rows, ""]))
    video = segments.parent / "v.mp4"
    content = video.read_bytes()
    video.write_bytes(b"no video")
    told = cli("evaluate", run, "--data", segments, "--timeline", "--step", 2)
    assert told.code == 3
    assert "1 validation video could not be read as a whole: v.mp4 (unreadable: " in told.out
    assert "nothing is chosen on validation videos: windows are not smoothed" in told.out
    assert read_choice(run) is None
    segments.write_text(text)
    video.write_bytes(content)
    assert cli("evaluate", run, "--data", segments, "--timeline", "--step", 2).code == 0
    choice = read_choice(run)
    assert choice and choice.num_videos == 1 and choice.mean_average_precision > 0


def test_a_choice_is_kept_that_some_validation_videos_made(run: Path, segments: Path, tmp_path: Path) -> None:
    video = segments.parent / "w.mp4"
    copyfile(segments.parent / "v.mp4", video)
    rows = segments.read_text().splitlines()
    segments.write_text("\n".join([*rows, *(row.replace("v.mp4", "w.mp4") for row in rows if "v.mp4" in row), ""]))
    content = video.read_bytes()
    video.write_bytes(b"no video")
    settings, path = EvaluateSettings(data=str(segments)), tmp_path / "x.parquet"
    first = evaluate_timelines(run, settings, path, step_frames=2)
    assert first.choice and first.choice.num_videos == 1
    assert [name for name, _ in first.validation_failures] == ["w.mp4"]
    remark = "smoothing and minimum duration were chosen on 1 of 2 validation videos, since the others could not be read then"
    assert not any(remark in each for each in first.caveats.remarks)
    progress: list[int] = []
    for _ in range(2):
        again = evaluate_timelines(run, settings, path, step_frames=2, on_progress=lambda _, num: progress.append(num))
        assert again.choice == first.choice == read_choice(run) and again.validation_failures == ()
        assert any(remark in each for each in again.caveats.remarks)
        video.write_bytes(content)
    assert progress == [1, 1]  # validation was not watched again
    (run / "timeline.json").unlink()
    result = evaluate_timelines(run, settings, path, step_frames=2)
    assert result.choice and result.choice.num_videos == 2 and result.validation_failures == ()
    write_choice(run, replace(result.choice, f1=0.0, mean_average_precision=0.0))  # as once chosen on unreadable videos
    assert evaluate_timelines(run, settings, path, step_frames=2).choice == result.choice == read_choice(run)


def test_where_no_label_has_a_place_the_reason_is_named(run: Path, segments: Path, cli: Callable[..., Any]) -> None:
    head, *rows = segments.read_text().splitlines()
    segments.write_text("\n".join([head, *(f"{row.rpartition(',')[0]}," for row in rows), ""]))
    (segments.parent / "t.mp4").write_bytes(b"no video")
    told = cli("evaluate", run, "--data", segments, "--timeline")
    assert told.code == 2
    assert "no labelled segment of split test can be placed in its file: t.mp4 (unreadable: " in told.err


def test_classes_that_overlap_are_predicted_as_they_were_scored(
    run: Path, segments: Path, cli: Callable[..., Any]
) -> None:
    rows = segments.read_text().replace(",left,", ",left|right,").splitlines()
    segments.write_text("\n".join([row for row in rows if "validation" not in row]) + "\n")
    unchosen = "labelled segments overlap, and no validation video where they do chose a probability"
    words = ("evaluate", run, "--data", segments, "--timeline", "--step", 2)
    assert unchosen in cli(*words).out
    segments.write_text("\n".join(rows) + "\n")
    told = cli(*words, "-o", run / "x.timeline.parquet")
    assert "each class by itself, smoothing" in told.out and unchosen not in told.out
    predicted = cli("predict", run, segments.parent / "t.mp4", "--timeline", "--step", 2, "--json").out
    for scored, segment in zip(
        read_segments(run / "x.timeline.parquet"), json.loads(predicted)["timeline"]["segments"], strict=True
    ):
        assert segment == pytest.approx(asdict(scored))


def test_last_weights_and_other_data_leave_the_files_of_the_run_alone(
    run: Path, segments: Path, tmp_path: Path
) -> None:
    settings = yaml.safe_load((run / "settings.yaml").read_text())
    (run / "settings.yaml").write_text(yaml.safe_dump(settings | {"data": str(segments), "columns": None}))
    own = EvaluateSettings(data=str(segments))
    assert evaluate_timelines(run, own).files.segments == run / "scores" / "test.timeline.parquet"
    choice = read_choice(run)
    network, card = load_network(run / "last.safetensors")
    with torch.no_grad():
        network.fc.bias += 1
    save(network, run / "last.safetensors", classes=card.classes, preprocessing=card.preprocessing)
    other = segments.with_name("other.csv")
    other.write_text(segments.read_text().replace("v.mp4,left,validation", "v.mp4,right,validation"))
    changes: list[dict[str, Any]] = [{"checkpoint": "last"}, {"data": str(other)}, {"seed": 7}]
    paths = {evaluate_timelines(run, replace(own, **change)).files.segments for change in changes}
    paths.add(evaluate_timelines(run, own, step_frames=2).files.segments)
    assert len(paths) == 4 and all(path.name.startswith("test-") for path in paths)
    assert read_choice(run) == choice


def test_a_file_with_segments_in_two_splits_is_refused(run: Path, segments: Path, tmp_path: Path) -> None:
    text = segments.read_text().replace("v.mp4,left,validation", "v.mp4,left,test")
    segments.write_text(text)
    with pytest.raises(ValueError, match=r"1 file has segments in several splits \(v.mp4\)"):
        evaluate_timelines(run, EvaluateSettings(data=str(segments)), tmp_path / "x.parquet")


def test_an_unreadable_file_is_named_and_counts_as_wrong(
    run: Path, segments: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    (segments.parent / "t.mp4").write_bytes(b"no video")
    told = cli("evaluate", run, "--data", segments, "--timeline")
    assert told.code == 1
    assert "t.mp4: unreadable" in told.out
    assert "frame accuracy" in told.out


def test_the_command_prints_scores_and_where_the_files_are(run: Path, segments: Path, cli: Callable[..., Any]) -> None:
    told = cli("evaluate", run, "--data", segments, "--timeline", "--step", 2)
    assert told.code == 0
    for line in (
        "time without a label is not scored",
        "chosen on 1 validation video",
        "F1@50",
        "edit score",
        "mAP@0.50",
    ):
        assert line in told.out
    values = json.loads(cli("evaluate", run, "--data", segments, "--timeline", "--json").out)
    path = Path(values["segments"])
    assert path.parent == run / "scores"
    assert re.fullmatch(r"test-segments-[0-9a-f]{8}\.timeline\.parquet", path.name)  # not the run's own data
    assert values["unlabelled_time"] == "not scored"
    assert cli("evaluate", run, "--data", segments).code == 0
    assert cli("report", run, "--data", segments, "-o", run / "report.html").code == 0  # timelines are no score files


def test_what_flatters_is_said_of_timelines_too(
    run: Path, segments: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    words = ("evaluate", run, "--data", segments, "--timeline", "--split", "validation")
    tuned = "not a test result: smoothing and minimum duration are chosen on the validation split"
    assert tuned in cli(*words).out
    found = json.loads(cli(*words, "--json").out)
    assert found["remarks"] == [tuned] and found["checkpoint"] == "best"
    assert found["overlap"] == {"num_training": 0, "num_validation": 0, "problem": ""}
    trained_on = motions / "train" / "left" / "00000.mp4"
    (tmp_path / "other.csv").write_text(f"path,label,split,start_seconds,end_seconds\n{trained_on},left,test,0,0.2\n")
    words = ("evaluate", run, "--data", tmp_path / "other.csv", "--timeline")
    told = cli(*words, "-o", run / "scores" / "other.timeline.parquet")
    assert told.code == 0 and "training videos included: 1" in told.out.splitlines()
    assert cli("report", run, "-o", tmp_path / "page.html").code == 0
    assert "other: training videos included: 1." in (tmp_path / "page.html").read_text(encoding="utf-8")
    refused = cli(*words, "--refuse-overlap")
    assert refused.code == 1 and "nothing is scored: training videos included: 1" in refused.err
    assert cli("evaluate", run, "--data", segments, "--timeline", "--refuse-overlap").code == 0


def test_timelines_count_as_the_list_does(run: Path, tmp_path: Path) -> None:
    """The sound begins a second before the picture: in a player a file of 2 s lasts from 1 to 3 s."""
    write_video(tmp_path / "late.mp4", 50, ticks=range(25, 75), audio=True)
    np.save(tmp_path / "frames.npy", np.zeros((20, 32, 32, 3), np.uint8))
    (tmp_path / "l.csv").write_text(
        "path,label,split,start_seconds,end_seconds,fps\nlate.mp4,left,test,1.5,2.5,\nlate.mp4,right,test,2.5,,\n"
        "frames.npy,left,test,0,1,10\nfrom.mp4,right,train,,,\nto.mp4,left,train,,,\n"
    )
    seconds = {}
    for origin in ("picture", "container"):
        settings = EvaluateSettings(data=str(tmp_path / "l.csv"), time_origin=origin)  # type: ignore[arg-type]  # literals
        result = evaluate_timelines(run, settings, tmp_path / f"{origin}.parquet", step_frames=1)
        table = pq.read_table(result.files.curves)
        for name in ("late.mp4", "frames.npy"):
            curve = table.filter(pc.equal(table["video"], name))
            seconds[origin, name] = (curve["start_seconds"][0].as_py(), curve["end_seconds"][-1].as_py())
        header = json.loads(pq.read_schema(result.files.segments).metadata[METADATA_KEY])
        assert header.get("time_origin", "picture") == origin
        assert result.scores.num_true_segments == (3 if origin == "container" else 2)  # 2.5 s is after its end
    assert seconds["picture", "late.mp4"] == pytest.approx((0, 2), abs=0.06)
    assert seconds["container", "late.mp4"] == pytest.approx((1, 3), abs=0.06)
    assert seconds["picture", "frames.npy"] == pytest.approx((0, 2))  # at the rate of its row


def test_a_step_without_a_timeline_is_refused(run: Path, segments: Path, cli: Callable[..., Any]) -> None:
    told = cli("evaluate", run, "--data", segments, "--step", 2)
    assert told.code == 2
    assert "--step is for --timeline" in told.err


def test_predict_uses_the_choice_of_the_run(run: Path, segments: Path, cli: Callable[..., Any]) -> None:
    video = segments.parent / "t.mp4"
    evaluate_timelines(run, EvaluateSettings(data=str(segments)), run / "x.timeline.parquet")
    path = run / "timeline.json"
    chosen = json.loads(path.read_text())
    path.write_text(json.dumps({**chosen, "minimum_probability": 1.0}))
    told = json.loads(cli("predict", run, video, "--timeline", "--json").out)
    assert told["timeline"]["segments"] == []
    told = json.loads(cli("predict", run, video, "--timeline", "--json", "--minimum-probability", 0).out)
    assert told["timeline"]["segments"] != []
    assert TimelineOptions().smoothing_seconds == 0
