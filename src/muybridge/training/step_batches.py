"""The batches of a run, step by step: draws -> videos -> clips on this rank's device."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from muybridge.loading.clip_reader import open_clip_reader
from muybridge.loading.datasets import TrainingBatch, TrainingDataset
from muybridge.loading.draws import TrainingBatchSampler
from muybridge.loading.loader import load_training_batches
from muybridge.training.execution import prefetch_to_device
from muybridge.training.job import TrainingJob


class StepBatches(Iterator[list[TrainingBatch]]):
    """This rank's micro-batches of each step from `first_step` on.

    `on_worker_restart` is called with the reason when worker processes were killed and have been restarted.
    """

    def __init__(
        self, job: TrainingJob, first_step: int, *, on_worker_restart: Callable[[str], None] | None = None
    ) -> None:
        settings, manifest = job.settings, job.train_manifest
        self.dataset = TrainingDataset(
            manifest,
            open_clip_reader(manifest.root, job.preprocessing, manifest.time_origin),
            mirror=settings.clips.mirror,
            seed=settings.seed,
            task=settings.training.task,
            balanced=settings.training.draws == "balanced",
            augmentation=settings.training,
        )
        self.sampler = TrainingBatchSampler(
            first_step,
            job.schedule.num_steps,
            settings.training.batch_size,
            job.process_group.rank,
            job.schedule.global_batch,
        )
        batches = load_training_batches(
            self.dataset,
            self.sampler,
            settings.loading,
            pin_memory=job.device.type == "cuda",
            on_restart=on_worker_restart,
        )
        self._batches = prefetch_to_device(batches, job.device)

    def __next__(self) -> list[TrainingBatch]:
        return [next(self._batches) for _ in range(self.sampler.num_micro_batches)]

    def list_videos(self, step: int) -> list[str]:
        """The videos this rank draws in a step."""
        return [self.dataset.get_video(draw) for draw in self.sampler.list_draws(step)]
