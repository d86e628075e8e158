"""From the scores of views to the scores of videos (paper section 4: softmax averaged over the clips of a video).

Enter: `Scores`, a row a planned view. Leave: `VideoScores`, a row a video: the mean over its readable views, how many views
failed, how many were right on their own. Failed views are counted, never replaced; a video without a readable view keeps its
row. Each video's mean is over its own views only, so videos with many failures weigh as much as any other. Pure numpy, in
blocks of whole videos: the result depends neither on how the table is chunked nor on the order of its rows.
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
from muybridge.evaluation.scores import Scores, ScoresHeader, compute_video_indices

BLOCK_ROWS = 8192  # 26 MB of float64 for 400 classes: what averaging holds in memory besides its result
UNRANKED = np.iinfo(np.int64).max  # rank of what has no label or no scores: outside any first k


@dataclass(frozen=True)
class VideoScores:
    """Scores of V videos in manifest order.

    probabilities float64 (V, classes), rows sum to 1; NaN where no view of the video was readable. labels: the class numbers
    of each video, none where unknown. num_views, num_failed_views and num_right_views int64 (V,): planned views, those that
    failed, and those whose own first class is a label of the video.
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
        assert len(self.labels) == num_videos, "labels, maybe none, for every video"
        assert self.probabilities.shape == (num_videos, len(self.header.classes)), "a probability for every class"
        for counts in (self.num_views, self.num_failed_views, self.num_right_views):
            assert counts.shape == (num_videos,), "a count for every video"
        assert bool(np.all(self.num_right_views + self.num_failed_views <= self.num_views)), "a right view was readable"
        assert bool(np.all(np.isnan(self.probabilities).any(axis=1) == ~self.readable_mask)), (
            "NaN where nothing was readable"
        )

    @property
    def readable_mask(self) -> NDArray[np.bool_]:
        """Which videos have at least one readable view, (V,)."""
        return self.num_failed_views < self.num_views

    @property
    def labeled_mask(self) -> NDArray[np.bool_]:
        """Which videos have at least one label, (V,)."""
        return np.array([len(labels) > 0 for labels in self.labels], dtype=np.bool_)

    def list_label_pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Every (number of a video, one of its labels), as two arrays (P,)."""
        num_labels = [len(labels) for labels in self.labels]
        videos = np.repeat(np.arange(len(self.videos)), num_labels)
        return videos, np.fromiter(chain.from_iterable(self.labels), np.int64, count=sum(num_labels))


def compute_video_scores(scores: Scores) -> VideoScores:
    """The scores of every video, averaged as the protocol says."""
    table, video_indices, names = _sort_by_video(scores.table)
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
        labels=tuple(map(tuple, table["labels"].take(pa.array(_find_first_rows(video_indices))).to_pylist())),
        probabilities=probabilities,
        num_views=np.bincount(video_indices, minlength=len(names)),
        num_failed_views=np.bincount(video_indices[failed], minlength=len(names)),
        num_right_views=num_right_views,
    )


def average_by_video(
    logits: NDArray[np.float64], video_indices: NDArray[np.int64], *, average: Average
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Views' logits (N, classes), sorted by the number of their video (N,), to the mean of each video that occurs.

    Returns those videos' numbers (M,) and their probabilities (M, classes): the mean of softmax, or the softmax of the mean.
    """
    first_rows = _find_first_rows(video_indices)
    num_views = np.diff(np.append(first_rows, len(video_indices)))[:, None]
    match average:
        case "softmax":
            means = np.add.reduceat(softmax(logits), first_rows, axis=0) / num_views
        case "logits":
            means = softmax(np.add.reduceat(logits, first_rows, axis=0) / num_views)
    return video_indices[first_rows], means


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the last axis; the largest is subtracted first, so that no logit overflows."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def compute_best_ranks(
    scores_nc: NDArray[np.float64], rows: NDArray[np.int64], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each row of scores (N, classes) the rank of its best placed label, 0 first; UNRANKED for rows without a label.

    `labels[i]` is a label of row `rows[i]`. A class's rank is the number of classes with a greater score, plus those with
    the same score and a lower number. So exactly k classes are among the first k: a network that gives every class the same
    score is right as often as chance, where counting all equal classes as first would make it right always.
    """
    ranks = np.full(len(scores_nc), UNRANKED)
    for start in range(
        0, len(rows), BLOCK_ROWS
    ):  # each pair compares a whole row: a million videos would not fit at once
        block = slice(start, start + BLOCK_ROWS)
        row_scores, own_labels = scores_nc[rows[block]], labels[block, None]
        label_scores = np.take_along_axis(row_scores, own_labels, axis=1)
        lower_number = np.arange(scores_nc.shape[1]) < own_labels
        ranks_higher = (row_scores > label_scores) | ((row_scores == label_scores) & lower_number)
        np.minimum.at(ranks, rows[block], np.count_nonzero(ranks_higher, axis=1))
    return ranks


def _compute_correct_views(block: pa.Table, logits: NDArray[np.float64]) -> NDArray[np.bool_]:
    labels = block["labels"].filter(block["logits"].is_valid())
    rows = pc.list_parent_indices(labels).to_numpy()
    ranks = compute_best_ranks(logits, rows, pc.list_flatten(labels).to_numpy().astype(np.int64))
    return np.equal(ranks, 0)


def _sort_by_video(table: pa.Table) -> tuple[pa.Table, NDArray[np.int64], list[str]]:
    """The rows by video, in order of first appearance, then by view; with the video number of each, and the names."""
    video_indices, names = compute_video_indices(table)
    order = np.lexsort((table["view"].to_numpy(), video_indices))
    if np.array_equal(order, np.arange(len(order))):  # as evaluation on one process writes them: no copy
        return table, video_indices, names
    return table.take(pa.array(order)), video_indices[order], names


def _iterate_blocks(video_indices: NDArray[np.int64]) -> Iterator[slice]:
    """Slices of rows of whole videos, about BLOCK_ROWS each."""
    ends = np.append(_find_first_rows(video_indices)[1:], len(video_indices))
    start = 0
    while start < len(video_indices):
        stop = int(ends[min(int(np.searchsorted(ends, start + BLOCK_ROWS)), len(ends) - 1)])
        yield slice(start, stop)
        start = stop


def _find_first_rows(video_indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each video begins among sorted rows."""
    return np.flatnonzero(np.diff(video_indices, prepend=-1))
