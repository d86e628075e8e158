"""Score rows of all ranks on rank 0, in manifest order.

Ranks take batches in turn, so in every round each has one, and a round's rows in order of ranks are in manifest order. No
batch is scored twice or padded; `write_scores` refuses a view that is not there exactly once. Rank 0 holds one round at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch.distributed as dist

from muybridge.distributed.rank import Rank

T = TypeVar("T")


def broadcast_from_rank0(value: T, rank: Rank) -> T:
    """What rank 0 has, on all ranks."""
    if rank.world_size == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def gather_rounds(own_batches: Iterator[T], num_batches: int, rank: Rank) -> Iterator[tuple[int, list[T]]]:
    """For every round how many batches are done by then over all ranks, and on rank 0 the round's rows; elsewhere none."""
    for first in range(0, num_batches, rank.world_size):
        own = next(own_batches, None)
        if rank.world_size == 1:
            collected: list[T | None] = [own]
        else:
            collected = [None] * rank.world_size
            dist.gather_object(own, collected if rank.is_rank0 else None, dst=0)
        num_done = min(num_batches, first + rank.world_size)
        yield num_done, [rows for rows in collected if rows is not None]
