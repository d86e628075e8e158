"""`muybridge predict` from outside: one answer a file, failed ones too, for people and for machines."""

from __future__ import annotations

import csv
import io
import json
import signal
from collections.abc import Callable
from pathlib import Path
from shutil import copyfile
from typing import Any

import pyarrow.parquet as pq
import pytest

from muybridge.cli import prediction_output
from muybridge.prediction import sliding_window
from muybridge.prediction.recognizer import load
from muybridge.prediction.timeline import INTERRUPTED
from videos import write_damaged_video, write_picture, write_sound


@pytest.fixture
def mixed(motions: Path, tmp_path: Path) -> Path:
    """Two videos, and three files that are none."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    copyfile(motions / "test" / "left" / "00000.mp4", folder / "a.mp4")
    copyfile(motions / "test" / "right" / "00000.mp4", folder / "b.mp4")
    (folder / "c.mp4").write_bytes(b"no video at all")
    write_sound(folder / "d.mp4")
    write_picture(folder / "e.png").rename(folder / "e.mp4")
    return folder


def test_json_is_one_object_a_file_failed_ones_too(finished_run: Path, mixed: Path, cli: Callable[..., Any]) -> None:
    told = cli("predict", finished_run, mixed, mixed / "absent.mp4", "--json")
    assert (told.code, told.err) == (3, "")
    rows = [json.loads(line) for line in told.out.splitlines()]
    assert [Path(row["video"]).name for row in rows] == ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4", "absent.mp4"]
    assert [row["status"] for row in rows] == ["ok", "ok", "unreadable", "no_video", "no_video", "missing"]
    for row in rows:
        assert set(row) == {"video", "status", "reason", "classes"}
        assert bool(row["reason"]) == (row["status"] != "ok") == (not row["classes"])
    recognizer = load(finished_run)
    for row in rows[:2]:
        assert [named["label"] for named in row["classes"]] == [
            label for label, _ in recognizer.predict(row["video"]).classes
        ]
        assert sum(named["probability"] for named in row["classes"]) == pytest.approx(1)


def test_people_read_classes_and_reasons(finished_run: Path, mixed: Path, cli: Callable[..., Any]) -> None:
    told = cli("predict", finished_run, mixed, "--top", 1)
    assert (told.code, told.err) == (3, "")
    lines = told.out.splitlines()
    assert lines[0] == str(mixed / "a.mp4")
    assert lines[1].endswith(("%  left", "%  right"))
    assert lines[2] == str(mixed / "b.mp4")
    assert lines[5].startswith("  unreadable: the file is damaged or no video")
    assert lines[7] == "  no_video: the file holds sound and no video"
    assert lines[9] == "  no_video: the file is a picture (png), not a video"


def test_when_every_file_failed_the_code_is_1(finished_run: Path, mixed: Path, cli: Callable[..., Any]) -> None:
    assert cli("predict", finished_run, mixed / "c.mp4", mixed / "d.mp4").code == 1
    assert cli("predict", finished_run, mixed / "a.mp4").code == 0


def test_timelines_in_every_form(finished_run: Path, mixed: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    video = mixed / "a.mp4"
    words = ("predict", finished_run, video, "--step", 3, "--timeline")
    segments = json.loads(cli(*words, "json", "--json").out.splitlines()[0])["timeline"]["segments"]
    assert segments[0]["start_seconds"] == 0
    assert segments[-1]["end_seconds"] == pytest.approx(13 / 24)
    for name in ("json", "csv", "srt"):
        told = cli(*words, name, "-o", tmp_path / f"out.{name}")
        assert told.code == 0
        assert told.err == f"wrote {tmp_path / f'out.{name}'}\n"
    assert json.loads((tmp_path / "out.json").read_text())["segments"] == segments
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [row["label"] for row in rows] == [segment["label"] for segment in segments]
    assert (tmp_path / "out.srt").read_text().startswith("1\n00:00:00,000 --> 00:00:0")
    for name in ("json", "csv", "srt"):
        assert cli(*words, name).out == (tmp_path / f"out.{name}").read_text()  # alone, for a program to read
    assert segments[0]["label"] in cli(*words).out  # for people, below the classes


def test_timelines_of_several_videos_go_into_a_folder(
    finished_run: Path, mixed: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    told = cli("predict", finished_run, mixed, "--timeline", "csv", "-o", tmp_path / "lines")
    assert told.code == 3
    assert sorted(path.name for path in (tmp_path / "lines").iterdir()) == ["a.mp4.csv", "b.mp4.csv"]


def test_videos_of_one_name_keep_their_timelines_apart(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    told = cli("predict", finished_run, motions / "test", "--timeline", "csv", "-o", tmp_path / "lines")
    assert told.code == 0
    assert len(list((tmp_path / "lines").rglob("*.csv"))) == len(list((motions / "test").rglob("*.mp4")))
    told = cli("predict", finished_run, motions / "test", "--timeline", "csv")
    assert (told.code, told.out) == (2, "")
    assert "name a folder with -o" in told.err


def test_a_timeline_of_one_convolutional_pass(finished_run: Path, mixed: Path, cli: Callable[..., Any]) -> None:
    words = ("predict", finished_run, mixed / "a.mp4", "--step", 1, "--json", "--timeline")
    told = {mode: cli(*words, "--timeline-mode", mode) for mode in ("windows", "convolutional")}
    assert [found.code for found in told.values()] == [0, 0]
    windows = {mode: json.loads(found.out)["timeline"]["windows"] for mode, found in told.items()}
    assert windows["windows"] == json.loads(cli(*words).out)["timeline"]["windows"], "the default"
    for one, other in zip(*windows.values(), strict=True):
        assert one["start_seconds"] == other["start_seconds"]
        assert sum(other["probabilities"]) == pytest.approx(1)
    assert windows["windows"] != windows["convolutional"]


def test_an_address_a_short_video_and_an_exported_program(
    finished_run: Path, mixed: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    told = cli("predict", finished_run, "https://example.com/a.mp4", mixed / "a.mp4")
    assert told.code == 3
    assert told.out.startswith("https://example.com/a.mp4\n  unreadable: an address is not read here; save it")
    segment = cli("predict", finished_run, f"{mixed / 'a.mp4'}#0-0.1")
    assert segment.code == 0
    assert "(shorter than a clip, repeated in a loop)" in segment.out
    assert "repeated in a loop" not in told.out
    (tmp_path / "net.pt2").touch()
    exported = cli("predict", tmp_path / "net.pt2", mixed / "a.mp4")
    assert exported.code == 2
    assert "net.pt2 is an exported program, which has no card" in exported.err
    before = cli("predict", "run", "--timeline", "holiday.mp4")
    assert before.code == 2 and "expected text or json or csv or srt; write --timeline after the files" in before.err


def test_the_extension_decides(finished_run: Path, mixed: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    words = ("predict", finished_run, mixed / "a.mp4", mixed / "c.mp4")
    on_screen = cli(*words)
    for extension in ("json", "jsonl", "txt", "csv", "parquet"):
        assert cli(*words, "-o", tmp_path / f"x.{extension}").code == 3
    lines = [json.loads(line) for line in cli(*words, "--json").out.splitlines()]
    assert json.loads((tmp_path / "x.json").read_text()) == lines
    assert [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()] == lines
    assert (tmp_path / "x.txt").read_text() == on_screen.out == cli(*words, "-o", "-").out
    assert [row["video"] for row in csv.DictReader(io.StringIO((tmp_path / "x.csv").read_text()))] == [
        line["video"] for line in lines
    ]
    assert pq.read_table(tmp_path / "x.parquet")["video"].to_pylist() == [line["video"] for line in lines]


def test_the_extension_of_a_timeline_decides(
    finished_run: Path, mixed: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    one = ("predict", finished_run, mixed / "a.mp4", "--step", 3, "--timeline")
    for extension in ("csv", "json", "srt", "txt"):
        assert cli(*one, "-o", tmp_path / f"x.{extension}").code == 0
        if extension != "txt":
            assert (tmp_path / f"x.{extension}").read_text() == cli(*one, extension).out
    assert all(line.strip() in cli(*one).out for line in (tmp_path / "x.txt").read_text().splitlines())
    several = ("predict", finished_run, mixed / "a.mp4", mixed / "b.mp4", "--step", 3, "--timeline")
    assert cli(*several, "-o", tmp_path / "all.jsonl").code == 0
    assert cli(*several, "-o", tmp_path / "all.parquet").code == 0
    values = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    segments = [{"video": value["video"], **segment} for value in values for segment in value["timeline"]["segments"]]
    assert len({segment["video"] for segment in segments}) == 2
    assert [dict(row) for row in pq.read_table(tmp_path / "all.parquet").to_pylist()] == segments
    for extension in ("srt", "csv"):
        refused = cli(*several, "-o", tmp_path / f"all.{extension}")
        assert refused.code == 2
        assert "holds one timeline, and there are 2; name a folder" in refused.err


def test_windows_that_cannot_be_read_are_told_beside_any_file(
    finished_run: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    video = write_damaged_video(tmp_path / "a.mp4")
    words = ("predict", finished_run, video, "--step", 4, "--timeline")
    reason = json.loads(cli(*words, "--json").out)["reason"]
    assert "along the timeline 5 of 15 clips could not be read: the file is damaged" in reason
    for extension in ("csv", "srt", "parquet", "txt", "json", "jsonl"):
        path = tmp_path / f"x.{extension}"
        assert cli(*words, "-o", path)[::2] == (0, f"{video}: {reason}\nwrote {path}\n")
    assert json.loads((tmp_path / "x.json").read_text())["reason"] == reason
    for timeline_format in ("csv", "srt", "json"):
        assert cli(*words, timeline_format).err == f"{video}: {reason}\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("-o", "x.srt"), "subtitles are of a timeline; add --timeline"),
        (("-o", "x"), "a folder is for timelines; add --timeline"),
        (("-o", "x.docx"), "would be called like a file of another kind"),
        (("--timeline", "-o", "x.docx"), "would be called like a file of another kind"),
        (("--timeline", "srt", "-o", "x.csv"), "which are two formats; leave the value of --timeline out"),
        (("--timeline", "csv", "-o", "x.parquet"), "which are two formats"),
    ],
)
def test_what_would_be_written_as_another_kind_is_refused(
    words: tuple[str, ...],
    sentence: str,
    finished_run: Path,
    mixed: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    told = cli("predict", finished_run, mixed / "a.mp4", *words)
    assert (told.code, told.out) == (2, "")
    assert sentence in told.err.replace("timelines: add", "timelines; add")
    assert list(tmp_path.glob("x*")) == []


@pytest.mark.parametrize("extension", ["json", "csv", "srt", "txt", "parquet", "jsonl"])
def test_a_timeline_interrupted_at_half_gives_the_half_marked(
    extension: str,
    finished_run: Path,
    mixed: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shares: list[float] = []
    update = prediction_output.VideoProgress.update_share

    def interrupt(progress: prediction_output.VideoProgress, share: float) -> bool:
        shares.append(share)
        signal.raise_signal(signal.SIGINT)
        return update(progress, share)

    monkeypatch.setattr(prediction_output.VideoProgress, "update_share", interrupt)
    monkeypatch.setattr(sliding_window, "BATCH_CLIPS", 2)
    path = tmp_path / f"half.{extension}"
    words = ("predict", finished_run, mixed / "a.mp4", mixed / "b.mp4")[: 3 if extension in ("csv", "srt") else 4]
    told = cli(*words, "--timeline", "--step", 1, "-o", path)
    assert told.code == 130
    assert "all else it starts over" in told.err
    assert "to continue" not in told.err
    assert len(shares) == 1
    assert 0 < shares[0] < 1
    if extension == "parquet":
        rows = pq.read_table(path).to_pylist()
        assert rows[-1]["label"] == INTERRUPTED
        assert rows[-1]["start_seconds"] == rows[-2]["end_seconds"]
    else:
        text = path.read_text()
        assert ("interrupted_at_seconds" if extension in ("json", "jsonl") else INTERRUPTED) in text
    assert "b.mp4" not in path.read_text(errors="replace")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--top", "0"), "--top is 0, expected a whole number from 1"),
        (("--clips=-1",), "--clips is -1, expected a whole number from 1"),
        (("--device", "tpu"), "device 'tpu' is unknown"),
        (("--timeline", "--step", "0"), "--step is 0, expected a whole number from 1"),
        (("--timeline-mode", "convolutional"), "options of a timeline were given (--timeline-mode); add --timeline"),
    ],
)
def test_numbers_that_make_no_sense(
    words: tuple[str, ...], sentence: str, finished_run: Path, mixed: Path, cli: Callable[..., Any]
) -> None:
    told = cli("predict", finished_run, mixed / "a.mp4", *words)
    assert (told.code, told.out, told.err.count("\n")) == (2, "", 1), told
    assert sentence in told.err


def test_an_empty_folder(finished_run: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    (tmp_path / "empty").mkdir()
    told = cli("predict", finished_run, tmp_path / "empty")
    assert (told.code, told.out) == (2, "")
    assert f"there is no video in the folder {tmp_path / 'empty'}" in told.err
