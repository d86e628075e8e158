"""The GPU benchmark, rehearsed on a CPU at toy size: no minute of a lent GPU goes into a typing error."""

import copy
import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from graph_stand_in import use_graph_stand_in
from muybridge.bench import train
from scripts import BENCHMARKS, ROOT, make_environment

SCRIPT = BENCHMARKS / "gpu.py"
TOY = ("--device=cpu", "--network=r2plus1d_10", "--batches=2", "--repeats=1")
TOY += ("--others", "r3d_10", "--clip", "3", "4", "32", "32")


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


def name_rows(part: str, network: str, *variants: tuple[str, str]) -> list[str]:
    return [f"{part} | {network} | {name} | {precision} | batch 2" for name, precision in variants]


@pytest.mark.long
def test_inference_rows(gpu: ModuleType, quick: None, tmp_path: Path) -> None:
    result = rehearse(gpu, tmp_path / "r.json", "--only", "inference")
    assert not result["not_measured"]
    first, *names = [row["what"] for row in result["rows"]]
    assert "muybridge.optimize | bf16" in first
    expected = (*gpu.FIRST_INFERENCE[1:], *gpu.OTHER_INFERENCE)
    assert [name for name in names if "|" in name] == name_rows("inference", "r2plus1d_10", *expected)
    ours = [row for row in result["rows"] if "muybridge.optimize" in row["what"]]
    assert all(row["clips_per_second"] > 0 and row["difference"] < 0.2 for row in ours)
    (latency,) = [row for row in result["rows"] if "latency" in row["what"]]
    assert latency["with_graphs"] > 0 and latency["without_graphs"] > 0


