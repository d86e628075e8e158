"""Rows from outside: what tables are made from is checked, and a row that has it not is named."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from muybridge.studies.rows import read_rows
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
        ("seed", "0", "seed is '0'"),
        ("seed", 10**400, "seed"),
        ("numbers.video_top1", "87", "numbers.video_top1 is '87'"),
        ("numbers.video_top1", 870.0, "numbers.video_top1 is 870.0"),
        ("numbers.clip_top1", float("nan"), "numbers.clip_top1"),
        ("numbers.videos.num", 10**9, "the results of 1000000000 videos have"),
        ("numbers.videos.right", "?", "the results of 1008 videos have 0 bits"),
        ("numbers.videos.right_views", "AA==", "0 counts of views"),
        ("numbers.videos.views", 0, "numbers.videos.views is 0"),
        ("history", {}, "history is {}"),
        ("history.0.epoch", None, "history.0.epoch is None"),
        ("training", [], "training is []"),
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


@pytest.mark.parametrize(
    ("key", "value"), [("environment", 3), ("micro_runs", ["a"]), ("micro_runs", DELETED), ("source_sha256", None)]
)
def test_a_version_that_cannot_be_used_is_named(tmp_path: Path, key: str, value: object) -> None:
    line = read_first("versions.jsonl")
    write_lines(tmp_path / "versions.jsonl", {"format": 2}, line, change(line, key, value))
    with pytest.raises(ValueError, match=rf"line 3 of .*versions.jsonl cannot be used: {key} is"):
        read_versions(tmp_path)
