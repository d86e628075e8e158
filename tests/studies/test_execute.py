"""A study of two real runs, one started from the other: trained, evaluated, fused, and summarized again without training."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from muybridge.evaluation.aggregate import compute_video_scores
from muybridge.evaluation.metrics import compute_accuracy
from muybridge.evaluation.scores import read_scores
from muybridge.files.run_folder import read_json_lines
from muybridge.settings import settings_to_dict
from muybridge.studies import execute as execute_module
from muybridge.studies.execute import execute, main
from muybridge.studies.noise import plan_reruns
from muybridge.studies.plan import DataSource, EvaluationSpec, FusedRun, PlannedRun, RunGroup, motion_source
from muybridge.studies.render import write_study
from muybridge.studies.rows import read_rows
from muybridge.studies.run import RunnerConfig, run_study
from muybridge.studies.study import Study, StudyConfig, Verdict
from runs import MOTIONS, tiny_run

SPECS = (EvaluationSpec(2, 4), EvaluationSpec(3, 6))
SHORT = PlannedRun(replace(tiny_run("", Path()), device="cpu"), motion_source(MOTIONS), SPECS)
LONGER = replace(SHORT.settings, clips=replace(SHORT.settings.clips, length=6))
TUNED = PlannedRun(LONGER, SHORT.source, (EvaluationSpec(3, 6),), SHORT)
MEAN = FusedRun((SHORT, TUNED), EvaluationSpec(3, 6))
GROUPS = (
    *(RunGroup((SHORT,), evaluation) for evaluation in SHORT.evaluations),
    RunGroup((TUNED,), TUNED.evaluations[0]),
    RunGroup((MEAN,), MEAN.evaluation),
)
CONFIG = StudyConfig("laptop", 1, SHORT.source, "test", reruns=1)
STUDY = Study(
    "tiny",
    "Tiny",
    "It runs.",
    lambda config: dict(enumerate(GROUPS)),
    lambda results: Verdict("", None),
    lambda results: (),
)


@pytest.fixture(autouse=True)
def _no_thread_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """`main` starts one that watches for the parent's end and would watch for that of the tests."""
    monkeypatch.setattr(execute_module, "stop_with_parent", lambda: None)


def test_two_runs_and_their_mean(tmp_path: Path) -> None:
    runner = RunnerConfig(tmp_path, report=lambda line: None)
    assert run_study(STUDY, CONFIG, STUDY.runs(CONFIG), runner) == []
    rows = read_rows(tmp_path)
    assert rows.keys() == {
        (SHORT.name, "test-2x4f"),
        (SHORT.name, "test-3x6f"),
        (TUNED.name, "test-3x6f"),
        (MEAN.name, "test-3x6f"),
    }
    assert {row["fingerprint"]["environment"]["device"] for row in rows.values()} == {"cpu"}
    for (name, test), row in rows.items():
        if name != MEAN.name:
            path = tmp_path / "runs" / name / "scores" / f"{test}.parquet"
            measured = compute_accuracy(compute_video_scores(read_scores(path)))
            assert row["numbers"]["video_top1"] == 100 * measured.video_top1.of_all.share
            assert measured.protocol.preprocessing.clip_length == int(test.removesuffix("f").partition("x")[2])
            assert row["numbers"]["num_videos"] == 6
            assert [point["epoch"] for point in row["history"]] == [1.0, 2.0]
    assert rows[TUNED.name, "test-3x6f"]["start"] == SHORT.name
    shutil.rmtree(tmp_path / "runs")
    values = write_study(STUDY, CONFIG, read_rows(tmp_path), tmp_path)
    assert values["missing"] == []
    assert len(values["rows"]) == 4
    assert json.loads((tmp_path / "tiny" / "study.json").read_text(encoding="utf-8"))["rows"] == values["rows"]
    assert values["format"] == 1
    changed = "".join(json.dumps({**row, "model": "mc3_10"}) + "\n" for row in rows.values())
    (tmp_path / "rows.jsonl").write_text(changed, encoding="utf-8")
    with pytest.raises(ValueError, match="is not of the run that it is named for: model is 'mc3_10'"):
        run_study(STUDY, CONFIG, STUDY.runs(CONFIG), runner)
    assert not (tmp_path / "runs").exists()  # refused before anything runs


