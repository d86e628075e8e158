from __future__ import annotations

from dataclasses import replace

import pytest

from muybridge.report.charts import LineChart
from muybridge.report.sections.training import build_curve_blocks, extract_curve, flatten_mapping, summarize_speed
from muybridge.report.sources import RunRecord

LOG = [
    {"kind": "train", "step": 1, "epoch": 0.5, "loss": 2.0, "clips_per_second": 10.0, "waiting_share": 0.0},
    {"kind": "train", "step": 2, "epoch": 1.0, "clips_per_second": 2.5, "waiting_share": 0.5},
    {"kind": "validation", "step": 2, "video_top1": 0.25},
    {"kind": "train", "step": 3, "epoch": 1.5, "loss": "nan", "clips_per_second": 0, "waiting_share": True},
    {"kind": "train", "step": 4, "epoch": 2.0, "loss": 1.0},
    {"kind": "validation", "step": 4, "video_top1": 0.5},
]


def run(settings: dict[str, object]) -> RunRecord:
    return RunRecord("r", (), settings, {}, {}, tuple(LOG), ())


def test_curves_pass_over_what_is_no_number() -> None:
    assert extract_curve(LOG, "train", "loss") == ([0.5, 2.0], [2.0, 1.0])
    assert extract_curve(LOG, "validation", "video_top1") == ([1.0, 2.0], [0.25, 0.5])
    assert extract_curve(LOG, "validation", "nothing") == ([], [])
    assert extract_curve(LOG[2:3], "validation", "video_top1") == ([2.0], [0.25])  # no training lines: steps stay steps


def test_speed_weighs_waiting_by_time() -> None:
    """Two steps of 8 clips: 0.8 s without and 3.2 s with half waiting: 1.6 of 4 s."""
    speed = summarize_speed(run({"training": {"batch_size": 8}}))
    assert speed["steps"] == 2
    assert speed["clips a second, median"] == 6.25
    assert speed["waiting for data, % of the steps' time"] == pytest.approx(40)
    assert speed["minutes in steps, about"] == pytest.approx(4 / 60)
    assert "minutes in steps, about" not in summarize_speed(run({"training": 3}))


def test_charts_say_where_lines_begin_and_end() -> None:
    charts = {chart.name: chart for chart in build_curve_blocks(run({})) if isinstance(chart, LineChart)}
    assert set(charts) == {"loss", "curves"}
    assert charts["loss"].alt == "training loss: from 2 to 1 over 2 points"
    assert charts["curves"].series[0].y == (25.0, 50.0)


@pytest.mark.parametrize(("num_classes", "is_drawn"), [(4, False), (5, False), (6, True), (None, True)])
def test_top_5_is_drawn_where_it_says_something(num_classes: int | None, is_drawn: bool) -> None:
    """Of few classes it is below 1 only by videos that could not be read."""
    log = [{**line, "video_top5": 0.75} if line["kind"] == "validation" else line for line in LOG]
    record = replace(run({}), log=tuple(log), network={"num_classes": num_classes})
    charts = {chart.name: chart for chart in build_curve_blocks(record) if isinstance(chart, LineChart)}
    assert ("validation video@5" in [one.label for one in charts["curves"].series]) == is_drawn


def test_values_in_words() -> None:
    values = {"a": None, "b": {"c": True, "d": {"e": [1, 2.5]}}, "f": "text"}
    assert flatten_mapping(values) == {"a": "-", "b.c": "true", "b.d.e": "1 2.5", "f": "text"}
