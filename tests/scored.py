"""Score files for tests: names, labels and logits as they are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.evaluation.scores import make_record_batch, read_scores, write_scores
from muybridge.evaluation.scores_header import TARGETS_FORMAT, TARGETS_SCHEMA, ScoresHeader
from muybridge.evaluation.video_scores import VideoScoresWriter, aggregate_record_batch
from muybridge.models.heads import Head
from muybridge.records import PlannedView, Preprocessing
from muybridge.settings import EvaluationSettings

Video = tuple[str, tuple[int, ...], Sequence[Sequence[float] | None]]
"""Name, labels, and for each planned view its logits, or None where it failed."""

TaskVideo = tuple[str, tuple[float, ...], Sequence[Sequence[float] | None]]
"""Name, targets, and for each planned view its outputs before the link, or None where it failed."""


def write_score_file(
    path: Path,
    videos: Sequence[Video],
    classes: Sequence[str],
    *,
    split: str = "test",
    preprocessing: Preprocessing | None = None,
    reason: str = "broken on purpose",
    crops: Literal[1, 3] = 1,
    model_sha256: str = "m" * 64,
    execution: Mapping[str, Any] | None = None,
) -> Path:
    """A score file of these videos in which view n begins at n / 2 seconds, with `crops` views a clip."""
    evaluation = EvaluationSettings(clips=len(videos[0][2]) // crops, crops=crops)
    header = ScoresHeader(
        classes=tuple(classes),
        protocol=EvaluationProtocol.from_settings(evaluation, preprocessing or Preprocessing()),
        split=split,
        fold=None,
        model_sha256=model_sha256,
        manifest_sha256="d" * 64,
        num_videos=len(videos),
    )
    batches = []
    for name, labels, views in videos:
        rows = [
            PlannedView(name, number, None, labels, "unreadable", reason)
            if logits is None
            else PlannedView(name, number, number / 2, labels)
            for number, logits in enumerate(views)
        ]
        logits = np.array([view for view in views if view is not None], np.float32).reshape(-1, len(classes))
        batches.append(make_record_batch(rows, logits if len(logits) else np.zeros((0, 0), np.float32)))
    write_scores(path, batches, header, execution)
    return path


def keep_videos(path: Path, target: Path) -> Path:
    """The scores of a file of views as `evaluation.keep videos` writes them."""
    scores = read_scores(path)
    (views,) = scores.table.combine_chunks().to_batches()
    num_views = scores.header.protocol.num_views
    batches = [
        aggregate_record_batch(views.slice(first, num_views), scores.header, [False])
        for first in range(0, len(views), num_views)
    ]
    VideoScoresWriter(target, scores.header).write(batches)
    return target


def write_task_scores(
    path: Path, head: Head, classes: tuple[str, ...], videos: Sequence[TaskVideo], *, crops: Literal[1, 3] = 1
) -> Path:
    """A score file of format 2 of these videos, with `crops` views a clip."""
    settings = EvaluationSettings(clips=len(videos[0][2]) // crops, crops=crops)
    protocol = EvaluationProtocol.from_settings(settings, Preprocessing(), task=head.task)
    header = ScoresHeader(
        classes, protocol, "test", None, "m" * 64, "d" * 64, len(videos), format=TARGETS_FORMAT, head=head
    )
    batches = []
    for name, targets, views in videos:
        rows = [
            PlannedView(name, number, 0.0, (), "unreadable", "broken", targets)
            if outputs is None
            else PlannedView(name, number, 0.0, (), targets=targets)
            for number, outputs in enumerate(views)
        ]
        outputs = np.array([view for view in views if view is not None], np.float32).reshape(-1, len(head.outputs))
        batches.append(make_record_batch(rows, outputs, TARGETS_SCHEMA))
    write_scores(path, batches, header)
    return path


def certain(number: int, num_classes: int, by: float = 4.0) -> list[float]:
    """Logits that name one class."""
    return [by if place == number else 0.0 for place in range(num_classes)]
