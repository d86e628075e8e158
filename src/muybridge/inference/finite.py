"""Refuse numbers that are not finite, or too large, on their way through a network made for inference.

Input: clips before they enter a folded network, and outputs when they are made. Each check is one pass; for ten clips of
3x16x112x112 it takes a ten-thousandth of the time of R(2+1)D-18. To raise an error at once, as `check_finite_clips` does, the
CPU has to wait for the GPU. Where the outputs are fetched anyway, unusable clips make them NaN on the device
(`find_unusable`, `invalidate`), and the fetched numbers are checked with the clips (`check_finite_outputs`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from muybridge.bounds import LARGEST_NUMBER
from muybridge.weights.tensor_checks import describe_extremes


def check_finite_clips(clips_ncthw: Tensor) -> None:
    """Raise ValueError for clips with NaN, infinity or huge numbers, which ReLU inside a kernel may turn into 0.

    Not while torch traces or compiles, where a tensor has no values yet.
    """
    if not torch.compiler.is_compiling() and (problem := describe_extremes(clips_ncthw)):
        problem = problem.replace("holds", "hold", 1)
        raise ValueError(f"the clips {problem}, so no answer is given; check their normalisation")


def find_unusable(clips_ncthw: Tensor) -> Tensor:
    """Whether clips hold NaN, infinity or huge numbers: a bool tensor () on their device, which the CPU does not wait for."""
    if clips_ncthw.numel() == 0:
        return torch.zeros((), dtype=torch.bool, device=clips_ncthw.device)
    low, high = torch.aminmax(clips_ncthw)
    return ~((low >= -LARGEST_NUMBER) & (high <= LARGEST_NUMBER))  # a comparison with NaN is false


def invalidate(outputs: Tensor, is_unusable: Tensor) -> Tensor:
    """`outputs`, or NaN where `is_unusable` (), without waiting for the device."""
    return outputs.masked_fill(is_unusable, torch.nan)


def check_finite_outputs(outputs: Tensor, kind: str, clips_ncthw: Tensor | None = None) -> Tensor:
    """Return `outputs`. Raises ValueError if they are not finite; `kind` says what they are: logits or features.

    The error is that of `clips_ncthw`, where these are unusable.
    """
    if not torch.compiler.is_compiling() and not bool(torch.isfinite(outputs).all()):
        if clips_ncthw is not None:
            check_finite_clips(clips_ncthw)
        raise ValueError(
            f"the {kind} are not finite, so no answer is given; the weights or the clips are too large, or damaged"
        )
    return outputs
