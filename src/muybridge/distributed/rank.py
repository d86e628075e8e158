"""Who we are among processes: rank and world size, worker count, and how a run is asked to stop.

Reads torchrun's environment variables only; torch.distributed itself is started in distributed/process_group.py.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Rank:
    """This process among the ranks of one job."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_rank0(self) -> bool:
        """Whether this rank writes and prints."""
        return self.rank == 0


def current_rank() -> Rank:
    """From torchrun's environment; alone without it."""
    return Rank(
        rank=int(os.environ.get("RANK", "0")),
        world_size=int(os.environ.get("WORLD_SIZE", "1")),
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
    )


def get_num_restarts() -> int:
    """How often torchrun has started this job again after a failure (`--max-restarts`): the run then goes on."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def resolve_num_workers(num_workers: int | None) -> int:
    """The worker processes to start: as set, else one a core this process may use, at most 16, shared by local ranks."""
    if num_workers is not None:
        return num_workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(16, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
