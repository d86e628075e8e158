"""Windows of videos that look alike, by the cosine of their features, and labels by nearest neighbours, before any training.

Input: a features file with a window every few frames (`muybridge extract --step`), which is the index. Output: the windows
most like a query, or segments of every video, voted by the nearest labelled windows. The search is exact: one product of a
matrix and a vector.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from muybridge.datasets.video_list import read_video_list
from muybridge.files.parquet_file import read_parquet, refuse_damaged
from muybridge.parsing import parse_json_object, parse_record
from muybridge.prediction.segments import parse_segment_name
from muybridge.prediction.tables import FEATURES_SCHEMA, METADATA_KEY
from muybridge.prediction.timeline import Segment, Window, merge_windows
from muybridge.records import Preprocessing

_BLOCK_ROWS = 4096  # rows compared with all labelled ones at once


@dataclass(frozen=True)
class SimilarWindow:
    """A window of a video, and its cosine with what was looked for, -1 to 1."""

    video: str
    start_seconds: float
    end_seconds: float
    similarity: float


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

    def find_rows(self, query: str) -> NDArray[np.int64]:
        """The windows centred in a query, such as `match.mp4#10-12`, or of a whole video; the nearest one if there is none.

        Raises ValueError for a video that is not in the index.
        """
        if query in self.videos:
            return self._get_rows(query)
        name = parse_segment_name(query)
        if name is None or name[0] not in self.videos:
            raise ValueError(
                f"{query} is no video of the index, nor a part of one such as {self.videos[0]}#0-2; it was made from "
                f"{len(self.videos)} videos, whose names are as they were given to `muybridge extract`"
            )
        video, start, end = name
        return self.find_rows_between(video, start or 0.0, np.inf if end is None else end)

    def find_rows_between(self, video: str, start_seconds: float, end_seconds: float) -> NDArray[np.int64]:
        """The windows of a video centred between two times, or the one nearest to their middle."""
        rows = self._get_rows(video)
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

    def vote(self, label_by_row: Mapping[int, int], num_classes: int, *, num_neighbors: int) -> dict[str, list[Window]]:
        """For each video its windows with the share of each class among the `num_neighbors` nearest labelled windows.

        A labelled window is not its own neighbour. Raises ValueError where fewer windows are labelled than neighbours wanted.
        """
        if len(label_by_row) <= num_neighbors:
            raise ValueError(
                f"{len(label_by_row)} windows are labelled, expected more than the {num_neighbors} neighbours that vote; label "
                "more, or ask for fewer neighbours"
            )
        labeled = np.array(sorted(label_by_row), np.int64)
        labels = np.array([label_by_row[row] for row in labeled.tolist()])
        shares = np.empty((len(self.features_nd), num_classes))
        for first in range(0, len(self.features_nd), _BLOCK_ROWS):
            block = slice(first, first + _BLOCK_ROWS)
            similarities = self.features_nd[block] @ self.features_nd[labeled].T
            own = (labeled >= first) & (labeled < first + _BLOCK_ROWS)
            similarities[labeled[own] - first, np.flatnonzero(own)] = -np.inf
            nearest = np.argpartition(-similarities, num_neighbors - 1, axis=1)[:, :num_neighbors]
            shares[block] = (labels[nearest][..., None] == np.arange(num_classes)).mean(axis=1)
        return {
            video: [
                Window(float(self.start_seconds[row]), float(self.end_seconds[row]), tuple(shares[row].tolist()))
                for row in self._get_rows(video).tolist()
            ]
            for video in self.videos
        }

    def _get_rows(self, video: str) -> NDArray[np.int64]:
        return np.flatnonzero(self.video_indices == self.videos.index(video))

    def _overlaps(self, row: int) -> NDArray[np.bool_]:
        overlaps: NDArray[np.bool_] = (
            (self.video_indices == self.video_indices[row])
            & (self.start_seconds < self.end_seconds[row])
            & (self.end_seconds > self.start_seconds[row])
        )
        return overlaps


def read_feature_index(path: str | Path) -> FeatureIndex:
    """Read a features file as an index. Raises ValueError for another file, and for one without a window every few frames."""
    path = Path(path)
    with refuse_damaged(f"{path} is not a features file of `muybridge extract`"):
        schema = pq.read_schema(path)
        if not set(FEATURES_SCHEMA.names) <= set(schema.names):
            columns = ", ".join(schema.names)
            raise ValueError(f"{path} is not a features file of `muybridge extract` (it has the columns {columns})")
        metadata = schema.metadata or {}
        table = read_parquet(path, FEATURES_SCHEMA.names)
    settings = parse_json_object(metadata.get(METADATA_KEY, b"{}"), f"the metadata of {path}")
    step_frames = settings.get("step_frames")
    if not isinstance(step_frames, int) or len(table) == 0:
        raise ValueError(
            f"{path} has no windows along its videos; make it with `muybridge extract RUN VIDEOS --step 8 -o {path.name}`"
        )
    preprocessing = parse_record(
        Preprocessing, settings["preprocessing"], f"the preprocessing of {path}", optional=None
    )
    features = table["features"].combine_chunks()
    features_nd = features.flatten().to_numpy().reshape(len(table), -1).astype(np.float32)
    if not np.isfinite(features_nd).all():
        raise ValueError(f"{path} has features that are not finite; extract them again")
    features_nd /= np.maximum(np.linalg.norm(features_nd, axis=1, keepdims=True), 1e-12)
    names = table["video"].combine_chunks().dictionary_encode()
    video_indices = names.indices.to_numpy().astype(np.int32)
    starts = table["start_seconds"].to_numpy()
    order = np.lexsort((starts, video_indices))
    starts, video_indices = starts[order], video_indices[order]
    spans = _compute_spans(starts, video_indices, preprocessing.clip_span / step_frames)
    return FeatureIndex(tuple(names.dictionary.to_pylist()), video_indices, starts, starts + spans, features_nd[order])


def read_labeled_segments(path: Path, index: FeatureIndex) -> tuple[list[tuple[str, Segment]], list[str]]:
    """The labelled segments of a list in videos of the index, each with its video's name there, and a note on the others.

    Raises ValueError for a damaged list, for segments with several labels, and where none is in a video of the index.
    """
    rows = read_video_list(path)
    if rows.problems:
        line_number, problem = rows.problems[0]
        raise ValueError(f"line {line_number} of {path} {problem}")
    several = [row.segment_name for row in rows.rows if len(row.labels) > 1]
    if several:
        raise ValueError(f"{path} has several labels for {several[0]}, expected one class a segment")
    names = {str(Path(video).resolve()): video for video in index.videos}
    match = [
        (names[video], Segment(row.labels[0], row.start_seconds or 0.0, row.end_seconds or np.inf, 1.0))
        for row in rows.rows
        if (video := str((path.parent / row.path).resolve())) in names
    ]
    if not match:
        raise ValueError(f"no segment of {path} is in a video of the index, such as {index.videos[0]}")
    num_others = len(rows.rows) - len(match)
    notes = [f"{num_others} segments of {path} are in videos that the index does not have."] if num_others else []
    return match, [*rows.notes, *notes]


def spread_labels(
    index: FeatureIndex, labeled: Sequence[tuple[str, Segment]], *, num_neighbors: int
) -> dict[str, tuple[Segment, ...]]:
    """Segments of every video of the index by the votes of nearest labelled windows; a gap where no class has half of them."""
    classes = sorted({segment.label for _, segment in labeled})
    label_by_row = {
        int(row): classes.index(segment.label)
        for video, segment in labeled
        for row in index.find_rows_between(video, segment.start_seconds, segment.end_seconds)
    }
    windows = index.vote(label_by_row, len(classes), num_neighbors=num_neighbors)
    return {video: merge_windows(own, classes, minimum_probability=0.5) for video, own in windows.items()}


def segments_to_list(segments: Mapping[str, Sequence[Segment]], folder: Path) -> str:
    """A list (docs/data.md) of the segments of videos, with paths relative to `folder`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "start_seconds", "end_seconds"])
    for video, own in segments.items():
        path = os.path.relpath(Path(video).absolute(), folder.absolute())
        writer.writerows(
            [path, segment.label, f"{segment.start_seconds:.3f}", f"{segment.end_seconds:.3f}"] for segment in own
        )
    return text.getvalue()


def _compute_spans(
    starts: NDArray[np.float64], video_indices: NDArray[np.int32], steps_per_span: float
) -> NDArray[np.float64]:
    """The duration of each window: so many steps from one start to the next, by the median step of its video."""
    spans = np.empty(len(starts))
    for video in np.unique(video_indices):
        rows = np.flatnonzero(video_indices == video)
        steps = np.diff(starts[rows])
        spans[rows] = float(np.median(steps)) * steps_per_span if len(steps) else np.nan
    known = np.nanmedian(spans) if np.isfinite(spans).any() else 1.0
    return np.where(np.isfinite(spans), spans, known)
