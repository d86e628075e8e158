"""The members of a fusion, aligned: the same outputs, videos, and labels or targets.

Input: score files of one task. Output: an `AlignedMembers`. Outputs are matched by name, as classes are. Where the mean of two
outputs has no meaning, because tasks, classes, targets, units or levels differ, ValueError names the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from muybridge.datasets.classes import match_classes, normalize_class_name
from muybridge.evaluation.scores import Scores, compute_video_indices
from muybridge.models.heads import Head
from muybridge.text import format_count, join_names

MAX_LISTED_VIDEOS = 3  # videos named in a message
FAILED, ABSENT = -1, -2  # instead of a row index


@dataclass(frozen=True)
class AlignedMembers:
    """Score files of the same videos.

    `orders` has for each file the indices of the first file's outputs in it. `known` are the labels of each video, as class
    indices of the first file, or its targets in the order of the first file. `problems` are sentences on missing videos.
    """

    files: tuple[Scores, ...]
    orders: tuple[NDArray[np.int64], ...]
    videos: tuple[str, ...]
    known: tuple[tuple[float, ...], ...]
    problems: tuple[str, ...]

    def find_scored_rows(self, member: Scores) -> NDArray[np.int64]:
        """The row of `member` with the scores of each view of each video, int64 (videos * views,).

        FAILED where the view has no scores, ABSENT where the file lacks the video.
        """
        num_views = member.header.protocol.num_views
        index_by_video = {video: index for index, video in enumerate(self.videos)}
        video_indices, names = compute_video_indices(member.table)
        keys = (
            np.array([index_by_video[name] for name in names], np.int64)[video_indices] * num_views
            + member.table["view"].to_numpy()
        )
        scored = np.flatnonzero(member.table[member.header.output_column].is_valid().to_numpy())
        rows = np.full(len(self.videos) * num_views, ABSENT, np.int64)
        rows[keys] = FAILED
        rows[keys[scored]] = scored
        return rows


def align_members(files: Sequence[Scores], names: Sequence[str]) -> AlignedMembers:
    """Match outputs, videos and targets; `names` identify the files in messages.

    Raises ValueError where the files differ in split, fold, outputs or labels, or have no video in common.
    """
    orders = _match_orders(files, names)
    videos = tuple(dict.fromkeys(name for file in files for name in compute_video_indices(file.table)[1]))
    problems = _describe_missing_videos(files, names)
    return AlignedMembers(tuple(files), orders, videos, _merge_known(files, names, orders, videos), problems)


def match_outputs(
    classes: Sequence[str], head: Head | None, other_classes: Sequence[str], other: Head | None
) -> list[int]:
    """The index of each output of one network among those of another one, by name.

    `head` and `other` are None for single_label. Raises ValueError where the mean of the outputs has no meaning.
    """
    task, other_task = (one.task if one else "single_label" for one in (head, other))
    if task != other_task:
        raise ValueError(f"one is of the task {task}, the other of {other_task}; average networks of one task")
    if head is None or other is None or task == "multi_label":
        match_classes(other_classes, classes)
        return match_classes(classes, other_classes)
    if task == "ordinal":
        if [*map(normalize_class_name, classes)] != [*map(normalize_class_name, other_classes)]:
            raise ValueError(
                f"the levels are {join_names(classes)} and {join_names(other_classes)}; average networks of the same levels"
            )
        return list(range(len(head.outputs)))
    match_classes(other.outputs, head.outputs)
    order = match_classes(head.outputs, other.outputs)
    for index, name in enumerate(head.outputs):
        units = (head.get_unit(index), other.get_unit(order[index]))
        if all(units) and units[0] != units[1]:
            raise ValueError(f"{name} is in {units[0]} and in {units[1]}; average numbers of one unit")
    return order


def average_heads(
    heads: Sequence[Head | None],
    orders: Sequence[Sequence[int] | NDArray[np.int64]],
    normalized_weights: Sequence[float],
) -> Head | None:
    """The head of the mean of networks: that of the first, for multi_label with the mean of their thresholds.

    A class is predicted where the mean probability reaches it, so where the networks exceed their own thresholds in the mean.
    """
    first = heads[0]
    if first is None or first.task != "multi_label":
        return first
    rows = [
        np.array(head.resolved_thresholds)[np.asarray(order)] for head, order in zip(heads, orders, strict=True) if head
    ]
    return replace(first, thresholds=tuple(np.average(rows, axis=0, weights=normalized_weights).tolist()))


def _match_orders(files: Sequence[Scores], names: Sequence[str]) -> tuple[NDArray[np.int64], ...]:
    """For each file, the indices of the first file's outputs in it. Raises ValueError where split, fold or outputs differ."""
    first = files[0].header
    orders = []
    for file, name in zip(files, names, strict=True):
        header = file.header
        if (header.split, header.fold) != (first.split, first.fold):
            raise ValueError(
                f"{names[0]} has split {first.split}, fold {first.fold}, but {name} has split {header.split}, "
                f"fold {header.fold}; fuse scores of the same videos"
            )
        try:
            orders.append(np.array(match_outputs(first.classes, first.head, header.classes, header.head), np.int64))
        except ValueError as error:
            noun = "outputs" if first.head or header.head else "classes"
            raise ValueError(f"{names[0]} and {name} have different {noun}: {error}") from error
    return tuple(orders)


