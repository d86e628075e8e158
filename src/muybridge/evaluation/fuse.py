"""Fusion of the scores of two or more networks, such as the RGB and flow streams (paper section 4).

Input: score files of the same videos. Output: a `Fusion`, the weighted mean of their probabilities. If all files have the
same number of views a video, views are matched by (video, view index): the k-th clip of the flow network starts where the
k-th clip of the RGB network does, up to the extra frame that flow needs. Otherwise the scores of videos are fused. A video
that is missing or unreadable in one file counts as failed: wrong among all videos, never dropped. Pure NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from muybridge.bounds import Weight, check_arguments
from muybridge.datasets.classes import match_classes
from muybridge.evaluation.aggregate import (
    BLOCK_ROWS,
    VideoScores,
    average_by_video,
    compute_best_ranks,
    compute_video_scores,
    softmax,
)
from muybridge.evaluation.metrics import Accuracy, compute_accuracy
from muybridge.evaluation.scores import Scores, compute_video_indices
from muybridge.text import join_names

FusionLevel = Literal["view", "video"]
MAX_LISTED_VIDEOS = 3  # videos named in a message
FAILED, ABSENT = -1, -2  # instead of a row index


@dataclass(frozen=True)
class Fusion:
    """Several score files and their weighted mean.

    `scores` and `accuracy` are those of the mean. They carry the protocol of the first member, so quote `format_sentence`
    with them. At level "video", clip@1 has no meaning. `problems` are sentences on what could not be fused.
    """

    names: tuple[str, ...]
    normalized_weights: tuple[float, ...]
    level: FusionLevel
    members: tuple[Accuracy, ...]
    scores: VideoScores
    accuracy: Accuracy
    problems: tuple[str, ...]

    def format_sentence(self) -> str:
        """Describe the weights, members and protocols in one line."""
        parts = [
            f"{share:.2f} x {name} ({member.protocol.format_sentence()})"
            for name, share, member in zip(self.names, self.normalized_weights, self.members, strict=True)
        ]
        return f"fused by {self.level}: {' + '.join(parts)}"

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values, without the scores."""
        fused = self.accuracy.to_json()
        del fused["protocol"]
        if self.level == "video":
            del fused["clip_top1"]
        members = [
            {"scores": name, "weight": share, "accuracy": member.to_json()}
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
    """Average the probabilities of two or more score files; `names` identify the files in messages.

    Raises ValueError where the files differ in split, fold, classes or labels, or have no video in common.
    """
    names = tuple(names or (f"file {position}" for position in range(1, len(members) + 1)))
    normalized_weights = normalize_weights(weights, len(members))
    class_orders = _match_class_orders(members, names)
    videos = tuple(dict.fromkeys(name for member in members for name in compute_video_indices(member.table)[1]))
    problems = _describe_missing_videos(members, names)
    labels = _merge_labels(members, names, class_orders, videos)
    level: FusionLevel = "view" if len({member.header.protocol.clips for member in members}) == 1 else "video"
    match level:
        case "view":
            fused_scores, num_partial_views = _fuse_views(members, normalized_weights, class_orders, videos, labels)
            if num_partial_views:
                problems += (f"{num_partial_views} views are scored in only some of the files; they are left out",)
        case "video":
            fused_scores = _fuse_videos(members, normalized_weights, class_orders, videos, labels)
    member_accuracies = tuple(compute_accuracy(compute_video_scores(member)) for member in members)
    return Fusion(
        names, normalized_weights, level, member_accuracies, fused_scores, compute_accuracy(fused_scores), problems
    )


@check_arguments
def normalize_weights(weights: Sequence[Weight], num_members: int) -> tuple[float, ...]:
    """Scale weights to a sum of 1. Raises ValueError unless there is one for each member, none negative, one positive."""
    if num_members < 2:
        raise ValueError(f"fusion needs at least two members, not {num_members}")
    if len(weights) != num_members:
        raise ValueError(f"{len(weights)} weights were given for {num_members} members; give one for each")
    if any(not (math.isfinite(weight) and weight >= 0) for weight in weights) or not sum(weights) > 0:
        raise ValueError(
            f"weights must not be negative and at least one must be positive, not {' '.join(map(str, weights))}"
        )
    return tuple(weight / sum(weights) for weight in weights)


def _match_class_orders(members: Sequence[Scores], names: Sequence[str]) -> list[NDArray[np.int64]]:
    """For each file, the indices of the first file's classes in it. Raises ValueError where split, fold or classes differ."""
    first = members[0].header
    orders = []
    for member, name in zip(members, names, strict=True):
        header = member.header
        if (header.split, header.fold) != (first.split, first.fold):
            raise ValueError(
                f"{names[0]} has split {first.split}, fold {first.fold}, but {name} has split {header.split}, "
                f"fold {header.fold}; fuse scores of the same videos"
            )
        try:
            match_classes(header.classes, first.classes)
            orders.append(np.array(match_classes(first.classes, header.classes), np.int64))
        except ValueError as error:
            raise ValueError(f"{names[0]} and {name} have different classes: {error}") from error
    return orders


def _describe_missing_videos(members: Sequence[Scores], names: Sequence[str]) -> tuple[str, ...]:
    """One sentence for each file that lacks videos of another one."""
    videos_by_member = [dict.fromkeys(compute_video_indices(member.table)[1]) for member in members]
    common_videos = set(videos_by_member[0]).intersection(*videos_by_member[1:])
    if not common_videos:
        raise ValueError(f"{' and '.join(names)} have no video in common; fuse scores of the same videos")
    videos = dict.fromkeys(video for member_videos in videos_by_member for video in member_videos)
    sentences = []
    for name, member_videos in zip(names, videos_by_member, strict=True):
        missing_videos = [video for video in videos if video not in member_videos]
        if missing_videos:
            sentences.append(
                f"{name} lacks {len(missing_videos)} of {len(videos)} videos "
                f"({join_names(missing_videos, max_names=MAX_LISTED_VIDEOS)}); they are counted as failed"
            )
    return tuple(sentences)


def _merge_labels(
    members: Sequence[Scores], names: Sequence[str], class_orders: Sequence[NDArray[np.int64]], videos: Sequence[str]
) -> list[tuple[int, ...]]:
    """The labels of each video as class indices of the first file. Raises ValueError where two files disagree."""
    labels_by_video: dict[str, tuple[int, ...]] = {}
    for member, name, order in zip(members, names, class_orders, strict=True):
        to_first = np.argsort(order)
        video_indices, member_videos = compute_video_indices(member.table)
        _, first_rows = np.unique(video_indices, return_index=True)
        for video, labels in zip(
            member_videos, member.table["labels"].take(pa.array(first_rows)).to_pylist(), strict=True
        ):
            member_labels = tuple(int(to_first[label]) for label in labels)
            if set(labels_by_video.setdefault(video, member_labels)) != set(member_labels):
                raise ValueError(
                    f"{video} has different labels in {name} and in {names[0]}; fuse scores of the same data"
                )
    return [labels_by_video[video] for video in videos]


def _fuse_views(
    members: Sequence[Scores],
    normalized_weights: Sequence[float],
    class_orders: Sequence[NDArray[np.int64]],
    videos: tuple[str, ...],
    labels: Sequence[tuple[int, ...]],
) -> tuple[VideoScores, int]:
    """Average the views that all files scored; also the number of views that only some of them scored."""
    header = members[0].header
    clips, num_classes = header.protocol.clips, len(header.classes)
    rows = np.stack([_find_scored_rows(member, videos) for member in members])  # (files, videos * clips)
    is_common = np.all(rows >= 0, axis=0)
    in_all_files = np.all(rows != ABSENT, axis=0)
    num_partial_views = int(np.count_nonzero(np.any(rows >= 0, axis=0) & ~is_common & in_all_files))
    probabilities = np.full((len(videos), num_classes), np.nan)
    num_right_views = np.zeros(len(videos), np.int64)
    common_views = np.flatnonzero(is_common)
    videos_per_block = max(1, BLOCK_ROWS // clips)
    for start in range(0, len(videos), videos_per_block):
        stop = start + videos_per_block
        block = common_views[(common_views >= start * clips) & (common_views < stop * clips)]
        if not len(block):
            continue
        video_indices = block // clips
        view_scores = np.zeros((len(block), num_classes))
        video_means = np.zeros((len(np.unique(video_indices)), num_classes))
        for member, weight, order, member_rows in zip(
            members, normalized_weights, class_orders, rows[:, block], strict=True
        ):
            logits = pc.list_flatten(member.table["logits"].take(pa.array(member_rows))).to_numpy()
            logits = logits.reshape(len(block), num_classes)[:, order].astype(np.float64)
            view_scores += weight * softmax(logits)
            present, means = average_by_video(logits, video_indices, average=member.header.protocol.average)
            video_means += weight * means
        probabilities[present] = video_means
        correct = _find_correct_rows(view_scores, [labels[index] for index in video_indices.tolist()])
        np.add.at(num_right_views, video_indices[correct], 1)
    num_common = np.bincount(common_views // clips, minlength=len(videos))
    num_views = np.full(len(videos), clips, np.int64)
    fused = VideoScores(
        header, videos, tuple(labels), probabilities, num_views, num_views - num_common, num_right_views
    )
    return fused, num_partial_views


def _find_scored_rows(member: Scores, videos: Sequence[str]) -> NDArray[np.int64]:
    """The row of `member` with the scores of each view of each video, int64 (videos * clips,).

    FAILED where the view has no scores, ABSENT where the file lacks the video.
    """
    clips = member.header.protocol.clips
    index_by_video = {video: index for index, video in enumerate(videos)}
    video_indices, names = compute_video_indices(member.table)
    keys = (
        np.array([index_by_video[name] for name in names], np.int64)[video_indices] * clips
        + member.table["view"].to_numpy()
    )
    scored = np.flatnonzero(member.table["logits"].is_valid().to_numpy())
    rows = np.full(len(videos) * clips, ABSENT, np.int64)
    rows[keys] = FAILED
    rows[keys[scored]] = scored
    return rows


def _fuse_videos(
    members: Sequence[Scores],
    normalized_weights: Sequence[float],
    class_orders: Sequence[NDArray[np.int64]],
    videos: tuple[str, ...],
    labels: Sequence[tuple[int, ...]],
) -> VideoScores:
    """Average the scores of videos; each video counts as one view."""
    header = members[0].header
    index_by_video = {video: index for index, video in enumerate(videos)}
    probabilities = np.zeros((len(videos), len(header.classes)))
    for member, weight, order in zip(members, normalized_weights, class_orders, strict=True):
        member_scores = compute_video_scores(member)
        aligned = np.full_like(probabilities, np.nan)  # NaN propagates: a video that one file lacks is not fused
        aligned[[index_by_video[video] for video in member_scores.videos]] = member_scores.probabilities[:, order]
        probabilities += weight * aligned
    failed = np.isnan(probabilities.sum(axis=1))
    num_right_views = np.zeros(len(videos), np.int64)
    readable = np.flatnonzero(~failed)
    correct = _find_correct_rows(probabilities[readable], [labels[index] for index in readable.tolist()])
    num_right_views[readable[correct]] = 1
    ones = np.ones(len(videos), np.int64)
    return VideoScores(header, videos, tuple(labels), probabilities, ones, np.where(failed, 1, 0), num_right_views)


def _find_correct_rows(scores_nc: NDArray[np.float64], labels: Sequence[tuple[int, ...]]) -> NDArray[np.intp]:
    """The rows whose most probable class is one of their labels."""
    rows = np.repeat(np.arange(len(labels)), [len(row_labels) for row_labels in labels])
    flat_labels = np.array([label for row_labels in labels for label in row_labels], np.int64)
    return np.flatnonzero(compute_best_ranks(scores_nc, rows, flat_labels) == 0)
