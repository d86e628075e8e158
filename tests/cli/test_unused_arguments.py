"""What a verb is given and cannot use is refused or named, never ignored; files are called like what they hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from muybridge.training.checks import describe_unused_settings
from muybridge.weights.address import load_weights
from runs import tiny_run


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("predict {run} {video} --step 4", "options of a timeline were given (--step)"),
        ("predict {run} {video} --minimum-seconds 1 -o x.parquet", "options of a timeline were given (--minimum-sec"),
        ("predict {run} {video} --weights 1 1 -o x.parquet", "--weights are those of two networks"),
        ("predict {run} {video} --columns path=file", "--columns is for lists, but no list was given"),
        ("predict {run} {video} --ray auto --workers 2 -o x.parquet", "--workers are those of this machine"),
        ("predict {run} {video} --timeline csv -o x.srt", "which are two formats"),
        ("extract {run} {video} --step 4 --clips 3 -o x.parquet", "--step 4 and --clips 3 exclude each other"),
        ("extract {run} {video} --columns path=file -o x.parquet", "--columns is for lists"),
        ("extract {run} {video} -o x.npy", "called like a file of another kind; give it a name that ends in .parquet"),
        ("evaluate {run} --data {data} -o x.pdf", "such as x.parquet"),
        ("evaluate {run} --data {data} --timeline -o x.csv", "such as x.parquet"),
        ("evaluate {run} --data {data} --step 4", "--step is for --timeline"),
        ("evaluate {run} --data {data} --columns path=file", "--columns is for lists"),
        ("report {run} -o x.pdf", "such as x.html"),
        ("bench model -o x.csv", "such as x.json"),
        ("prepare {data} --check {data}", "--check verifies a prepared folder and writes none"),
        ("prepare {data} -o x --format csv", "is a folder, not a list"),
        ("prepare {data} -o x --ray auto --workers 2", "--workers are those of this machine"),
        ("study table2 -o x --render --jobs 2", "--render runs nothing"),
        ("study table2 -o x --dry-run --launcher torchrun", "--dry-run runs nothing"),
        ("weights import {state} --classes {names} -o x.safetensors --head none", "no classifier that class names"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(
    line: str,
    sentence: str,
    finished_run: Path,
    motions: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    state, names = tmp_path / "state.pt", tmp_path / "names.txt"
    torch.save(load_weights(finished_run)[0].state_dict(), state)
    names.write_text("left\nright\n")
    video = motions / "test" / "left" / "00000.mp4"
    words = line.format(run=finished_run, data=motions, video=video, state=state, names=names).split()
    told = cli(*words)
    assert (told.code, told.out, told.err.count("\n")) == (2, "", 1), told
    assert sentence in told.err
    assert {path.name for path in tmp_path.iterdir()} == {"state.pt", "names.txt"}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("predict {run} {video} --source-fps 10", "--source-fps is not used"),
        ("predict {run} {video} --time-origin container", "--time-origin is not used"),
        ("predict {run} {video} --timeline --workers 1", "--workers is not used: with --timeline"),
        ("extract {run} {video} --step 4 --workers 1 -o x.parquet", "--workers is not used: with --step"),
        (
            "prepare {data} -o x --scale 32 32 --workers 1 --time-origin container --source-fps 5",
            "--time-origin is not",
        ),
    ],
)
def test_arguments_that_change_nothing_are_named(
    line: str,
    sentence: str,
    finished_run: Path,
    motions: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    video = motions / "test" / "left" / "00000.mp4"
    told = cli(*line.format(run=finished_run, data=motions, video=video).split())
    assert told.code == 0, told
    assert sentence in told.err
    assert "--source-fps is not used" in told.err or "--source-fps" not in line


@pytest.mark.parametrize(
    "line",
    [
        *("predict RUN _", "predict _ v.mp4", "predict RUN v.mp4 --with _", "predict RUN v.mp4 --timeline csv -o _"),
        *("extract RUN v.mp4 -o _", "evaluate RUN --data _", "evaluate RUN --data d.csv -o _", "train --data d -o _"),
        *("train --data d --init=_", "train --config _", "prepare _ -o d", "prepare d -o _", "report RUN -o _"),
        *(
            "report RUN --figures _",
            "fuse _",
            "weights show _",
            "weights export RUN --to onnx -o _",
            "study table1 -o _",
        ),
        *("demo -o _", "bench decode _", "folds --data d -o _", "predict RUN l.csv --columns _"),
    ],
)
def test_an_empty_argument_is_no_folder(
    line: str, tmp_path: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty path would be the working folder, which `-o ""` would fill, and of which `predict RUN ""` would read all."""
    monkeypatch.chdir(tmp_path)
    told = cli(*(word.replace("_", "") for word in line.split()))
    assert (told.code, told.out, told.err.count("\n")) == (2, "", 1), told
    assert "is empty; give it a value, or leave it out" in told.err
    assert list(tmp_path.iterdir()) == []


def test_settings_that_change_nothing_are_named(tmp_path: Path) -> None:
    settings = tiny_run("data", tmp_path, {"training.momentum": 0.5, "model": "r3d_10", "network.middle_relu": False})
    assert describe_unused_settings(settings) == [
        "not used: training.momentum, which is that of sgd; network.middle_relu, since r3d_10 has no (2+1)D convolutions"
    ]
    factorized = {"training.optimizer": "sgd", "training.momentum": 0.5, "network.middle_relu": False}
    assert describe_unused_settings(tiny_run("data", tmp_path, factorized)) == []
