"""Batch norm with what follows it: on a CPU torch's operators one by one, in Triton's interpreter the fused kernels."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from muybridge.kernels import batch_norm
from muybridge.kernels.batch_norm import apply_layers, apply_norm, find_fusion_problem
from norm_checks import NETWORK_CASES, NETWORK_TOLERANCE

TESTS = Path(__file__).parents[1]


def maps_of(channels: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, channels, 3, 5, 4).contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("with_residual", [True, False])
def test_on_a_cpu_it_is_torchs_operators_to_the_last_bit(training: bool, relu: bool, with_residual: bool) -> None:
    maps, residual = maps_of(6), maps_of(6).flip(0) if with_residual else None
    ours, theirs = nn.BatchNorm3d(6).train(training), nn.BatchNorm3d(6).train(training)
    expected = theirs(maps)
    expected = expected if residual is None else expected + residual
    expected = functional.relu(expected) if relu else expected
    assert torch.equal(apply_norm(ours, maps.clone(), relu=relu, residual=residual), expected)
    assert torch.equal(ours.running_var, theirs.running_var)
    assert torch.equal(ours.running_mean, theirs.running_mean)


def test_layers_after_batch_norm_run_in_their_order() -> None:
    maps, norm, pool = maps_of(6), nn.BatchNorm3d(6).eval(), nn.MaxPool3d(2)
    expected = pool(functional.relu(norm(maps)))
    assert torch.equal(apply_layers([norm, nn.ReLU(inplace=True), pool], maps.clone()), expected)
    assert torch.equal(apply_layers([norm], maps.clone()), norm(maps))


def test_padded_channels_stay_zero_and_leave_the_statistics_alone() -> None:
    norm, plain = nn.BatchNorm3d(6), nn.BatchNorm3d(6)
    maps = maps_of(6)
    out = apply_norm(norm, functional.pad(maps, (0, 0) * 3 + (0, 2)), relu=True, extra_channels=2)
    torch.testing.assert_close(out[:, :6], functional.relu(plain(maps)))
    assert not out[:, 6:].any()
    torch.testing.assert_close(norm.running_var, plain.running_var)


def test_a_cpu_is_told_what_fusion_needs() -> None:
    assert find_fusion_problem(torch.device("cpu")) == "fused batch norm needs a CUDA device"


def test_an_absent_or_broken_triton_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    monkeypatch.setattr(batch_norm, "FUSED_DEVICE_TYPES", {"cpu"})

    def refuse(name: str) -> None:
        raise ModuleNotFoundError("No module named 'triton'")

    monkeypatch.setattr(batch_norm.importlib, "import_module", refuse)
    assert "Triton cannot be imported" in str(find_fusion_problem.__wrapped__(device))

    monkeypatch.setattr(batch_norm.importlib, "import_module", lambda name: object())
    assert "Triton's kernels do not run here (AttributeError" in str(find_fusion_problem.__wrapped__(device))

    monkeypatch.setattr(batch_norm, "_measure_fused_error", lambda kernels, device: float("nan"))
    assert "differ by nan" in str(find_fusion_problem.__wrapped__(device))


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install 'muybridge[triton]'"
)
@pytest.mark.long
def test_networks_with_fused_kernels_train_as_in_float64() -> None:
    """Padding, frozen stages, activation checkpointing, gradient accumulation, bottlenecks, evaluation mode."""
    printed = subprocess.run(
        [sys.executable, str(TESTS / "norm_checks.py"), "network"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout
    results = [json.loads(line) for line in printed.splitlines()]
    assert [result["case"] for result in results] == list(NETWORK_CASES)
    for result in results:
        assert result["worst"] < NETWORK_TOLERANCE, result
        runs = 2 if result["case"] in ("checkpointing", "accumulation") else 1
        assert result["calls"] == runs, f"not every norm was fused: {result}"
