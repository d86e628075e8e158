"""What a step does to its clips against overfitting, and the average of the weights that it leaves.

    multigrid       multigrid training (Wu et al., CVPR 2020), its long cycle: clips of fewer frames and pixels first
    mixup           Zhang et al., ICLR 2018
    cutmix          along time: T-VideoMix (Yun et al., 2020), after CutMix (Yun et al., ICCV 2019)
    ema_decay       Polyak and Juditsky, 1992; as an exponential average Tarvainen and Valpola, NeurIPS 2017

Everything is a function of (seed, step), so that a resumed run repeats it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from muybridge.augmentation_settings import AugmentationSettings
from muybridge.loading.datasets import TrainingBatch
from muybridge.randomness import make_generator

_MAX_PASSES = 1 << 20  # of a step, in the numbers of draws


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass of a run: pass `index` of step `step`."""

    seed: int
    step: int
    index: int

    def make_generator(self, purpose: str) -> np.random.Generator:
        """The random generator for `purpose`, the same on every rank."""
        return make_generator(self.seed, purpose, self.step * _MAX_PASSES + self.index)


def find_multigrid_size(settings: AugmentationSettings, step: int, num_steps: int) -> tuple[int, int] | None:
    """Frames and crop of the clips of `step`, counted from 0, of `num_steps`; None for whole clips."""
    share = 0.0
    for phase_share, length, crop in settings.multigrid:
        share += phase_share
        if step < math.ceil(round(share * num_steps, 6)):  # sums of shares have errors of rounding, such as 0.1 + 0.2
            return length, crop
    return None


def shrink_clips(clips_ncthw: Tensor, length: int, crop: int) -> Tensor:
    """The first `length` frames of each clip, averaged to `crop` pixels a side."""
    return functional.adaptive_avg_pool3d(clips_ncthw[:, :, :length], (length, crop, crop))


def mix_clips(clips_ncthw: Tensor, settings: AugmentationSettings, this_pass: Pass) -> tuple[Tensor, float]:
    """Each clip mixed with the one that `reverse_batch` puts in its place, and the share of its own in it."""
    if len(clips_ncthw) < 2 or not (settings.mixup_alpha or settings.cutmix_alpha):
        return clips_ncthw, 1.0
    generator, others = this_pass.make_generator("mix"), clips_ncthw.flip(0)
    by_time = not settings.mixup_alpha or bool(settings.cutmix_alpha and generator.random() < 0.5)
    alpha = settings.cutmix_alpha if by_time else settings.mixup_alpha
    share = float(generator.beta(alpha, alpha))
    if not by_time:
        return clips_ncthw.lerp(others, 1 - share), share
    num_frames = clips_ncthw.shape[2]
    num_replaced = round((1 - share) * num_frames)
    first = int(generator.integers(num_frames - num_replaced + 1))
    mixed = clips_ncthw.clone()
    mixed[:, :, first : first + num_replaced] = others[:, :, first : first + num_replaced]
    return mixed, 1 - num_replaced / num_frames


def reverse_batch(batch: TrainingBatch) -> TrainingBatch:
    """The labels and targets of the clips that `mix_clips` mixes in."""
    return replace(batch, labels_n=batch.labels_n.flip(0), targets_nd=batch.targets_nd.flip(0))


@contextmanager
def seed_dropout(this_pass: Pass, rank: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators, from which dropout draws, for a pass on this rank; after the block they are as before it."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(this_pass.make_generator(f"dropout/{rank}").integers(2**63)))
        yield


class WeightAverage:
    """An exponential average of the weights and running statistics of `network`, on its device."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network, self._decay = network, decay
        self.tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def update(self, step: int) -> None:
        """Take in the weights after step `step`, counted from 0. The decay grows to its value over the first steps."""
        decay = min(self._decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, tensor in self._network.state_dict().items():
                average = self.tensors[name]
                _ = average.lerp_(tensor, 1 - decay) if average.is_floating_point() else average.copy_(tensor)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the average of a checkpoint."""
        for name, average in self.tensors.items():
            average.copy_(tensors[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network has the averaged weights within the block, and its own after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        with torch.no_grad():
            for name, tensor in self._network.state_dict().items():
                own = tensor.clone()
                tensor.copy_(self.tensors[name])
                self.tensors[name].copy_(own)
