"""Which draws or videos a rank takes, batch by batch: settings and step decide, so any number of ranks does the same work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from torch.utils.data import Sampler

from muybridge.distributed.rank import Rank


@dataclass(frozen=True)
class TrainingBatchSampler(Sampler[list[int]]):
    """The draw numbers of this rank, step by step, from `first_step` to `num_steps`.

    Step s is of the draws s * G to (s + 1) * G, whoever makes them, where G is `global_batch`, by default `batch_size` for
    each rank. A step is cut into `num_micro_batches` parts that follow each other, as few as can be when no rank takes
    more than
    `batch_size` at once; a piece is cut into a part for each rank. Parts differ by one draw at most and may be empty.
    """

    first_step: int
    num_steps: int
    batch_size: int
    rank: Rank
    global_batch: int | None = None

    @property
    def draws_per_step(self) -> int:
        """Draws of all ranks in a step."""
        return self.global_batch or self.batch_size * self.rank.world_size

    @property
    def num_micro_batches(self) -> int:
        """Batches of this rank, as of every other, in a step."""
        return -(-self.draws_per_step // (self.batch_size * self.rank.world_size))

    def list_micro_batches(self, step: int) -> list[list[int]]:
        """The draws of this rank in a step, batch by batch."""
        draws = range(step * self.draws_per_step, (step + 1) * self.draws_per_step)
        pieces = (slice_evenly(draws, piece, self.num_micro_batches) for piece in range(self.num_micro_batches))
        return [list(slice_evenly(piece, self.rank.rank, self.rank.world_size)) for piece in pieces]

    def list_draws(self, step: int) -> list[int]:
        """The draws of this rank in a step."""
        return list(chain.from_iterable(self.list_micro_batches(step)))

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step, self.num_steps):
            yield from self.list_micro_batches(step)

    def __len__(self) -> int:
        return (self.num_steps - self.first_step) * self.num_micro_batches


def slice_evenly(draws: range, index: int, num_slices: int) -> range:
    """Part `number` of `num_parts` consecutive parts of nearly equal length."""
    return draws[len(draws) * index // num_slices : len(draws) * (index + 1) // num_slices]


@dataclass(frozen=True)
class VideoBatchSampler(Sampler[list[int]]):
    """Runs of consecutive videos from `first_video`, which are fixed by `videos_per_batch` alone, ranks take them in turn."""

    num_videos: int
    videos_per_batch: int
    rank: Rank
    first_video: int = 0

    def __iter__(self) -> Iterator[list[int]]:
        starts = range(self.first_video, self.num_videos, self.videos_per_batch)
        for start in starts[self.rank.rank :: self.rank.world_size]:
            yield list(range(start, min(start + self.videos_per_batch, self.num_videos)))

    def __len__(self) -> int:
        return len(range(self.rank.rank, self.num_batches, self.rank.world_size))

    @property
    def num_batches(self) -> int:
        """Batches of all ranks."""
        return -(-(self.num_videos - self.first_video) // self.videos_per_batch)
