"""Files for `muybridge similar`: a features file as an index, labelled segments in, a draft of annotations out.

Input: a features file with a window every few frames (`muybridge extract --step`). Output: a `FeatureIndex`.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from muybridge.datasets.video_list import read_video_list
from muybridge.files.parquet_file import read_parquet, refuse_damaged
from muybridge.parsing import parse_json_object, parse_record
from muybridge.prediction.feature_index import FeatureIndex
from muybridge.prediction.tables import FEATURES_SCHEMA, METADATA_KEY
from muybridge.prediction.timeline import Segment
from muybridge.records import Preprocessing
from muybridge.text import format_count


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
    notes = (
        [f"{format_count(num_others, 'segment', 'is')} in videos of {path} that the index does not have."]
        if num_others
        else []
    )
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
