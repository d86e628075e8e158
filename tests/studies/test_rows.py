"""Rows from outside: what tables are made from is checked, and a row that has it not is named."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from muybridge.studies.catalogue import STUDIES
from muybridge.studies.fingerprint import Version
from muybridge.studies.plan import FusedRun, PlannedRun, RowKey, row_key
from muybridge.studies.rows import check_row, read_rows
from muybridge.studies.run import build_config
from muybridge.studies.versions import read_versions

COMMITTED = Path(__file__).parents[2] / "benchmarks" / "results" / "studies"
DELETED = object()


def change(record: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of a record with another value at a dotted key, or without it."""
    changed = copy.deepcopy(record)
    *parents, last = key.split(".")
    place: Any = changed
    for parent in parents:
        place = place[int(parent) if isinstance(place, list) else parent]
    if value is DELETED:
        del place[last]
    else:
        place[last] = value
    return changed


def read_first(name: str) -> dict[str, Any]:
    with (COMMITTED / name).open(encoding="utf-8") as file:
        first: dict[str, Any] = json.loads(next(file))
    return first


def write_lines(path: Path, *records: object) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def test_what_is_no_row_at_all_is_skipped_as_half_a_line_is(tmp_path: Path) -> None:
    row = read_first("rows.jsonl")
    write_lines(tmp_path / "rows.jsonl", "text", 3, row)
    with (tmp_path / "rows.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"format": 1, "run": ')
    assert list(read_rows(tmp_path).values()) == [row]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("run", DELETED, "run is missing"),
        ("test.key", 3, "test.key is 3"),
        ("test", None, "test is None"),
        ("test.key", "test-5x16f", "test.key is 'test-5x16f', and its values are those of test-5x8f"),
        ("test.split", "train", "test.split is 'train'"),
        (
            "test",
            {"key": "test-1x8f", "clips": 1, "length": 8, "split": "test"},
            "5 views a video, and the test test-1x8f",
        ),
        ("settings", DELETED, "settings is missing"),
        ("numbers.num_videos", 7, "num_videos is 7, and there are results of 1008"),
        ("numbers.num_videos", -5, "numbers.num_videos is -5"),
        ("seed", "0", "seed is '0'"),
        ("seed", 10**400, "seed"),
        ("numbers.video_top1", "87", "numbers.video_top1 is '87'"),
        ("numbers.video_top1", 870.0, "numbers.video_top1 is 870.0"),
        ("numbers.clip_top1", float("nan"), "numbers.clip_top1"),
        ("numbers.video_top1", 88.0, "video_top1 is 88, and the results by video give 78.373"),
        ("numbers.clip_top1", 20.0, "clip_top1 is 20, and the results by video give 65.3175"),
        ("numbers.videos.num", 10**9, "the results of 1000000000 videos have"),
        ("numbers.videos.right", "?", "the results of 1008 videos have 0 bits"),
        ("numbers.videos.right_views", "AA==", "0 counts of views"),
        ("numbers.videos.views", 0, "numbers.videos.views is 0"),
        ("numbers.video_top5", 5.0, "video_top5 is 5, less than video_top1, 78.373"),
        ("numbers.num_failed_videos", 1009, "num_failed_videos is 1009 of 1008"),
        ("history", {}, "history is {}"),
        ("history.0.training_clip_error", 1e30, "history.0.training_clip_error is 1e+30"),
        ("history.0.epoch", None, "history.0.epoch is None"),
        ("training", [], "training is []"),
        ("training", None, "training is None in a row of one run"),
        ("training.parameters", DELETED, "parameters is missing"),
        ("machine.packages", ["torch"], "machine.packages"),
        ("fingerprint", 1.5, "fingerprint is 1.5"),
        ("fingerprint.micro_runs", {"a": 1}, "fingerprint.micro_runs.a is 1"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, key: str, value: object, words: str) -> None:
    row = read_first("rows.jsonl")
    write_lines(tmp_path / "rows.jsonl", row, change(row, key, value))
    with pytest.raises(ValueError, match=r"row 2 of .*rows\.jsonl cannot be used: ") as caught:
        read_rows(tmp_path)
    assert words in str(caught.value)


def test_two_rows_of_one_version_with_other_numbers_are_refused(tmp_path: Path) -> None:
    row = change(read_first("rows.jsonl"), "numbers.videos", None)
    later = change(row, "numbers.video_top1", 50.0)
    write_lines(tmp_path / "rows.jsonl", row, row, later)
    with pytest.raises(
        ValueError, match=r"row 3 of .*rows\.jsonl has other numbers than an earlier row of r2d_10-8f-seed0"
    ):
        read_rows(tmp_path)
    of_another_version = change(later, "fingerprint.environment", {"device": "gpu"})
    write_lines(tmp_path / "rows.jsonl", row, of_another_version)
    assert list(read_rows(tmp_path).values()) == [of_another_version]
    write_lines(tmp_path / "rows.jsonl", row, of_another_version, later)  # another version between them
    with pytest.raises(ValueError, match=r"row 3 of .*rows\.jsonl has other numbers"):
        read_rows(tmp_path)
    write_lines(tmp_path / "rows.jsonl", row, change(row, "history.0.training_clip_error", 1.0))  # as figure 3 shows
    with pytest.raises(ValueError, match=r"row 2 of .*rows\.jsonl has other numbers"):
        read_rows(tmp_path)


def test_of_several_versions_that_of_the_code_is_read(tmp_path: Path) -> None:
    """As after a study went on for a while on another kind of machine: the first finds its rows again."""
    row = read_first("rows.jsonl")
    elsewhere = change(row, "fingerprint.environment", {"device": "gpu"})
    here = Version(row["fingerprint"]["environment"], row["fingerprint"]["micro_runs"])
    write_lines(tmp_path / "rows.jsonl", row, elsewhere)
    assert list(read_rows(tmp_path).values()) == [elsewhere]
    assert list(read_rows(tmp_path, here).values()) == [row]
    assert list(read_rows(tmp_path, replace(here, environment={"device": "abacus"})).values()) == [elsewhere]


def test_recordings_may_be_missing_and_may_not_differ(tmp_path: Path) -> None:
    row = read_first("rows.jsonl")
    divided = change(row, "numbers.videos", {**row["numbers"]["videos"], "recordings": [504, 504]})
    write_lines(tmp_path / "rows.jsonl", row, divided)  # older rows do not have them
    assert list(read_rows(tmp_path).values()) == [divided]
    other = change(row, "numbers.videos", {**row["numbers"]["videos"], "recordings": [8, 1000]})
    write_lines(tmp_path / "rows.jsonl", divided, other)
    with pytest.raises(ValueError, match=r"row 2 of .*rows\.jsonl has other recordings"):
        read_rows(tmp_path)


def test_a_mean_under_the_name_of_another_is_refused() -> None:
    folders = sorted(COMMITTED.parent.glob("studies*"))
    fused = [
        (read_rows(folder)[key], run)
        for folder in folders
        for key, run in list_committed_runs(folder).items()
        if isinstance(run, FusedRun)
    ]
    row, run = fused[0]
    check_row(run, row)
    with pytest.raises(ValueError, match="members are another, expected"):
        check_row(run, change(dict(row), "members", ["another"]))


@cache
def list_committed_runs(folder: Path = COMMITTED) -> dict[RowKey, PlannedRun | FusedRun]:
    rows = read_rows(folder)
    seeds = 1 + max(row["seed"] for row in rows.values())
    configs = {
        study: build_config(study, scale="laptop", seeds=seeds, data=None, others={}, split="test")
        for study in STUDIES.values()
    }
    return {
        key: run
        for study, config in configs.items()
        for key, run in study.find_runs(replace(config, rerun_all=True), rows).items()
    }


@pytest.mark.parametrize("folder", sorted(COMMITTED.parent.glob("studies*")), ids=lambda folder: folder.name)
def test_every_committed_row_is_of_the_run_that_it_is_named_for(folder: Path) -> None:
    rows, runs = read_rows(folder), list_committed_runs(folder)
    assert runs.keys() == rows.keys()
    for key, run in runs.items():
        check_row(run, rows[key])


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("seed", 1, "seed is 1, expected 0"),
        ("model", "r3d_10", "model is 'r3d_10', expected 'r2d_10'"),
        ("data.key", "motions-0", "data.key is 'motions-0', expected 'motions-11f08b5bf5'"),
        ("start", "another", "start is 'another', expected None"),
        ("rerun", {"kind": "weights", "number": 1}, "rerun is {'kind': 'weights', 'number': 1}, expected None"),
        ("settings.training.learning_rate", 0.5, "settings.training.learning_rate is 0.5, expected 0.0027"),
        ("settings.training.learning_rate", DELETED, "settings.training.learning_rate is missing, expected 0.0027"),
        ("data.motions.noise", 0.9, "data.motions.noise is 0.9, expected 8.0"),
        ("history", [], "history ends with epoch 0, expected 5"),
        (
            "fingerprint.micro_runs",  # of the same network, otherwise trained
            {"r2d_10-8f-seed0-0": "fp32 0"},
            "fingerprint is of r2d_10-8f-seed0-0, expected r2d_10-8f-seed0-e1b6f74129",
        ),
    ],
)
def test_a_row_under_the_name_of_another_run_is_refused(key: str, value: object, words: str) -> None:
    row = read_first("rows.jsonl")
    run = list_committed_runs()[row_key(row)]
    check_row(run, change(row, "settings.loading.workers", 7))  # decides nothing
    check_row(run, change(row, "settings.training.momentum", DELETED))  # as a setting that came later
    with pytest.raises(
        ValueError, match=rf"the row {row['run']} test-5x8f is not of the run .*{re.escape(words)}; take it away"
    ):
        check_row(run, change(row, key, value))


@pytest.mark.parametrize(
    ("key", "value"), [("environment", 3), ("micro_runs", ["a"]), ("micro_runs", DELETED), ("source_sha256", None)]
)
def test_a_version_that_cannot_be_used_is_named(tmp_path: Path, key: str, value: object) -> None:
    line = read_first("versions.jsonl")
    write_lines(tmp_path / "versions.jsonl", {"format": 2}, line, change(line, key, value))
    with pytest.raises(ValueError, match=rf"line 3 of .*versions.jsonl cannot be used: {key} is"):
        read_versions(tmp_path)
