"""Fusion of the scores of two or more networks, such as the RGB and flow streams (paper section 4).

Input: score files of the same videos. Output: a `Fusion`, their weighted mean:

    single_label   the probabilities of the classes, which exclude each other
    multi_label    the probability of each class by itself; its threshold is the mean of the networks' thresholds
    regression     the numbers, in the unit of the target, whatever mean and deviation each network was trained with
    ordinal        P(level > k) of each boundary, which is also the mean of the probabilities of the levels

If all files have as many clips a video and as many crops a clip, views are matched by (video, view index): the k-th clip of the
flow network starts where the k-th clip of the RGB network does, up to the extra frame that flow needs. Otherwise the scores of
videos are fused. A video that is missing or unreadable in one file counts as failed, never dropped: wrong among all videos for
single_label, and left out of the metrics of other tasks, which count it. Pure NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from muybridge.bounds import Weight, check_arguments
from muybridge.evaluation.aggregate import (
    BLOCK_ROWS,
    VideoScores,
    average_by_video,
    compute_best_ranks,
    softmax,
)
from muybridge.evaluation.fusion_members import ABSENT, AlignedMembers, align_members, average_heads
from muybridge.evaluation.metrics import Accuracy
from muybridge.evaluation.outputs import VideoOutputs, average_scores, average_views
from muybridge.evaluation.scores import Scores
from muybridge.evaluation.task_metrics import TaskMetrics, compute_metrics
from muybridge.text import format_count

FusionLevel = Literal["view", "video"]


@dataclass(frozen=True)
class Fusion:
    """Several score files and their weighted mean.

    `videos` and `metrics` are those of the mean. They carry the protocol of the first member, so quote `format_sentence`
    with them. At level "video", clip@1 has no meaning. `problems` are sentences on what could not be fused.
    """

    names: tuple[str, ...]
    normalized_weights: tuple[float, ...]
    level: FusionLevel
    members: tuple[Accuracy | TaskMetrics, ...]
    videos: VideoScores | VideoOutputs
    metrics: Accuracy | TaskMetrics
    problems: tuple[str, ...]

    @property
    def scores(self) -> VideoScores:
        """The mean for single_label. Raises ValueError for another task."""
        if isinstance(self.videos, VideoOutputs):
            raise ValueError(f"the task {self.videos.header.task} has no scores of classes; this is for single_label")
        return self.videos

    @property
    def accuracy(self) -> Accuracy:
        """The metrics of the mean for single_label. Raises ValueError for another task."""
        if isinstance(self.metrics, TaskMetrics):
            raise ValueError(f"the task {self.metrics.task} has no accuracy; this is for single_label")
        return self.metrics

    def format_sentence(self) -> str:
        """Describe the weights, members and protocols in one line."""
        parts = [
            f"{share:.2f} x {name} ({member.protocol.format_sentence()})"
            for name, share, member in zip(self.names, self.normalized_weights, self.members, strict=True)
        ]
        return f"fused by {self.level}: {' + '.join(parts)}"

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values, without the scores."""
        fused = self.metrics.to_json()
        del fused["protocol"]
        if self.level == "video":
            fused.pop("clip_top1", None)
        key = "accuracy" if isinstance(self.metrics, Accuracy) else "metrics"
        members = [
            {"scores": name, "weight": share, key: member.to_json()}
            for name, share, member in zip(self.names, self.normalized_weights, self.members, strict=True)
        ]
        return {
            "level": self.level,
            "sentence": self.format_sentence(),
            "members": members,
            "fused": fused,
            "problems": list(self.problems),
        }


def fuse(members: Sequence[Scores], weights: Sequence[float], *, names: Sequence[str] | None = None) -> Fusion:
    """Average two or more score files of one task; `names` identify the files in messages.

    Raises ValueError where the files differ in task, split, fold, classes, targets, units, levels or labels, or have no video
    in common.
    """
    names = tuple(names or (f"file {position}" for position in range(1, len(members) + 1)))
    normalized_weights = normalize_weights(weights, len(members))
    aligned = align_members(members, names)
    protocols = [member.header.protocol for member in members]
    are_views_alike = len({(protocol.clips, protocol.num_crops) for protocol in protocols}) == 1
    level: FusionLevel = "view" if are_views_alike else "video"
    mean = (_average_views if level == "view" else _average_videos)(aligned, normalized_weights)
    problems = aligned.problems
    if mean.num_partial_views:
        verb = "is" if mean.num_partial_views == 1 else "are"
        problems += (
            f"{format_count(mean.num_partial_views, 'view')} {verb} scored in only some of the files and left out",
        )
    videos = _make_videos(aligned, normalized_weights, mean)
    metrics = tuple(compute_metrics(average_scores(member)) for member in members)
    return Fusion(names, normalized_weights, level, metrics, videos, compute_metrics(videos), problems)


@check_arguments
def normalize_weights(weights: Sequence[Weight], num_members: int) -> tuple[float, ...]:
    """Scale weights to a sum of 1. Raises ValueError unless there is one for each member, none negative, one positive."""
    if num_members < 2:
        raise ValueError(f"fusion needs at least two members, not {num_members}")
    if len(weights) != num_members:
        raise ValueError(
            f"{format_count(len(weights), 'weight')} given for {format_count(num_members, 'member')}; give one for each"
        )
    if any(not (math.isfinite(weight) and weight >= 0) for weight in weights) or not sum(weights) > 0:
        raise ValueError(
            f"weights must not be negative and at least one must be positive, not {' '.join(map(str, weights))}"
        )
    return tuple(weight / sum(weights) for weight in weights)


