"""The rank of this process and the size of its job, from torchrun's environment variables. Imports no torch.

torch.distributed is initialized in process_group.py.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Rank:
    """One process of a job."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_rank0(self) -> bool:
        """Whether this rank writes files and prints."""
        return self.rank == 0


def current_rank() -> Rank:
    """The rank that torchrun gave this process; without torchrun, the only rank of a job of one."""
    return Rank(
        rank=int(os.environ.get("RANK", "0")),
        world_size=int(os.environ.get("WORLD_SIZE", "1")),
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
    )


def get_num_restarts() -> int:
    """How often torchrun has restarted this job after a failure (`--max-restarts`)."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def resolve_num_workers(num_workers: int | None) -> int:
    """The number of worker processes: as set, else one per available core, at most 16, shared by the local ranks."""
    if num_workers is not None:
        return num_workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(16, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