def plan_of(motions: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    settings = replace(SHORT.settings, data=str(motions), output=str(folder), **changes)
    tests = [{"clips": 2, "length": 4, "split": "test"}]
    return {"settings": settings_to_dict(settings), "tests": tests, "launcher": [], "settings_file": ""}


def test_a_test_is_added_to_a_run_that_is_finished(motions: Path, tmp_path: Path) -> None:
    asked = plan_of(motions, tmp_path / "run")
    execute(asked, Console(quiet=True))
    weights = (tmp_path / "run" / "last.safetensors").read_bytes()
    first = (tmp_path / "run" / "tests" / "test-2x4f.json").read_text(encoding="utf-8")
    asked["tests"].append({"clips": 1, "length": 4, "split": "validation"})
    execute(asked, Console(quiet=True))
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == weights
    assert (tmp_path / "run" / "tests" / "test-2x4f.json").read_text(encoding="utf-8") == first
    added = json.loads((tmp_path / "run" / "tests" / "validation-1x4f.json").read_text(encoding="utf-8"))
    assert added["num_videos"] == 4


def test_reruns_end_with_other_bits(motions: Path, tmp_path: Path) -> None:
    """The threads of a rerun are those of its process (`test_run.py`)."""
    group = RunGroup((SHORT,), SHORT.evaluations[0])
    losses = []
    for run in (SHORT, *plan_reruns(group, 4, ("weights", "convolution", "batch"))):
        folder = tmp_path / run.name
        plan = plan_of(motions, folder, training=run.settings.training)
        execute(plan | {"tests": []}, Console(quiet=True))
        losses.append([line["loss"] for line in read_json_lines(folder / "log.jsonl") if line["kind"] == "train"])
    assert all(values[:3] == pytest.approx(losses[0][:3], rel=1e-3) for values in losses)  # the same run ...
    assert len({tuple(values) for values in losses}) == 4  # ... but for rounding


def test_what_fails_is_a_sentence(motions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = plan_of(motions, tmp_path / "run", model="r3d_11")
    (tmp_path / "plan.json").write_text(json.dumps(asked), encoding="utf-8")
    assert main([str(tmp_path / "plan.json")]) == 1
    assert "r3d_11" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("[]", "expected a JSON object"),
        ("{}", "settings is missing; tests is missing"),
        ('{"settings": 3, "tests": [{"clips": "x", "length": 4}], "launcher": []}', "tests.0.clips is 'x'"),
        ('{"settings": {"zzz": 1}, "tests": [], "launcher": []}', "zzz is not known"),
    ],
)
def test_a_plan_that_is_none_is_a_sentence(
    tmp_path: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.json").write_text(text, encoding="utf-8")
    assert main([str(tmp_path / "plan.json")]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.long
def test_a_launcher_trains_in_processes_of_its_own(
    motions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = plan_of(motions, tmp_path / "run")
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(asked["settings"]), encoding="utf-8")
    fit_steps: list[int] = []
    whole = execute_module.fit
    monkeypatch.setattr(
        execute_module, "fit", lambda job, console: fit_steps.append(whole(job, console).train_state.step)
    )
    execute(asked | {"launcher": [sys.executable], "settings_file": str(file)}, Console(quiet=True))
    lines = read_json_lines(tmp_path / "run" / "log.jsonl")
    assert len([line for line in lines if line["kind"] == "train"]) == fit_steps[0] == 12  # once, elsewhere
    assert (tmp_path / "run" / "tests" / "test-2x4f.json").exists()
    asked = plan_of(motions, tmp_path / "other")
    with pytest.raises(RuntimeError, match="ended with code"):
        execute(asked | {"launcher": [sys.executable, "-c", "import sys; sys.exit(9)"]}, Console(quiet=True))


def test_given_data_is_named_apart_from_its_place() -> None:
    assert DataSource("k", address="/a").to_json() == DataSource("k", address="/b").to_json()
