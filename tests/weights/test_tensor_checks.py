import math

import pytest
import torch
from torch import nn

from muybridge.weights.tensor_checks import check_network, check_usable, describe_extremes, format_problems


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_number_in_any_place_is_noticed(dtype: torch.dtype, value: float) -> None:
    for place in (0, 500, 999):
        tensor = torch.ones(1000, dtype=dtype)
        assert describe_extremes(tensor) is None
        tensor[place] = value
        assert describe_extremes(tensor) == "holds numbers that are not finite"
    tensor[:2] = torch.tensor([math.inf, -math.inf])
    assert describe_extremes(tensor) == "holds numbers that are not finite"


def test_numbers_that_overflow_within_a_layer_are_noticed() -> None:
    for tensor in (torch.tensor([1.0, -2e15]), torch.full((9,), 3e38), torch.tensor([2e15, 0], dtype=torch.bfloat16)):
        assert "expected at most 1e+15" in (describe_extremes(tensor) or "")
    assert describe_extremes(torch.full((1000,), 1e15)) is None
    assert describe_extremes(torch.full((1000,), torch.finfo(torch.float16).max, dtype=torch.float16)) is None
    assert describe_extremes(torch.empty(0)) is None
    assert describe_extremes(torch.arange(3)) is None


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu])
def test_floats_too_short_to_compute_with_are_named(dtype: torch.dtype) -> None:
    assert describe_extremes(torch.ones(3).to(dtype)) == f"holds {dtype}, expected floats of 16, 32 or 64 bits"


def test_each_problem_is_said_with_its_name() -> None:
    check_usable(
        "x", {"a.weight": torch.ones(2), "a.num_batches_tracked": torch.tensor(0), "a.running_var": torch.zeros(2)}
    )
    for name, tensor, sentence in (
        ("a.weight", torch.tensor([math.nan]), "a.weight holds numbers that are not finite"),
        ("a.weight", torch.ones(2).int(), "a.weight holds torch.int32, expected floats"),
        ("a.num_batches_tracked", torch.ones(1), "a.num_batches_tracked holds torch.float32, expected integers"),
        ("a.running_var", torch.tensor([1.0, -1e-6]), "a.running_var holds negative variances"),
        ("a.weight", torch.ones(2).to_sparse(), "a.weight is stored as torch.float32, torch.sparse_coo"),
    ):
        with pytest.raises(ValueError, match=f"x holds tensors that cannot be weights: {sentence}"):
            check_usable("x", {"b": torch.ones(1), name: tensor})


def test_statistics_of_a_network_are_checked_too() -> None:
    network = nn.Sequential(nn.BatchNorm3d(2))
    check_network(network, "net")
    network[0].running_mean[1] = math.inf
    with pytest.raises(ValueError, match=r"net holds .*0\.running_mean holds numbers that are not finite"):
        check_network(network, "net")


def test_a_long_list_is_cut() -> None:
    assert format_problems(["a", "b"]) == "a; b"
    assert format_problems(list("abcdef")) == "a; b; c; and 3 more"
