"""Scores of format 2: written, checked, averaged over views, and measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muybridge.evaluation.outputs import average_views, compute_video_outputs
from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.evaluation.scores import read_any_scores
from muybridge.evaluation.scores_header import TARGETS_FORMAT, ScoresHeader
from muybridge.evaluation.task_metrics import compute_task_metrics
from muybridge.models.heads import Head
from muybridge.records import Preprocessing
from muybridge.settings import EvaluationSettings
from scored import TaskVideo, write_task_scores

EF = Head("regression", ("ef", "esv"), "identity", ("%", "ml"), (50.0, 40.0), (10.0, 20.0))
NAN = math.nan
VIDEOS: list[TaskVideo] = [
    ("a.mp4", (60.0, 40.0), [[0.0, 0.0], [2.0, 0.0]]),  # 60, 40
    ("b.mp4", (45.0, NAN), [[0.0, 1.0], None]),  # 50
    ("c.mp4", (30.0, 80.0), [None, None]),
    ("d.mp4", (NAN, 20.0), [[1.0, 0.0], [1.0, 0.0]]),  # 40
]


def test_views_are_averaged_into_videos(tmp_path: Path) -> None:
    path = write_task_scores(tmp_path / "scores.parquet", EF, EF.outputs, VIDEOS)
    scores = read_any_scores(path)
    assert scores.header.head == EF
    assert json.loads(pq.read_schema(path).metadata[b"muybridge"])["head"]["target_mean"] == [50, 40]
    outputs = compute_video_outputs(scores)
    assert outputs.values[[0, 1, 3]].tolist() == [[60, 40], [50, 60], [60, 40]]
    assert np.isnan(outputs.values[2]).all()
    assert outputs.num_failed_views.tolist() == [0, 1, 2, 0]
    metrics = compute_task_metrics(outputs)
    assert isinstance(metrics.metrics, tuple)
    ef, esv = metrics.metrics
    assert (ef.num_videos, ef.mae.value, ef.bias) == (2, 2.5, 2.5)
    assert (esv.num_videos, esv.mae.value) == (2, 10)
    assert (metrics.num_videos, metrics.num_failed_videos, metrics.num_failed_views) == (4, 1, 3)
    assert metrics.criterion == pytest.approx(-(math.sqrt(12.5) / 10 + math.sqrt(200) / 20) / 2)
    assert metrics.figures["mae_ef"] == 2.5
    assert json.loads(json.dumps(metrics.to_json(), allow_nan=False))["metrics"][0]["mae"]["value"] == 2.5
    assert "ef: MAE 2.5" in metrics.format_line()
    assert "1 more unreadable" in metrics.format_line()


def test_what_is_averaged() -> None:
    head = Head("multi_label", ("a",), "sigmoid")
    rows = np.array([[0.0], [4.0]])
    indices = np.zeros(2, np.int64)
    assert average_views(rows, indices, head, average="sigmoid")[1][0, 0] == pytest.approx(
        (0.5 + 1 / (1 + math.exp(-4))) / 2
    )
    assert average_views(rows, indices, head, average="logits")[1][0, 0] == pytest.approx(1 / (1 + math.exp(-2)))


def test_levels_are_compared(tmp_path: Path) -> None:
    head = Head("ordinal", ("above 0", "above 1"), "cumulative_sigmoid")
    videos: list[TaskVideo] = [("a", (2.0,), [[3, 1]]), ("b", (0.0,), [[-1, -3]]), ("c", (1.0,), [[3, 2]])]
    scores = read_any_scores(write_task_scores(tmp_path / "s.parquet", head, ("0", "1", "2"), videos))
    metrics = compute_task_metrics(compute_video_outputs(scores))
    assert metrics.figures["exact"] == pytest.approx(2 / 3)
    assert metrics.figures["mae"] == pytest.approx(1 / 3)


def test_wrong_rows_are_refused(tmp_path: Path) -> None:
    path = write_task_scores(tmp_path / "scores.parquet", EF, EF.outputs, VIDEOS)
    table = pq.read_table(path)

    def refused(column: str, values: list[object], complaint: str) -> None:
        changed = table.set_column(
            table.column_names.index(column), column, pa.array(values, table.schema.field(column).type)
        )
        pq.write_table(changed.replace_schema_metadata(table.schema.metadata), tmp_path / "wrong.parquet")
        with pytest.raises(ValueError, match=complaint):
            read_any_scores(tmp_path / "wrong.parquet")

    targets, outputs = table["targets"].to_pylist(), table["outputs"].to_pylist()
    refused("targets", [[1.0]] * 8, "does not have 2 targets")
    refused("targets", [[math.inf, 0.0]] * 8, "targets are infinite")
    refused("targets", [[5.0, 5.0], *targets[1:]], "the views of one video have different targets")
    refused("outputs", [[1.0], *outputs[1:]], "does not have a score for each of the 2 outputs")
    with pytest.raises(ValueError, match="average of scores of regression is softmax, expected values"):
        ScoresHeader(
            EF.outputs,
            EvaluationProtocol.from_settings(EvaluationSettings(), Preprocessing()),
            "test",
            None,
            "m",
            "d",
            1,
            format=TARGETS_FORMAT,
            head=EF,
        )
