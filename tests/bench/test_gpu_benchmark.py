"""The GPU benchmark, rehearsed on a CPU at toy size: no minute of a lent GPU goes into a typing error."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
TOY = (
    "--device",
    "cpu",
    "--network",
    "r2plus1d_10",
    "--clip",
    "3",
    "4",
    "32",
    "32",
    "--batches",
    "2",
    "--repeats",
    "1",
)


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_benchmark"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def quick(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "measure_gemm_gflops", lambda *arguments: 100.0)


def rehearse(gpu: ModuleType, path: Path, *words: str) -> dict:
    gpu.main([*TOY, *words, "-o", str(path)])
    return json.loads(path.read_text())


def test_inference_rows(gpu: ModuleType, quick: None, tmp_path: Path) -> None:
    result = rehearse(gpu, tmp_path / "r.json", "--only", "inference")
    assert not result["not_measured"]
    assert len(result["rows"]) == len(gpu.INFERENCE_VARIANTS)
    ours = [row for row in result["rows"] if "muybridge.optimize" in row["what"]]
    assert all(row["clips_per_second"] > 0 and row["difference"] < 0.2 for row in ours)


@pytest.mark.long
def test_training_rows(gpu: ModuleType, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variants = [variant for variant in gpu.TRAINING_VARIANTS if "compiled" not in variant[0]]
    monkeypatch.setattr(gpu, "TRAINING_VARIANTS", variants)
    result = rehearse(gpu, tmp_path / "r.json", "--only", "training")
    assert not result["not_measured"]
    assert [row["what"] for row in result["rows"]] == [f"training, {name}, {kind}, batch 2" for name, kind in variants]
    assert all("clips_per_second" in row or "torchvision" in row["what"] for row in result["rows"])
    assert torch.backends.cudnn.deterministic is False


@pytest.mark.long
def test_copies_are_measured(gpu: ModuleType, quick: None, tmp_path: Path) -> None:
    (row,) = rehearse(gpu, tmp_path / "r.json", "--only", "loader")["rows"]
    assert row["there"] > 0 and row["copied"] > 0


@pytest.mark.long
def test_a_whole_run_is_measured(gpu: ModuleType, quick: None, tmp_path: Path) -> None:
    (row,) = rehearse(gpu, tmp_path / "r.json", "--only", "run")["rows"]
    assert row["steps"][-1]["clips_per_second"] > 0


def test_what_does_not_fit_is_listed_and_the_rest_is_kept(gpu: ModuleType, tmp_path: Path) -> None:
    session = gpu.Session(torch.device("cpu"), "r2plus1d_10", (3, 4, 32, 32), float("inf"), tmp_path / "r.json", 1)

    def fail() -> dict:
        raise RuntimeError("no kernel\nmore")

    session.measure("good", lambda: {"seconds": 1.0})
    assert json.loads((tmp_path / "r.json").read_text())["rows"] == [{"what": "good", "seconds": 1.0}]
    session.measure("bad", fail)
    session.deadline = 0.0
    session.measure("late", fail)
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["not_measured"] == ["bad: RuntimeError: no kernel", "late: no time left"]
    assert len(result["rows"]) == 1


def test_the_tests_are_a_row(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    session = gpu.Session(torch.device("cpu"), "r2plus1d_10", (3, 4, 32, 32), float("inf"), None, 1)
    commands = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "3 passed, 1 failed\n", "")

    monkeypatch.setattr(gpu.subprocess, "run", run)
    assert gpu.run_tests(session) == {"exit_code": 1, "output": ["3 passed, 1 failed"]}
    assert commands == [["make", "test-gpu", f"PYTHON={sys.executable}"]]
