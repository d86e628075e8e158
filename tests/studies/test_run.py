"""The runner with runs that take no time: what is executed, what is skipped, and which rows are stored."""

import errno
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from muybridge.distributed.stop import StopRequested
from muybridge.files.run_folder import read_json_lines
from muybridge.studies.fingerprint import Version, list_micro_runs
from muybridge.studies.laptop import build_laptop_settings
from muybridge.studies.noise import RERUN_KINDS, plan_reruns
from muybridge.studies.plan import DataSource, EvaluationSpec, PlannedRun, RunGroup, with_seeds
from muybridge.studies.render import merge_machines
from muybridge.studies.rows import read_rows
from muybridge.studies.run import RunnerConfig, build_plan, execute_runs, list_missing_evaluations
from muybridge.training.recipes import build_train_settings

SOURCE = DataSource("data-1", address="/data/1")
FAKE = (sys.executable, str(Path(__file__).with_name("fake_run.py")))
SHORT = PlannedRun(build_laptop_settings("r3d_10", 8), SOURCE, (EvaluationSpec(5, 8),))
TUNED = PlannedRun(build_laptop_settings("r3d_10", 16), SOURCE, (EvaluationSpec(5, 16),), SHORT)
OTHER = PlannedRun(build_laptop_settings("mc3_10", 8), SOURCE, (EvaluationSpec(5, 8), EvaluationSpec(9, 8)))
VERSION = Version({"torch": "2", "device": "cpu"}, dict.fromkeys(list_micro_runs([TUNED, OTHER]), "fp32 0123"))
VERSION_OF_RERUNS = replace(
    VERSION,
    micro_runs=dict.fromkeys(
        list_micro_runs([SHORT, *plan_reruns(RunGroup((SHORT,), SHORT.evaluations[0]), 4, ("convolution",))]),
        "fp32 0123",
    ),
)
LATER = replace(VERSION, micro_runs={**VERSION.micro_runs, **dict.fromkeys(list_micro_runs([OTHER]), "fp32 4567")})


def make_runner(folder: Path, **changes: object) -> RunnerConfig:
    return replace(RunnerConfig(folder, jobs=2, python=FAKE, report=lambda line: None), **changes)  # type: ignore[arg-type]


def test_every_test_of_every_run_is_a_row_that_says_where_it_is_from(tmp_path: Path) -> None:
    row_counts: list[int] = []
    failed = execute_runs(
        with_seeds(OTHER, 2), make_runner(tmp_path), VERSION, lambda: row_counts.append(len(read_rows(tmp_path)))
    )
    assert failed == []
    rows = read_rows(tmp_path)
    assert len(rows) == 4
    assert row_counts[-1] == 4
    row = rows[with_seeds(OTHER, 2)[1].name, "test-9x8f"]
    assert (row["seed"], row["model"], row["data"]["key"]) == (1, "mc3_10", "data-1")
    assert row["numbers"]["video_top1"] == 18.0
    assert row["settings"]["clips"]["length"] == 8
    assert not {"data", "output", "init"} & row["settings"].keys()
    assert row["machine"]["cores"] and row["date"].startswith("20")
    assert row["training"]["parameters"] == 7
    [point] = row["history"]
    assert (point["training_loss"], point["training_clip_error"]) == (1.5, 50.0)
    assert (point["validation_clip_error"], point["validation_video_error"]) == (50.0, 40.0)
    assert point["epoch"] == 1.0


def test_reruns_are_rows_that_name_their_kind_and_run_with_their_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    reruns = plan_reruns(RunGroup((SHORT,), SHORT.evaluations[0]), 9, tuple(RERUN_KINDS))
    runs = [replace(run, evaluations=SHORT.evaluations) for run in (SHORT, *reruns)]
    assert execute_runs(runs, make_runner(tmp_path), VERSION_OF_RERUNS, lambda: None) == []
    rows = read_rows(tmp_path)
    found = [(row["rerun"] and row["rerun"]["kind"], row["training"]["threads"]) for row in rows.values()]
    once = [("weights", "2"), ("convolution", "2"), ("batch", "2")]
    assert sorted(found, key=str) == sorted([(None, "2"), ("threads", "4"), ("threads", "6"), *once, *once], key=str)


