"""The parts of the later recipe, rehearsed at toy size: runs that differ by one part, resumable rows, tables, a page."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from muybridge.studies.execute import execute
from muybridge.studies.plan import PlannedRun
from muybridge.studies.run import build_config, build_plan
from muybridge.training_settings import TrainingSettings
from runs import MOTIONS
from scripts import load_script
from videos import write_uniform_video

ROOT = Path(__file__).parents[2]
FAKE = (sys.executable, str(Path(__file__).parents[1] / "studies" / "fake_run.py"))


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark and bright files of four groups."""
    folder = tmp_path_factory.mktemp("real")
    rows = ["path,label,group"]
    for number in range(8):
        write_uniform_video(folder / f"{number}.mp4", 20, 60 + 120 * (number % 2))
        rows.append(f"{number}.mp4,{('dark', 'bright')[number % 2]},g{number // 2}")
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    return folder / "data.csv"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_script("recipe_parts")
    motions = replace(MOTIONS, train_videos_per_class=2, test_videos_per_class=1, height=48, width=48)
    monkeypatch.setattr(module, "CLEARER_MOTIONS", motions)
    return module


def test_every_part_changes_what_it_names_and_the_clips_seen_are_equal(script: ModuleType) -> None:
    data = script.PartsData("motions")
    settings = {part.name: script.build_settings(data, "r3d", part, None).training for part in script.PARTS}
    paper = settings.pop("paper")
    defaults = TrainingSettings()
    assert (paper.optimizer, paper.schedule, paper.epochs) == (defaults.optimizer, defaults.schedule, defaults.epochs)
    for part in script.PARTS[1:]:
        changed = {name for name, value in vars(settings[part.name]).items() if value != getattr(paper, name)}
        assert changed == set(part.training) - {"optimizer", "learning_rate", "weight_decay"}, part.name
    assert {training.clips_per_epoch * training.epochs for training in settings.values()} == {9000}
    others = set().union(*(part.training for part in script.PARTS if part.name not in ("paper", "modern")))
    assert others - {"warmup_epochs"} == set(script.MODERN.training) - {"optimizer", "learning_rate", "weight_decay"}


@pytest.mark.long
def test_rows_are_resumed_and_tables_go_to_a_page(
    script: ModuleType,
    listed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script, "PARTS", script.PARTS[:2])
    page, output = tmp_path / "page.md", tmp_path / "out"
    page.write_text("before\n<!-- recipe_parts -->\n\n<!-- end of recipe_parts -->\nafter\n")
    argv = ["-o", str(output), "--data", f"toy={listed}", "--families", "r3d", "--seeds", "1", "--jobs", "2"]
    assert script.main([*argv, "--render", "--docs", str(page)]) == 0
    assert "**motions: r3d_10, 8640 clips of training**: not run." in page.read_text()
    assert "**toy: r3d_10, 360 clips of training**: not run." in page.read_text()
    assert "The runs do not decide." in capsys.readouterr().out

    assert script.main(argv, FAKE) == 0
    rows = [json.loads(line) for line in (output / "rows.jsonl").read_text().splitlines()]
    # Two recipes, one rerun four times and scored in three or four other ways; the toy data has two folds.
    assert len(rows) == (2 + 4 + 3) + (2 * 2 + 2 * 4 + 2 * 4)
    text = capsys.readouterr().out
    assert "modern" in text and "three crops" in text and "Not run" not in text
    assert script.main([*argv, "--docs", str(page)], ("/there/is/no/such/program",)) == 0  # nothing is left to run
    assert len((output / "rows.jsonl").read_text().splitlines()) == len(rows)
    shown = page.read_text()
    assert shown.startswith("before\n") and shown.endswith("after\n")
    assert (
        "| modern | all of these but the longer warm-up, as modern_kinetics400_* | 1 | 8.0 | 0.0 | undecided | 1 |"
        in shown
    )
    assert "| dense prediction | a test of the paper's recipe | 1 | 16.0 | 8.0 | undecided | 8.6 times |" in shown
    assert "Not run: nothing." in shown and "Noise floor: 5 runs" in shown


def test_the_page_shows_the_committed_rows_without_any_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """python benchmarks/recipe_parts.py -o benchmarks/results/recipe_parts --render --docs docs/training.md

    As on a machine of another kind, where the rows are not compared with this version of the code.
    """
    monkeypatch.delenv("MUYBRIDGE_REAL_VIDEO", raising=False)
    module, page = load_script("recipe_parts"), tmp_path / "training.md"
    monkeypatch.setattr(module, "find_current_version", lambda *_: None)
    shutil.copytree(ROOT / "benchmarks" / "results" / "recipe_parts", tmp_path / "rows")
    shutil.copy(ROOT / "docs" / "training.md", page)
    assert module.main(["-o", str(tmp_path / "rows"), "--render", "--docs", str(page)]) == 0
    assert page.read_text() == (ROOT / "docs" / "training.md").read_text()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--seeds", "0"], "'0' is not a number from 1"),
        (["--jobs", "-1"], "'-1' is not a number from 1"),
        (["--render", "--docs", "typo.md"], "typo.md"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_sentence(
    options: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("MUYBRIDGE_REAL_VIDEO", raising=False)
    with pytest.raises(SystemExit) as stopped:
        load_script("recipe_parts").main(["-o", str(tmp_path / "out"), *options])
    assert stopped.value.code == 2 and sentence in capsys.readouterr().err


@pytest.mark.long
def test_all_parts_at_once_train_and_the_paper_is_scored_in_other_ways(
    script: ModuleType, listed: Path, tmp_path: Path
) -> None:
    data = replace(script.list_parts_data([f"toy={listed}"], tmp_path / "work", 90)[1], clips=90, batch=4)
    study = script.build_study(data, ("r2plus1d",))
    config = build_config(study, scale="laptop", seeds=1, data=data.address, others={}, split="test")
    grid = study.grid(config)
    for name in ("paper", "modern"):
        (run,) = grid["r2plus1d", name, 1].members
        assert isinstance(run, PlannedRun)
        evaluations = tuple(data.list_evaluations().values()) if name == "paper" else ()
        plan = build_plan(replace(run, evaluations=(grid["r2plus1d", name, 1].evaluation, *evaluations)), tmp_path)
        execute(plan | {"launcher": []}, Console(quiet=True))
        results = [
            json.loads(path.read_text()) for path in (tmp_path / "runs" / run.name / "tests").glob("test-*.json")
        ]
        assert len(results) == (5 if name == "paper" else 1)
        assert {result["num_videos"] for result in results} == {4}
        assert {result["num_failed_videos"] for result in results} == {0}
