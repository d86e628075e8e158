"""Tests that need CUDA skip elsewhere, with a sentence. `MUYBRIDGE_TEST_DEVICE=cpu` rehearses them on a CPU."""

import os

import pytest
import torch


@pytest.fixture
def device() -> torch.device:
    """The GPU; or the device of the rehearsal."""
    return torch.device(os.environ.get("MUYBRIDGE_TEST_DEVICE", "cuda"))


@pytest.fixture(autouse=True)
def needs_cuda(device: torch.device) -> None:
    """Skip the test where there is no CUDA device."""
    if device.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
