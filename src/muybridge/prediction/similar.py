"""Files for `muybridge similar`: a features file as an index, labelled segments in, a draft of annotations out.

Input: a features file with a window every few frames (`muybridge extract --step`). Output: a `FeatureIndex`.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
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
from muybridge.prediction.feature_index import FeatureIndex, normalize_features
from muybridge.prediction.tables import FEATURES_SCHEMA, FORMAT, METADATA_KEY
from muybridge.prediction.timeline import Segment
from muybridge.records import FLOW_FIELDS, Preprocessing, TimeOrigin
from muybridge.text import format_count, join_names
from muybridge.video.picture_sequence import ASSUMED_RATE

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
    try:
        features_nd = normalize_features(features.flatten().to_numpy().reshape(len(table), -1))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    names = table["video"].combine_chunks().dictionary_encode()
    video_indices = names.indices.to_numpy().astype(np.int32)
    starts = table["start_seconds"].to_numpy()
    if np.abs(starts).max() > _MAX_SECONDS:
        raise ValueError(
            f"{path} has windows at {starts[np.abs(starts).argmax()]:g} s, expected at most {_MAX_SECONDS:g} s"
        )
    order = np.lexsort((starts, video_indices))
    starts, video_indices = starts[order], video_indices[order]
    views = table["view"].to_numpy().astype(np.int64)[order]
    spans = _compute_spans(starts, views, video_indices, header)
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
    notes = (
        [f"{format_count(num_others, 'segment', 'is')} in videos of {path} that the index does not have."]
        if num_others
        else []
    )
    if num_late:
        notes.append(f"{format_count(num_late, 'segment', 'is')} after the last window of the video, and left out.")
    return match, [*rows.notes, *notes]


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
    starts: NDArray[np.float64], views: NDArray[np.int64], video_indices: NDArray[np.int32], header: _Header
) -> NDArray[np.float64]:
    """The duration of each window: at the rate of the clips, else so many steps from one start to the next in its video.

    The last step of a video may be shorter, so that two windows bound the duration alone: within these bounds it is that of the
    other videos, or of the usual rate.
    """
    clip_span, rate = header.preprocessing.clip_span, header.preprocessing.frames_per_second
    if rate is not None:
        return np.full(len(starts), clip_span / rate)
    spans, lowest, highest = np.full(len(starts), np.nan), np.zeros(len(starts)), np.full(len(starts), np.inf)
    for rows in np.split(np.arange(len(starts)), np.flatnonzero(np.diff(video_indices)) + 1):
        num_steps = np.maximum(1, np.diff(views[rows]))  # more than 1 where windows between could not be read
        steps = np.diff(starts[rows]) / num_steps
        if len(steps) > 1:
            spans[rows] = float(np.median(steps[:-1])) * clip_span / header.step_frames
        elif len(steps):
            lowest[rows], highest[rows] = steps[0] * clip_span / header.step_frames, steps[0] * clip_span
    is_known = np.isfinite(spans)
    usual = np.median(spans[is_known]) if is_known.any() else clip_span / (header.source_fps or ASSUMED_RATE)
    return np.where(is_known, spans, np.clip(usual, lowest, highest))
