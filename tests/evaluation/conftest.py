from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest

from muybridge.evaluation.protocol import Average, EvaluationProtocol
from muybridge.evaluation.scores import Scores, make_record_batch
from muybridge.evaluation.scores_header import SCHEMA, ScoresHeader
from muybridge.records import PlannedView, Preprocessing
from muybridge.settings import EvaluationSettings

Video = tuple[str, tuple[int, ...], Sequence[Sequence[float] | None]]
"""Name, labels, and for each planned view its logits, or None where it failed."""


@pytest.fixture
def new_header() -> Callable[..., ScoresHeader]:
    def build(
        num_videos: int, *, clips: int, num_classes: int = 3, average: Average = "softmax", crops: Literal[1, 3] = 1
    ) -> ScoresHeader:
        settings = EvaluationSettings(clips=clips, average=average, crops=crops)
        return ScoresHeader(
            classes=tuple(f"class {number}" for number in range(num_classes)),
            protocol=EvaluationProtocol.from_settings(settings, Preprocessing()),
            split="test",
            fold=2,
            model_sha256="m" * 64,
            manifest_sha256="d" * 64,
            num_videos=num_videos,
        )

    return build


@pytest.fixture
def new_batch() -> Callable[[Video], pa.RecordBatch]:
    def build(video: Video) -> pa.RecordBatch:
        name, labels, views = video
        rows = [
            PlannedView(name, number, 0.5 * number, labels)
            if logits is not None
            else PlannedView(name, number, None, labels, "unreadable", "broken on purpose")
            for number, logits in enumerate(views)
        ]
        logits = np.array([view for view in views if view is not None], dtype=np.float32)
        return make_record_batch(rows, logits.reshape(len(logits), -1 if len(logits) else 0))

    return build


@pytest.fixture
def new_scores(
    new_header: Callable[..., ScoresHeader], new_batch: Callable[[Video], pa.RecordBatch]
) -> Callable[..., Scores]:
    def build(
        videos: Sequence[Video], *, num_classes: int = 3, average: Average = "softmax", crops: Literal[1, 3] = 1
    ) -> Scores:
        clips = len(videos[0][2]) // crops
        header = new_header(len(videos), clips=clips, num_classes=num_classes, average=average, crops=crops)
        return Scores(pa.Table.from_batches([new_batch(video) for video in videos], SCHEMA), header)

    return build
