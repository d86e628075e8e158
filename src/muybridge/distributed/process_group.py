"""The process group of a torchrun job: joining it, and its collectives.

Input: torchrun's environment. Output: `ProcessGroup`, whose collectives also work in a single process, so callers need no
second code path. Numbers and objects are exchanged over gloo on the CPU; gradients by DistributedDataParallel, over NCCL on
GPUs. Whatever decides what a rank does next (a non-finite loss, too many failures, a signal) is gathered first, so that all
ranks do the same.
"""

from __future__ import annotations

import datetime
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from muybridge.distributed.rank import Rank, current_rank, get_num_restarts
from muybridge.distributed.watchdog import Watchdog

T = TypeVar("T")
# The watchdog ends a rank that waits too long, and names the phase. This only backs it up.
COLLECTIVE_TIMEOUT = datetime.timedelta(hours=12)
GLOO_SECONDS = 0.2


@dataclass(frozen=True)
class ProcessGroup:
    """The ranks of a run, seen from one of them. Every method is a collective: all ranks must call it, in the same order."""

    rank: Rank = field(default_factory=Rank)

    @property
    def is_rank0(self) -> bool:
        """Whether this rank writes files and prints."""
        return self.rank.is_rank0

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.rank.world_size

    def all_gather_floats(self, values: Sequence[float]) -> list[list[float]]:
        """The `values` of every rank, one row per rank, on all ranks. Every rank must pass as many values."""
        own = torch.tensor(values, dtype=torch.float64)
        if self.world_size == 1:
            return [own.tolist()]
        rows = [torch.empty_like(own) for _ in range(self.world_size)]
        dist.all_gather(rows, own)
        return [row.tolist() for row in rows]

    def all_gather_object(self, value: T) -> list[T]:
        """A small object of every rank, in rank order, on all ranks."""
        if self.world_size == 1:
            return [value]
        gathered: list[T | None] = [None] * self.world_size
        dist.all_gather_object(gathered, value)
        return gathered  # type: ignore[return-value]

    def gather_to_rank0(self, value: T) -> list[T]:
        """An object of every rank, in rank order, on rank 0; an empty list on the other ranks."""
        if self.world_size == 1:
            return [value]
        gathered: list[T | None] | None = [None] * self.world_size if self.is_rank0 else None
        dist.gather_object(value, gathered, dst=0)
        return gathered or []  # type: ignore[return-value]

    def broadcast_from_rank0(self, value: T) -> T:
        """The object of rank 0, on all ranks."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def broadcast_buffers(self, network: nn.Module) -> None:
        """Copies rank 0's batch-norm statistics to all ranks, so that all evaluate the same network."""
        if self.world_size > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, src=0)


@contextmanager
def join_process_group(device: torch.device, timeout_minutes: float = 30.0) -> Iterator[ProcessGroup]:
    """Joins torchrun's process group for the duration of the block; without torchrun, a group of this process alone.

    Raises ValueError where the other ranks cannot be found. After `timeout_minutes` of waiting the process ends.
    """
    rank = current_rank()
    if rank.world_size == 1:
        yield ProcessGroup(rank)
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        with (
            Watchdog(rank) as watchdog,
            watchdog.limit_phase("waiting for the other ranks", timeout_minutes, "timeouts.start_minutes"),
        ):
            store, rank_index, world_size = next(rendezvous("env://", timeout=COLLECTIVE_TIMEOUT))
            # Without --standalone torchrun keeps one store over its restarts, with the addresses of ranks that are gone.
            store = PrefixStore(f"attempt {get_num_restarts()}", store)
            dist.init_process_group(
                backend, store=store, rank=rank_index, world_size=world_size, timeout=COLLECTIVE_TIMEOUT
            )
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"the other ranks cannot be found from {socket.gethostname()} ({str(error).splitlines()[0]}); "
            "start every node with the same torchrun line"
        ) from error
    yield ProcessGroup(rank)
    # Gloo's threads take the GIL to drop the tensors of the last collective. DistributedDataParallel's destructor, perhaps the
    # next thing that happens, waits for those threads and keeps the GIL (pytorch issue 56297): so they go first.
    time.sleep(GLOO_SECONDS)
    # Not after an error: other ranks may be inside a collective, and the end of this process is what stops them.
    dist.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """The GPU of this rank where `device` is `cuda` under torchrun, else `device`.

    Raises ValueError where a machine has fewer GPUs than ranks.
    """
    rank = current_rank()
    if device.type != "cuda" or rank.world_size == 1:
        return device
    if rank.local_rank >= torch.cuda.device_count():
        raise ValueError(
            f"rank {rank.rank} is number {rank.local_rank + 1} on {socket.gethostname()}, which has "
            f"{torch.cuda.device_count()} GPUs; start torchrun with --nproc-per-node {torch.cuda.device_count()}"
        )
    gpu = torch.device("cuda", rank.local_rank)
    torch.cuda.set_device(gpu)
    return gpu
