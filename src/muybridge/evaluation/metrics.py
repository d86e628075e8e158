"""Accuracy of videos (paper section 4: clip@1, video@1, video@5).

Input: `VideoScores`. Output: `Accuracy`, with its protocol, both denominators (all videos, readable videos) and 95 %
intervals. An unreadable video is wrong among all videos and left out among the readable ones. A video with several labels is
right at k if any of them is among the first k classes. Videos without a label are counted separately. No file or network.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muybridge.evaluation.aggregate import UNRANKED, VideoScores, compute_best_ranks
from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.evaluation.statistics import SIGNIFICANCE, mcnemar_p_value
from muybridge.text import format_count, format_p_value, format_percent, sanitize_text

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
        """right / of; NaN if `of` is 0."""
        return self.right / self.of if self.of else math.nan

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values, with the share, null instead of NaN."""
        return {**asdict(self), "share": self.share if self.of else None}


@dataclass(frozen=True)
class Rates:
    """A rate with both denominators."""

    of_all: Rate
    """Failed videos (or views) counted as wrong."""
    of_readable: Rate
    """Failed videos (or views) left out."""

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {"of_all": self.of_all.to_json(), "of_readable": self.of_readable.to_json()}


@dataclass(frozen=True)
class ClassAccuracy:
    """video@1 of the videos with this label; failed videos count as wrong."""

    name: str
    right: int
    of: int
    failed: int


@dataclass(frozen=True)
class Baseline:
    """What video@1 is compared with: always predicting the most frequent class of the scored videos, and guessing."""

    majority_class: str
    majority: Rate
    """video@1, over all videos, of always predicting `majority_class`."""
    chance: float
    """video@1 of guessing: the mean over videos of k / n, for k labels of n classes."""
    chance_top5: float
    """video@5 of guessing: the mean over videos of 1 - C(n - k, 5) / C(n, 5)."""
    p_value: float
    """McNemar's exact test of the network against the majority class, two-sided, on the same videos."""

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {**asdict(self), "majority": self.majority.to_json()}


