"""Many processes, one run: how the ranks of a torchrun job meet, and what they tell each other.

Enter: torchrun's environment. Leave: `ProcessGroup`, with which the training loop reads the same alone and among many.
Numbers and
objects travel by gloo between processors; gradients by DistributedDataParallel, on GPUs over NCCL. Whatever decides what a
rank does next (a loss that is not finite, too many failures, a signal) is first known to all, so that all do the same.
"""

from __future__ import annotations

import datetime
import socket
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
COLLECTIVE_TIMEOUT = datetime.timedelta(
    hours=12
)  # phases.py ends what waits for too long, and says where; this only backs it up


@dataclass(frozen=True)
class ProcessGroup:
    """This process among the ranks of a run. Every method is a collective: all ranks must come to it, in order."""

    rank: Rank = field(default_factory=Rank)

    @property
    def is_rank0(self) -> bool:
        """Whether this rank writes and prints."""
        return self.rank.is_rank0

    @property
    def world_size(self) -> int:
        """How many ranks there are."""
        return self.rank.world_size

    def all_gather_floats(self, values: Sequence[float]) -> list[list[float]]:
        """Everyone's `values`, a row a rank, the same on all; as many values on every rank."""
        own = torch.tensor(values, dtype=torch.float64)
        if self.world_size == 1:
            return [own.tolist()]
        rows = [torch.empty_like(own) for _ in range(self.world_size)]
        dist.all_gather(rows, own)
        return [row.tolist() for row in rows]

    def all_gather_object(self, value: T) -> list[T]:
        """A small object of every rank, in order of ranks."""
        if self.world_size == 1:
            return [value]
        gathered: list[T | None] = [None] * self.world_size
        dist.all_gather_object(gathered, value)
        return gathered  # type: ignore[return-value]

    def broadcast_from_rank0(self, value: T) -> T:
        """What rank 0 has, on all ranks."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def broadcast_buffers(self, network: nn.Module) -> None:
        """Batch-norm statistics of rank 0 on all ranks: before the network is evaluated by all."""
        if self.world_size > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, src=0)


@contextmanager
def join_process_group(device: torch.device, timeout_minutes: float = 30.0) -> Iterator[ProcessGroup]:
    """Joins torchrun's other processes while inside; alone without torchrun. ValueError where they cannot be found.

    `minutes`: how long to wait for them.
    """
    this_rank = current_rank()
    if this_rank.world_size == 1:
        yield ProcessGroup(this_rank)
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        with (
            Watchdog(this_rank) as watchdog,
            watchdog.limit_phase("meeting the other ranks", timeout_minutes, "timeouts.start_minutes"),
        ):
            store, rank, world_size = next(rendezvous("env://", timeout=COLLECTIVE_TIMEOUT))
            # Without --standalone torchrun keeps one store over its restarts, with the addresses of ranks that are gone.
            store = PrefixStore(f"attempt {get_num_restarts()}", store)
            dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=COLLECTIVE_TIMEOUT)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"the other ranks cannot be found from {socket.gethostname()} ({str(error).splitlines()[0]}); "
            "start every node with the same torchrun line"
        ) from error
    yield ProcessGroup(this_rank)
    dist.destroy_process_group()  # not after an error: the others may be waiting, and the end of this process tells them


def local_device(device: torch.device) -> torch.device:
    """Under torchrun, `cuda` is the GPU of this rank; ValueError where there are more ranks than GPUs on a machine."""
    this_rank = current_rank()
    if device.type != "cuda" or this_rank.world_size == 1:
        return device
    if this_rank.local_rank >= torch.cuda.device_count():
        raise ValueError(
            f"rank {this_rank.rank} is number {this_rank.local_rank + 1} on {socket.gethostname()}, which has "
            f"{torch.cuda.device_count()} GPUs; start torchrun with --nproc-per-node {torch.cuda.device_count()}"
        )
    gpu = torch.device("cuda", this_rank.local_rank)
    torch.cuda.set_device(gpu)
    return gpu
