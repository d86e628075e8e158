"""The learning-rate schedule: linear warm-up, then division at set epochs (paper section 4.1; Goyal et al. 2017), or half a
cosine down to 0 (Loshchilov and Hutter, SGDR, 2017).

A pure function of the step, so a resumed run needs nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from muybridge.training_settings import TrainingSettings

BASE_BATCH_SIZE = 32  # the paper's rate is for 32 clips, the batch of one GPU; it scales linearly with the global batch
CLIPS_PER_VIDEO_PER_EPOCH = 4  # the paper's epoch is 1M clips over Kinetics' 240k training videos


@dataclass(frozen=True)
class Schedule:
    """Steps and learning rates of a run. A step is `global_batch` clips over all ranks.

    `next_phase` begins after `num_own_steps`: a run that was extended has a schedule for each phase.
    """

    global_batch: int
    steps_per_epoch: int
    num_own_steps: int
    peak_learning_rate: float
    warmup_steps: float
    decay_steps: tuple[float, ...]
    decay_factor: float
    next_phase: Schedule | None = None
    is_cosine: bool = False

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return self.num_own_steps + (self.next_phase.num_steps if self.next_phase else 0)

    def compute_learning_rate(self, step: int) -> float:
        """The learning rate of step `step`, counted from 0. The last step of warm-up has the peak rate."""
        if self.next_phase and step >= self.num_own_steps:
            return self.next_phase.compute_learning_rate(step - self.num_own_steps)
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps > 0 else 1.0
        return self.peak_learning_rate * warmup * self._compute_decay(step)

    def _compute_decay(self, step: int) -> float:
        if self.is_cosine:
            share = max(0.0, step - self.warmup_steps) / max(1.0, self.num_own_steps - self.warmup_steps)
            return 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))
        return self.decay_factor ** sum(step >= decay for decay in self.decay_steps)

    def compute_epoch(self, step: int) -> float:
        """The number of epochs done before step `step`."""
        return step / self.steps_per_epoch

    @property
    def num_clips(self) -> int:
        """Number of clips drawn in the whole run."""
        return self.num_steps * self.global_batch


def build_schedule(training: TrainingSettings, *, num_videos: int, world_size: int = 1) -> Schedule:
    """The schedule of a run over `num_videos` training videos on `world_size` ranks."""
    global_batch = training.global_batch or training.batch_size * world_size
    clips_per_epoch = training.clips_per_epoch or CLIPS_PER_VIDEO_PER_EPOCH * num_videos
    steps_per_epoch = max(1, round(clips_per_epoch / global_batch))
    return Schedule(
        global_batch=global_batch,
        steps_per_epoch=steps_per_epoch,
        num_own_steps=max(1, round(training.epochs * steps_per_epoch)),
        peak_learning_rate=training.learning_rate * global_batch / BASE_BATCH_SIZE,
        warmup_steps=training.resolved_warmup_epochs * steps_per_epoch,
        decay_steps=tuple(epoch * steps_per_epoch for epoch in training.resolved_decay_epochs),
        decay_factor=training.decay_factor,
        is_cosine=training.schedule == "cosine",
        next_phase=_build_next_phase(training, num_videos=num_videos, world_size=world_size),
    )


def _build_next_phase(training: TrainingSettings, *, num_videos: int, world_size: int) -> Schedule | None:
    """The schedule of the first added phase and of those after it: the shape of the recipe's, over the phase's epochs."""
    if not training.phases:
        return None
    (epochs, learning_rate), *later = training.phases
    share = epochs / training.epochs
    phase = replace(
        training,
        epochs=epochs,
        learning_rate=learning_rate,
        warmup_epochs=min(epochs, training.resolved_warmup_epochs * share),  # 7 * (29 / 7) is above 29
        decay_epochs=tuple(decay * share for decay in training.resolved_decay_epochs),
        phases=tuple(later),
    )
    return build_schedule(phase, num_videos=num_videos, world_size=world_size)
