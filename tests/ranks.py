"""Several ranks on one machine, as torchrun would start them: `run_ranks` runs a function in each of them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
SECONDS = 600.0  # a rank that says nothing for so long hangs, on however slow a machine


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def preload() -> None:
    """Ranks are forked from a process that has imported what they need, also what DistributedDataParallel imports when made."""
    CONTEXT.set_forkserver_preload(["rank_work", "muybridge.training.fit", "muybridge.loading.loader", "torch._dynamo"])


def run_ranks(world_size: int, function: Callable[..., Any], *arguments: Any, errors: Path | None = None) -> list[Any]:
    """`function(*arguments)` in every rank; its results, or the exceptions' types and sentences, in order of ranks.

    `errors`: a file that gets the ranks' standard error.
    """
    with started_ranks(world_size, function, *arguments, errors=errors) as ranks:
        return [rank.result() for rank in ranks]


class Rank:
    """A process that will have a result, or be killed."""

    def __init__(self, process: Any, end: Connection) -> None:
        self.kill, self.join, self.is_alive = process.kill, process.join, process.is_alive
        self._process, self._end = process, end

    @property
    def exitcode(self) -> int | None:
        """None while it runs, -9 where it was killed."""
        return self._process.exitcode

    def result(self) -> Any:
        """What the function returned, or the exception's type and sentence."""
        assert self._end.poll(SECONDS), "a rank hangs"
        try:
            return pickle.loads(self._end.recv_bytes())  # as bytes: tensors would travel as open files
        except EOFError:
            return ("died", "")


@contextmanager
def started_ranks(
    world_size: int, function: Callable[..., Any], *arguments: Any, errors: Path | None = None
) -> Iterator[list[Rank]]:
    """The ranks while they run; at the end those that still do are killed."""
    preload()
    port, ranks = free_port(), []
    try:
        for number in range(world_size):
            ours, theirs = CONTEXT.Pipe(duplex=False)
            process = CONTEXT.Process(target=_one, args=(theirs, number, world_size, port, function, arguments, errors))
            process.start()
            theirs.close()
            ranks.append(Rank(process, ours))
        yield ranks
    finally:
        for rank in ranks:
            rank.join(5)
            if rank.is_alive():
                rank.kill()
                rank.join()


def _one(
    end: Connection,
    rank: int,
    world_size: int,
    port: int,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    errors: Path | None,
) -> None:
    if errors:
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
        LOCAL_WORLD_SIZE=str(world_size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    try:
        end.send_bytes(pickle.dumps(function(*arguments)))
    except BaseException as error:  # noqa: BLE001 - whatever ended the rank is its answer
        if os.environ.get("SHOW_RANKS"):
            traceback.print_exc()
        end.send_bytes(pickle.dumps((type(error).__name__, str(error))))
    end.close()
