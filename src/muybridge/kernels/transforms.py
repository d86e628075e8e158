"""What own autograd functions need under torch.func: whether a transform is active, and a rule for vmap."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def is_transformed() -> bool:
    """Whether this code runs under a transform of torch.func (grad, vmap, jacrev, ...)."""
    active: bool = torch._C._are_functorch_transforms_active()
    return active


def map_over_batch(
    convolve: Callable[[Tensor, Tensor], Tensor],
    batch_size: int,
    in_dims: tuple[int | None, ...],
    maps: Tensor,
    weight: Tensor,
) -> tuple[Tensor, int]:
    """`convolve(maps, weight)` for every element of a batch: (outputs, their batch dimension).

    `in_dims` starts with the batch dimensions of maps and weight, None where they have none. Maps with one weight are one
    convolution of more clips; every other weight is a convolution of its own.
    """
    maps_dim, weight_dim = in_dims[:2]
    if weight_dim is None:
        assert maps_dim is not None, "something is mapped"
        moved = maps.movedim(maps_dim, 0)
        flat = moved.flatten(0, 1)
        flat = flat.contiguous(memory_format=torch.channels_last if flat.dim() == 4 else torch.channels_last_3d)
        return torch.unflatten(convolve(flat, weight), 0, (batch_size, moved.shape[1])), 0
    outputs = [
        convolve(maps if maps_dim is None else maps.select(maps_dim, index), weight.select(weight_dim, index))
        for index in range(batch_size)
    ]
    return torch.stack(outputs), 0
