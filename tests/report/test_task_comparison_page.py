"""Runs of other tasks side by side: their differences on common videos, in words by the interval."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from muybridge.evaluation.scores import read_any_scores
from muybridge.models.heads import Head, make_ordinal_outputs
from muybridge.report.build import build_page
from muybridge.report.page import render_html
from scored import TaskVideo, write_task_scores

EF = Head("regression", ("ef",), "identity", ("%",), (50.0,), (10.0,))
OTHER = Head("regression", ("EF",), "identity", ("%",), (0.0,), (1.0,))


def write_errors(path: Path, head: Head, errors: np.ndarray, *, first: int = 0) -> str:
    """Scores of videos with targets 40, 41, ... whose predictions are off by these errors."""
    mean, std = (head.target_mean or ())[0], (head.target_std or ())[0]
    videos: list[TaskVideo] = [
        (f"{index}.mp4", (40.0 + index,), [[(40.0 + index + error - mean) / std]])
        for index, error in enumerate(errors.tolist(), first)
    ]
    return str(write_task_scores(path, head, head.outputs, videos))


def test_the_mean_error_is_compared_on_common_videos(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    small, large = rng.normal(0, 1, 40), rng.normal(0, 5, 40)
    one = write_errors(tmp_path / "one.parquet", EF, small)
    two = write_errors(tmp_path / "two.parquet", OTHER, large)
    page = build_page([one, two])
    (row,) = next(table for table in page.tables if table.name == "paired").rows
    assert row[:4] == ("one", "two", "the MAE of ef (%)", 40)
    assert row[4:7] == pytest.approx(
        (abs(small).mean(), abs(large).mean(), abs(large).mean() - abs(small).mean()), abs=1e-4
    )
    assert page.lead[0].text.startswith(
        f"On 40 videos that both scored, the MAE of ef (%) of one is lower than that of two by {row[6]:.3g} (95 % interval"
    )
    assert "Metrics of the runs" in render_html(page)
    same = build_page([one, write_errors(tmp_path / "same.parquet", EF, rng.normal(0, 1, 40))])
    assert "from one to same is not significant" in same.lead[0].text
    part = build_page([one, write_errors(tmp_path / "part.parquet", EF, large[:30], first=20)])
    assert part.lead[0].text.startswith("On 20 videos that both scored")


def test_targets_in_another_order_stand_in_one_column(tmp_path: Path) -> None:
    head = Head("regression", ("ef", "esv"), "identity", ("%", "ml"), (0.0, 0.0), (1.0, 1.0))
    other = Head("regression", ("ESV", "EF"), "identity", ("ml", "%"), (0.0, 0.0), (1.0, 1.0))
    targets = [(40.0 + index, 80.0 + 3 * index) for index in range(9)]
    videos: list[TaskVideo] = [(str(index), row, [[row[0] + 1, row[1] - 2]]) for index, row in enumerate(targets)]
    swapped: list[TaskVideo] = [(name, row[::-1], [view[0][::-1]]) for name, row, view in videos if view[0]]
    paths = [write_task_scores(tmp_path / "one.parquet", head, head.outputs, videos)]
    paths += [write_task_scores(tmp_path / "two.parquet", other, other.outputs, swapped)]
    table = next(table for table in build_page([str(path) for path in paths]).tables if table.name == "metrics")
    headings = ["MAE of ef (%)", "RMSE of ef (%)", "R2 of ef", "MAE of esv (ml)", "RMSE of esv (ml)", "R2 of esv"]
    assert [column.title for column in table.columns] == ["run", *headings, "videos", "unreadable"]
    one, two = table.rows
    assert one[1:3] + one[4:6] == pytest.approx((1, 1, 2, 2))
    assert two[1:] == pytest.approx(one[1:])


def test_other_measures_and_what_cannot_be_compared(tmp_path: Path) -> None:
    labels = Head("multi_label", ("a", "b"), "sigmoid")
    truth = [(float(index % 2), float(index % 3 == 0)) for index in range(24)]
    paths = []
    for name, factor in (("right", 4.0), ("wrong", -4.0)):
        videos: list[TaskVideo] = [
            (str(index), row, [[factor * (value - 0.5) for value in row]]) for index, row in enumerate(truth)
        ]
        paths.append(str(write_task_scores(tmp_path / f"{name}.parquet", labels, labels.outputs, videos)))
    page = build_page(paths)
    assert "mAP of right is higher than that of wrong" in page.lead[0].text
    assert [column.title for column in page.tables[0].columns][1:4] == ["mAP", "micro F1", "macro F1"]

    levels = ("low", "middle", "high")
    head = Head("ordinal", make_ordinal_outputs(levels), "cumulative_sigmoid")
    ordinal: list[TaskVideo] = [(str(index), (float(index % 3),), [[9.0, 9.0]]) for index in range(9)]
    path = str(write_task_scores(tmp_path / "levels.parquet", head, levels, ordinal))
    exact: list[TaskVideo] = [
        (name, (k,), [[9.0 * (2 * (k > 0) - 1), 9.0 * (2 * (k > 1) - 1)]]) for name, (k,), _ in ordinal
    ]
    better = str(write_task_scores(tmp_path / "exact.parquet", head, levels, exact))
    page = build_page([path, better])
    assert "MAE in levels of exact is lower than that of levels by 1" in page.lead[0].text
    metrics = dict(zip((column.title for column in page.tables[0].columns), page.tables[0].rows[1], strict=True))
    assert (metrics["MAE in levels"], metrics["exact"], metrics["quadratic weighted kappa"]) == (0, 1, 1)

    with pytest.raises(ValueError, match="right and levels cannot be compared: one is of the task multi_label"):
        build_page([paths[0], path])
    moved = write_errors(tmp_path / "moved.parquet", EF, np.zeros(3))
    apart = write_errors(tmp_path / "apart.parquet", EF, np.zeros(3), first=9)
    with pytest.raises(ValueError, match="moved and apart have no readable video in common"):
        build_page([moved, apart])
    assert len(read_any_scores(Path(moved)).table) == 3
