"""The kernels of fused batch norm on a GPU beside float64 on the CPU."""

from typing import Any

import pytest

from norm_checks import TOLERANCES, cases, errors_of, keeps_nan

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("needs_fused_norm")]


@pytest.mark.parametrize("case", cases(), ids=str)
def test_forward_and_backward_are_those_of_float64(case: dict[str, Any]) -> None:
    errors = errors_of(case, "cuda")
    assert max(errors.values()) < TOLERANCES[case["dtype"]], errors


def test_nan_stays_nan() -> None:
    assert keeps_nan("cuda")
