"""Files of a run folder are whole or as they were."""

import math
import re
from dataclasses import is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml

from muybridge.bounds import find_problems
from muybridge.files.atomic import atomic_write, write_json, write_text
from muybridge.files.run_folder import (
    append_json_line,
    collect_environment,
    describe_unfinished_run,
    read_json_lines,
    read_run_log,
    read_settings,
    read_unfinished,
)
from muybridge.settings import TrainSettings, settings_to_dict


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "scores.txt"
    write_text(target, "old")
    with pytest.raises(OSError, match="full"), atomic_write(target) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["scores.txt"]


def test_a_written_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    (tmp_path / "b.json").write_text("{}")
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "b.json").stat().st_mode


def test_a_torn_last_line_is_skipped(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    append_json_line(log, {"step": 1})
    with log.open("a") as file:
        file.write('{"step": 2, "lo')
    assert read_json_lines(log) == [{"step": 1}]
    assert read_json_lines(tmp_path / "none.jsonl") == []
    log.write_bytes(b"\xef\xbb\xbf" + log.read_bytes())  # as some editors save it
    assert read_json_lines(log) == [{"step": 1}]


def test_a_log_has_lines_with_a_step_and_finite_numbers(tmp_path: Path) -> None:
    lines = [
        {"kind": "train", "step": 1, "epoch": 0.5, "loss": 0.7},
        *({"kind": "train", "step": step, "epoch": 1} for step in (None, "2", True, 2.5, [2], 10**400)),
        *({"kind": kind, "step": 2} for kind in (None, 5, ["train"])),
        {"step": 2},
    ]
    for line in lines:
        append_json_line(tmp_path / "log.jsonl", line)
    for value in ("NaN", "1e999", '"x"', "null", "[1]", "true"):
        with (tmp_path / "log.jsonl").open("a") as file:
            file.write(f'{{"kind": "validation", "step": 3, "video_top1": {value}}}\n')
    assert read_run_log(tmp_path) == [lines[0], *[{"kind": "validation", "step": 3}] * 6]


@pytest.mark.parametrize("training", [None, [], {}, {"epochs": "9"}, {"epochs": None}, {"epochs": 2, "phases": [3]}])
def test_settings_that_do_not_say_how_long_a_run_takes(training: object) -> None:
    assert describe_unfinished_run({"training": training}, [{"kind": "train", "step": 1, "epoch": 0.1}]) is None


def test_the_environment_names_what_results_depend_on() -> None:
    found = collect_environment()
    assert found["packages"]["torch"]
    assert found["processor"]


@pytest.mark.parametrize(
    ("steps", "phases", "expected"),
    [(12, [], None), (5, [], "stopped at epoch 0.8 of 2"), (12, [[1.0, 0.1]], "stopped at epoch 2.0 of 3")],
)
def test_a_run_that_did_not_finish_says_where_it_is(steps: int, phases: list[object], expected: str | None) -> None:
    log = [{"kind": "train", "step": step, "epoch": step / 6} for step in range(1, steps + 1)]
    assert describe_unfinished_run({"training": {"epochs": 2.0, "phases": phases}}, log) == expected
    assert describe_unfinished_run({}, log) is None
    assert describe_unfinished_run({"training": {"epochs": 2.0}}, []) is None


def test_what_a_folder_says_of_its_run(tmp_path: Path) -> None:
    assert read_unfinished(tmp_path) is None
    (tmp_path / "settings.yaml").write_text("training:\n  epochs: 2.0\n")
    assert read_unfinished(tmp_path) is None
    append_json_line(tmp_path / "log.jsonl", {"kind": "train", "step": 5, "epoch": 5 / 6})
    assert read_unfinished(tmp_path) == "stopped at epoch 0.8 of 2"


WRONG_VALUES = (None, [1, [2]], "x", True, -1, 1.5, math.inf, math.nan, 10**400, {"y": 1})


def list_setting_keys() -> list[tuple[str, ...]]:
    """Every setting of a run and every group of them, as saved in settings.yaml."""
    values = settings_to_dict(TrainSettings())
    return [
        *((name,) for name in values),
        *((group, name) for group, inner in values.items() if isinstance(inner, dict) for name in inner),
    ]


@pytest.mark.parametrize("key", list_setting_keys(), ids=".".join)
def test_settings_of_a_run_have_their_types(key: tuple[str, ...], tmp_path: Path) -> None:
    """A value that cannot be is refused with its key; what is taken is what the settings themselves take."""
    file, num_refused = tmp_path / "settings.yaml", 0
    hint = get_type_hints(TrainSettings, include_extras=True)[key[0]]
    if len(key) == 2:
        hint = get_type_hints(hint, include_extras=True)[key[1]]
    for value in WRONG_VALUES:
        file.write_text(yaml.safe_dump({key[-1]: value} if len(key) == 1 else {key[0]: {key[1]: value}}))
        if not is_dataclass(hint) and not find_problems("x", value, hint):
            read_settings(file)
            continue
        if is_dataclass(hint) and isinstance(value, dict):
            continue  # a group of names that another version may have
        num_refused += 1
        with pytest.raises(ValueError, match=rf"settings\.yaml cannot be used: {re.escape('.'.join(key))}[ \[]"):
            read_settings(file)
    assert num_refused >= 5


def test_settings_of_another_version_are_left(tmp_path: Path) -> None:
    values = {"training": {"epochs": 3, "gone": [1]}, "gone": None}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(values))
    assert read_settings(tmp_path / "settings.yaml") == values


def test_a_line_after_one_that_a_crash_left_incomplete_is_not_lost(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    append_json_line(log, {"step": 1})
    log.write_text(log.read_text() + '{"step": 2, "lo')
    append_json_line(log, {"step": 3})
    append_json_line(log, {"step": 4})
    assert [line["step"] for line in read_json_lines(log)] == [1, 3, 4]
    position = log.stat().st_size
    append_json_line(log, {"step": 5})
    assert [line["step"] for line in read_json_lines(log, position)] == [5]
