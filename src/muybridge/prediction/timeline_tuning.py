"""How the windows of a timeline become segments: smoothing and minimum duration chosen on validation videos, never on test.

Input: windows along validation videos, and their true segments. Output: the options that score best, kept in timeline.json of
the run folder, which `muybridge predict --timeline` and `muybridge evaluate --timeline` read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated

from annotated_types import Interval

from muybridge.bounds import Seconds, Share
from muybridge.evaluation.timeline_metrics import (
    LabeledSpan,
    TimelineScores,
    VideoTimeline,
    join_touching,
    score_timelines,
)
from muybridge.files.atomic import write_json
from muybridge.models.heads import DEFAULT_THRESHOLD
from muybridge.parsing import parse_record, read_json_object
from muybridge.prediction.timeline import TimelineOptions
from muybridge.prediction.timeline_windows import ScoredWindows
from muybridge.text import format_count

FORMAT = 1
FILE_NAME = "timeline.json"
_SPANS = (0.0, 0.5, 1.0, 2.0, 4.0)  # smoothing and minimum duration to try, in spans of a window
_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)  # for classes that overlap in time


@dataclass(frozen=True)
class SegmentationChoice:
    """The contents of timeline.json: options, and what they were chosen by. `f1` is None where classes overlap in time."""

    format: int
    model_sha256: str
    manifest_sha256: str
    """Of the validation videos."""
    smoothing_seconds: Seconds
    minimum_seconds: Seconds
    minimum_probability: Share
    classes_overlap: bool
    num_videos: Annotated[int, Interval(ge=0, le=2**40)]
    f1: Share | None
    mean_average_precision: Share

    @property
    def is_of_read_videos(self) -> bool:
        """Whether it was chosen on videos that could be read. Older files may be of none, and have a score of 0 then."""
        return self.mean_average_precision > 0

    def describe_unread(self, num_videos: int) -> list[str]:
        """A remark beside later scores where not all of so many validation videos could be read when it was chosen."""
        if self.num_videos >= num_videos:
            return []
        return [
            f"smoothing and minimum duration were chosen on {self.num_videos} of {num_videos} validation videos, since the "
            f"others could not be read then; delete {FILE_NAME} of the run to choose again"
        ]

    def format_sentence(self) -> str:
        """The options and what they were chosen on."""
        by_itself = "each class by itself, " if self.classes_overlap else ""
        return (
            f"{by_itself}smoothing {self.smoothing_seconds:g} s, shortest segment {self.minimum_seconds:g} s, least "
            f"probability {self.minimum_probability:g}: chosen on {format_count(self.num_videos, 'validation video')}"
        )

    def apply(self, options: TimelineOptions) -> TimelineOptions:
        """The options with the chosen smoothing, minimum duration and, where classes overlap, probability of each."""
        return replace(
            options,
            smoothing_seconds=self.smoothing_seconds,
            minimum_seconds=self.minimum_seconds,
            minimum_probability=self.minimum_probability,
            classes_overlap=self.classes_overlap,
        )


@dataclass(frozen=True)
class Background:
    """The index of the background class, None where there is none, and whether all time without a label is of it."""

    label: int | None = None
    fills_gaps: bool = False


@dataclass(frozen=True)
class LabeledWindows:
    """The windows along a video, None where it could not be read, and its true segments."""

    video: str
    scored: ScoredWindows | None
    truth: tuple[LabeledSpan, ...]


def choose_segmentation(
    videos: Sequence[LabeledWindows],
    classes: Sequence[str],
    background: Background,
    *,
    model_sha256: str,
    manifest_sha256: str,
) -> SegmentationChoice | None:
    """The options with the highest F1 at an overlap of 0.50 on these videos, or average mAP where true segments overlap.

    Among equal ones the least smoothing and the shortest minimum. Videos that could not be read decide nothing; None where
    there is no true segment in any other.
    """
    videos = [video for video in videos if video.scored]
    if not any(video.truth for video in videos):
        return None
    classes_overlap = _have_overlapping_labels(videos)
    options = _list_options(videos, classes_overlap=classes_overlap)
    scores = [
        score_timelines(
            _make_timelines(videos, classes, each),
            background=background.label,
            fill_gaps=background.fills_gaps,
        )
        for each in options
    ]
    best = max(range(len(options)), key=lambda index: _rank(scores[index]))
    return SegmentationChoice(
        FORMAT,
        model_sha256,
        manifest_sha256,
        options[best].smoothing_seconds,
        options[best].minimum_seconds,
        options[best].minimum_probability,
        classes_overlap,
        len(videos),
        None if scores[best].f1 is None else _rank(scores[best]),
        scores[best].average_mean_average_precision,
    )


def resolve_options(
    videos: Sequence[LabeledWindows], choice: SegmentationChoice | None, options: TimelineOptions
) -> TimelineOptions:
    """The options as chosen. Where labels of these videos overlap and those of validation did not, each class from 0.5."""
    options = choice.apply(options) if choice else options
    if options.classes_overlap or not _have_overlapping_labels(videos):
        return options
    return replace(options, classes_overlap=True, minimum_probability=DEFAULT_THRESHOLD)


def score_labeled_windows(
    videos: Sequence[LabeledWindows],
    classes: Sequence[str],
    background: Background,
    options: TimelineOptions,
) -> tuple[list[VideoTimeline], TimelineScores]:
    """The timelines of videos with these options, and their scores."""
    timelines = _make_timelines(videos, classes, options)
    return timelines, score_timelines(timelines, background=background.label, fill_gaps=background.fills_gaps)


def _have_overlapping_labels(videos: Sequence[LabeledWindows]) -> bool:
    """Whether true segments of one video overlap, so that there is no single label at a time."""
    return any(not VideoTimeline(video.video, video.truth, ()).has_single_labels for video in videos)


def write_choice(folder: Path, choice: SegmentationChoice) -> None:
    """Write timeline.json into a run folder."""
    write_json(folder / FILE_NAME, asdict(choice))


def read_choice(address: str | Path) -> SegmentationChoice | None:
    """The choice in a run folder; None where there is none. Raises ValueError for a damaged file or another format."""
    path = Path(address) / FILE_NAME
    if not path.is_file():
        return None
    values = read_json_object(path)
    if values.get("format") != FORMAT:
        raise ValueError(f"{path} has format {values.get('format')!r}, expected {FORMAT}; delete it to choose again")
    return parse_record(SegmentationChoice, values, str(path))


def apply_choice(
    address: str | Path, model_sha256: str | None, options: TimelineOptions
) -> tuple[TimelineOptions, str]:
    """The options as chosen in timeline.json of a run folder, if there is one for these weights.

    Beside them a note, empty unless the file is of other weights and is not used. Raises as `read_choice`.
    """
    choice = read_choice(address)
    if choice is None:
        return options, ""
    if choice.model_sha256 != model_sha256:
        path = Path(address) / FILE_NAME
        return options, f"{path} is not used: it was chosen for other weights; evaluate --timeline anew"
    return choice.apply(options), ""


def _rank(scores: TimelineScores) -> float:
    return scores.f1["0.50"] if scores.f1 else scores.average_mean_average_precision


def _list_options(videos: Sequence[LabeledWindows], *, classes_overlap: bool) -> list[TimelineOptions]:
    """The options to compare, simplest first."""
    window = next((video.scored.windows[0] for video in videos if video.scored), None)
    span = window.end_seconds - window.start_seconds if window else 1.0
    if classes_overlap:
        return [
            TimelineOptions(
                smoothing_seconds=round(smoothing * span, 6), minimum_probability=threshold, classes_overlap=True
            )
            for smoothing, threshold in product(_SPANS, reversed(_THRESHOLDS))
        ]
    return [
        TimelineOptions(smoothing_seconds=round(smoothing * span, 6), minimum_seconds=round(minimum * span, 6))
        for smoothing, minimum in sorted(product(_SPANS, _SPANS), key=sum)
    ]


def _make_timelines(
    videos: Sequence[LabeledWindows],
    classes: Sequence[str],
    options: TimelineOptions,
) -> list[VideoTimeline]:
    labels = {name: label for label, name in enumerate(classes)}
    return [
        VideoTimeline(
            video.video,
            join_touching(video.truth),
            tuple(
                LabeledSpan(labels[segment.label], segment.start_seconds, segment.end_seconds, segment.mean_probability)
                for segment in (video.scored.merge(classes, options) if video.scored else ())
                if segment.end_seconds > segment.start_seconds
            ),
        )
        for video in videos
    ]
