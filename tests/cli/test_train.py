"""`muybridge train` from outside: what it prints, its exit codes, and signals to a real process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml

from muybridge.files.run_folder import read_json_lines
from muybridge.settings import settings_to_dict
from muybridge.training import fit as fit_module
from muybridge.training.checkpoint import find_last_step, list_checkpoints
from runs import tiny_run

SECONDS_TO_WAIT = 600


def config(folder: Path, changes: dict[str, Any] | None = None) -> Path:
    """A file of the tiny run's settings, without data, output and recipe."""
    plain = settings_to_dict(tiny_run("", folder, changes))
    for name in ("data", "output", "recipe"):
        del plain[name]
    (folder / "tiny.yaml").write_text(yaml.safe_dump(plain))
    return folder / "tiny.yaml"


def read_video_top1(figures: str) -> float:
    return float(figures.partition("video@1 ")[2].split()[0])


def test_a_run_tells_what_it_does_and_what_came_of_it(motions: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    told = cli("train", "--data", motions, "--config", config(tmp_path), "-o", tmp_path / "run")
    assert told.code == 0
    precision, plan, few, work, *rest = told.err.splitlines()
    validations = [
        line for line in rest if re.match(r"epoch [\d.]+: ", line)
    ]  # a busy machine also shows the time left
    assert precision.startswith("training in fp32")
    assert few.startswith("16 videos are few")
    assert re.fullmatch(
        r"r2plus1d_10 with [\d,]+ parameters on cpu; 16 training and 4 validation videos of 2 classes", plan
    )
    assert re.fullmatch(r"48 clips in 12 steps of 4; the time they take is measured on the first steps", work)
    assert [line.partition(":")[0] for line in validations] == ["epoch 1.0", "epoch 2.0"]
    first, second, third = told.out.splitlines()
    assert first == f"trained r2plus1d_10 for 12 steps; the run is in {tmp_path / 'run'}"
    figures = [line.partition(": ")[2] for line in validations]
    best_step = max((6, 12), key=lambda step: read_video_top1(figures[step // 6 - 1]))
    chosen_by = f"(not a test result: these videos chose the best weights, of step {best_step})"
    assert second == f"validation of the last weights: {figures[-1]} {chosen_by}"
    assert third.startswith("validation: always predicting left gives 50.0 %, guessing 50.0 %")
    saved = yaml.safe_load((tmp_path / "run" / "settings.yaml").read_text())
    resolved = {"training.global_batch": 4, "training.precision": "fp32", "training.tf32": saved["training"]["tf32"]}
    assert saved == settings_to_dict(
        tiny_run(motions, tmp_path / "run", {**resolved, "recipe": "paper", "time_origin": "picture"})
    )


def test_brackets_in_names_are_shown_as_they_are(motions: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    copytree(motions, tmp_path / "[red]data")
    (tmp_path / "[red]data" / "train" / "loose.mp4").write_bytes(b"")
    changes = {"training.epochs": 0.1}
    told = cli("train", "--data", tmp_path / "[red]data", "--config", config(tmp_path, changes), "-o", tmp_path / "run")
    assert f"1 video directly in {tmp_path / '[red]data' / 'train'} has no class folder" in told.err


def test_a_few_unreadable_clips_end_in_code_3_and_are_named(
    motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    copytree(motions, tmp_path / "data")
    (tmp_path / "data" / "train" / "left" / "00003.mp4").write_bytes(b"no video at all")
    run = tmp_path / "run"
    told = cli("train", "--data", tmp_path / "data", "--config", config(tmp_path), "-o", run)
    assert told.code == 3
    assert told.err.splitlines()[-1] == f"3 of 48 clips could not be read; {run / 'failures.jsonl'} names them"
    failures = read_json_lines(run / "failures.jsonl")
    assert len(failures) == 3  # in three passes over sixteen videos
    assert {failure["video"] for failure in failures} == {"train/left/00003.mp4"}
    assert {failure["status"] for failure in failures} == {"unreadable"}
    assert "trained r2plus1d_10 for 12 steps" in told.out


def test_too_many_unreadable_clips_end_in_code_1(motions: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    copytree(motions, tmp_path / "data")
    for number in range(6):
        (tmp_path / "data" / "train" / "left" / f"0000{number}.mp4").write_bytes(b"no video at all")
    run = tmp_path / "run"
    told = cli("train", "--data", tmp_path / "data", "--config", config(tmp_path), "-o", run)
    assert (told.code, told.out) == (1, "")
    sentence = told.err.splitlines()[-1]
    assert re.search(
        r"^muybridge: 1\d of 48 clips could not be read, more than loading\.max_failed_share 0\.1 allows", sentence
    )
    assert "train/left/0000" in sentence


def test_looped_clips_are_told(motions: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    from videos import write_video

    copytree(motions, tmp_path / "data")
    write_video(tmp_path / "data" / "train" / "left" / "00003.mp4", 3)
    told = cli("train", "--data", tmp_path / "data", "--config", config(tmp_path), "-o", tmp_path / "run")
    assert told.code == 0
    assert "3 of 48 clips: of videos shorter than a clip, repeated in a loop" in told.err


def test_a_finished_run_says_so(finished_run: Path, motions: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    copytree(finished_run, tmp_path / "run")
    words = ("train", "--data", motions, "--config", config(tmp_path), "-o", tmp_path / "run")
    refused = cli(*words)
    assert (refused.code, refused.out) == (2, "")
    assert "already contains a run; add --resume" in refused.err
    told = cli(*words, "--resume")
    assert told.code == 0
    assert "all 12 steps of the run are done" in told.err


def test_a_diverging_run_ends_in_code_1(motions: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    changes = {"training.optimizer": "sgd", "training.learning_rate": 1000.0, "training.weight_decay": 1000.0}
    told = cli("train", "--data", motions, "--config", config(tmp_path, changes), "-o", tmp_path / "run")
    assert told.code == 1
    assert re.search(
        r"^muybridge: (the loss is|the gradients are not finite) .*in step \d+ with the clips of train/",
        told.err.splitlines()[-1],
    )
    assert "--debug" not in told.err


def test_a_stopped_run_says_how_to_go_on(
    motions: Path, tmp_path: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGUSR1)
        return original(*arguments)

    original = fit_module.training_step
    monkeypatch.setattr(fit_module, "training_step", stopping)
    told = cli("train", "--data", motions, "--config", config(tmp_path), "-o", tmp_path / "run")
    assert (told.code, told.out) == (75, "")
    assert told.err.splitlines()[-1] == (
        "muybridge: stopped by SIGUSR1; everything is saved, run the same command with --resume to continue"
    )


@pytest.fixture
def running(motions: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a run in a process group of its own, and waits until it has done two steps."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "muybridge",
            "train",
            "--data",
            str(motions),
            "--config",
            str(tmp_path / "tiny.yaml"),
        ]
        command += ["-o", str(tmp_path / "run"), *words]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        deadline = time.monotonic() + SECONDS_TO_WAIT
        while len(read_json_lines(tmp_path / "run" / "log.jsonl")) < 2:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "the run did not start"
            time.sleep(0.01)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize(
    ("number", "code", "workers"),
    [(signal.SIGINT, 130, 1), pytest.param(signal.SIGTERM, 75, 1, marks=pytest.mark.long)],
)
def test_a_signal_to_the_whole_group_saves_and_the_same_line_goes_on(
    number: signal.Signals,
    code: int,
    workers: int,
    tmp_path: Path,
    motions: Path,
    running: Callable[..., subprocess.Popen[str]],
    cli: Callable[..., Any],
) -> None:
    """As Ctrl-C on a terminal and a scheduler's warning do, which reach the workers too."""
    changes = {"training.epochs": 15, "training.validate_every_epochs": 0, "loading.workers": workers}
    config(tmp_path, changes)
    process = running()
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=SECONDS_TO_WAIT)
    assert process.returncode == code, err
    assert out == ""
    assert err.splitlines()[-1] == (
        f"muybridge: stopped by {number.name}; everything is saved, run the same command with --resume to continue"
    )
    assert "Traceback" not in err
    done = find_last_step(tmp_path / "run" / "checkpoints")
    assert 2 <= done < 90
    lines = read_json_lines(tmp_path / "run" / "log.jsonl")
    assert [line["step"] for line in lines] == list(range(1, done + 1))
    if number == signal.SIGTERM:
        told = cli("train", "--data", motions, "--config", tmp_path / "tiny.yaml", "-o", tmp_path / "run", "--resume")
        assert told.code == 0
        assert f"resuming at step {done} of 90" in told.err
        assert "trained r2plus1d_10 for 90 steps" in told.out
        assert len(list_checkpoints(tmp_path / "run" / "checkpoints")) == 2
