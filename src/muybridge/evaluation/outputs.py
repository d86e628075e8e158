"""Averaging the outputs of views into values of videos, for the tasks multi_label, regression and ordinal.

Input: `Scores` of format 2, a row a planned view. Output: `VideoOutputs`, a row a video. As with classes that exclude each
other (`aggregate`), failed views are counted and never replaced, and every video has the same weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from muybridge.evaluation.aggregate import VideoScores, compute_video_scores, find_first_rows, sort_by_video
from muybridge.evaluation.protocol import Average
from muybridge.evaluation.scores import Scores
from muybridge.evaluation.scores_header import ScoresHeader
from muybridge.models.heads import Head


@dataclass(frozen=True)
class VideoOutputs:
    """Values of V videos in manifest order.

    values: float64 (V, D) after the link, NaN where no view of the video was readable. targets: float64 (V, T), NaN where
    unknown; T is D, or 1 level for ordinal. num_views, num_failed_views: int64 (V,).
    """

    header: ScoresHeader
    videos: tuple[str, ...]
    targets: NDArray[np.float64]
    values: NDArray[np.float64]
    num_views: NDArray[np.int64]
    num_failed_views: NDArray[np.int64]

    def __post_init__(self) -> None:
        num_videos = len(self.videos)
        assert self.values.shape == (num_videos, self.header.num_outputs), "a value for every output"
        assert self.targets.shape == (num_videos, self.header.num_targets), "a target for every output"
        assert self.num_views.shape == self.num_failed_views.shape == (num_videos,), "a count for every video"

    @property
    def head(self) -> Head:
        """The meaning of the outputs."""
        assert self.header.head is not None, "scores of format 2 have a head"
        return self.header.head

    @property
    def readable_mask(self) -> NDArray[np.bool_]:
        """Whether each video has a readable view, bool (V,)."""
        return self.num_failed_views < self.num_views

    @property
    def labeled_mask(self) -> NDArray[np.bool_]:
        """Whether a target of each video is known, bool (V,)."""
        return np.asarray(~np.isnan(self.targets).all(axis=1))


def average_views(
    outputs: NDArray[np.float64], video_indices: NDArray[np.int64], head: Head, *, average: Average
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Average the outputs of views (N, D), sorted by the index of their video (N,), as the protocol says.

    Returns the indices of the M videos that occur, (M,), and their values (M, D).
    """
    first_rows = find_first_rows(video_indices)
    num_views = np.diff(np.append(first_rows, len(video_indices)))[:, None]
    if average == "logits":
        values = head.invert_link(np.add.reduceat(outputs, first_rows, axis=0) / num_views)
    else:
        values = np.add.reduceat(head.invert_link(outputs), first_rows, axis=0) / num_views
    return video_indices[first_rows], values


def compute_video_outputs(scores: Scores) -> VideoOutputs:
    """Average the views of each video. The scores are of another task than single_label."""
    header = scores.header
    table, video_indices, names = sort_by_video(scores.table)
    failed = table["outputs"].is_null().to_numpy()
    outputs = pc.list_flatten(table["outputs"]).to_numpy().reshape(-1, header.num_outputs).astype(np.float64)
    values = np.full((len(names), header.num_outputs), np.nan)
    assert header.head is not None, "scores of format 2 have a head"
    if len(outputs):
        present, means = average_views(outputs, video_indices[~failed], header.head, average=header.protocol.average)
        values[present] = means
    first_rows = pa.array(find_first_rows(video_indices))
    targets = pc.list_flatten(table["targets"].take(first_rows)).to_numpy()
    return VideoOutputs(
        header=header,
        videos=tuple(names),
        targets=targets.reshape(-1, header.num_targets).astype(np.float64),
        values=values,
        num_views=np.bincount(video_indices, minlength=len(names)),
        num_failed_views=np.bincount(video_indices[failed], minlength=len(names)),
    )


def average_scores(scores: Scores) -> VideoScores | VideoOutputs:
    """Average the views of each video, for any task."""
    return compute_video_scores(scores) if scores.header.head is None else compute_video_outputs(scores)