@pytest.mark.long
def test_training_rows(
    gpu: ModuleType, quick: None, torchvision: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = use_graph_stand_in(monkeypatch)
    monkeypatch.setattr(nn.Module, "compile", lambda module: None)  # minutes
    monkeypatch.setitem(gpu.DTYPES, "fp16", torch.bfloat16)  # gradients in fp16 take some CPUs seconds
    result = rehearse(gpu, tmp_path / "r.json", "--only", "train")
    assert not result["not_measured"]
    variants = (*gpu.FIRST_TRAINING, *gpu.COMPILED_TRAINING)
    others = (gpu.FIRST_TRAINING[0], gpu.COMPILED_TRAINING[0])
    assert [row["what"] for row in result["rows"]] == [
        *name_rows("training", "r2plus1d_10", *variants),
        *name_rows("training", "r3d_10", *others),
        *name_rows("training", "r2plus1d_10", *gpu.OTHER_TRAINING),
    ]
    assert all(row["clips_per_second"] > 0 and row["peak_bytes"] >= 0 for row in result["rows"])
    assert ["run as CUDA graphs" in str(row["graphs"]) for row in result["rows"] if "graphs" in row] == [True] * 7
    assert stand_in.num_replays > 7
    assert len(result["ratios"]) == len(result["rows"]) - 2
    peers = [name for name in result["ratios"] if "channels_last" in name and "r2plus1d" in name]
    assert len(peers) == 4
    assert torch.backends.cudnn.deterministic is False


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands for torchvision's network where it is not installed."""
    monkeypatch.setattr(train, "create_torchvision_network", copy.deepcopy)


@pytest.mark.long
def test_copies_are_measured(gpu: ModuleType, quick: None, tmp_path: Path) -> None:
    (row,) = rehearse(gpu, tmp_path / "r.json", "--only", "loader")["rows"]
    assert row["there"] > 0 and row["copied"] > 0


@pytest.mark.long
def test_a_whole_run_is_measured(gpu: ModuleType, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "NUM_RUN_STEPS", 6)
    result = rehearse(gpu, tmp_path / "r.json", "--only", "run")
    assert not result["not_measured"]
    (row,) = result["rows"]
    assert row["run"]["clips_per_second"] > 0
    assert 0 <= row["run"]["waiting_share"] <= 1
    assert "training in fp32" in row["said"][0]


def test_the_most_important_rows_come_first(gpu: ModuleType) -> None:
    session = gpu.Session(torch.device("cpu"), "r2plus1d_18", (3, 16, 112, 112), 0.0, None, 1, ("r3d_18", "mc3_18"))
    names = [name for name, _ in gpu.list_rows(session, [128, 32, 64, 8, 1], None)]
    assert len(names) == len(set(names))
    assert names[0] == "training | r2plus1d_18 | muybridge | bf16 | batch 128"
    needed = [
        *(f"training | r2plus1d_18 | torchvision, channels_last_3d | {kind} | batch 128" for kind in ("bf16", "fp16")),
        "inference | r2plus1d_18 | muybridge.optimize | bf16 | batch 32",
        "latency of one clip, r2plus1d_18",
        "training | r2plus1d_18 | muybridge | bf16 | batch 32",
        "training | r2plus1d_18 | torchvision, channels_last_3d, compiled | bf16 | batch 128",
        "muybridge train",
        "training | mc3_18 | muybridge | bf16 | batch 32",
        "make test-gpu",
    ]
    positions = [names.index(name) for name in needed]
    assert positions == sorted(positions)
    for part in gpu.PARTS:
        assert {name for name, _ in gpu.list_rows(session, [128, 32], part)} < set(names)


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
    session.deadline = float("inf")
    session.measure("without av", lambda: importlib.import_module("no_such_package"))
    assert session.not_measured[-1] == "without av: ModuleNotFoundError: No module named 'no_such_package'"


def test_the_tests_are_a_row(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    session = gpu.Session(torch.device("cpu"), "r2plus1d_10", (3, 4, 32, 32), float("inf"), None, 1)
    commands = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "3 passed, 1 failed\n", "")

    monkeypatch.setattr(gpu.subprocess, "run", run)
    assert gpu.run_tests(session) == {"exit_code": 1, "output": ["3 passed, 1 failed"]}
    assert commands == [["make", "test-gpu", f"PYTHON={sys.executable}"]]


@pytest.mark.parametrize("given", ["/carried/packages", None])
def test_children_find_packages_that_the_caller_carries(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if given:
        monkeypatch.setenv("PYTHONPATH", given)
    expected = [str(ROOT / "src"), *([given] if given else [])]
    assert make_environment(ROOT / "src")["PYTHONPATH"].split(":") == expected
    made = subprocess.run(
        ["make", "-s", "test-gpu", "PYTHON=printenv PYTHONPATH #"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert made.stdout.strip().split(":") == ["src", *expected[1:]]
    session = gpu.Session(torch.device("cpu"), "r2plus1d_10", (3, 4, 32, 32), float("inf"), None, 1)
    environments = []

    def run(command: list[str], *, env: dict[str, str], **options: object) -> subprocess.CompletedProcess[str]:
        environments.append(env["PYTHONPATH"].split(":"))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(gpu.subprocess, "run", run)
    gpu.run_command(session, "train")
    assert environments == [expected]


def test_kernels_are_measured_in_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("gpu_kernels", BENCHMARKS / "gpu_kernels.py")
    assert spec and spec.loader
    kernels = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kernels)
    before = torch.backends.cudnn.deterministic
    kernels.main(["--device=cpu", "--batch=1", "--divide=14", "-o", str(tmp_path / "r.json")])
    torch.backends.cudnn.deterministic = before
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    convolutions = [row for row in rows if row["what"] == "convolution"]
    assert len(convolutions) == 2 * (1 + len(kernels.PER_FRAME) + len(kernels.PER_PIXEL))
    chosen = [direction for row in convolutions for direction in row["chosen_for"]]
    num_layers = len(kernels.PER_FRAME) + len(kernels.PER_PIXEL)  # the stem runs over blocks, in none of these forms
    assert {direction: chosen.count(direction) for direction in set(chosen)} == {
        "forward": num_layers, "input_gradient": num_layers, "weight_gradient": num_layers
    }  # fmt: skip
    assert all(milliseconds > 0 for row in rows for milliseconds in row["milliseconds"].values())
    assert rows[0]["what"] == "stem over blocks"
