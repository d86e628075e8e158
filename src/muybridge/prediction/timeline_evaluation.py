"""Scoring timelines against labelled segments (`muybridge evaluate --timeline`).

Input: weights, and a list of segments (docs/data.md): rows of one file are its true segments. Output: segments, curves and a
summary of bouts as files beside each other, and `TimelineScores`. Every file is watched from its first frame to its last.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from muybridge.datasets.background import BACKGROUND
from muybridge.datasets.classes import normalize_class_name
from muybridge.datasets.manifest import Manifest
from muybridge.evaluation.caveats import Caveats, find_caveats
from muybridge.evaluation.evaluate import (
    open_evaluation_data,
    reads_as_run,
    select_scored_split,
    use_training_splits,
)
from muybridge.evaluation.overlap import NO_TEST_RESULT
from muybridge.evaluation.scores import make_execution_metadata
from muybridge.evaluation.scores_path import resolve_timelines_path
from muybridge.evaluation.timeline_metrics import LabeledSpan, TimelineScores, VideoTimeline
from muybridge.files.atomic import atomic_write, write_text
from muybridge.files.parquet_file import read_finite_table
from muybridge.inference.scorer import LoadedScorer, load_scorer, resolve_device
from muybridge.kernels.precision import describe_execution
from muybridge.parsing import parse_json_object
from muybridge.prediction.bouts import BOUT_COLUMNS, format_bouts
from muybridge.prediction.clip_outputs import ClipRunner
from muybridge.prediction.timeline import Segment, TimelineOptions
from muybridge.prediction.timeline_tuning import (
    Background,
    LabeledWindows,
    SegmentationChoice,
    choose_segmentation,
    read_choice,
    resolve_options,
    score_labeled_windows,
    write_choice,
)
from muybridge.prediction.timeline_windows import ScoredWindows, compute_timeline
from muybridge.prediction.video_inputs import VideoInput
from muybridge.prepared.dataset import is_prepared
from muybridge.records import FrameSource, FrameTimes, Preprocessing, VideoError
from muybridge.settings import EvaluateSettings
from muybridge.text import format_count, join_names
from muybridge.video.media import MediaFiles
from muybridge.weights.address import is_default_checkpoint, select_checkpoint
from muybridge.weights.card import Card

FORMAT = 1
METADATA_KEY = b"muybridge"
SEGMENTS_SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("start_seconds", pa.float64(), nullable=False),
        pa.field("end_seconds", pa.float64(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
    ]
)
CURVES_SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("start_seconds", pa.float64(), nullable=False),
        pa.field("end_seconds", pa.float64(), nullable=False),
        pa.field("probabilities", pa.list_(pa.float32()), nullable=False),
    ]
)


@dataclass(frozen=True)
class TimelineFiles:
    """The files that an evaluation of timelines writes: X.timeline.parquet, X.curves.parquet and X.bouts.csv."""

    segments: Path
    curves: Path
    bouts: Path

    @classmethod
    def beside(cls, path: Path) -> TimelineFiles:
        """The three files for a segments file `path`, which ends in .parquet."""
        stem = path.name.removesuffix(".parquet").removesuffix(".timeline")
        return cls(path, path.with_name(f"{stem}.curves.parquet"), path.with_name(f"{stem}.bouts.csv"))


@dataclass(frozen=True)
class TimelineResult:
    """Scores of timelines, how segments were made, and the videos that could not be read as a whole, each with the reason.

    `caveats` are what belongs beside the scores, such as training segments among the scored ones; `notes` are sentences on how
    the data was read. `num_failed_videos` counts those without any window; `validation_failures` are those that were watched
    to choose how segments are made.
    """

    scores: TimelineScores
    choice: SegmentationChoice | None
    failures: tuple[tuple[str, str], ...]
    gaps_are_background: bool
    files: TimelineFiles
    caveats: Caveats
    notes: tuple[str, ...] = ()
    num_failed_videos: int = 0
    validation_failures: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {
            **{name: str(path) for name, path in asdict(self.files).items()},
            **self.scores.to_json(),
            "segmentation": asdict(self.choice) if self.choice else None,
            "failures": [{"video": video, "reason": reason} for video, reason in self.failures],
            "unlabelled_time": BACKGROUND if self.gaps_are_background else "not scored",
            **self.caveats.to_json(),
        }


@dataclass(frozen=True)
class _Plan:
    """A network and labelled files to watch, its classes, which of them is the background, and how segments are made."""

    loaded: LoadedScorer
    device: torch.device
    classes: tuple[str, ...]
    background: Background
    options: TimelineOptions
    on_video: Callable[[], None]


def evaluate_timelines(
    weights: str | Path,
    settings: EvaluateSettings,
    path: Path | None = None,
    *,
    step_frames: int | None = None,
    refuse_overlap: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> TimelineResult:
    """Score the timelines of the files of a split, and write them to `path` (default: in the run folder) and beside it.

    Smoothing and minimum duration are chosen once, on the validation videos of the same data that can be read then:
    timeline.json of the run folder keeps the choice for the usual weights of the run, one on its own data rather than on
    another. Without any, segments are not smoothed. `on_progress` is called with (videos done, videos in total). Raises
    ValueError for prepared data, data without segments, and files whose segments are in several splits, and `OverlapError` with
    `refuse_overlap` where training segments would be scored.
    """
    device = resolve_device(settings.device)
    address = select_checkpoint(weights, settings.checkpoint)
    loaded = load_scorer(address, device, settings.precision)
    loaded.card.check_single_label("evaluate --timeline")
    loaded.card.check_classifier()
    settings = use_training_splits(weights, settings)
    data = _open_whole_files(loaded.card, settings).remap_labels(loaded.card.classes)
    scored, validation = select_scored_split(data, settings), data.select_split("validation")
    is_default, is_own = is_default_checkpoint(weights, settings.checkpoint), reads_as_run(weights, settings)
    decisive = [scored.compute_sha256(), loaded.card.tensors_sha256, settings.fold]
    decisive += [] if step_frames is None else [step_frames]
    path = path or resolve_timelines_path(
        weights, settings.data, settings.split, decisive, is_own=is_default and is_own and step_frames is None
    )
    files = TimelineFiles.beside(path)
    caveats = find_caveats(address, loaded.card, scored, settings.split, refuse_overlap=refuse_overlap)
    hashes = {"model_sha256": loaded.card.tensors_sha256, "manifest_sha256": validation.compute_sha256()}
    kept = read_choice(weights)
    kept = kept if kept and kept.model_sha256 == hashes["model_sha256"] else None
    choice = own = kept if kept and kept.manifest_sha256 == hashes["manifest_sha256"] else None
    splits = {settings.split: scored}
    is_open = own is None or not own.is_of_read_videos
    if is_open and len(validation) > 0:
        splits["validation"] = validation
    num_total = sum(map(_count_files, splits.values()))
    progress = count(1)

    def on_video() -> None:
        if on_progress:
            on_progress(next(progress), num_total)

    classes = loaded.card.classes
    plan = _Plan(loaded, device, classes, _find_background(classes, settings), TimelineOptions(step_frames), on_video)
    watched = {name: _watch(split, plan) for name, split in splits.items()}
    if is_open and "validation" in watched:
        choice = choose_segmentation([video for video, _ in watched["validation"]], classes, plan.background, **hashes)
        if choice and Path(weights).is_dir() and is_default and (is_own or kept is own):
            write_choice(Path(weights), choice)
        choice = choice or own
    unread = _list_failures(watched["validation"]) if "validation" in watched and settings.split != "validation" else ()
    plan = replace(plan, options=resolve_options([video for video, _ in watched[settings.split]], choice, plan.options))
    kept_remarks = own.describe_unread(_count_files(validation)) if own and not is_open else ()
    remarks = (*_describe_choice(choice, plan.options, settings.split, unread), *kept_remarks)
    caveats = replace(caveats, remarks=(*remarks, *caveats.remarks))
    result = _write_and_score(watched[settings.split], plan, choice, files, caveats, settings, scored)
    return replace(result, validation_failures=unread)


def _count_files(manifest: Manifest) -> int:
    return len(set(manifest.table["path"].to_pylist()))


def _describe_choice(
    choice: SegmentationChoice | None, options: TimelineOptions, split: str, unread: Sequence[tuple[str, str]]
) -> Iterator[str]:
    """What belongs beside scores about how segments were made; `unread` are failures among the validation videos."""
    if choice and split == "validation":
        yield f"{NO_TEST_RESULT}: smoothing and minimum duration are chosen on the validation split"
    if options.classes_overlap and not (choice and choice.classes_overlap):
        yield (
            "labelled segments overlap, and no validation video where they do chose a probability: each class counts by itself "
            f"from {options.minimum_probability:g}"
        )
    if unread:
        named = join_names([f"{video} ({reason})" for video, reason in unread])
        yield f"{format_count(len(unread), 'validation video')} could not be read as a whole: {named}"


def read_segments(path: Path) -> list[Segment]:
    """The segments in a file that `evaluate_timelines` wrote, in order of video and time."""
    table = read_finite_table(path, SEGMENTS_SCHEMA)
    metadata = (table.schema.metadata or {}).get(METADATA_KEY, b"{}")
    classes = parse_json_object(metadata, f"the metadata of {path}").get("classes", [])
    rows = table.to_pylist()
    if unknown := [row["label"] for row in rows if not 0 <= row["label"] < len(classes)]:
        raise ValueError(f"{path} has the label {unknown[0]}, but names {len(classes)} classes")
    return [Segment(classes[row["label"]], row["start_seconds"], row["end_seconds"], row["score"]) for row in rows]


def _open_whole_files(card: Card, settings: EvaluateSettings) -> Manifest:
    """The data of segments. Raises ValueError for prepared data, and where a file has segments in several splits."""
    if is_prepared(settings.data):
        raise ValueError(
            f"{settings.data} is prepared data, which holds segments and not whole videos; give the list it was made from"
        )
    data = open_evaluation_data(card, settings, whole_files=True)
    _check_whole_files(data)
    return data


def _check_whole_files(data: Manifest) -> None:
    """Raise ValueError where a file has segments in several splits: a timeline is of a whole file."""
    splits_by_path = defaultdict(set)
    for path, split in zip(data.table["path"].to_pylist(), data.table["split"].to_pylist(), strict=True):
        splits_by_path[path].add(split)
    mixed = [path for path, splits in splits_by_path.items() if len(splits - {"unused"}) > 1]
    if mixed:
        raise ValueError(
            f"{format_count(len(mixed), 'file', 'has')} segments in several splits "
            f"({join_names(mixed)}), but a timeline is of a whole file; "
            "give each recording one split, or a group"
        )


def _find_background(classes: Sequence[str], settings: EvaluateSettings) -> Background:
    """Where the data marks what was reviewed, other time is unknown; where it does not, it is background."""
    label = next((index for index, name in enumerate(classes) if normalize_class_name(name) == BACKGROUND), None)
    return Background(label, fills_gaps=label is not None and not settings.background)


def _watch(manifest: Manifest, plan: _Plan) -> list[tuple[LabeledWindows, str]]:
    """Windows along every file of a manifest with its true segments, and why it could not be read."""
    preprocessing = plan.loaded.card.preprocessing
    runner = ClipRunner(plan.loaded.scorer, preprocessing, plan.device)
    rows_by_path = defaultdict(list)
    for index in range(len(manifest)):
        rows_by_path[manifest.get_path(index)].append(index)
    watched = []
    for path, rows in rows_by_path.items():
        source, reason = _open_source(manifest, rows[0], preprocessing), ""
        video = VideoInput(path, path, source)
        scored: ScoredWindows | None = None
        times = None
        try:
            times = source.read_frame_times(path)
            scored = compute_timeline(video, runner, plan.loaded.scorer, plan.options)
            reason = scored.reason
        except VideoError as error:
            reason = f"{error.status}: {error.reason}"
        truth, num_late = _list_truth(manifest, rows, times)
        late = f"{format_count(num_late, 'labelled segment')} after the end of the file" if num_late else ""
        watched.append((LabeledWindows(path, scored, truth), "; ".join(filter(None, (reason, late)))))
        plan.on_video()
    return watched


def _open_source(manifest: Manifest, row: int, preprocessing: Preprocessing) -> FrameSource:
    """The source that reads the file of a row, at the rate of the row if its frames are stored without one."""
    size: dict[str, Any] = {"scale_height": preprocessing.scale_height, "scale_width": preprocessing.scale_width}
    rate, time_origin = manifest.get_source_rate(row), manifest.time_origin
    return MediaFiles(manifest.root, **size, source_fps=rate, time_origin=time_origin)


def _list_truth(
    manifest: Manifest, rows: Sequence[int], times: FrameTimes | None
) -> tuple[tuple[LabeledSpan, ...], int]:
    """The true segments of a file in order of time, cut at its end where that is known, and how many lie after it.

    A segment without an end reaches to the end of the file.
    """
    spans, num_late = [], 0
    file_end = math.inf if times is None else times.lead_seconds + times.duration_seconds
    for row in rows:
        start, end = manifest.get_bounds(row)
        num_late += (start or 0.0) >= file_end
        end = min(file_end, math.inf if end is None else end)
        if math.isfinite(end) and end > (start or 0.0):
            spans += [LabeledSpan(label, start or 0.0, end) for label in manifest.get_labels(row)]
    return tuple(sorted(spans, key=lambda span: (span.start_seconds, span.label))), num_late


def _write_and_score(
    watched: Sequence[tuple[LabeledWindows, str]],
    plan: _Plan,
    choice: SegmentationChoice | None,
    files: TimelineFiles,
    caveats: Caveats,
    settings: EvaluateSettings,
    manifest: Manifest,
) -> TimelineResult:
    videos, failures = [video for video, _ in watched], _list_failures(watched)
    if failures and not any(video.truth for video in videos):
        named = join_names([f"{video} ({reason})" for video, reason in failures])
        raise ValueError(f"no labelled segment of split {settings.split} can be placed in its file: {named}")
    timelines, scores = score_labeled_windows(videos, plan.classes, plan.background, plan.options)
    num_failed = sum(video.scored is None for video in videos)
    gaps = plan.background.fills_gaps
    result = TimelineResult(scores, choice, failures, gaps, files, caveats, manifest.notes, num_failed)
    header = {
        "format": FORMAT,
        "classes": list(plan.classes),
        "split": settings.split,
        "fold": settings.fold,
        "model_sha256": plan.loaded.card.tensors_sha256,
        "manifest_sha256": manifest.compute_sha256(),
        **({} if manifest.time_origin == "picture" else {"time_origin": manifest.time_origin}),
        "options": asdict(plan.options),
        "scores": result.to_json(),
    }
    execution = describe_execution(plan.device, plan.loaded.precision)
    metadata = {METADATA_KEY: json.dumps(header), **make_execution_metadata(execution)}
    segments = [{"video": each.video, **asdict(span)} for each in timelines for span in each.predicted]
    _write_table(files.segments, pa.Table.from_pylist(segments, SEGMENTS_SCHEMA.with_metadata(metadata)))
    _write_table(files.curves, _make_curves(videos, metadata))
    write_text(files.bouts, _format_bouts(timelines, plan.classes))
    return result


def _list_failures(watched: Sequence[tuple[LabeledWindows, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((video.video, reason) for video, reason in watched if reason)


def _write_table(path: Path, table: pa.Table) -> None:
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _make_curves(videos: Sequence[LabeledWindows], metadata: dict[bytes, str]) -> pa.Table:
    windows = [(video.video, window) for video in videos if video.scored for window in video.scored.windows]
    columns = [
        pa.array([video for video, _ in windows], pa.string()),
        pa.array([window.start_seconds for _, window in windows], pa.float64()),
        pa.array([window.end_seconds for _, window in windows], pa.float64()),
        pa.array([np.array(window.probabilities, np.float32) for _, window in windows], pa.list_(pa.float32())),
    ]
    return pa.Table.from_arrays(columns, schema=CURVES_SCHEMA.with_metadata(metadata))


def _format_bouts(timelines: Sequence[VideoTimeline], classes: Sequence[str]) -> str:
    """CSV with a row for each video, class and origin (true or predicted)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["video", "origin", *BOUT_COLUMNS])
    for timeline in timelines:
        for origin, spans in (("true", timeline.truth), ("predicted", timeline.predicted)):
            segments = [
                Segment(classes[span.label], span.start_seconds, span.end_seconds, span.score) for span in spans
            ]
            writer.writerows([timeline.video, origin, *row] for row in format_bouts(segments, classes))
    return text.getvalue()
