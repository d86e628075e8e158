"""Networks with fused batch norm on a GPU beside float64 on the CPU."""

import pytest
import torch

from muybridge.kernels.batch_norm import find_fusion_problem
from norm_checks import (
    NETWORK_CASES,
    NETWORK_TOLERANCE,
    TOLERANCES,
    family_channels,
    family_error,
    network_errors,
)

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("needs_fused_norm")]


def test_the_kernels_run_here(device: torch.device) -> None:
    assert find_fusion_problem(device) is None


@pytest.mark.parametrize("case", NETWORK_CASES)
def test_networks_train_as_in_float64(case: str, device: torch.device) -> None:
    result = network_errors(case, device.type)
    assert result["worst"] < NETWORK_TOLERANCE, result
    assert result["calls"] == (2 if case in ("checkpointing", "accumulation") else 1), result


@pytest.mark.parametrize("channels", family_channels())
def test_every_batch_norm_of_the_family_is_that_of_float64_also_for_views(channels: int, device: torch.device) -> None:
    assert family_error(channels, device.type) < TOLERANCES["float32"]
