"""Tests that need CUDA skip elsewhere, with a sentence. `MUYBRIDGE_TEST_DEVICE=cpu` rehearses them on a CPU."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from graph_stand_in import RerunFunction, use_graph_stand_in


class SkippedWithoutPackages(pytest.Module):
    """A test module that is skipped, by name, where a package that it needs is not installed."""

    def _getobj(self) -> Any:
        try:
            return super()._getobj()
        except self.CollectError as error:
            missing = getattr(error.__cause__, "name", None) or ""
            if not isinstance(error.__cause__, ModuleNotFoundError) or missing.startswith(("muybridge", "tests")):
                raise
            pytest.skip(f"{missing} is not installed", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    """Called by pytest for each test module of this folder."""
    module: pytest.Module = SkippedWithoutPackages.from_parent(parent, path=module_path)
    return module


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The GPU; or the device of the rehearsal."""
    return torch.device(os.environ.get("MUYBRIDGE_TEST_DEVICE", "cuda"))


@pytest.fixture(autouse=True, scope="session")
def needs_cuda(device: torch.device) -> None:
    """Skip the test where there is no CUDA device."""
    if device.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")


@pytest.fixture
def needs_fused_norm(device: torch.device) -> None:
    """Skip the test in a rehearsal: Triton's interpreter runs in a process of its own (tests/kernels)."""
    if device.type != "cuda":
        pytest.skip("fused batch norm needs a CUDA device")
    pytest.importorskip("triton", reason="Triton is not installed")


@pytest.fixture
def stand_in(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> type[RerunFunction] | None:
    """None on a GPU; in a rehearsal what stands for CUDA graphs."""
    return None if device.type == "cuda" else use_graph_stand_in(monkeypatch)


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Algorithms of cuDNN with the same bits in every run, as in training."""
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = False
