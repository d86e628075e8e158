"""Which video a draw of training is of: every video once in each pass, or every class equally often.

Balanced draws go through the classes in turn, and through the videos of each class in passes of their own, so that in any K
consecutive draws from a multiple of K each of K classes is drawn once. All of it is a pure function of (seed, draw).

With `draws_per_video` above 1 a video is drawn so often in a row: repeated augmentation (Hoffer et al., CVPR 2020).

    4 videos of class a, 1 of class b:   uniform  a a b a a | a a a b a      balanced  a b | b a | a b | a b
"""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from muybridge.datasets.manifest import Manifest
from muybridge.randomness import shuffle_index


class VideoDraws:
    """The video of each draw. Videos without labels, if there are any, are drawn like a class of their own."""

    def __init__(self, manifest: Manifest, seed: int, *, balanced: bool, draws_per_video: int = 1) -> None:
        self._seed, self._num_videos, self._draws_per_video = seed, len(manifest), draws_per_video
        self._videos_by_class = _list_videos_by_class(manifest) if balanced else []

    def find_video(self, draw: int) -> tuple[int, int | None]:
        """The index of the video of a draw and, for balanced draws, the class that it is drawn for."""
        draw //= self._draws_per_video
        if not self._videos_by_class:
            return self._shuffle(draw, self._num_videos, "order"), None
        num_classes = len(self._videos_by_class)
        label, videos = self._videos_by_class[self._shuffle(draw, num_classes, "order of classes")]
        return int(videos[self._shuffle(draw // num_classes, len(videos), f"order of class {label}")]), label

    def _shuffle(self, number: int, size: int, purpose: str) -> int:
        """Element `number` of the permutations of range(size), one after the other."""
        pass_index, position = divmod(number, size)
        return shuffle_index(position, size, seed=self._seed, purpose=purpose, permutation_index=pass_index)


def _list_videos_by_class(manifest: Manifest) -> list[tuple[int | None, NDArray[np.int64]]]:
    """The videos of each class that has any; then those without labels, under None."""
    labels = manifest.table["labels"].combine_chunks()
    videos = pc.list_parent_indices(labels).to_numpy().astype(np.int64)
    classes = pc.list_flatten(labels).to_numpy()
    by_class: list[tuple[int | None, NDArray[np.int64]]] = [
        (int(label), videos[classes == label]) for label in np.unique(classes)
    ]
    unlabeled = np.setdiff1d(np.arange(len(manifest)), videos)
    return [*by_class, *([(None, unlabeled)] if len(unlabeled) else [])]