def _describe_missing_videos(files: Sequence[Scores], names: Sequence[str]) -> tuple[str, ...]:
    """One sentence for each file that lacks videos of another one."""
    videos_by_file = [dict.fromkeys(compute_video_indices(file.table)[1]) for file in files]
    common_videos = set(videos_by_file[0]).intersection(*videos_by_file[1:])
    if not common_videos:
        raise ValueError(f"{' and '.join(names)} have no video in common; fuse scores of the same videos")
    videos = dict.fromkeys(video for file_videos in videos_by_file for video in file_videos)
    sentences = []
    for name, file_videos in zip(names, videos_by_file, strict=True):
        missing_videos = [video for video in videos if video not in file_videos]
        if missing_videos:
            verb = "it is" if len(missing_videos) == 1 else "they are"
            sentences.append(
                f"{name} lacks {len(missing_videos)} of {format_count(len(videos), 'video')} "
                f"({join_names(missing_videos, max_names=MAX_LISTED_VIDEOS)}); {verb} counted as failed"
            )
    return tuple(sentences)


def _merge_known(
    files: Sequence[Scores], names: Sequence[str], orders: Sequence[NDArray[np.int64]], videos: Sequence[str]
) -> tuple[tuple[float, ...], ...]:
    """The labels or targets of each video in the terms of the first file. Raises ValueError where two files disagree."""
    known_by_video: dict[str, tuple[float, ...]] = {}
    column = files[0].header.target_column
    for file, name, order in zip(files, names, orders, strict=True):
        video_indices, file_videos = compute_video_indices(file.table)
        _, first_rows = np.unique(video_indices, return_index=True)
        rows = file.table[column].take(pa.array(first_rows)).to_pylist()
        for video, row in zip(file_videos, rows, strict=True):
            known = _reorder_known(row, order, file.header.head)
            if not _are_same(known_by_video.setdefault(video, known), known, file.header.head):
                raise ValueError(
                    f"{video} has different {column} in {name} and in {names[0]}; fuse scores of the same data"
                )
    return tuple(known_by_video[video] for video in videos)


def _reorder_known(row: Sequence[float], order: NDArray[np.int64], head: Head | None) -> tuple[float, ...]:
    """The labels or targets of a video as the first file has them."""
    if head is None:
        to_first = np.argsort(order)
        return tuple(int(to_first[int(label)]) for label in row)
    return tuple(row) if head.task == "ordinal" else tuple(row[index] for index in order.tolist())


def _are_same(some: Sequence[float], others: Sequence[float], head: Head | None) -> bool:
    if head is None:
        return set(some) == set(others)
    return np.array_equal(np.array(some, np.float64), np.array(others, np.float64), equal_nan=True)
