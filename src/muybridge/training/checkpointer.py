"""Checkpoints and weights of a run, written in the background: training waits for the copy, not for the disk.

Only rank 0 writes. One write at a time; a second save waits for the first. What goes wrong while writing is raised by the
next save, or at the end: nothing is lost silently.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch

from muybridge.training.checkpoint import Progress, Snapshot, snapshot, write_checkpoint
from muybridge.training.job import Job
from muybridge.training.step import CALM_DOWN
from muybridge.weights.card import network_of, save


class Keeper:
    """Saves a run while it goes on. As a context it ends when all is on disk."""

    def __init__(self, job: Job, optimizer: torch.optim.Optimizer) -> None:
        self._job = job
        self._optimizer = optimizer
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def __enter__(self) -> Keeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        finally:
            self._pool.shutdown()

    def save(self, progress: Progress) -> None:
        """A checkpoint to go on from, and last.safetensors to use. Neither ever holds weights that are not finite."""
        if not self._job.ranks.is_first:
            return
        self.wait()
        if not all(bool(tensor.isfinite().all()) for tensor in self._job.network.state_dict().values()):
            raise FloatingPointError(f"the weights are not finite after step {progress.step}; {CALM_DOWN}")
        self._writing = self._pool.submit(self._write, snapshot(self._job.network, self._optimizer, progress))

    def wait(self) -> None:
        """Until what was saved is on disk; raises what kept it from getting there."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def raise_early(self) -> None:
        """Raises what has kept the last save from the disk, if it is known already."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def _write(self, taken: Snapshot) -> None:
        kept = self._job.settings.checkpoints
        # First: whoever dies in between writes them again, but a run whose last checkpoint is there has no step left to.
        save_weights(self._job, "last.safetensors", taken)
        write_checkpoint(self._job.folder / "checkpoints", taken, keep=kept.keep, keep_best=kept.keep_best)


def save_weights(job: Job, name: str, taken: Snapshot | None = None) -> None:
    """The network with its card, as it is or as it was in a snapshot."""
    save(
        job.network if taken is None else network_of(job.network.specification, taken.weights),
        job.folder / name,
        classes=job.train.classes,
        preprocessing=job.preprocessing,
        source=f"trained by muybridge on {job.settings.data}",
    )
