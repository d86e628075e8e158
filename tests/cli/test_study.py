"""`muybridge study`: output without training, and errors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muybridge.files.run_folder import append_json_line
from muybridge.studies.catalogue import STUDIES
from muybridge.studies.fingerprint import Version, describe_environment, list_micro_runs
from muybridge.studies.laptop import STUDY_MOTIONS
from muybridge.studies.plan import motion_source
from muybridge.studies.rows import build_row
from muybridge.studies.run import RunnerConfig, find_other_threads
from muybridge.studies.study import StudyConfig

Cli = Callable[..., Any]


def test_table1_needs_no_runs(cli: Cli, tmp_path: Path) -> None:
    result = cli("study", "table1", "-o", tmp_path)
    assert result.code == 0, result.err
    assert "64 x 16 x 56 x 56" in result.out and "512 x 2 x 7 x 7" in result.out
    assert (
        "all groups, filters and sizes are the printed ones; mc5 has 16.8 million parameters, printed 16.9"
        in " ".join(result.out.lower().split())
    )
    assert json.loads((tmp_path / "table1" / "study.json").read_text(encoding="utf-8"))["verdict"]["supported"] is False


def test_a_dry_run_counts_runs_hours_and_disk_and_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    result = cli("study", "figure3", "-o", tmp_path / "out", "--dry-run")
    assert result.code == 0, result.err
    assert "28 runs, 28 of them still to do" in result.out
    assert "hours (one thread of an AMD EPYC)" in result.out
    assert not (tmp_path / "out").exists()
    one = json.loads(cli("study", "figure3", "-o", tmp_path, "--dry-run", "--json", "--seeds", "1").out)
    half = json.loads(
        cli("study", "figure3", "-o", tmp_path, "--dry-run", "--json", "--seeds", "1", "--part", "2/2").out
    )
    assert (len(one["missing"]), len(half["missing"])) == (4 + 4 * 4, 10)  # and four reruns of each cell
    assert 0.1 < one["hours"] < 2
    assert half["missing"] == one["missing"][1::2]


def test_hours_at_paper_scale_are_in_proportion_to_the_papers(cli: Cli, tmp_path: Path, motions: Path) -> None:
    argv = (
        "study",
        "table3",
        "-o",
        tmp_path,
        "--scale",
        "paper",
        "--data",
        motions,
        "--seeds",
        "1",
        "--dry-run",
        "--json",
    )
    budget = json.loads(cli(*argv).out)
    assert budget["runs"] == 3
    # 11.8 for 8 frames, four times that for 32, and a third of it for 15 of 45 epochs: multiply-adds are linear in length.
    assert budget["hours"] == pytest.approx(11.8 * (1 + 4 + 4 / 3), rel=1e-3)


def test_reruns_are_of_the_kinds_asked_for(cli: Cli, tmp_path: Path, motions: Path) -> None:
    def list_names(*options: str) -> set[str]:
        argv = ("study", "figure3", "-o", tmp_path, "--dry-run", "--json", "--seeds", "1", *options)
        return set(json.loads(cli(*argv).out)["missing"])

    usual, moved = list_names(), list_names("--rerun-kinds", "weights")
    assert len(usual) == len(moved) == 4 + 4 * 4
    assert len(usual & moved) == 4 + 4  # the first rerun by moved weights is the same
    assert list_names("--rerun-kinds", "weights", "threads", "convolution", "batch") == usual
    assert list_names("--rerun-all") == usual  # its four networks are rerun in any case
    paper = ("--scale", "paper", "--data", str(motions), "--reruns", "4")
    assert list_names(*paper) == list_names(*paper, "--rerun-kinds", "weights", "convolution", "batch")


POINT = {"epoch": 5.0, "training_clip_error": 50.0, "validation_clip_error": 60.0}


def test_what_is_finished_is_told_without_training(cli: Cli, tmp_path: Path) -> None:
    config = StudyConfig("laptop", 1, motion_source(STUDY_MOTIONS), "test")
    first = STUDIES["table2"].runs(config)[0]
    numbers = {"clip_top1": 12.5, "video_top1": 34.5, "video_top5": 90.0, "num_videos": 8, "num_failed_videos": 0}
    # Of another kind of machine, so that nothing is computed to compare with.
    version = Version({"torch": "2.0.0", "device": "cpu"}, dict.fromkeys(list_micro_runs([first]), "fp32 0123"))
    training = {"seconds": 1.0, "processor_seconds": 1.0, "device": "cpu", "parameters": 1}
    line = {**build_row(first, first.evaluations[0], numbers, version), "training": training, "history": [POINT]}
    append_json_line(tmp_path / "rows.jsonl", line)
    record = {"format": 1, "source_sha256": "", "environment": version.environment, "micro_runs": version.micro_runs}
    append_json_line(tmp_path / "versions.jsonl", record)
    result = cli("study", "table2", "-o", tmp_path, "--seeds", "1", "--render")
    assert result.code == 0, result.err
    assert "34.5" in result.out and "not run" in result.out and "The runs do not decide." in result.out
    values = json.loads(cli("study", "table2", "-o", tmp_path, "--seeds", "1", "--render", "--json").out)
    assert len(values["rows"]) == 1 and len(values["missing"]) == 23 + 16  # and the reruns of four cells
    assert values["rows"][0]["video_top1"] == 34.5
    assert not (tmp_path / "runs").exists()


def test_rows_of_runs_with_other_threads_say_how_to_continue_from_them(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = StudyConfig("laptop", 1, motion_source(STUDY_MOTIONS), "test")
    first = STUDIES["table2"].runs(config)[0]
    numbers = {"clip_top1": 12.5, "video_top1": 34.5, "video_top5": 90.0, "num_videos": 8, "num_failed_videos": 0}
    version = Version(describe_environment("cpu", 3), dict.fromkeys(list_micro_runs([first]), "fp32 0123"))
    training = {"seconds": 1.0, "processor_seconds": 1.0, "device": "cpu", "parameters": 1}
    line = {**build_row(first, first.evaluations[0], numbers, version), "training": training, "history": [POINT]}
    append_json_line(tmp_path / "rows.jsonl", line)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    result = cli("study", "table2", "-o", tmp_path, "--seeds", "1", "--render")
    assert result.code == 0
    assert "had 3 threads a run" in result.err and "set OMP_NUM_THREADS=3" in result.err
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert find_other_threads(STUDIES["table2"], config, RunnerConfig(tmp_path)) is None


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["table7"], "there is no study 'table7'; there are table1, table2"),
        (["table2", "--scale", "paper"], "add --data, or use --scale laptop"),
        (["table2", "--part", "third"], "write it like 3/12"),
        (["table2", "--part", "3/2"], "--part 3/2 does not exist"),
        (["table2", "--seeds", "0"], "--seeds is 0, expected a whole number from 1"),
        (["table6", "--others", "ucf101"], "write it like ucf101=DATA"),
    ],
)
def test_errors_are_one_sentence(cli: Cli, tmp_path: Path, argv: list[str], sentence: str) -> None:
    result = cli("study", *argv, "-o", tmp_path)
    assert result.code == 2
    assert sentence in result.err
    assert result.err.count("\n") == 1
