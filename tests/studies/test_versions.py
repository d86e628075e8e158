"""Rows of one version: which are kept, which are listed to be run again, and what is computed only once."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from muybridge.files.run_folder import append_json_line, read_json_lines
from muybridge.studies import versions as module
from muybridge.studies.catalogue import STUDIES
from muybridge.studies.fingerprint import Version, list_micro_runs
from muybridge.studies.laptop import STUDY_MOTIONS, build_laptop_settings
from muybridge.studies.plan import DataSource, EvaluationSpec, PlannedRun, motion_source
from muybridge.studies.render import format_study, write_study
from muybridge.studies.rows import build_row
from muybridge.studies.study import StudyConfig
from muybridge.studies.versions import compute_version, read_versions, select_rows

EVALUATION = EvaluationSpec(5, 8)
RUNS = tuple(
    PlannedRun(build_laptop_settings(model, 8), DataSource("d", "/d"), (EVALUATION,)) for model in ("r3d_10", "mc3_10")
)
FIRST, SECOND = RUNS
NUMBERS = {"clip_top1": 40.0, "video_top1": 50.0, "video_top5": 90.0, "num_videos": 9, "num_failed_videos": 0}
HERE = Version({"device": "cpu"}, dict.fromkeys(list_micro_runs(RUNS), "fp32 01"), "source")
CHANGED = replace(HERE, micro_runs={**HERE.micro_runs, **dict.fromkeys(list_micro_runs([SECOND]), "fp32 02")})
THERE = replace(HERE, environment={"device": "gpu"})
FAKE = (sys.executable, str(Path(__file__).with_name("fake_run.py")))


def make_rows(*pairs: tuple[PlannedRun, Version | None]) -> dict[tuple[str, str], dict[str, Any]]:
    rows = {}
    for run, version in pairs:
        row = build_row(run, EVALUATION, NUMBERS, version or HERE) | {"training": None, "history": []}
        rows[run.name, EVALUATION.key] = row if version else {**row, "fingerprint": None}
    return rows


def test_rows_of_the_current_version_are_kept_and_others_listed() -> None:
    rows = make_rows((FIRST, HERE), (SECOND, HERE))
    assert select_rows(rows, [HERE], HERE).stale == ()
    selection = select_rows(rows, [HERE], CHANGED)
    assert set(selection.rows) == {(FIRST.name, EVALUATION.key)}  # its arithmetic is as it was
    assert selection.stale == ((SECOND.name, EVALUATION.key),)


def test_rows_of_two_versions_never_share_a_table() -> None:
    rows = make_rows((FIRST, replace(HERE, micro_runs=dict.fromkeys(HERE.micro_runs, "fp32 07"))), (SECOND, CHANGED))
    selection = select_rows(rows, [HERE, CHANGED], None)
    assert set(selection.rows) == {(SECOND.name, EVALUATION.key)}
    assert selection.stale == ((FIRST.name, EVALUATION.key),)


def test_rows_of_two_kinds_of_machines_never_share_a_table() -> None:
    selection = select_rows(make_rows((FIRST, HERE), (SECOND, THERE)), [HERE, THERE], HERE)
    assert set(selection.rows) == {(FIRST.name, EVALUATION.key)}


def test_on_another_machine_the_version_that_ran_is_shown_and_said_to_be() -> None:
    selection = select_rows(make_rows((FIRST, THERE), (SECOND, THERE)), [HERE, THERE], HERE)
    assert len(selection.rows) == 2 and "not compared with this one" in selection.note


def test_rows_without_a_fingerprint_are_of_no_version() -> None:
    rows = make_rows((FIRST, None), (SECOND, None))
    selection = select_rows(rows, [], HERE)
    assert not selection.rows and len(selection.stale) == 2


def test_rows_of_other_test_videos_are_refused_by_name() -> None:
    """As many videos, other ones: a data set whose test videos were renamed or exchanged."""
    rows = make_rows((FIRST, HERE), (SECOND, HERE))
    for (name, _), row in rows.items():
        row["numbers"] = {**NUMBERS, "videos": {"sha256": "aa" if name == FIRST.name else "bb"}}
    sentence = f"{FIRST.name} and {SECOND.name} were scored on different test videos of d: the data set has changed"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        select_rows(rows, [HERE], HERE)
    rows[SECOND.name, EVALUATION.key]["settings"] |= {"fold": 2}  # another fold has other test videos
    assert len(select_rows(rows, [HERE], HERE).rows) == 2


def test_a_study_shows_rows_of_another_version_as_not_run(tmp_path: Path) -> None:
    study, config = STUDIES["table2"], StudyConfig("laptop", 1, motion_source(STUDY_MOTIONS), "test")
    run = study.runs(config)[0]
    version = Version({"device": "cpu"}, dict.fromkeys(list_micro_runs([run]), "fp32 01"))
    row = build_row(run, run.evaluations[0], NUMBERS, version) | {"training": None, "history": [{"epoch": 5.0}]}
    rows = {(run.name, run.evaluations[0].key): row}
    record = {"format": 1, "source_sha256": "", "environment": version.environment, "micro_runs": version.micro_runs}
    append_json_line(tmp_path / "versions.jsonl", record)
    assert "50.0" in format_study(write_study(study, config, rows, tmp_path))
    later = replace(version, micro_runs=dict.fromkeys(version.micro_runs, "fp32 02"))
    values = write_study(study, config, rows, tmp_path, later)
    text = " ".join(format_study(values).split())
    assert "50.0" not in text and "not run at this version" in text
    assert f"run again: {run.name} test-5x8f" in text
    assert values["verdict"]["supported"] is None and values["rows"] == []


def test_micro_runs_are_computed_once_for_the_same_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = compute_version(RUNS, tmp_path, num_threads=1, python=FAKE, record=True)
    assert found.micro_runs == dict.fromkeys(list_micro_runs(RUNS), "fp32 0123")
    [stored] = read_versions(tmp_path)
    assert stored == found
    again = compute_version(RUNS, tmp_path, num_threads=1, python=("/there/is/no/such/program",), record=True)
    assert again == found and len(read_json_lines(tmp_path / "versions.jsonl")) == 1
    monkeypatch.setattr(module, "hash_source", lambda: "another source")
    compute_version(RUNS, tmp_path, num_threads=1, python=FAKE, record=True)
    assert [line["source_sha256"] for line in read_json_lines(tmp_path / "versions.jsonl")][1] == "another source"
    compute_version(RUNS, tmp_path, num_threads=4, python=FAKE)
    assert len(read_versions(tmp_path)) == 2  # computed, not recorded


def test_sessions_of_one_source_on_one_kind_of_machine_are_one_version(tmp_path: Path) -> None:
    def record(source: str, features: list[str], **micro_runs: str) -> None:
        environment = {"device": "cpu", "features": features}
        line = {"format": 1, "source_sha256": source, "environment": environment, "micro_runs": micro_runs}
        append_json_line(tmp_path / "versions.jsonl", line)

    record("x", ["amx_tile", "avx2"], a="fp32 1")
    record("y", ["avx2"], a="fp32 1")
    record("x", ["avx2"], b="fp32 2")  # as a part of the same study has it, where AMX is hidden
    record("x", ["avx2"], a="fp32 3")  # other bits
    record("", ["avx2"], c="fp32 1")
    record("", ["avx2"], d="fp32 1")
    found = [version.micro_runs for version in read_versions(tmp_path)]
    assert found[:2] == [{"a": "fp32 1", "b": "fp32 2"}, {"a": "fp32 1"}]
    assert found[2:] == [{"a": "fp32 3"}, {"c": "fp32 1"}, {"d": "fp32 1"}]


def test_a_micro_run_that_fails_is_a_sentence(tmp_path: Path) -> None:
    script = "import sys; sys.exit('it is raining')"
    with pytest.raises(RuntimeError, match="the fingerprint of this version cannot be computed: it is raining"):
        compute_version(RUNS, tmp_path, num_threads=1, python=(sys.executable, "-c", script))


def test_a_micro_run_that_cannot_be_is_a_problem_of_its_runs_and_is_tried_again(tmp_path: Path) -> None:
    (name,) = list_micro_runs([SECOND])
    script = (
        "import json, sys; from pathlib import Path; plan = json.loads(Path(sys.argv[-1]).read_text()); "
        f"Path(plan['output']).write_text(json.dumps({{n: 'failed: no flow' if n == {name!r} else 'fp32 1' "
        "for n in plan['micro_runs']}))"
    )
    python = (sys.executable, "-c", script)
    found = compute_version(RUNS, tmp_path, num_threads=1, python=python, record=True)
    assert found.problems == {name: "no flow"} and name not in found.micro_runs
    assert (found.find_problem(FIRST), found.find_problem(SECOND)) == (None, "no flow")
    again = compute_version(RUNS, tmp_path, num_threads=1, python=FAKE, record=True)
    assert not again.problems and again.micro_runs[name] == "fp32 0123"
    assert again.get_fingerprint(FIRST) == found.get_fingerprint(FIRST)


def test_a_row_has_its_fingerprint(tmp_path: Path) -> None:
    [row] = make_rows((FIRST, HERE)).values()
    assert json.loads(json.dumps(row))["fingerprint"] == HERE.get_fingerprint(FIRST)
