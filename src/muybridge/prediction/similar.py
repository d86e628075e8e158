"""Windows of videos that look alike, by the cosine of their features, and labels by nearest neighbours, before any training.

Input: a features file with a window every few frames (`muybridge extract --step`), which is the index. Output: the windows
most like a query, or segments of every video, voted by the nearest labelled windows. The search is exact: one product of a
matrix and a vector.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from muybridge.bounds import FramesPerSecond, FrameStep
from muybridge.datasets.video_list import read_video_list
from muybridge.files.parquet_file import read_finite_table
from muybridge.parsing import parse_json_object, parse_record
from muybridge.prediction.segments import parse_segment_name
from muybridge.prediction.tables import FEATURES_SCHEMA, FORMAT, METADATA_KEY
from muybridge.prediction.timeline import Segment, Window, merge_windows
from muybridge.records import FLOW_FIELDS, Preprocessing, TimeOrigin
from muybridge.text import join_names

_BLOCK_ROWS = 1024  # rows compared with all labelled ones at once
_MAX_SECONDS = 1e9
_OPTIONAL_KEYS = ("source_fps", "time_origin", "precision", *FLOW_FIELDS)


@dataclass(frozen=True)
class _Header:
    """Metadata of a features file (`tables.FeaturesWriter`) with a window every `step_frames` frames."""

    format: int
    model: str
    preprocessing: Preprocessing
    clips: None
    step_frames: FrameStep
    source_fps: FramesPerSecond | None = None
    time_origin: TimeOrigin = "picture"
    precision: str = "fp32"


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
                f"{len(self.videos)} videos, whose names are as they were given to `muybridge extract`"
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
                f"{len(label_by_row)} windows are labelled, expected more than the {num_neighbors} neighbours that vote; label "
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


def read_feature_index(path: str | Path) -> FeatureIndex:
    """Read a features file as an index. Raises ValueError for another file, and for one without a window every few frames."""
    path = Path(path)
    try:
        table = read_finite_table(path, FEATURES_SCHEMA)
    except ValueError as error:
        raise ValueError(f"{error}; name a features file of `muybridge extract`") from error
    header = _read_header(table, path)
    features = table["features"].combine_chunks()
    if len(lengths := pc.unique(pc.list_value_length(features))) != 1 or lengths[0].as_py() == 0:
        raise ValueError(
            f"{path} has features of {join_names(lengths.to_pylist())} values, expected one number of them"
        )
    features_nd = features.flatten().to_numpy().reshape(len(table), -1)
    norms = np.linalg.norm(features_nd.astype(np.float64), axis=1, keepdims=True)  # squares of large floats overflow
    if not norms.all():
        raise ValueError(f"{path} has features that are all 0, which are like nothing; check the weights")
    features_nd = (features_nd / norms).astype(np.float32)
    names = table["video"].combine_chunks().dictionary_encode()
    video_indices = names.indices.to_numpy().astype(np.int32)
    starts = table["start_seconds"].to_numpy()
    if np.abs(starts).max() > _MAX_SECONDS:
        raise ValueError(
            f"{path} has windows at {starts[np.abs(starts).argmax()]:g} s, expected at most {_MAX_SECONDS:g} s"
        )
    order = np.lexsort((starts, video_indices))
    starts, video_indices = starts[order], video_indices[order]
    spans = _compute_spans(starts, video_indices, header.preprocessing.clip_span / header.step_frames)
    videos = tuple(names.dictionary.to_pylist())
    return FeatureIndex(videos, video_indices, starts, starts + spans, features_nd[order], header.time_origin)


def _read_header(table: pa.Table, path: Path) -> _Header:
    """The metadata of a features file. Raises ValueError for another format, and for features of uniform clips."""
    values = parse_json_object((table.schema.metadata or {}).get(METADATA_KEY, b"{}"), f"the metadata of {path}")
    if values.get("format") != FORMAT:
        raise ValueError(f"{path} has format {values.get('format')!r}, expected {FORMAT}; extract it again")
    if values.get("step_frames") is None or len(table) == 0:
        raise ValueError(
            f"{path} has no windows along its videos; make it with `muybridge extract RUN VIDEOS --step 8 -o {path.name}`"
        )
    return parse_record(_Header, values, f"the metadata of {path}", optional=_OPTIONAL_KEYS)


def read_labeled_segments(path: Path, index: FeatureIndex) -> tuple[list[tuple[str, Segment]], list[str]]:
    """The labelled segments of a list in videos of the index, each with its video's name there, and a note on the others.

    Raises ValueError for a damaged list, for segments with several labels, and where none is in a video of the index.
    """
    if index.time_origin != "picture":
        raise ValueError(
            "the seconds of the index count by the clock of the container, those of labels from the first picture; extract the "
            "features without --time-origin"
        )
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
    num_others, num_late = len(rows.rows) - len(match), 0
    for video, segment in match:
        num_late += len(index.find_rows_between(video, segment.start_seconds, segment.end_seconds)) == 0
    notes = [f"{num_others} segments of {path} are in videos that the index does not have."] if num_others else []
    if num_late:
        notes.append(f"{num_late} segments of {path} are after the last window of their video and are left out.")
    return match, [*rows.notes, *notes]


def spread_labels(
    index: FeatureIndex, labeled: Sequence[tuple[str, Segment]], *, num_neighbors: int
) -> dict[str, tuple[Segment, ...]]:
    """Segments of every video of the index by the votes of nearest labelled windows; a gap where no class has half of them."""
    classes = sorted({segment.label for _, segment in labeled})
    labels = {label: index for index, label in enumerate(classes)}
    label_by_row = {
        int(row): labels[segment.label]
        for video, segment in labeled
        for row in index.find_rows_between(video, segment.start_seconds, segment.end_seconds)
    }
    return {
        video: merge_windows(windows, classes, minimum_probability=0.5)
        for video, windows in index.vote(label_by_row, len(classes), num_neighbors=num_neighbors)
    }


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
    for rows in np.split(np.arange(len(starts)), np.flatnonzero(np.diff(video_indices)) + 1):
        steps = np.diff(starts[rows])
        spans[rows] = float(np.median(steps)) * steps_per_span if len(steps) else np.nan
    known = np.nanmedian(spans) if np.isfinite(spans).any() else 1.0
    return np.where(np.isfinite(spans), spans, known)
