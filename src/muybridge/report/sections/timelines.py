"""The section on timelines: the scores that `muybridge evaluate --timeline` wrote beside those of videos.

Input: the metadata of `scores/<name>.timeline.parquet`. Output: blocks of a page: what was scored, how segments were made, a
table of the metrics beside always predicting the most frequent class, and the files that could not be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from muybridge.evaluation.timeline_metrics import TimelineScores
from muybridge.files.parquet_file import refuse_damaged
from muybridge.parsing import parse_json_object, parse_record
from muybridge.prediction.timeline_evaluation import METADATA_KEY
from muybridge.prediction.timeline_tuning import SegmentationChoice
from muybridge.report.document import Block, Paragraph
from muybridge.report.sections.remarks import build_remarks
from muybridge.report.tables import Cell, Table, make_columns
from muybridge.text import format_count, join_names

ENDING = ".timeline.parquet"
_NOTE = (
    "F1 and edit score are of segments without background (MS-TCN), F1 at an overlap of intersection over union; mAP is the "
    "mean over classes of the average precision of segments ranked by their score (ActivityNet)."
)


@dataclass(frozen=True)
class TimelineRecord:
    """The scores of timelines in a file; `failures` are (video, reason), `choice` is None where segments are not smoothed."""

    name: str
    split: str
    scores: TimelineScores
    choice: SegmentationChoice | None
    failures: tuple[tuple[str, str], ...]
    gaps_are_scored: bool
    remarks: tuple[str, ...] = ()
    model_sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {
            "split": self.split,
            **self.scores.to_json(),
            "segmentation": asdict(self.choice) if self.choice else None,
            "remarks": list(self.remarks),
        }


def read_timelines(folder: Path) -> tuple[TimelineRecord, ...]:
    """The scores of all timeline files in a folder, by name. Raises ValueError for a damaged file."""
    return tuple(_read_timeline(path) for path in sorted(folder.glob(f"*{ENDING}")))


def _read_timeline(path: Path) -> TimelineRecord:
    with refuse_damaged(f"{path} is not a Parquet file, or a damaged one; evaluate again"):
        text = (pq.read_schema(path).metadata or {}).get(METADATA_KEY, b"{}")
    header = parse_json_object(text, f"the metadata of {path}")
    values = header.get("scores")
    if not isinstance(values, Mapping):
        raise ValueError(f"{path} has no scores of timelines; run `muybridge evaluate --timeline` again")
    names = {field.name for field in fields(TimelineScores)}
    scores = parse_record(
        TimelineScores, {name: value for name, value in values.items() if name in names}, f"the scores of {path}"
    )
    choice, failures, remarks = (values.get(name) for name in ("segmentation", "failures", "remarks"))
    return TimelineRecord(
        name=path.name.removesuffix(ENDING),
        split=str(header.get("split")),
        scores=scores,
        choice=parse_record(SegmentationChoice, choice, f"the segmentation of {path}")
        if isinstance(choice, Mapping)
        else None,
        failures=tuple((str(one.get("video")), str(one.get("reason"))) for one in failures if isinstance(one, Mapping))
        if isinstance(failures, Sequence)
        else (),
        gaps_are_scored=values.get("unlabelled_time") != "not scored",
        remarks=tuple(map(str, remarks)) if isinstance(remarks, list) else (),
        model_sha256=str(header.get("model_sha256")),
    )


def build_timeline_blocks(timelines: Sequence[TimelineRecord]) -> list[Block]:
    """All timelines of a run."""
    blocks: list[Block] = []
    for one in timelines:
        scores = one.scores
        segmentation = one.choice.format_sentence() if one.choice else "windows are not smoothed"
        gaps = "is background" if one.gaps_are_scored else "is not scored"
        blocks.append(
            Paragraph(
                f"{one.name}: {format_count(scores.num_videos, 'video')} of split {one.split}, "
                f"{format_count(scores.num_true_segments, 'labelled segment')} and {scores.num_predicted_segments} predicted, "
                f"{scores.scored_seconds:.0f} s scored; time without a label {gaps}; {segmentation}."
            )
        )
        blocks += build_remarks(one.name, one.remarks)
        if one.failures:
            failed = join_names([f"{video} ({reason})" for video, reason in one.failures], "; ")
            blocks.append(Paragraph(f"{one.name}: could not be read as a whole: {failed}.", "warning"))
    rows = [(one.name, *row) for one in timelines for row in _list_metrics(one.scores)]
    columns = (
        *make_columns("timelines", "figure"),
        *make_columns("%", "always the most frequent class, %", decimals=1),
    )
    return [*blocks, Table("timelines", "Agreement with the labelled segments", columns, tuple(rows), note=_NOTE)]


def _list_metrics(scores: TimelineScores) -> list[tuple[Cell, ...]]:
    """Name, percent, and percent of the majority class of each metric that is defined."""
    majority = scores.majority_accuracy
    rows: list[tuple[str, float | None, float | None]] = [
        ("frame accuracy", scores.frame_accuracy, None if majority is None else 100 * majority),
        *((f"F1@{100 * float(overlap):.0f}", value, None) for overlap, value in (scores.f1 or {}).items()),
        ("edit score", scores.edit_score, None),
        *((f"mAP@{overlap}", value, None) for overlap, value in scores.mean_average_precision.items()),
        ("mAP, the mean over overlaps", scores.average_mean_average_precision, None),
    ]
    return [(name, 100 * value, guess) for name, value, guess in rows if value is not None]
