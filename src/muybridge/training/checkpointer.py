"""Checkpoints written in the background: training waits for the copy to CPU memory, not for the disk.

Only rank 0 writes, and one save at a time: a second save waits for the first. An error of a write is raised by the next call.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch
from torch import Tensor

from muybridge.models.heads import Head
from muybridge.training.checkpoint import Snapshot, TrainState, take_snapshot, write_checkpoint
from muybridge.training.job import TrainingJob
from muybridge.training.step import INSTABILITY_REMEDY
from muybridge.weights.card import build_network, save


class AsyncCheckpointer:
    """Saves checkpoints while training continues. Leaving its `with` block waits until the last one is on disk."""

    def __init__(self, job: TrainingJob, optimizer: torch.optim.Optimizer) -> None:
        self._job = job
        self._optimizer = optimizer
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending_write: Future[None] | None = None

    def __enter__(self) -> AsyncCheckpointer:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.wait()
        finally:
            self._pool.shutdown()

    def save(self, train_state: TrainState) -> None:
        """Starts writing a checkpoint and last.safetensors. Raises FloatingPointError for weights that are not finite."""
        if not self._job.process_group.is_rank0:
            return
        self.wait()
        if not all(bool(tensor.isfinite().all()) for tensor in self._job.network.state_dict().values()):
            raise FloatingPointError(f"the weights are not finite after step {train_state.step}; {INSTABILITY_REMEDY}")
        average = self._job.weight_average.tensors if self._job.weight_average else None
        snapshot = take_snapshot(self._job.network, self._optimizer, train_state, average)
        self._pending_write = self._pool.submit(self._write, snapshot)

    def wait(self) -> None:
        """Waits until the last save is on disk, and raises its error, if any."""
        pending_write, self._pending_write = self._pending_write, None
        if pending_write is not None:
            pending_write.result()

    def raise_if_failed(self) -> None:
        """Raises the error of the last save, if it has failed already."""
        if self._pending_write is not None and self._pending_write.done():
            self.wait()

    def _write(self, snapshot: Snapshot) -> None:
        checkpoint_settings = self._job.settings.checkpoints
        # The weights first: a run killed in between writes both again, but one with its last checkpoint has no step left.
        save_weights(self._job, "last.safetensors", snapshot.average or snapshot.weights)
        write_checkpoint(
            self._job.folder / "checkpoints",
            snapshot,
            keep=checkpoint_settings.keep,
            keep_best=checkpoint_settings.keep_best,
        )


def save_weights(
    job: TrainingJob, file_name: str, weights: Mapping[str, Tensor] | None = None, *, head: Head | None = None
) -> None:
    """Writes `weights`, by default the current ones, with their card into the run folder.

    `head` is that of the job unless given.
    """
    settings = job.settings
    start = f", starting from {settings.init}" if settings.init else ""
    save(
        job.network if weights is None else build_network(job.network.specification, weights),
        job.folder / file_name,
        classes=job.classes,
        preprocessing=job.preprocessing,
        source=f"trained by muybridge on {settings.data}{start}",
        licence=job.licence,
        head=head or job.head,
    )
