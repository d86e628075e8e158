"""Datasets to batches in order: training batches survive killed workers, evaluation batches are whole videos.

Resuming needs only the step, since a batch is a function of seed, step and rank (`draws`, `datasets`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from torch.utils.data import Sampler

from muybridge.loading.datasets import (
    EvaluationBatch,
    EvaluationDataset,
    TrainingBatch,
    TrainingDataset,
    collate_evaluation,
    collate_training,
)
from muybridge.loading.draws import TrainingBatchSampler, VideoBatchSampler
from muybridge.loading.workers import WorkerKilled, load_batches
from muybridge.settings import LoadingSettings


@dataclass(frozen=True)
class _RemainingBatchSampler(Sampler[list[int]]):
    """The batches of a sampler after the first `num_done`."""

    batches: TrainingBatchSampler
    num_done: int

    def __iter__(self) -> Iterator[list[int]]:
        return islice(self.batches, self.num_done, None)

    def __len__(self) -> int:
        return len(self.batches) - self.num_done


def load_training_batches(
    dataset: TrainingDataset,
    sampler: TrainingBatchSampler,
    loading: LoadingSettings,
    *,
    pin_memory: bool,
    on_restart: Callable[[str], None] | None = None,
) -> Iterator[TrainingBatch]:
    """The batches of this rank in order of steps, `sampler.num_micro_batches` a step.

    If a worker is killed, all are restarted at the batch where they were, up to `loading.worker_restarts` times, and
    `on_restart` is called with the reason; after that WorkerKilled is raised. The batches are the same as without a restart.
    """
    num_done = num_restarts = 0
    while num_done < len(sampler):
        remaining = _RemainingBatchSampler(sampler, num_done)
        try:
            for batch in load_batches(dataset, remaining, collate_training, loading, pin_memory=pin_memory):
                yield batch
                num_done += 1
        except WorkerKilled as error:
            num_restarts += 1
            if num_restarts > loading.worker_restarts:
                raise
            if on_restart:
                on_restart(f"{error}; restarting the workers")


def load_evaluation_batches(
    dataset: EvaluationDataset, sampler: VideoBatchSampler, loading: LoadingSettings, *, pin_memory: bool
) -> Iterator[EvaluationBatch]:
    """This rank's batches of whole videos in manifest order."""
    return load_batches(dataset, sampler, collate_evaluation, loading, pin_memory=pin_memory)
