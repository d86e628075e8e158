"""From the scores of videos to the accuracy that is reported (paper section 4: clip@1, video@1, video@5).

Enter: `VideoScores`. Leaves: `Accuracy`, with its protocol, both denominators (all videos, readable videos) and 95 %
intervals. A video that could not be read is wrong among all videos and absent among the readable ones; both are reported, so
that nobody has to guess which. With several labels a video is right when any of them is among the first k. Videos without a
label cannot be right or wrong: they are counted apart. Pure numpy.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muybridge.evaluation.aggregate import UNRANKED, VideoScores, best_ranks
from muybridge.evaluation.protocol import EvaluationProtocol

Z_95 = 1.959963984540054  # the normal distribution's 97.5 % quantile


@dataclass(frozen=True)
class Rate:
    """`right` out of `of`, with a 95 % interval from `low` to `high` (Wilson score)."""

    right: int
    of: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """right / of; NaN when there was nothing to be right about."""
        return self.right / self.of if self.of else math.nan

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values, with the share, null where it is NaN."""
        return {**asdict(self), "share": self.share if self.of else None}


@dataclass(frozen=True)
class Rates:
    """One figure with both denominators."""

    of_all: Rate
    """Failed videos (or views) counted as wrong."""
    of_readable: Rate
    """Failed videos (or views) left out."""

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {"of_all": self.of_all.to_json(), "of_readable": self.of_readable.to_json()}


@dataclass(frozen=True)
class ClassAccuracy:
    """video@1 of the videos that have this label, failed ones counted as wrong."""

    name: str
    right: int
    of: int
    failed: int


@dataclass(frozen=True)
class Accuracy:
    """What an evaluation reports. Rates are over labelled videos; `num_` fields count all."""

    protocol: EvaluationProtocol
    split: str
    fold: int | None
    clip_top1: Rates
    """Single views, averaged over the same views that make the video's score. The interval takes a video's views as one."""
    video_top1: Rates
    video_top5: Rates
    per_class: tuple[ClassAccuracy, ...]
    num_videos: int
    num_unlabelled_videos: int
    num_failed_videos: int
    """Videos without one readable view."""
    num_views: int
    num_failed_views: int

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values, the protocol also as a sentence."""
        rates = {name: getattr(self, name).to_json() for name in ("clip_top1", "video_top1", "video_top5")}
        protocol = {**self.protocol.to_json(), "sentence": self.protocol.sentence()}
        return {**asdict(self), **rates, "protocol": protocol, "per_class": [asdict(row) for row in self.per_class]}


def accuracy(scores: VideoScores) -> Accuracy:
    """clip@1, video@1, video@5 and the table by class. ValueError when no video has a label."""
    labelled, readable = scores.labelled, scores.readable
    if not labelled.any():
        raise ValueError(
            f"none of the {len(scores.videos)} videos of split {scores.header.split} has a label, so there is no "
            "accuracy; give labels in the data, or use `muybridge predict`"
        )
    ranks = video_ranks(scores)
    return Accuracy(
        protocol=scores.header.protocol,
        split=scores.header.split,
        fold=scores.header.fold,
        clip_top1=_clip_top1(scores),
        video_top1=_video_top(ranks, labelled, readable, k=1),
        video_top5=_video_top(ranks, labelled, readable, k=5),
        per_class=_per_class(scores, right=ranks < 1),
        num_videos=len(scores.videos),
        num_unlabelled_videos=int(np.count_nonzero(~labelled)),
        num_failed_videos=int(np.count_nonzero(~readable)),
        num_views=int(scores.num_views.sum()),
        num_failed_views=int(scores.num_failed_views.sum()),
    )


def video_ranks(scores: VideoScores) -> NDArray[np.int64]:
    """The rank of each video's best placed label, 0 first, int64 (V,); UNRANKED where it is unlabelled or unreadable.

    A video is right at k where its rank is below k, also when there are fewer than k classes. `best_ranks` has the rule for
    equal scores.
    """
    videos, labels = scores.label_pairs()
    ranks = best_ranks(scores.probabilities, videos, labels)
    ranks[~scores.readable] = UNRANKED  # their scores are NaN, which compares as if nothing were greater
    return ranks


def confusion(scores: VideoScores) -> NDArray[np.int64]:
    """Counts (classes, classes): row the label, column the first class, over readable videos with exactly one label."""
    num_classes = len(scores.header.classes)
    single = np.array([len(labels) == 1 for labels in scores.labels], dtype=np.bool_) & scores.readable
    labels = np.array([scores.labels[video][0] for video in np.flatnonzero(single)], dtype=np.int64)
    first = scores.probabilities[single].argmax(axis=1)  # the lowest number among equals, as in `best_ranks`
    return np.bincount(labels * num_classes + first, minlength=num_classes**2).reshape(num_classes, num_classes)


def wilson_interval(share: float, num_trials: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share seen in `num_trials` independent trials (Wilson 1927; Newcombe 1998, method 3).

    It stays inside 0 and 1 and is right for few trials and for shares near the ends, where the usual p +- 1.96 s is not.
    """
    if num_trials == 0:
        return 0.0, 1.0
    weight = Z_95**2 / num_trials
    centre = (share + weight / 2) / (1 + weight)
    half = math.sqrt(weight * share * (1 - share) + weight**2 / 4) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


def _rate(right: int, of: int, *, num_trials: int) -> Rate:
    low, high = wilson_interval(right / of if of else 0.0, num_trials)
    return Rate(right, of, low, high)


def _video_top(ranks: NDArray[np.int64], labelled: NDArray[np.bool_], readable: NDArray[np.bool_], *, k: int) -> Rates:
    right = int(np.count_nonzero(ranks < k))
    of_all, of_readable = int(np.count_nonzero(labelled)), int(np.count_nonzero(labelled & readable))
    return Rates(_rate(right, of_all, num_trials=of_all), _rate(right, of_readable, num_trials=of_readable))


def _clip_top1(scores: VideoScores) -> Rates:
    # Views of one video are close to copies of each other: with ten views a video, an interval over views would be up to
    # sqrt(10) too narrow. As many trials as videos is the cautious end.
    labelled = scores.labelled
    right = int(scores.num_right_views[labelled].sum())
    of_all = int(scores.num_views[labelled].sum())
    of_readable = of_all - int(scores.num_failed_views[labelled].sum())
    return Rates(
        _rate(right, of_all, num_trials=int(np.count_nonzero(labelled))),
        _rate(right, of_readable, num_trials=int(np.count_nonzero(labelled & scores.readable))),
    )


def _per_class(scores: VideoScores, *, right: NDArray[np.bool_]) -> tuple[ClassAccuracy, ...]:
    """A video with several labels counts under each of them, right where it is right at all, as in video@1."""
    videos, labels = scores.label_pairs()
    num_classes = len(scores.header.classes)
    counts = [
        np.bincount(labels[chosen], minlength=num_classes)
        for chosen in (right[videos], np.ones(len(videos), np.bool_), ~scores.readable[videos])
    ]
    return tuple(
        ClassAccuracy(name, *map(int, row))
        for name, row in zip(scores.header.classes, zip(*counts, strict=True), strict=True)
    )
