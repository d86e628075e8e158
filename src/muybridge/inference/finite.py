"""Refuse numbers that are not finite, or too large, on their way through a network made for inference.

Input: clips before they enter a folded network, and outputs when they are made. Each check is one pass; for ten clips of
3x16x112x112 it takes a ten-thousandth of the time of R(2+1)D-18.
"""

from __future__ import annotations

import torch
from torch import Tensor

from muybridge.weights.tensor_checks import describe_extremes


def check_finite_clips(clips_ncthw: Tensor) -> None:
    """Raise ValueError for clips with NaN, infinity or huge numbers, which ReLU inside a kernel may turn into 0.

    Not while torch traces or compiles, where a tensor has no values yet.
    """
    if not torch.compiler.is_compiling() and (problem := describe_extremes(clips_ncthw)):
        problem = problem.replace("holds", "hold", 1)
        raise ValueError(f"the clips {problem}, so no answer is given; check their normalisation")


def check_finite_outputs(outputs: Tensor, kind: str) -> Tensor:
    """Return `outputs`. Raises ValueError if they are not finite; `kind` says what they are: logits or features."""
    if not torch.compiler.is_compiling() and not bool(torch.isfinite(outputs).all()):
        raise ValueError(
            f"the {kind} are not finite, so no answer is given; the weights or the clips are too large, or damaged"
        )
    return outputs
