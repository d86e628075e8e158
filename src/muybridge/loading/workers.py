"""Worker processes that read a dataset, and an error that names the video if one of them is killed.

Workers come from a fork server that has opened nothing: no decoder and no file handle crosses a fork.
"""

from __future__ import annotations

import multiprocessing.connection
import multiprocessing.queues
import os
import re
import resource
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from muybridge.distributed.fork_server import begin_worker, create_fork_server_context
from muybridge.distributed.rank import resolve_num_workers
from muybridge.loading.datasets import VideoDataset
from muybridge.memory import declare_reader_process, keep_freed_memory
from muybridge.prepared.object_store import ObjectStoreError
from muybridge.settings import LoadingSettings
from muybridge.terminal import print_line

Item = TypeVar("Item")
Batch = TypeVar("Batch")


class WorkerKilled(RuntimeError):
    """A worker process ended without being asked to. `items` are those of the dataset that it was reading, as far as known."""

    def __init__(self, message: str, items: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.items = tuple(items)


def load_batches(
    dataset: VideoDataset[Item],
    sampler: Sampler[list[int]],
    collate: Callable[[Sequence[Item]], Batch],
    loading: LoadingSettings,
    *,
    pin_memory: bool,
) -> Iterator[Batch]:
    """The batches of `sampler` in order, read by `loading.workers` processes, or by this one if that is 0.

    Raises WorkerKilled if a worker is lost; errors of the dataset itself keep their type.
    """
    num_workers = resolve_num_workers(loading.workers)
    if not num_workers:
        yield from DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, pin_memory=pin_memory)
        return
    tracked_dataset = _TrackedDataset(dataset, num_workers)
    lost_processes: list[int] = []
    try:
        with warnings.catch_warnings():
            # torch warns if there are more workers than cores, which the user may have asked for
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
            batches: Any = iter(
                DataLoader(
                    tracked_dataset,
                    batch_sampler=sampler,
                    collate_fn=collate,
                    num_workers=num_workers,
                    multiprocessing_context=create_fork_server_context(__name__),  # with torch and PyAV
                    prefetch_factor=loading.prefetch,
                    pin_memory=pin_memory,
                    worker_init_fn=_initialize_worker,
                )
            )
        # Without the iterator itself: a thread keeps its arguments, so an iterator that is left would live until the
        # interpreter exits, and a thread that frees tensors at that moment aborts the process (pytorch issue 38228).
        watched = (batches._workers, batches._workers_done_event, batches._worker_result_queue)
        threading.Thread(target=_watch_workers, args=(*watched, lost_processes), name="workers", daemon=True).start()
        yield from batches
    except ObjectStoreError as error:
        message = str(error).rstrip().rpartition(f"{ObjectStoreError.__name__}: ")[2]  # without the worker's traceback
        raise ObjectStoreError(message) from error
    except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
        if not _is_lost_worker_error(error):
            raise
        lost_processes = lost_processes or list(map(int, re.findall(r"\d+", str(error))))
        raise WorkerKilled(
            f"a data worker was killed{tracked_dataset.describe_videos_in_progress(lost_processes)}, most "
            f"often because {_describe_likely_cause()}; lower loading.workers, "
            f"loading.prefetch or training.batch_size ({type(error).__name__}: {str(error).partition('. ')[0]})",
            tracked_dataset.find_items_in_progress(lost_processes),
        ) from error


def _describe_likely_cause() -> str:
    """Batches are handed over in shared memory, whose files are limited as any others."""
    num_bytes, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if num_bytes == resource.RLIM_INFINITY:
        return "memory ran out"
    return f"memory ran out, or a batch takes more than the {num_bytes:,} bytes that a file may have (`ulimit -f`)"


def _watch_workers(workers: Sequence[Any], finished: Any, results: Any, lost_processes: list[int]) -> None:
    """Ends the reading from the workers of torch's DataLoader as soon as one of them is lost, unless they have `finished`.

    All workers write into one pipe. One that is killed within a message leaves its reader waiting for the rest for ever, and
    torch sees neither that nor, since workers are children of the fork server, the signal. So the other workers are ended,
    and this process's own end of the pipe leads elsewhere: the reader meets the end of the file.
    """
    first_ended = multiprocessing.connection.wait([worker.sentinel for worker in workers])
    if finished.is_set():
        return
    lost_processes += [worker.pid for worker in workers if worker.sentinel in first_ended]
    for worker in workers:
        worker.kill()
    with Path(os.devnull).open("wb") as nowhere, suppress(OSError):  # closed in the meantime
        os.dup2(nowhere.fileno(), results._writer.fileno())


class _TrackedDataset(Dataset[Item]):
    """A dataset whose workers record what they are reading, in shared memory that outlives them.

    `worker_items` int64 (workers, 2): process id and item of each worker; item -1 between two items.
    """

    def __init__(self, dataset: VideoDataset[Item], num_workers: int) -> None:
        self.dataset = dataset
        self.worker_items: Tensor = torch.full((num_workers, 2), -1).share_memory_()  # type: ignore[no-untyped-call]  # torch

    def __getitem__(self, item: int) -> Item:
        row = self.worker_items[get_worker_info().id]  # type: ignore[union-attr]  # only workers come here
        row[0], row[1] = os.getpid(), item
        sample = self.dataset[item]
        row[1] = -1
        return sample

    def describe_videos_in_progress(self, processes: Sequence[int]) -> str:
        """The videos that the workers with these process ids were reading; those of all workers if none of them was."""
        items = self.find_items_in_progress(processes) or [item for _, item in self.worker_items.tolist() if item >= 0]
        videos = [self.dataset.get_video(item) for item in items]
        return f" while it read {' or '.join(videos)}" if videos else ""

    def find_items_in_progress(self, processes: Sequence[int]) -> list[int]:
        """What the workers with these process ids were reading."""
        return [item for process, item in self.worker_items.tolist() if item >= 0 and process in processes]


def _is_lost_worker_error(error: Exception) -> bool:
    """Whether torch lost a worker, or a connection to one broke. The message of a dataset's own error begins with "Caught"."""
    if str(error).startswith("Caught "):
        return False
    return not isinstance(error, RuntimeError) or str(error).startswith("DataLoader worker")


def _initialize_worker(worker_id: int) -> None:
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_worker)  # type: ignore[attr-defined]  # Python's hook
    begin_worker()  # torch watches the system parent, which is the fork server and outlives the training process
    declare_reader_process()
    keep_freed_memory(32 << 20)  # the next clip reuses the memory of the last one: a fifth more clips a second
    worker_info: Any = get_worker_info()  # torch declares no type for its dataset
    worker_info.dataset.dataset.reader.initialize_worker()


def _end_worker(error: Exception, batch: object) -> None:
    """Ends this worker where it cannot hand over a batch, most often because /dev/shm is full: Python would print a traceback
    and drop the batch, and the reader would wait for it for ever."""
    if not isinstance(error, BrokenPipeError):  # else the reader has ended
        print_line(f"a data worker cannot hand over a batch ({error})", error=True)
    os._exit(1)