@dataclass(frozen=True)
class _Mean:
    """Values (V, D) after the link, NaN for failed videos, and counts of views (V,); right ones for single_label."""

    values: NDArray[np.float64]
    num_views: NDArray[np.int64]
    num_failed_views: NDArray[np.int64]
    num_right_views: NDArray[np.int64]
    num_partial_views: int = 0


def _average_views(aligned: AlignedMembers, normalized_weights: Sequence[float]) -> _Mean:
    """Average the views that all files scored; those that only some of them scored are counted."""
    header, num_videos = aligned.files[0].header, len(aligned.videos)
    views_per_video = header.protocol.num_views
    rows = np.stack([aligned.find_scored_rows(member) for member in aligned.files])  # (files, videos * views)
    is_common = np.all(rows >= 0, axis=0)
    in_all_files = np.all(rows != ABSENT, axis=0)
    values = np.full((num_videos, header.num_outputs), np.nan)
    num_right_views = np.zeros(num_videos, np.int64)
    common_views = np.flatnonzero(is_common)
    videos_per_block = max(1, BLOCK_ROWS // views_per_video)
    for start in range(0, num_videos, videos_per_block):
        stop = start + videos_per_block
        block = common_views[(common_views >= start * views_per_video) & (common_views < stop * views_per_video)]
        if not len(block):
            continue
        video_indices = block // views_per_video
        present, means, view_scores = _average_block(aligned, normalized_weights, rows[:, block], video_indices)
        values[present] = means
        if header.head is None:
            correct = _find_correct_rows(view_scores, [aligned.known[index] for index in video_indices.tolist()])
            np.add.at(num_right_views, video_indices[correct], 1)
    num_common = np.bincount(common_views // views_per_video, minlength=num_videos)
    num_views = np.full(num_videos, views_per_video, np.int64)
    num_partial_views = int(np.count_nonzero(np.any(rows >= 0, axis=0) & ~is_common & in_all_files))
    return _Mean(values, num_views, num_views - num_common, num_right_views, num_partial_views)


def _average_block(
    aligned: AlignedMembers,
    normalized_weights: Sequence[float],
    rows: NDArray[np.int64],
    video_indices: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """The videos of a block of views, their mean values, and for single_label the mean probabilities of each view."""
    num_outputs = aligned.files[0].header.num_outputs
    present = np.unique(video_indices)
    video_means, view_scores = np.zeros((len(present), num_outputs)), np.zeros((len(video_indices), num_outputs))
    for member, weight, order, member_rows in zip(aligned.files, normalized_weights, aligned.orders, rows, strict=True):
        head, average = member.header.head, member.header.protocol.average
        outputs = pc.list_flatten(member.table[member.header.output_column].take(pa.array(member_rows))).to_numpy()
        outputs = outputs.reshape(len(video_indices), num_outputs).astype(np.float64)
        if head is None:
            view_scores += weight * softmax(outputs)[:, order]
            present, means = average_by_video(outputs, video_indices, average=average)
        else:
            present, means = average_views(outputs, video_indices, head, average=average)
        video_means += weight * means[:, order]
    return present, video_means, view_scores


def _average_videos(aligned: AlignedMembers, normalized_weights: Sequence[float]) -> _Mean:
    """Average the values of videos; each video counts as one view."""
    index_by_video = {video: index for index, video in enumerate(aligned.videos)}
    values = np.zeros((len(aligned.videos), aligned.files[0].header.num_outputs))
    for member, weight, order in zip(aligned.files, normalized_weights, aligned.orders, strict=True):
        videos = average_scores(member)
        aligned_values = np.full_like(values, np.nan)  # NaN propagates: a video that one file lacks is not fused
        member_values = videos.values if isinstance(videos, VideoOutputs) else videos.probabilities
        aligned_values[[index_by_video[video] for video in videos.videos]] = member_values[:, order]
        values += weight * aligned_values
    failed = np.isnan(values.sum(axis=1))
    num_right_views = np.zeros(len(values), np.int64)
    if aligned.files[0].header.head is None:
        readable = np.flatnonzero(~failed)
        correct = _find_correct_rows(values[readable], [aligned.known[index] for index in readable.tolist()])
        num_right_views[readable[correct]] = 1
    return _Mean(values, np.ones(len(values), np.int64), np.where(failed, 1, 0), num_right_views)


def _make_videos(
    aligned: AlignedMembers, normalized_weights: Sequence[float], mean: _Mean
) -> VideoScores | VideoOutputs:
    header, counts = aligned.files[0].header, (mean.num_views, mean.num_failed_views)
    if header.head is None:
        labels = tuple(tuple(map(int, row)) for row in aligned.known)
        return VideoScores(header, aligned.videos, labels, mean.values, *counts, mean.num_right_views)
    heads = [member.header.head for member in aligned.files]
    header = replace(header, head=average_heads(heads, aligned.orders, normalized_weights))
    targets = np.array(aligned.known, np.float64).reshape(len(aligned.videos), header.num_targets)
    return VideoOutputs(header, aligned.videos, targets, mean.values, *counts)


def _find_correct_rows(scores_nc: NDArray[np.float64], labels: Sequence[Sequence[float]]) -> NDArray[np.intp]:
    """The rows whose most probable class is one of their labels."""
    rows = np.repeat(np.arange(len(labels)), [len(row_labels) for row_labels in labels])
    flat_labels = np.array([label for row_labels in labels for label in row_labels], np.int64)
    return np.flatnonzero(compute_best_ranks(scores_nc, rows, flat_labels) == 0)
