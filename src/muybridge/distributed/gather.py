"""Score rows of all ranks gathered on rank 0, in manifest order.

Ranks take batches in turn, so every round has one batch per rank, and the rows of a round in rank order are in manifest
order. No batch is scored twice or padded. Rank 0 holds one round in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from muybridge.distributed.process_group import ProcessGroup
from muybridge.distributed.stop import StopFlag

T = TypeVar("T")


def gather_rounds(
    own_batches: Iterator[T], num_batches: int, process_group: ProcessGroup
) -> Iterator[tuple[int, list[T]]]:
    """Yields, per round, the number of batches done over all ranks and the round's rows (on rank 0; elsewhere empty)."""
    world_size = process_group.world_size
    for first in range(0, num_batches, world_size):
        # The last round may be shorter than the number of ranks: those without a batch gather None.
        gathered = process_group.gather_to_rank0(next(own_batches, None))
        yield min(num_batches, first + world_size), [rows for rows in gathered if rows is not None]


def gather_stop_signal(stop: StopFlag, process_group: ProcessGroup) -> int:
    """The signal that any rank was asked to stop by, else 0; all ranks get the same answer, and so stop together."""
    rows = process_group.all_gather_floats([stop.signal_number or 0])
    return int(max(row[0] for row in rows))
