"""Workers that are lost: at any moment, the reader hears of it and of what they read."""

import os
import resource
import signal
import threading
import time

import pytest
from torch.utils.data import BatchSampler, SequentialSampler

from muybridge.loading.datasets import VideoDataset
from muybridge.loading.workers import WorkerKilled, load_batches
from muybridge.settings import LoadingSettings

PIPE_OVERFLOW = 8 << 20  # bytes: more than a pipe holds, so the worker is still writing while it reads the next item


class NoReader:
    def initialize_worker(self) -> None:
        """Nothing is opened."""


class DeadlyItems(VideoDataset[bytes]):
    """Item `deadly` kills its worker within the message that holds the item before it."""

    def __init__(self, deadly: int) -> None:
        self.deadly = deadly
        self.reader = NoReader()  # type: ignore[assignment]

    def __len__(self) -> int:
        return 6

    def __getitem__(self, item: int) -> bytes:
        if item == self.deadly:
            time.sleep(0.2)  # until the writing of the last item has begun
            os.kill(os.getpid(), signal.SIGKILL)
        return bytes(PIPE_OVERFLOW)

    def get_video(self, item: int) -> str:
        return f"video {item}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_killed_within_a_message(workers: int) -> None:
    deadly = 2 * workers  # the third item of the first worker
    dataset = DeadlyItems(deadly)
    sampler = BatchSampler(SequentialSampler(range(len(dataset))), 1, drop_last=False)
    loading = LoadingSettings(workers=workers, prefetch=2)
    batches = load_batches(dataset, sampler, list, loading, pin_memory=False)
    with pytest.raises(WorkerKilled, match=f"while it read video {deadly}") as killed:
        for _ in batches:
            time.sleep(1)  # a reader slower than its workers
    assert killed.value.items == (deadly,)


@pytest.mark.timeout(300)
def test_reading_that_is_left_ends_its_workers_and_their_watcher() -> None:
    """As a run does that is stopped: what is left until Python ends could abort it, and the exit code would be another."""
    sampler = BatchSampler(SequentialSampler(range(6)), 1, drop_last=False)
    others = set(threading.enumerate())
    batches = load_batches(DeadlyItems(-1), sampler, list, LoadingSettings(workers=1, prefetch=2), pin_memory=False)
    next(batches)
    (watcher,) = [thread for thread in set(threading.enumerate()) - others if thread.name == "workers"]
    batches.close()  # type: ignore[attr-defined]  # a generator
    watcher.join(60)
    assert not watcher.is_alive()


class UnsendableItems(DeadlyItems):
    """Items that cannot be written into the pipe, as tensors where /dev/shm is full."""

    def __getitem__(self, item: int) -> bytes:
        return Unsendable()  # type: ignore[return-value]


class Unsendable:
    def __reduce__(self) -> tuple[type, tuple[str]]:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("num_bytes", "cause"),
    [
        (resource.RLIM_INFINITY, "because memory ran out; lower"),
        (
            1 << 40,
            "because memory ran out, or a batch takes more than the 1,099,511,627,776 bytes that a file may have",
        ),
    ],
)
def test_a_batch_that_cannot_be_handed_over_ends_its_worker(
    num_bytes: int, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (num_bytes, num_bytes))
    sampler = BatchSampler(SequentialSampler(range(6)), 1, drop_last=False)
    batches = load_batches(UnsendableItems(-1), sampler, list, LoadingSettings(workers=1), pin_memory=False)
    with pytest.raises(WorkerKilled, match=f"a data worker was killed.* {cause}"):
        next(batches)
