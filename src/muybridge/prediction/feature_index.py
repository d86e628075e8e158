"""An index of windows by their features: those most like a query, and votes of the nearest labelled ones. No torch, no files.

Input: a feature vector a window. Output: windows in order of their cosine with the query, or the shares of classes among the
nearest labelled windows. The search is exact: one product of a matrix and a vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muybridge.prediction.segments import parse_segment_name
from muybridge.prediction.timeline import Segment, Window, merge_windows
from muybridge.records import TimeOrigin
from muybridge.text import format_count

_BLOCK_ROWS = 1024  # rows compared with all labelled ones at once


@dataclass(frozen=True)
class SimilarWindow:
    """A window of a video, and its cosine with what was looked for, -1 to 1."""

    video: str
    start_seconds: float
    end_seconds: float
    similarity: float


def normalize_features(features_nd: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features (N, D) of length 1. Raises ValueError for numbers that are not finite, and for rows without a direction."""
    norms = np.linalg.norm(features_nd.astype(np.float64), axis=1, keepdims=True)  # squares of large floats overflow
    if not np.isfinite(norms).all():
        raise ValueError("some features are not finite; extract them again")
    if not norms.all():
        raise ValueError("some features are all 0, which are like nothing; check the weights")
    directions: NDArray[np.float32] = (features_nd / norms).astype(np.float32)
    return directions


@dataclass(frozen=True, eq=False)
class FeatureIndex:
    """The windows of some videos: N rows in order of video and time.

    features_nd float32 (N, D) of length 1; `video_indices` int32 (N,) into `videos`; starts and ends float64 (N,) in seconds.
    """

    videos: tuple[str, ...]
    video_indices: NDArray[np.int32]
    start_seconds: NDArray[np.float64]
    end_seconds: NDArray[np.float64]
    features_nd: NDArray[np.float32]
    time_origin: TimeOrigin = "picture"

    def find_rows(self, query: str) -> NDArray[np.int64]:
        """The windows centred in a query, such as `match.mp4#10-12`, or of a whole video; the nearest one if there is none.

        Raises ValueError for a video that is not in the index, and a part that ends before it starts.
        """
        if query in self.videos:
            return self._get_rows(query)
        name = parse_segment_name(query)
        if name is None or name[0] not in self.videos:
            raise ValueError(
                f"{query} is no video of the index, nor a part of one such as {self.videos[0]}#0-2; it was made from "
                f"{format_count(len(self.videos), 'video')}, whose names are as they were given to `muybridge extract`"
            )
        start, end = name[1] or 0.0, np.inf if name[2] is None else name[2]
        if not start < end:
            raise ValueError(f"{query} is no part of a video: it ends before it starts")
        if len(rows := self.find_rows_between(name[0], start, end)) == 0:
            last = self.end_seconds[self._get_rows(name[0])].max()
            raise ValueError(f"{query} is after the last window of the index, which ends at {last:.2f} s")
        return rows

    def find_rows_between(self, video: str, start_seconds: float, end_seconds: float) -> NDArray[np.int64]:
        """The windows of a video centred between two times, or the one nearest to their middle; none after the last one."""
        rows = self._get_rows(video)
        if start_seconds >= self.end_seconds[rows].max():
            return rows[:0]
        centers = (self.start_seconds[rows] + self.end_seconds[rows]) / 2
        inside = rows[(centers >= start_seconds) & (centers <= end_seconds)]
        if len(inside):
            return inside
        middle = (start_seconds + min(end_seconds, float(self.end_seconds[rows].max()))) / 2
        return rows[[int(np.abs(centers - middle).argmin())]]

    def find_similar(self, rows: NDArray[np.int64], *, top: int) -> list[SimilarWindow]:
        """The `top` windows most like the mean of these, most similar first; none overlaps these or another one."""
        query = self.features_nd[rows].mean(axis=0)
        similarities = self.features_nd @ (query / max(float(np.linalg.norm(query)), 1e-12))
        is_free = np.ones(len(similarities), np.bool_)
        for row in rows.tolist():
            is_free &= ~self._overlaps(row)
        matches: list[SimilarWindow] = []
        for row in np.argsort(-similarities, kind="stable").tolist():
            if len(matches) == top:
                break
            if is_free[row]:
                is_free &= ~self._overlaps(row)
                matches.append(
                    SimilarWindow(
                        self.videos[self.video_indices[row]],
                        float(self.start_seconds[row]),
                        float(self.end_seconds[row]),
                        float(similarities[row]),
                    )
                )
        return matches

    def vote(
        self, label_by_row: Mapping[int, int], num_classes: int, *, num_neighbors: int
    ) -> Iterator[tuple[str, list[Window]]]:
        """Each video with its windows and the share of each class among their `num_neighbors` nearest labelled windows.

        A labelled window is not its own neighbour. Raises ValueError where fewer windows are labelled than neighbours wanted.
        """
        if len(label_by_row) <= num_neighbors:
            raise ValueError(
                f"{format_count(len(label_by_row), 'window', 'is')} labelled, expected more than the "
                f"{num_neighbors} that vote; label "
                "more, or ask for fewer neighbours"
            )
        labeled = np.array(sorted(label_by_row), np.int64)
        labels = np.array([label_by_row[row] for row in labeled.tolist()])
        for video in self.videos:
            rows = self._get_rows(video)
            windows = []
            for block in np.split(rows, range(_BLOCK_ROWS, len(rows), _BLOCK_ROWS)):
                shares = np.zeros((len(block), num_classes))
                nearest = labels[self._find_neighbors(block, labeled, num_neighbors)]
                np.add.at(shares, (np.arange(len(block))[:, None], nearest), 1)
                windows += [
                    Window(float(self.start_seconds[row]), float(self.end_seconds[row]), tuple(share))
                    for row, share in zip(block.tolist(), (shares / num_neighbors).tolist(), strict=True)
                ]
            yield video, windows

    def _find_neighbors(
        self, rows: NDArray[np.int64], labeled: NDArray[np.int64], num_neighbors: int
    ) -> NDArray[np.int64]:
        """For each row the positions in `labeled` of its nearest ones, itself left out: (rows, num_neighbors)."""
        similarities = self.features_nd[rows] @ self.features_nd[labeled].T
        similarities[rows[:, None] == labeled] = -np.inf
        return np.argpartition(-similarities, num_neighbors - 1, axis=1)[:, :num_neighbors]

    def _get_rows(self, video: str) -> NDArray[np.int64]:
        index = self.videos.index(video)
        return np.arange(*np.searchsorted(self.video_indices, [index, index + 1]))

    def _overlaps(self, row: int) -> NDArray[np.bool_]:
        overlaps: NDArray[np.bool_] = (
            (self.video_indices == self.video_indices[row])
            & (self.start_seconds < self.end_seconds[row])
            & (self.end_seconds > self.start_seconds[row])
        )
        return overlaps


