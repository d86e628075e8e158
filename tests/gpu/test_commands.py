"""Training, resuming after SIGKILL, and the verbs of the command line on a GPU."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

PACKAGES = ("av", "pyarrow", "safetensors", "jsonargparse", "docstring_parser", "rich", "tensorboard", "matplotlib")
pytestmark = pytest.mark.gpu
SOURCE = Path(__file__).parents[2] / "src"
CLIP = ("--network.width=4", "--clips.length=4", "--clips.scale=[32,32]", "--clips.crop=28", "--evaluation.clips=2")
RECIPE = ("--training.batch_size=4", "--training.clips_per_epoch=48", "--training.epochs=4", "--loading.workers=0")


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "muybridge", *map(str, words)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}


def run(*words: object) -> str:
    done = subprocess.run(command(*words), env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def train_words(data: Path, folder: Path, device: torch.device) -> list[object]:
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


@pytest.fixture
def trained(motions: Path, tmp_path: Path, device: torch.device) -> Path:
    log = run(*train_words(motions, tmp_path / "run", device))
    assert "training in " in log  # the chosen precision and the reason
    return tmp_path / "run"


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
    words = train_words(motions, tmp_path / "killed", device)
    process = subprocess.Popen(command(*words), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while len(list((tmp_path / "killed" / "checkpoints").glob("step-*[1-9]"))) < 2 and process.poll() is None:
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run(*words, "--resume")
    same = [(folder / "last.safetensors").read_bytes() for folder in (trained, tmp_path / "killed")]
    assert same[0] == same[1]
