"""Several ranks on one machine, as torchrun would start them: `run_ranks` runs a function in each of them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
SECONDS = 120.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_ranks(world_size: int, function: Callable[..., Any], *arguments: Any, errors: Path | None = None) -> list[Any]:
    """`function(*arguments)` in every rank; its results, or the exceptions' types and sentences, in order of ranks.

    `errors`: a file that gets the ranks' standard error.
    """
    CONTEXT.set_forkserver_preload(["muybridge.training.fit", "muybridge.data.loader"])
    port, processes, ends = free_port(), [], []
    for rank in range(world_size):
        ours, theirs = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=_one, args=(theirs, rank, world_size, port, function, arguments, errors))
        process.start()
        theirs.close()
        processes.append(process)
        ends.append(ours)
    results: list[Any] = []
    try:
        for end in ends:
            assert end.poll(SECONDS), "a rank hangs"
            try:
                results.append(pickle.loads(end.recv_bytes()))  # as bytes: tensors would travel as open files
            except EOFError:
                results.append(("died", ""))
    finally:
        for process in processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
    return results


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
