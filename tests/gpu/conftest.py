"""Tests that need CUDA skip elsewhere, with a sentence."""

import pytest
import torch


@pytest.fixture(autouse=True)
def needs_cuda() -> None:
    """Skip the test where there is no CUDA device."""
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
