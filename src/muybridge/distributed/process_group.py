"""Many processes, one run: how the ranks of a torchrun job meet, and what they tell each other.

Enter: torchrun's environment. Leave: `Ranks`, with which the training loop reads the same alone and among many. Numbers and
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

from muybridge.distributed.rank import Rank, current_rank, num_restarts
from muybridge.distributed.watchdog import Watch

T = TypeVar("T")
LAST_RESORT = datetime.timedelta(
    hours=12
)  # phases.py ends what waits for too long, and says where; this only backs it up


@dataclass(frozen=True)
class Ranks:
    """This process among the ranks of a run. Every method is a collective: all ranks must come to it, in order."""

    place: Rank = field(default_factory=Rank)

    @property
    def is_first(self) -> bool:
        """Whether this rank writes and prints."""
        return self.place.is_first

    @property
    def world_size(self) -> int:
        """How many ranks there are."""
        return self.place.world_size

    def tables(self, values: Sequence[float]) -> list[list[float]]:
        """Everyone's `values`, a row a rank, the same on all; as many values on every rank."""
        own = torch.tensor(values, dtype=torch.float64)
        if self.world_size == 1:
            return [own.tolist()]
        rows = [torch.empty_like(own) for _ in range(self.world_size)]
        dist.all_gather(rows, own)
        return [row.tolist() for row in rows]

    def everyones(self, value: T) -> list[T]:
        """A small object of every rank, in order of ranks."""
        if self.world_size == 1:
            return [value]
        found: list[T | None] = [None] * self.world_size
        dist.all_gather_object(found, value)
        return found  # type: ignore[return-value]

    def first_ones(self, value: T) -> T:
        """What rank 0 has, on all ranks."""
        if self.world_size == 1:
            return value
        found = [value]
        dist.broadcast_object_list(found, src=0)
        return found[0]

    def share_buffers(self, network: nn.Module) -> None:
        """Batch-norm statistics of rank 0 on all ranks: before the network is evaluated by all."""
        if self.world_size > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, src=0)


@contextmanager
def meeting(device: torch.device, minutes: float = 30.0) -> Iterator[Ranks]:
    """Joins torchrun's other processes while inside; alone without torchrun. ValueError where they cannot be found.

    `minutes`: how long to wait for them.
    """
    here = current_rank()
    if here.world_size == 1:
        yield Ranks(here)
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        with Watch(here) as watch, watch.phase("meeting the other ranks", minutes, "timeouts.start_minutes"):
            store, rank, world_size = next(rendezvous("env://", timeout=LAST_RESORT))
            # Without --standalone torchrun keeps one store over its restarts, with the addresses of ranks that are gone.
            store = PrefixStore(f"attempt {num_restarts()}", store)
            dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=LAST_RESORT)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"the other ranks cannot be found from {socket.gethostname()} ({str(error).splitlines()[0]}); "
            "start every node with the same torchrun line"
        ) from error
    yield Ranks(here)
    dist.destroy_process_group()  # not after an error: the others may be waiting, and the end of this process tells them


def own_device(device: torch.device) -> torch.device:
    """Under torchrun, `cuda` is the GPU of this rank; ValueError where there are more ranks than GPUs on a machine."""
    here = current_rank()
    if device.type != "cuda" or here.world_size == 1:
        return device
    if here.local_rank >= torch.cuda.device_count():
        raise ValueError(
            f"rank {here.rank} is number {here.local_rank + 1} on {socket.gethostname()}, which has "
            f"{torch.cuda.device_count()} GPUs; start torchrun with --nproc-per-node {torch.cuda.device_count()}"
        )
    chosen = torch.device("cuda", here.local_rank)
    torch.cuda.set_device(chosen)
    return chosen
