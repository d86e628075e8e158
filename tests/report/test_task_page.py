"""Pages about runs of other tasks: metrics, charts, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.evaluation.scores import make_record_batch, write_scores
from muybridge.evaluation.scores_header import TARGETS_FORMAT, TARGETS_SCHEMA, ScoresHeader
from muybridge.models.heads import Head
from muybridge.records import PlannedView, Preprocessing
from muybridge.report.build import build_page
from muybridge.report.charts import LineChart, MatrixChart
from muybridge.report.page import render_html
from muybridge.report.sections import tasks as tasks_module
from muybridge.report.sections.training import build_curve_blocks
from muybridge.report.sources import RunRecord, read_sources
from muybridge.settings import EvaluationSettings


def write_outputs(path: Path, head: Head, classes: tuple[str, ...], targets: np.ndarray, outputs: np.ndarray) -> str:
    """A score file of one view a video; a row of NaN outputs is a failed one."""
    protocol = EvaluationProtocol.from_settings(EvaluationSettings(clips=1), Preprocessing(), task=head.task)
    header = ScoresHeader(
        classes, protocol, "test", None, "m" * 64, "d" * 64, len(targets), format=TARGETS_FORMAT, head=head
    )
    failed = np.isnan(outputs).any(axis=1)
    views = [
        PlannedView(f"{index}.mp4", 0, 0.0, (), *(("unreadable", "cut") if failed[index] else ()), targets=tuple(row))  # type: ignore[arg-type]
        for index, row in enumerate(targets.tolist())
    ]
    batch = make_record_batch(views, outputs[~failed].astype(np.float32), TARGETS_SCHEMA)
    write_scores(path, [batch], header)
    return str(path)


def test_a_number_has_its_agreement(tmp_path: Path) -> None:
    head = Head("regression", ("EF",), "identity", ("%",), (50.0,), (10.0,))
    outputs = np.array([[0.0], [1.0], [-1.0], [np.nan]])
    address = write_outputs(tmp_path / "ef.parquet", head, ("EF",), np.array([[52.0], [60.0], [38.0], [30.0]]), outputs)
    page = build_page([address])
    scatter, agreement = (chart for chart in page.charts if isinstance(chart, LineChart))
    assert scatter.series[0].y == pytest.approx((50, 60, 40))
    assert scatter.series[1].x == scatter.series[1].y == pytest.approx((38, 60))  # equality, over all that is drawn
    assert agreement.series[0].x == pytest.approx((51, 60, 39))
    assert agreement.series[0].y == pytest.approx((-2, 0, 2))
    assert [series.y[0] for series in agreement.series[1:]] == pytest.approx([0, -3.92, 3.92], abs=0.01)
    assert page.lead[0].text.startswith("Task regression: EF: MAE 1.33")
    assert "  " not in page.lead[0].text and page.lead[0].text.endswith(", of 3 videos, 1 more unreadable.")
    assert (
        page.lead[1].text
        == "Measured on test, 4 videos: 1 uniform centre-crop clip of 16 frames a video, values averaged."
    )
    html = render_html(page)
    assert html.count("values averaged") == 1
    assert "1 of 4 videos could not be read" in html
    assert "Agreement (Bland and Altman), EF (%)" in html


def test_labels_and_levels_have_their_tables(tmp_path: Path) -> None:
    labels = Head("multi_label", ("a", "b"), "sigmoid", thresholds=(0.5, 0.5))
    targets = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    guessed = np.array([[1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    page = build_page([write_outputs(tmp_path / "g.parquet", labels, ("a", "b"), targets, guessed)])
    assert page.lead[1].text == "The mAP is not distinguishable from guessing."
    page = build_page([write_outputs(tmp_path / "l.parquet", labels, ("a", "b"), targets, 4 * targets - 2)])
    table = next(table for table in page.tables if table.name == "l-classes")
    assert [row[:3] for row in table.rows] == [("a", 2, 1.0), ("b", 2, 1.0)]
    levels = Head("ordinal", ("above 0", "above 1"), "cumulative_sigmoid")
    outputs = np.array([[-1.0, -2.0], [1.0, -1.0], [2.0, 1.0], [2.0, 1.0]])
    known = np.array([[0.0], [1.0], [2.0], [1.0]])
    page = build_page([write_outputs(tmp_path / "o.parquet", levels, ("0", "1", "2"), known, outputs)])
    (matrix,) = (chart for chart in page.charts if isinstance(chart, MatrixChart))
    assert matrix.counts.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert "Blue is correct, orange wrong" in render_html(page)
    assert "quadratic weighted kappa" in render_html(page)
    majority = page.lead[0].text.partition("(always the most frequent level: ")[2]
    table = next(block for block in page.tables if block.name.endswith("-metrics"))
    assert table.columns[-1].title == "always one level" and table.rows[0][0] == "exact"
    assert majority.startswith(f"{100 * float(table.rows[0][-1] or 0):.1f} %)")


@pytest.mark.parametrize(
    ("head", "drawn"),
    [
        (Head("multi_label", ("jump", "kick"), "sigmoid"), {"mAP": 75.0, "micro F1": 200 / 3, "macro F1": 200 / 3}),
        (Head("ordinal", ("0|1", "1|2"), "cumulative_sigmoid"), {"kappa": 0.0, "MAE": 1.5, "exact": 0.0}),
        (Head("regression", ("EF",), "identity", ("%",), (0.0,), (1.0,)), {"MAE": 1.0, "RMSE": 1.0}),
        (Head("regression", ("EF", "age"), "identity", ("%", ""), (0.0, 0.0), (1.0, 1.0)), {"MAE": 1.0, "RMSE": 1.0}),
    ],
    ids=lambda value: value.task if isinstance(value, Head) else "",
)
def test_what_validation_logs_is_drawn(tmp_path: Path, head: Head, drawn: dict[str, float]) -> None:
    num_targets = 1 if head.task == "ordinal" else len(head.outputs)
    classes = ("0", "1", "2") if head.task == "ordinal" else head.outputs
    targets = np.stack([np.arange(2) for _ in range(num_targets)], axis=1)
    if head.task == "multi_label":
        targets[:, 0] = 1 - targets[:, 1]
    outputs = np.stack([targets[:, 0] + 1.0] * len(head.outputs), axis=1)
    address = write_outputs(tmp_path / "validation.parquet", head, classes, targets, outputs)
    (run,) = read_sources([address])
    assert isinstance(run, RunRecord)
    figures = run.task_evaluations[0].metrics.figures
    log = [{"kind": "validation", "step": step, **figures} for step in (10, 20)]
    charts = build_curve_blocks(replace(run, log=log))
    assert all(isinstance(chart, LineChart) for chart in charts)
    series = [series for chart in charts if isinstance(chart, LineChart) for series in chart.series]
    assert {one.label for one in series} == set(drawn)
    for one in series:
        assert one.x == (10, 20)
        assert one.y == pytest.approx([drawn[one.label]] * 2, abs=1e-6)


def test_worse_than_guessing_is_said_to_be(tmp_path: Path) -> None:
    head = Head("ordinal", ("above 0", "above 1"), "cumulative_sigmoid")
    levels = np.arange(60) % 3
    reversed_outputs = np.where(levels[:, None] < 1, 3.0, np.where(levels[:, None] < 2, (3.0, -3.0), -3.0))
    page = build_page(
        [write_outputs(tmp_path / "r.parquet", head, ("0", "1", "2"), levels[:, None].astype(float), reversed_outputs)]
    )
    assert page.lead[1].text == "Kappa is worse than chance."


def test_each_target_is_of_the_videos_that_have_it(tmp_path: Path) -> None:
    head = Head("regression", ("EF", "ESV"), "identity", None, (50.0, 80.0), (10.0, 20.0))
    targets = np.array([[52.0, 70.0], [60.0, math.nan], [38.0, 75.0], [30.0, math.nan], [math.nan, math.nan]])
    outputs = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-2.0, 0.0], [np.nan, np.nan]])
    line = build_page([write_outputs(tmp_path / "t.parquet", head, ("EF", "ESV"), targets, outputs)]).lead[0].text
    assert "in 2 videos that have it" in line and "in 4 videos" not in line
    assert "of 4 videos, 1 more unreadable" in line


def test_thresholds_that_were_not_chosen_are_said_to_be(tmp_path: Path) -> None:
    targets = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    for thresholds, origin in ((None, "which was not chosen"), ((0.5, 0.4), "chosen on the validation videos")):
        head = Head("multi_label", ("a", "b"), "sigmoid", thresholds=thresholds)
        page = build_page([write_outputs(tmp_path / "l.parquet", head, ("a", "b"), targets, 4 * targets - 2)])
        assert origin in (next(table for table in page.tables if table.name == "l-classes").note or "")


def test_data_is_refused_where_nothing_is_shown_of_it(tmp_path: Path) -> None:
    head = Head("multi_label", ("a", "b"), "sigmoid", thresholds=(0.5, 0.5))
    targets = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    addresses = [
        write_outputs(tmp_path / f"{name}.parquet", head, ("a", "b"), targets, 4 * targets - 2) for name in "xy"
    ]
    for some in (addresses[:1], addresses):
        with pytest.raises(
            ValueError, match=r"^--data videos is for .* the task multi_label does not have; leave it out$"
        ):
            build_page(some, "videos")


def test_what_is_left_out_of_a_chart_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_module, "MAX_POINTS", 4)
    monkeypatch.setattr(tasks_module, "MAX_CLASSES_IN_CHART", 1)
    head = Head("regression", ("EF",), "identity", None, (50.0,), (10.0,))
    targets = np.arange(9.0)[:, None]
    page = build_page([write_outputs(tmp_path / "r.parquet", head, ("EF",), targets, targets)])
    drawn = [chart.series[0] for chart in page.charts if isinstance(chart, LineChart)]
    assert [(series.label, len(series.x)) for series in drawn] == [("one video in 3", 3)] * 2
    labels = Head("multi_label", ("a", "b"), "sigmoid")
    known = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]] * 4)
    page = build_page([write_outputs(tmp_path / "l.parquet", labels, ("a", "b"), known, 4 * known - 2)])
    assert page.charts[0].title == "Average precision of 1 of 2 classes, the lowest first"


def test_the_name_of_a_file_is_no_markup(tmp_path: Path) -> None:
    head = Head("multi_label", ("a", "b"), "sigmoid", thresholds=(0.5, 0.5))
    targets = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    address = write_outputs(tmp_path / 'x"><h1>no.parquet', head, ("a", "b"), targets, 4 * targets - 2)
    assert "<h1>no" not in render_html(build_page([address]))
