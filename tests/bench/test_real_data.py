"""Cross-validation on real video, rehearsed on generated files at toy size: folds apart, baselines, resumable rows, a table."""

import json
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from muybridge.distributed.stop import StopRequested
from muybridge.files.run_folder import read_json_lines
from muybridge.studies.fingerprint import Version
from muybridge.studies.plan import digest
from scripts import load_script
from videos import write_uniform_video

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark and bright files of three groups; the bright ones are twice as long."""
    folder = tmp_path_factory.mktemp("real")
    rows = ["path,label,split,group,width,height,fps,num_frames"]
    for number in range(12):
        is_bright = number % 2
        frames = 12 * (1 + is_bright)
        write_uniform_video(folder / f"{number}.mp4", frames, 60 + 120 * is_bright)
        rows.append(f"{number}.mp4,{('dark', 'bright')[is_bright]},train,g{number // 4},64,48,25.0,{frames}")
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    return folder / "data.csv"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_script("real_data")
    monkeypatch.setattr(module, "LENGTHS", (8,))
    monkeypatch.setattr(module, "ORDER", ("f_r2d", "r3d"))
    monkeypatch.setattr(module, "EPOCHS", 2.0)
    return module


def run(script: ModuleType, monkeypatch: pytest.MonkeyPatch, output: Path, listed: Path, *options: str) -> None:
    argv = ["real_data", "-o", str(output), "--data", f"toy={listed}", "--families", "f_r2d", "--seeds", "1", *options]
    monkeypatch.setattr(sys, "argv", argv)
    script.main()


def test_every_video_is_tested_once_by_a_network_that_never_saw_its_group(
    script: ModuleType,
    listed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    run(script, monkeypatch, output, listed, "--minutes", "0")
    table = capsys.readouterr().out
    assert not (output / "rows.jsonl").exists()
    assert "| majority class | - | - | - | 50.0 |" in table
    assert "| duration and aspect ratio alone | - | - | - | 100.0 | 100 | 100 |" in table
    assert "Not run: f_r2d, r3d (8 frames from scratch); f_r2d, r3d (8 frames from motions)." in table

    def stop(*_: object) -> None:
        raise StopRequested(signal.SIGTERM)

    with monkeypatch.context() as patched, pytest.raises(SystemExit) as stopped:
        patched.setattr(script, "evaluate_split", stop)
        run(script, patched, output, listed)
    assert stopped.value.code == 75 and not (output / "rows.jsonl").exists()

    run(script, monkeypatch, output, listed)
    logs = list((output / "work" / "runs").glob("*/log.jsonl"))
    steps = [[line["step"] for line in read_json_lines(log) if line["kind"] == "train"] for log in logs]
    assert len(logs) == 2 and all(len(set(each)) == len(each) > 0 for each in steps)  # trained once
    rows = [json.loads(line) for line in (output / "rows.jsonl").read_text().splitlines()]
    assert [(row["family"], row["fold"], row["start"]) for row in rows] == [
        ("f_r2d", 1, "scratch"),
        ("f_r2d", 2, "scratch"),
    ]
    tested = [set(row["videos"]) for row in rows]
    assert not tested[0] & tested[1]
    assert len(tested[0] | tested[1]) == 12
    assert Counter(label for row in rows for label, _ in row["videos"].values()) == {"dark": 6, "bright": 6}
    groups = [{number // 4 for number in range(12) if digest(f"{number}.mp4") in videos} for videos in tested]
    assert groups[0] | groups[1] == {0, 1, 2}
    assert not groups[0] & groups[1]
    right = [is_right for row in rows for _, is_right in row["videos"].values()]
    assert f"| f_r2d | 8 | scratch | 2 of 2 | {100 * np.mean(right):.1f} |" in capsys.readouterr().out

    run(script, monkeypatch, output, listed)  # what is there is not run again
    assert len((output / "rows.jsonl").read_text().splitlines()) == 2

    listed_elsewhere = listed.with_name("gone.csv")
    run(script, monkeypatch, output, listed_elsewhere, "--render")  # needs rows and baselines.json alone
    assert "| f_r2d | 8 | scratch | 2 of 2 |" in capsys.readouterr().out


def test_a_table_is_of_one_version(script: ModuleType) -> None:
    versions = [Version({"device": "cpu"}, {"a": bits}) for bits in ("fp32 1", "fp32 2")]
    fingerprints = [{"environment": {"device": "cpu"}, "micro_runs": dict(version.micro_runs)} for version in versions]
    rows = [{"seed": seed, "fingerprint": fingerprints[seed % 2]} for seed in range(5)]
    assert [row["seed"] for row in script.select_version(rows, versions)] == [0, 2, 4]
    assert script.select_version([*rows, *({"seed": -1},) * 4], versions) == [{"seed": -1}] * 4
    assert script.select_version([], []) == []


def test_the_page_shows_the_committed_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """python benchmarks/real_data.py -o benchmarks/results/real_data --render --docs docs/reproduction.md"""
    page = tmp_path / "page.md"
    shutil.copy(ROOT / "docs" / "reproduction.md", page)
    shutil.copytree(ROOT / "benchmarks" / "results" / "real_data", tmp_path / "rows", ignore=lambda *_: ["work"])
    monkeypatch.delenv("MUYBRIDGE_REAL_VIDEO", raising=False)
    argv = ["real_data", "-o", str(tmp_path / "rows"), "--render", "--docs", str(page)]
    monkeypatch.setattr(sys, "argv", argv)
    load_script("real_data").main()
    assert page.read_text() == (ROOT / "docs" / "reproduction.md").read_text()