@dataclass(frozen=True)
class NeighborVotes:
    """Each video with its windows, one after the other: the share of each class among the nearest labelled windows."""

    classes: tuple[str, ...]
    windows: Iterator[tuple[str, Sequence[Window]]]


def vote_labels(index: FeatureIndex, labeled: Sequence[tuple[str, Segment]], *, num_neighbors: int) -> NeighborVotes:
    """The votes of the nearest labelled windows along every video of the index. Raises ValueError as `FeatureIndex.vote`."""
    classes = tuple(sorted({segment.label for _, segment in labeled}))
    labels = {label: index for index, label in enumerate(classes)}
    label_by_row = {
        int(row): labels[segment.label]
        for video, segment in labeled
        for row in index.find_rows_between(video, segment.start_seconds, segment.end_seconds)
    }
    return NeighborVotes(classes, index.vote(label_by_row, len(classes), num_neighbors=num_neighbors))


def spread_labels(
    index: FeatureIndex, labeled: Sequence[tuple[str, Segment]], *, num_neighbors: int
) -> dict[str, tuple[Segment, ...]]:
    """Segments of every video of the index by the votes of nearest labelled windows; a gap where no class has half of them."""
    votes = vote_labels(index, labeled, num_neighbors=num_neighbors)
    return {video: merge_windows(own, votes.classes, minimum_probability=0.5) for video, own in votes.windows}
