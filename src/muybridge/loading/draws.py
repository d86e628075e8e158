"""Batch samplers: the draws or videos of each batch on each rank.

All ranks together load the same global batches, whatever their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby

from torch.utils.data import Sampler

from muybridge.distributed.rank import Rank


@dataclass(frozen=True)
class TrainingBatchSampler(Sampler[list[int]]):
    """The draw numbers of this rank, step by step, from `first_step` to `num_steps`.

    Step s consists of the draws s * G to (s + 1) * G over all ranks; G is `global_batch`, by default `batch_size` per rank.
    A step is split into `num_micro_batches` consecutive micro-batches, the smallest number with at most `batch_size` draws
    per rank, and each micro-batch into one slice per rank. Sizes differ by at most one draw and may be zero.
    """

    first_step: int
    num_steps: int
    batch_size: int
    rank: Rank
    global_batch: int | None = None

    @property
    def draws_per_step(self) -> int:
        """Draws per step over all ranks."""
        return self.global_batch or self.batch_size * self.rank.world_size

    @property
    def num_micro_batches(self) -> int:
        """Batches per step on each rank."""
        return -(-self.draws_per_step // (self.batch_size * self.rank.world_size))

    def list_micro_batches(self, step: int) -> list[list[int]]:
        """The draws of this rank in a step, one list per micro-batch."""
        draws = range(step * self.draws_per_step, (step + 1) * self.draws_per_step)
        micro_batches = (_slice_evenly(draws, index, self.num_micro_batches) for index in range(self.num_micro_batches))
        return [list(_slice_evenly(batch, self.rank.rank, self.rank.world_size)) for batch in micro_batches]

    def list_draws(self, step: int) -> list[int]:
        """The draws of this rank in a step."""
        return list(chain.from_iterable(self.list_micro_batches(step)))

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step, self.num_steps):
            yield from self.list_micro_batches(step)

    def __len__(self) -> int:
        return (self.num_steps - self.first_step) * self.num_micro_batches


def _slice_evenly(draws: range, index: int, num_slices: int) -> range:
    """Slice number `index` of `num_slices` consecutive slices of nearly equal length."""
    return draws[len(draws) * index // num_slices : len(draws) * (index + 1) // num_slices]


@dataclass(frozen=True)
class VideoBatchSampler(Sampler[list[int]]):
    """Batches of `videos`, increasing indices, assigned to ranks in turn, the same for any number of ranks.

    Where some indices are missing, the others are in the batches in which they would be without that.
    """

    videos: Sequence[int]
    videos_per_batch: int
    rank: Rank

    def __iter__(self) -> Iterator[list[int]]:
        yield from self.batches[self.rank.rank :: self.rank.world_size]

    def __len__(self) -> int:
        return len(range(self.rank.rank, len(self.batches), self.rank.world_size))

    @cached_property
    def batches(self) -> list[list[int]]:
        """The batches of all ranks."""
        return [list(batch) for _, batch in groupby(self.videos, key=lambda video: video // self.videos_per_batch)]
