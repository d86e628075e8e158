"""`ClipDataset`: a map-style dataset of clips for one's own PyTorch loop.

Input: a data address and a split. Output: pairs of a normalised clip, float32 (C, T, crop, crop), and its label. Item i is of
video i. Where its clip lies, its crop and whether it is mirrored are a pure function of (seed, draw), and the draw is
epoch * length + i: results depend neither on the number of workers nor on the sampler.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from muybridge.datasets.manifest import Manifest
from muybridge.datasets.splits import ValidationSplit
from muybridge.loading.clip_reader import open_clip_reader
from muybridge.loading.datasets import read_segment_times
from muybridge.loading.open_data import open_data
from muybridge.randomness import make_generator
from muybridge.records import Preprocessing, VideoError
from muybridge.text import format_count
from muybridge.video.sampling import sample_center_clip, sample_random_clip
from muybridge.video.views import AnyView, collate_views, prepare_network_input


class ClipDataset(Dataset[tuple[Any, int]]):
    """The clips of one split, for torch's DataLoader and any sampler, DistributedSampler among them.

    Args:
        data: A data address (docs/data.md), or a `Manifest` from `open_data`, which has further options.
        split: train, validation, test or unused.
        preprocessing: How frames become clips (default: the paper's). Take `recognizer.card.preprocessing` for a network that
            is fine-tuned.
        seed: Seed of the draws.
        transforms: Called with each clip, float32 (C, T, crop, crop).
        augment: Random place and crop, and `mirror`; else the centre of the video and of the frame (default: for train only).
        mirror: Mirror half of the clips where `augment` is on.

    Raises TypeError and ValueError where these do not fit, and VideoError where a video cannot be read. Call `set_epoch` before
    each epoch; workers see it, persistent ones too. Without it every epoch has the same clips, and a warning says so.
    """

    def __init__(
        self,
        data: str | os.PathLike[str] | Manifest,
        split: str = "train",
        *,
        preprocessing: Preprocessing | None = None,
        seed: int = 0,
        transforms: Callable[[Tensor], Any] | None = None,
        augment: bool | None = None,
        mirror: bool = True,
    ) -> None:
        if not isinstance(data, str | os.PathLike | Manifest):
            raise TypeError(f"data is a path or a Manifest, not {type(data).__name__}")
        if transforms is not None and not callable(transforms):
            raise TypeError(f"transforms is called with each clip, but {type(transforms).__name__} cannot be called")
        manifest = data if isinstance(data, Manifest) else open_data(os.fspath(data), validation=ValidationSplit(seed))
        selected = manifest.select_split(split)
        if len(selected) == 0:
            raise ValueError(
                f"the data has no videos in the split {split}; it has {', '.join(manifest.count_videos())}"
            )
        self.preprocessing = preprocessing or Preprocessing()
        self.reader = open_clip_reader(manifest.root, self.preprocessing, manifest.time_origin)
        self.manifest = self.reader.select_videos(selected)
        self.seed = seed
        self.transforms = transforms
        self.augment = split == "train" if augment is None else augment
        self.mirror = mirror
        # In shared memory, so that workers that live through several epochs see `set_epoch`.
        self._epoch = _share(torch.zeros(1, dtype=torch.int64))
        self._num_repeats = _share(torch.zeros(1, dtype=torch.int64))
        self._epochs_read = _share(torch.full((len(selected),), -1, dtype=torch.int64))
        self._is_worker_ready = False

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; labels are indices into them."""
        return self.manifest.classes

    @property
    def epoch(self) -> int:
        """The epoch that draws are of."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Draw other clips of the same videos. Call it in every epoch, before iterating over the DataLoader."""
        if epoch < 0:
            raise ValueError(f"an epoch is 0 or more, not {epoch}")
        self._epoch[0] = epoch
        self._num_repeats[0] = 0
        self._epochs_read.fill_(-1)

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is outside a dataset of {format_count(len(self), 'video')}")
        index %= len(self)
        if get_worker_info() is not None and not self._is_worker_ready:
            self.reader.initialize_worker()
            self._is_worker_ready = True
        self._warn_if_repeated(index)
        rng = make_generator(self.seed, "clip", self.epoch * len(self) + index)
        labels = self.manifest.get_labels(index)
        if not labels:
            raise ValueError(f"{self.manifest.get_video(index)} has no label; leave such videos out of the manifest")
        label = labels[int(rng.integers(len(labels)))]
        try:
            view = self._read_view(index, rng)
        except VideoError as error:
            raise VideoError(error.status, f"{self.manifest.get_video(index)}: {error.reason}") from error
        clip = prepare_network_input(collate_views([view]), self.preprocessing, torch.device("cpu"))[0]
        return clip if self.transforms is None else self.transforms(clip), label

    def _read_view(self, index: int, rng: np.random.Generator) -> AnyView:
        path = self.manifest.get_path(index)
        times = read_segment_times(self.reader.source, self.manifest, index)
        if self.augment:
            clip_times = sample_random_clip(times, self.preprocessing, rng)
            return self.reader.read_training_view(path, clip_times.ticks, mirror=self.mirror, generator=rng)
        view = next(self.reader.read_evaluation_views(path, [sample_center_clip(times, self.preprocessing)]))
        if isinstance(view, VideoError):
            raise view
        return view

    def _warn_if_repeated(self, index: int) -> None:
        """Warn once where more than a hundredth of the videos are read a second time in one epoch."""
        if not self.augment:
            return
        if int(self._epochs_read[index]) == self.epoch:
            self._num_repeats += 1
            if int(self._num_repeats) == max(2, len(self) // 100):
                warnings.warn(
                    f"videos are read again in epoch {self.epoch}, and give the same clips as before; call "
                    "dataset.set_epoch(epoch) before each epoch",
                    UserWarning,
                    stacklevel=3,
                )
        self._epochs_read[index] = self.epoch


def _share(tensor: Tensor) -> Tensor:
    shared: Tensor = tensor.share_memory_()  # type: ignore[no-untyped-call]  # torch
    return shared
