"""Averaging the scores of views into the scores of videos (paper section 4: softmax averaged over the clips of a video).

Input: `Scores`, a row a planned view. Output: `VideoScores`, a row a video with the mean over its readable views, the number
of failed views and the number of views that are right by themselves. Failed views are counted, never replaced, and a video
without a readable view keeps its row. Every video has the same weight, however many of its views failed. Pure NumPy, in
blocks of whole videos; the result depends neither on the chunks of the table nor on the order of its rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from muybridge.evaluation.protocol import Average
from muybridge.evaluation.scores import Scores, compute_video_indices
from muybridge.evaluation.scores_header import ScoresHeader

BLOCK_ROWS = 8192  # 26 MB of float64 for 400 classes: the memory that averaging needs besides its result
UNRANKED = np.iinfo(np.int64).max  # rank of a video without labels or scores: above any k


@dataclass(frozen=True)
class VideoScores:
    """Scores of V videos in manifest order.

    probabilities: float64 (V, classes); rows sum to 1, or are NaN where no view of the video was readable. labels: the class
    indices of each video, empty where unknown. num_views, num_failed_views, num_right_views: int64 (V,), the numbers of
    planned views, of failed ones, and of those whose most probable class is a label of the video.
    """

    header: ScoresHeader
    videos: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]
    probabilities: NDArray[np.float64]
    num_views: NDArray[np.int64]
    num_failed_views: NDArray[np.int64]
    num_right_views: NDArray[np.int64]

    def __post_init__(self) -> None:
        num_videos = len(self.videos)
        assert len(self.labels) == num_videos, "one tuple of labels for every video"
        assert self.probabilities.shape == (num_videos, len(self.header.classes)), "a probability for every class"
        for counts in (self.num_views, self.num_failed_views, self.num_right_views):
            assert counts.shape == (num_videos,), "a count for every video"
        assert bool(np.all(self.num_right_views + self.num_failed_views <= self.num_views)), "a right view was readable"
        assert bool(np.all(np.isnan(self.probabilities).any(axis=1) == ~self.readable_mask)), (
            "NaN where nothing was readable"
        )

    @property
    def readable_mask(self) -> NDArray[np.bool_]:
        """Whether each video has a readable view, bool (V,)."""
        return self.num_failed_views < self.num_views

    @property
    def labeled_mask(self) -> NDArray[np.bool_]:
        """Whether each video has a label, bool (V,)."""
        return np.array([len(labels) > 0 for labels in self.labels], dtype=np.bool_)

    def list_label_pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All pairs of a video's index and one of its labels, as two int64 arrays (P,)."""
        num_labels = [len(labels) for labels in self.labels]
        videos = np.repeat(np.arange(len(self.videos)), num_labels)
        return videos, np.fromiter(chain.from_iterable(self.labels), np.int64, count=sum(num_labels))


def compute_video_scores(scores: Scores) -> VideoScores:
    """Average the scores of the views of each video as the protocol says."""
    table, video_indices, names = sort_by_video(scores.table)
    failed = table["logits"].is_null().to_numpy()
    probabilities = np.full((len(names), len(scores.header.classes)), np.nan)
    num_right_views = np.zeros(len(names), np.int64)
    for rows in _iterate_blocks(video_indices):
        block = table.slice(rows.start, rows.stop - rows.start)
        block_video_indices = video_indices[rows][~failed[rows]]
        if not len(block_video_indices):
            continue
        logits = pc.list_flatten(block["logits"]).to_numpy().reshape(len(block_video_indices), -1).astype(np.float64)
        np.add.at(num_right_views, block_video_indices[_compute_correct_views(block, logits)], 1)
        present, means = average_by_video(logits, block_video_indices, average=scores.header.protocol.average)
        probabilities[present] = means
    return VideoScores(
        header=scores.header,
        videos=tuple(names),
        labels=tuple(map(tuple, table["labels"].take(pa.array(find_first_rows(video_indices))).to_pylist())),
        probabilities=probabilities,
        num_views=np.bincount(video_indices, minlength=len(names)),
        num_failed_views=np.bincount(video_indices[failed], minlength=len(names)),
        num_right_views=num_right_views,
    )


def average_by_video(
    logits: NDArray[np.float64], video_indices: NDArray[np.int64], *, average: Average
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Average the logits of views (N, classes), sorted by the index of their video (N,).

    Returns the indices of the M videos that occur, (M,), and their probabilities (M, classes): the mean of the softmax, or
    the softmax of the mean logits.
    """
    first_rows = find_first_rows(video_indices)
    num_views = np.diff(np.append(first_rows, len(video_indices)))[:, None]
    match average:
        case "softmax":
            means = np.add.reduceat(softmax(logits), first_rows, axis=0) / num_views
        case "logits":
            means = softmax(np.add.reduceat(logits, first_rows, axis=0) / num_views)
        case _:
            raise ValueError(f"softmax or logits are averaged for classes that exclude each other, not {average}")
    return video_indices[first_rows], means


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax along the last axis, without overflow."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def compute_best_ranks(
    scores_nc: NDArray[np.float64], rows: NDArray[np.int64], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The best rank among the labels of each row of scores (N, classes), from 0; UNRANKED for rows without a label.

    `labels[i]` is a label of row `rows[i]`. The rank of a class is the number of classes with a greater score, plus those
    with the same score and a lower index. So exactly k classes have a rank below k, and a network that gives every class the
    same score is right as often as chance; ranking all equal classes first would make it always right.
    """
    ranks = np.full(len(scores_nc), UNRANKED)
    for start in range(0, len(rows), BLOCK_ROWS):  # bounds memory: every pair compares a whole row of scores
        block = slice(start, start + BLOCK_ROWS)
        row_scores, row_labels = scores_nc[rows[block]], labels[block, None]
        label_scores = np.take_along_axis(row_scores, row_labels, axis=1)
        has_lower_index = np.arange(scores_nc.shape[1]) < row_labels
        ranks_higher = (row_scores > label_scores) | ((row_scores == label_scores) & has_lower_index)
        np.minimum.at(ranks, rows[block], np.count_nonzero(ranks_higher, axis=1))
    return ranks


def _compute_correct_views(block: pa.Table, logits: NDArray[np.float64]) -> NDArray[np.bool_]:
    labels = block["labels"].filter(block["logits"].is_valid())
    rows = pc.list_parent_indices(labels).to_numpy()
    ranks = compute_best_ranks(logits, rows, pc.list_flatten(labels).to_numpy().astype(np.int64))
    return np.equal(ranks, 0)


def sort_by_video(table: pa.Table) -> tuple[pa.Table, NDArray[np.int64], list[str]]:
    """Sort rows by video, in order of first appearance, then by view; also the video index of each row, and the names."""
    video_indices, names = compute_video_indices(table)
    order = np.lexsort((table["view"].to_numpy(), video_indices))
    if np.array_equal(order, np.arange(len(order))):  # as one process writes them: avoids a copy
        return table, video_indices, names
    return table.take(pa.array(order)), video_indices[order], names


def _iterate_blocks(video_indices: NDArray[np.int64]) -> Iterator[slice]:
    """Slices of rows that hold whole videos, about BLOCK_ROWS each."""
    ends = np.append(find_first_rows(video_indices)[1:], len(video_indices))
    start = 0
    while start < len(video_indices):
        stop = int(ends[min(int(np.searchsorted(ends, start + BLOCK_ROWS)), len(ends) - 1)])
        yield slice(start, stop)
        start = stop


def find_first_rows(video_indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first row of each video, for rows sorted by video."""
    return np.flatnonzero(np.diff(video_indices, prepend=-1))
