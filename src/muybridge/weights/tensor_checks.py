"""Check that tensors are numbers a network can compute with.

A kernel that applies ReLU itself turns NaN into 0, so a network with one NaN among its weights may give a plausible answer,
and so may one whose products overflow. Weights are therefore checked when they are read, and before a network is folded,
exported or used to score; clips before they enter a folded network; features and logits when they are made
(`muybridge.inference`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from muybridge.bounds import LARGEST_NUMBER

COUNTER = "num_batches_tracked"  # of batch norm; unused at momentum 0.1, absent from some files
VARIANCE = "running_var"
_MAX_LISTED_PROBLEMS = 3  # in a message; a wrong network has hundreds


def describe_extremes(tensor: Tensor) -> str | None:
    """Why the numbers of a tensor are not finite or too large to compute with, as a clause; None if they are neither.

    Floats of a byte or less, with which torch does not compute, are a reason too.
    """
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return None
    if tensor.dtype.itemsize == 1:
        return f"holds {tensor.dtype}, expected floats of 16, 32 or 64 bits"
    low, high = torch.stack(torch.aminmax(tensor)).tolist()  # NaN stays NaN
    if low >= -LARGEST_NUMBER and high <= LARGEST_NUMBER:
        return None
    if not (math.isfinite(low) and math.isfinite(high)):
        return "holds numbers that are not finite"
    return f"holds numbers as large as {max(-low, high):.0e}, expected at most {LARGEST_NUMBER:.0e}"


def _find_unusable(tensors: Mapping[str, Tensor]) -> list[str]:
    """The tensors that cannot be weights and the reason, a clause each: sparse, of another dtype, negative or not finite."""
    problems = ((name, _describe_problem(tensor.detach(), name)) for name, tensor in tensors.items())
    return [f"{name} {problem}" for name, problem in problems if problem is not None]


def check_usable(owner: object, tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError for the tensors of `owner`, a file or a network, that cannot be weights."""
    problems = _find_unusable(tensors)
    if problems:
        raise ValueError(f"{owner} holds tensors that cannot be weights: {format_problems(problems)}")


def check_network(network: nn.Module, name: str) -> None:
    """Raise ValueError for weights and statistics of `network` that are not finite, or too large; `name` is the network's."""
    floats = {key: tensor for key, tensor in network.state_dict().items() if tensor.is_floating_point()}
    check_usable(name, floats)


def _describe_problem(tensor: Tensor, name: str) -> str | None:
    """Why a tensor cannot be a weight, as a clause; None if it can."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
        return f"is stored as {tensor.dtype}, {tensor.layout}, expected a dense tensor of real numbers"
    if tensor.is_floating_point() == name.endswith(COUNTER):
        return f"holds {tensor.dtype}, expected {'integers' if name.endswith(COUNTER) else 'floats'}"
    if problem := describe_extremes(tensor):
        return problem
    if name.endswith(VARIANCE) and bool((tensor < 0).any()):
        return "holds negative variances"
    return None


def format_problems(problems: Sequence[str]) -> str:
    """Join the first problems, and the number of the others."""
    num_hidden = len(problems) - _MAX_LISTED_PROBLEMS
    return "; ".join(problems[:_MAX_LISTED_PROBLEMS]) + (f"; and {num_hidden} more" if num_hidden > 0 else "")