@dataclass(frozen=True)
class Accuracy:
    """Result of an evaluation. Rates are over labelled videos; `num_` fields count all videos."""

    protocol: EvaluationProtocol
    split: str
    fold: int | None
    clip_top1: Rates
    """Of the same views that make the scores of videos. The interval treats the views of a video as one trial."""
    video_top1: Rates
    video_top5: Rates
    per_class: tuple[ClassAccuracy, ...]
    num_videos: int
    num_unlabelled_videos: int
    num_failed_videos: int
    """Videos without a readable view."""
    num_views: int
    num_failed_views: int
    baseline: Baseline

    @property
    def figures(self) -> tuple[tuple[str, Rates], ...]:
        """clip@1, video@1 and, if there are more than five classes, video@5, which is 100 % below that."""
        names = (("clip@1", self.clip_top1), ("video@1", self.video_top1), ("video@5", self.video_top5))
        return names if len(self.per_class) > 5 else names[:2]

    def format_baseline(self) -> str:
        """The majority class and chance, and in words whether the accuracy differs from always predicting that class."""
        baseline, top1 = self.baseline, self.video_top1.of_all
        name = sanitize_text(baseline.majority_class)
        majority, chance = format_percent(baseline.majority.share), format_percent(baseline.chance)
        text = f"always predicting {name} gives {majority}, guessing {chance}"
        p_value = format_p_value(baseline.p_value)
        p_value = p_value if p_value.startswith("<") else f"= {p_value}"
        if baseline.p_value >= SIGNIFICANCE:
            return f"{text}; video@1 is not distinguishable from always predicting {name} (p {p_value})"
        if top1.right < baseline.majority.right:
            return f"{text}; video@1 is below always predicting {name} (p {p_value})"
        return text

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values; the protocol includes its sentence."""
        rates = {name: getattr(self, name).to_json() for name in ("clip_top1", "video_top1", "video_top5")}
        protocol = {**self.protocol.to_json(), "sentence": self.protocol.format_sentence()}
        values = {"protocol": protocol, "per_class": [asdict(row) for row in self.per_class]}
        return {**asdict(self), **rates, **values, "baseline": self.baseline.to_json()}


def compute_accuracy(scores: VideoScores) -> Accuracy:
    """Compute clip@1, video@1, video@5 and the accuracy of each class. Raises ValueError if no video has a label."""
    labeled_mask, readable_mask = scores.labeled_mask, scores.readable_mask
    if not labeled_mask.any():
        raise ValueError(
            f"none of {format_count(len(scores.videos), 'video')} of split {scores.header.split} has a label, so there is no "
            "accuracy; add labels to the data, or use `muybridge predict`"
        )
    ranks = compute_video_ranks(scores)
    return Accuracy(
        protocol=scores.header.protocol,
        split=scores.header.split,
        fold=scores.header.fold,
        clip_top1=_compute_clip_top1(scores),
        video_top1=_compute_video_top_k(ranks, labeled_mask, readable_mask, k=1),
        video_top5=_compute_video_top_k(ranks, labeled_mask, readable_mask, k=5),
        per_class=_compute_per_class(scores, is_right=ranks < 1),
        num_videos=len(scores.videos),
        num_unlabelled_videos=int(np.count_nonzero(~labeled_mask)),
        num_failed_videos=int(np.count_nonzero(~readable_mask)),
        num_views=int(scores.num_views.sum()),
        num_failed_views=int(scores.num_failed_views.sum()),
        baseline=_compute_baseline(scores, is_right=ranks < 1),
    )


def compute_video_ranks(scores: VideoScores) -> NDArray[np.int64]:
    """The best rank among the labels of each video, from 0, int64 (V,); UNRANKED if it is unlabelled or unreadable.

    A video is right at k if its rank is below k, also when there are fewer than k classes. For equal scores see
    `compute_best_ranks`.
    """
    videos, labels = scores.list_label_pairs()
    ranks = compute_best_ranks(scores.probabilities, videos, labels)
    ranks[~scores.readable_mask] = UNRANKED  # comparisons with NaN are false, which would give rank 0
    return ranks


def compute_confusion_matrix(scores: VideoScores) -> NDArray[np.int64]:
    """Counts (classes, classes) over readable videos with one label; rows are labels, columns most probable classes."""
    num_classes = len(scores.header.classes)
    single = np.array([len(labels) == 1 for labels in scores.labels], dtype=np.bool_) & scores.readable_mask
    labels = np.array([scores.labels[video][0] for video in np.flatnonzero(single)], dtype=np.int64)
    predicted = scores.probabilities[single].argmax(axis=1)  # lowest index among equals, as in `compute_best_ranks`
    return np.bincount(labels * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)


def wilson_interval(share: float, num_trials: int) -> tuple[float, float]:
    """95 % Wilson score interval of a share of `num_trials` independent trials (Wilson 1927; Newcombe 1998, method 3).

    It stays within 0 and 1 and holds for few trials and for shares near 0 or 1, unlike p +- 1.96 s. The share need not be a
    multiple of 1 / `num_trials`: clip@1 averages over views but has as many trials as videos.
    """
    if num_trials == 0:
        return 0.0, 1.0
    weight = Z_95**2 / num_trials
    center = (share + weight / 2) / (1 + weight)
    half_width = math.sqrt(weight * share * (1 - share) + weight**2 / 4) / (1 + weight)
    return max(0.0, center - half_width), min(1.0, center + half_width)


def _make_rate(right: int, of: int, *, num_trials: int) -> Rate:
    low, high = wilson_interval(right / of if of else 0.0, num_trials)
    return Rate(right, of, low, high)


def _compute_video_top_k(
    ranks: NDArray[np.int64], labeled_mask: NDArray[np.bool_], readable_mask: NDArray[np.bool_], *, k: int
) -> Rates:
    right = int(np.count_nonzero(ranks < k))
    of_all, of_readable = int(np.count_nonzero(labeled_mask)), int(np.count_nonzero(labeled_mask & readable_mask))
    return Rates(_make_rate(right, of_all, num_trials=of_all), _make_rate(right, of_readable, num_trials=of_readable))


def _compute_clip_top1(scores: VideoScores) -> Rates:
    # The views of a video are strongly correlated: with ten views a video, an interval over views would be up to sqrt(10)
    # too narrow. Counting videos as trials is the conservative choice.
    labeled_mask = scores.labeled_mask
    right = int(scores.num_right_views[labeled_mask].sum())
    of_all = int(scores.num_views[labeled_mask].sum())
    of_readable = of_all - int(scores.num_failed_views[labeled_mask].sum())
    return Rates(
        _make_rate(right, of_all, num_trials=int(np.count_nonzero(labeled_mask))),
        _make_rate(right, of_readable, num_trials=int(np.count_nonzero(labeled_mask & scores.readable_mask))),
    )


def _compute_baseline(scores: VideoScores, *, is_right: NDArray[np.bool_]) -> Baseline:
    """The class that most videos have among their labels, the first of equals, as a predictor of every video."""
    videos, labels = scores.list_label_pairs()
    majority_class = int(np.bincount(labels, minlength=len(scores.header.classes)).argmax())
    has_majority_class = np.zeros(len(scores.videos), np.bool_)
    has_majority_class[videos[labels == majority_class]] = True
    num_labeled = int(np.count_nonzero(scores.labeled_mask))
    num_labels = [len(set(labels)) for labels in scores.labels if len(labels)]
    return Baseline(
        majority_class=scores.header.classes[majority_class],
        majority=_make_rate(int(np.count_nonzero(has_majority_class)), num_labeled, num_trials=num_labeled),
        chance=_compute_chance(num_labels, len(scores.header.classes), k=1),
        chance_top5=_compute_chance(num_labels, len(scores.header.classes), k=5),
        p_value=mcnemar_p_value(
            int(np.count_nonzero(has_majority_class & ~is_right)), int(np.count_nonzero(is_right & ~has_majority_class))
        ),
    )


def _compute_chance(num_labels: Sequence[int], num_classes: int, *, k: int) -> float:
    """The mean probability that k different classes drawn at random have one of a video's labels."""
    k = min(k, num_classes)
    num_draws = math.comb(num_classes, k)
    hits = sum(times * (num_draws - math.comb(num_classes - n, k)) for n, times in Counter(num_labels).items())
    return hits / (num_draws * len(num_labels))


def _compute_per_class(scores: VideoScores, *, is_right: NDArray[np.bool_]) -> tuple[ClassAccuracy, ...]:
    """A video with several labels counts for each of them, and is right for all if it is right at video@1."""
    videos, labels = scores.list_label_pairs()
    num_classes = len(scores.header.classes)
    counts = [
        np.bincount(labels[mask], minlength=num_classes)
        for mask in (is_right[videos], np.ones(len(videos), np.bool_), ~scores.readable_mask[videos])
    ]
    return tuple(
        ClassAccuracy(name, *map(int, row))
        for name, row in zip(scores.header.classes, zip(*counts, strict=True), strict=True)
    )