def test_progress_counts_the_runs_that_have_ended(tmp_path: Path) -> None:
    counts: list[tuple[int, int]] = []
    runner = make_runner(tmp_path, jobs=1, on_progress=lambda num_done, num_runs: counts.append((num_done, num_runs)))
    execute_runs(with_seeds(OTHER, 2), runner, VERSION, lambda: None)
    assert list(dict.fromkeys(counts))[-1] == (2, 2)
    assert counts == sorted(counts)
    assert (1, 2) in counts


def test_a_run_is_looked_up_when_it_can_start_and_not_at_every_poll(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    monkeypatch.setattr(Version, "find_problem", lambda _, run: names.append(run.name))
    runs = with_seeds(OTHER, 3)
    assert execute_runs(runs, make_runner(tmp_path, jobs=1), VERSION, lambda: None) == []
    assert names == [run.name for run in runs]


def test_what_is_finished_is_not_run_again(tmp_path: Path) -> None:
    execute_runs([OTHER], make_runner(tmp_path), VERSION, lambda: None)
    before = (tmp_path / "rows.jsonl").read_text(encoding="utf-8")
    execute_runs([OTHER], make_runner(tmp_path, python=("/there/is/no/such/program",)), VERSION, lambda: None)
    assert (tmp_path / "rows.jsonl").read_text(encoding="utf-8") == before
    more = replace(OTHER, evaluations=(*OTHER.evaluations, EvaluationSpec(13, 8)))
    assert list_missing_evaluations(more, read_rows(tmp_path), VERSION) == ["test-13x8f"]


def test_a_network_without_a_fingerprint_fails_and_the_others_run(tmp_path: Path) -> None:
    """Its micro-run failed: an extra that only it needs is not installed."""
    (name,) = list_micro_runs([OTHER])
    lacking = replace(
        VERSION,
        micro_runs={key: value for key, value in VERSION.micro_runs.items() if key != name},
        problems={name: "optical flow needs OpenCV"},
    )
    assert execute_runs([SHORT, OTHER], make_runner(tmp_path), lacking, lambda: None) == [
        f"{OTHER.name} failed: optical flow needs OpenCV"
    ]
    assert {run for run, _ in read_rows(tmp_path)} == {SHORT.name}


def test_what_another_version_ran_is_run_again_and_its_folder_set_aside(tmp_path: Path) -> None:
    execute_runs([SHORT, OTHER], make_runner(tmp_path), VERSION, lambda: None)
    weights = tmp_path / "runs" / OTHER.name / "last.safetensors"
    weights.write_text("of before", encoding="utf-8")
    assert list_missing_evaluations(OTHER, read_rows(tmp_path), LATER) == ["test-5x8f", "test-9x8f"]
    assert list_missing_evaluations(SHORT, read_rows(tmp_path), LATER) == []  # its arithmetic is the same
    assert execute_runs([SHORT, OTHER], make_runner(tmp_path), LATER, lambda: None) == []
    rows = read_rows(tmp_path)
    assert rows[OTHER.name, "test-5x8f"]["fingerprint"] == LATER.get_fingerprint(OTHER)
    assert rows[SHORT.name, "test-5x8f"]["fingerprint"] == VERSION.get_fingerprint(SHORT)
    assert weights.read_text(encoding="utf-8") == "weights"
    aside = tmp_path / "runs" / f"{OTHER.name}.of-another-version" / "last.safetensors"
    assert aside.read_text(encoding="utf-8") == "of before"
    assert len(read_json_lines(tmp_path / "rows.jsonl")) == 5


def test_a_run_follows_the_one_that_it_starts_from(tmp_path: Path) -> None:
    assert execute_runs([TUNED], make_runner(tmp_path), VERSION, lambda: None) == []
    rows = read_rows(tmp_path)
    assert {run for run, _ in rows} == {SHORT.name, TUNED.name}
    assert rows[TUNED.name, "test-5x16f"]["start"] == SHORT.name
    plan = build_plan(TUNED, tmp_path)
    assert plan["settings"]["init"] == str(tmp_path / "runs" / SHORT.name / "last.safetensors")
    assert build_train_settings(plan["settings"]).data == "/data/1"


def test_missing_weights_are_trained_again_where_another_run_starts_from_them(tmp_path: Path) -> None:
    """Rows came from another machine, the folder of runs did not."""
    execute_runs([SHORT], make_runner(tmp_path), VERSION, lambda: None)
    for path in sorted((tmp_path / "runs").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert execute_runs([TUNED], make_runner(tmp_path), VERSION, lambda: None) == []
    assert len(read_json_lines(tmp_path / "rows.jsonl")) == 2


def test_a_start_that_was_interrupted_is_finished_first(tmp_path: Path) -> None:
    """Its newest weights are there, but not its last: a pre-training without a test of its own."""
    untested = replace(SHORT, evaluations=())
    weights = tmp_path / "runs" / SHORT.name / "last.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_text("half-way", encoding="utf-8")
    assert execute_runs([untested, replace(TUNED, start=untested)], make_runner(tmp_path), VERSION, lambda: None) == []
    assert weights.read_text(encoding="utf-8") == "weights"


def test_a_failure_is_reported_and_stops_only_runs_that_start_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL_MODEL", "r3d_10")
    failed = execute_runs([SHORT, TUNED, OTHER], make_runner(tmp_path), VERSION, lambda: None)
    assert len(failed) == 2
    assert failed[0] == f"{SHORT.name} failed: no such luck"
    assert TUNED.name in failed[1]
    assert {run for run, _ in read_rows(tmp_path)} == {OTHER.name}


def test_rows_of_several_machines_are_read_together(tmp_path: Path) -> None:
    execute_runs([SHORT], make_runner(tmp_path, rows_name="rows-1-of-2.jsonl"), VERSION, lambda: None)
    execute_runs([OTHER], make_runner(tmp_path, rows_name="rows-2-of-2.jsonl"), VERSION, lambda: None)
    assert {run for run, _ in read_rows(tmp_path)} == {SHORT.name, OTHER.name}
    assert not (tmp_path / "rows.jsonl").exists()


def test_a_stop_request_reaches_running_processes_and_launches_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECONDS_OF_A_RUN", "60")
    begun: list[str] = []

    def stop_at_the_first(line: str) -> None:
        if not begun:
            os.kill(os.getpid(), signal.SIGTERM)
        begun.append(line)

    with pytest.raises(StopRequested) as stopped:
        execute_runs(
            [SHORT, TUNED, OTHER], make_runner(tmp_path, jobs=1, report=stop_at_the_first), VERSION, lambda: None
        )
    assert stopped.value.exit_code == 75
    assert len(begun) == 1
    assert read_rows(tmp_path) == {}


def test_a_failure_of_the_runner_leaves_no_run_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECONDS_OF_A_RUN", "600")
    processes = []

    def fill_the_disk(num_done: int, num_runs: int) -> None:
        processes.extend(list_children() - before)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = list_children()
    with pytest.raises(OSError, match="No space left"):
        execute_runs([SHORT, OTHER], make_runner(tmp_path, on_progress=fill_the_disk), VERSION, lambda: None)
    assert len(processes) == 2
    assert list_children() == before


def list_children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_a_study_names_the_machines_of_its_rows_not_the_one_that_renders_it() -> None:
    here, there = {"machine": {"cores": 2}}, {"machine": {"cores": 64}}
    assert merge_machines([here, here]) == {"cores": 2}
    assert merge_machines([here, there, here]) == {"machine 1": {"cores": 2}, "machine 2": {"cores": 64}}
    assert merge_machines([]) == {}
