"""Training, resuming after SIGKILL, and the verbs of the command line on a GPU."""

import io
import json
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from muybridge.kernels.precision import get_device_name
from scripts import ROOT, make_environment

PACKAGES = ("av", "pyarrow", "safetensors", "jsonargparse", "docstring_parser", "rich", "tensorboard", "matplotlib")
pytestmark = pytest.mark.gpu
CLIP = ("--network.width=4", "--clips.length=4", "--clips.scale=[32,32]", "--clips.crop=28", "--evaluation.clips=2")
RECIPE = ("--training.batch_size=4", "--training.clips_per_epoch=48", "--training.epochs=4", "--loading.workers=0")


def run(*arguments: object) -> str:
    """What a command prints, run in this process: a new one takes seconds to import torch and to open the GPU."""
    from muybridge.cli.main import main

    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        code = main([str(argument) for argument in arguments])
    assert code == 0, output.getvalue()
    return output.getvalue()


def start(*arguments: object) -> subprocess.Popen[bytes]:
    """A command in a process of its own, which can be killed."""
    command = [sys.executable, "-m", "muybridge", *map(str, arguments)]
    environment = make_environment(ROOT / "src", OMP_NUM_THREADS="1")
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def train_arguments(data: Path, folder: Path, device: torch.device) -> list[object]:
    options = [*CLIP, *RECIPE, "--checkpoints.every_minutes=1e-6", f"--device={device}"]
    return ["train", "--data", data, "--model", "r2plus1d_10", "-o", folder, *options]


@pytest.fixture(scope="module")
def motions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in PACKAGES:
        pytest.importorskip(package, reason=f"{package} is not installed")
    from muybridge.synthetic.dataset import write_motion_dataset
    from runs import MOTIONS

    folder = tmp_path_factory.mktemp("motions") / "data"
    write_motion_dataset(folder, MOTIONS)
    return folder


@pytest.fixture(scope="module")
def trained(motions: Path, tmp_path_factory: pytest.TempPathFactory, device: torch.device) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    log = run(*train_arguments(motions, folder / "run", device))
    assert "training in " in log  # the chosen precision and the reason
    if device.type == "cuda":
        assert "run as CUDA graphs" in log
    return folder / "run"


def test_checkpoints_are_the_same_without_graphs(
    trained: Path, motions: Path, tmp_path: Path, device: torch.device
) -> None:
    log = run(*train_arguments(motions, tmp_path / "plain", device), "--training.cuda_graphs=off")
    assert "CUDA graphs" not in log
    (ours,), (theirs,) = (
        sorted((run_folder / "checkpoints").glob("step-*"))[-1:] for run_folder in (trained, tmp_path / "plain")
    )
    for name in ("network.safetensors", "optimizer.pt"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    assert (trained / "last.safetensors").read_bytes() == (tmp_path / "plain" / "last.safetensors").read_bytes()


def test_the_demo_runs(device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, with fewer videos and steps than a user's."""
    for package in PACKAGES:
        pytest.importorskip(package, reason=f"{package} is not installed")
    from muybridge.cli.demo import demo as run_demo
    from muybridge.studies import demo
    from muybridge.synthetic.motions import MotionSettings

    def shorten(*arguments: Any, **options: Any) -> Any:
        settings = original(*arguments, **options)
        training = replace(settings.training, clips_per_epoch=64, batch_size=8)
        return replace(settings, training=training, loading=replace(settings.loading, workers=0))

    original = demo.motion_run
    few = MotionSettings(classes=2, train_videos_per_class=4, validation_videos_per_class=1, test_videos_per_class=2)
    monkeypatch.setattr(demo, "motion_run", shorten)
    monkeypatch.setattr(demo, "MOTIONS", few)
    monkeypatch.setattr(demo, "UNTRIMMED", {"validation": ("right", "left"), "test": ("left", "right")})
    assert run_demo(output=str(tmp_path / "demo"), epochs=1.0) == 0
    for model in demo.MODELS:
        execution = json.loads((tmp_path / "demo" / model / "environment.json").read_text())["execution"]
        assert execution["device"] == get_device_name(device)


def test_the_verbs_run(trained: Path, motions: Path, device: torch.device) -> None:
    assert str(device.type) in run("doctor")
    result = json.loads(run("evaluate", trained, "--data", motions, f"--device={device}", "--json").split("\n{")[-1])
    assert Path(result["scores"]).is_file()
    video = next((motions / "test").rglob("*.mp4"), None) or next(motions.rglob("*.mp4"))
    for precision in ("auto", "fp32"):
        (line,) = run("predict", trained, video, f"--device={device}", "--json", "--precision", precision).splitlines()
        assert json.loads(line)["status"] == "ok"
    run("extract", trained, video, f"--device={device}", "-o", trained / "features.parquet")


def test_a_killed_run_resumes_to_the_same_weights(
    trained: Path, motions: Path, tmp_path: Path, device: torch.device
) -> None:
    arguments = train_arguments(motions, tmp_path / "killed", device)
    process = start(*arguments)
    deadline = time.monotonic() + 200
    while len(list((tmp_path / "killed" / "checkpoints").glob("step-*[1-9]"))) < 2 and process.poll() is None:
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run(*arguments, "--resume")
    same = [(folder / "last.safetensors").read_bytes() for folder in (trained, tmp_path / "killed")]
    assert same[0] == same[1]
