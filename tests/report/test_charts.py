from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from functools import cache
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from muybridge.report.charts import (
    MAX_POINTS,
    Chart,
    IntervalChart,
    LineChart,
    MatrixChart,
    Series,
    downsample,
)
from muybridge.report.drawing import MAX_CELL_CLASSES, render_files, render_inline_svg

HOSTILE = ("<script>alert(1)</script>", "$x_{1$", "日本語", 'a" onload="x', "\\frac{}")


def matrix(num_classes: int) -> MatrixChart:
    counts = np.eye(num_classes, dtype=np.int64) * 3
    counts[0, 1:] = 1
    labels = tuple((HOSTILE * num_classes)[:num_classes])
    return MatrixChart("confusion", "Confusion", labels, counts, counts / counts.sum(axis=1, keepdims=True), "words")


CHARTS: dict[str, Chart] = {
    "lines": LineChart(
        "loss",
        "Loss <b>",
        "epoch",
        "loss",
        (
            Series(HOSTILE[0], (1.0, 2.0, 3.0), (3.0, 2.0, 1.0), low=(2.0, 1.0, 0.0), high=(4.0, 3.0, 2.0)),
            Series(HOSTILE[1], (2.0,), (2.0,), low=(1.0,), high=(3.0,), style="points"),
        ),
        'falls "steadily"',
    ),
    "intervals": IntervalChart("accuracy", "Accuracy", "percent", HOSTILE, (1.0,) * 5, (0.0,) * 5, (2.0,) * 5, "words"),
    "cells": matrix(6),
    "dots": matrix(MAX_CELL_CLASSES + 1),
}


@cache
def draw(name: str) -> str:
    """The drawings of a chart on a page, for all tests that look at them."""
    return str(render_inline_svg(CHARTS[name]))


@pytest.mark.parametrize("name", CHARTS)
def test_a_page_gets_two_drawings_in_its_own_colours(name: str) -> None:
    text, chart = draw(name), CHARTS[name]
    drawings = ET.fromstring(f"<div>{text}</div>")
    assert [drawing.get("class") for drawing in drawings] == ["wide", "narrow"]
    assert [drawing.get("width") for drawing in drawings] == [None, None]
    for drawing in drawings:
        assert drawing.get("role") == "img"
        assert drawing.get("aria-label") == f"{chart.title}. {chart.alt}"
    names = re.findall(r'\bid="([^"]+)"', text)
    assert len(names) == len(set(names))
    for used in re.findall(r'(?:xlink:href="|url\()#([\w.-]+)', text):
        assert used in names
    assert "var(--ink)" in text
    assert not re.search(r"#0a0b\d\d", text)
    assert "<script" not in text
    assert "metadata" not in text
    assert not re.search(r'(?:href|src)="(?!#|data:image/png)', text)
    assert not re.search(r"https?://(?!www\.w3\.org/(?:1999/xlink|2000/svg))", text)


@pytest.mark.parametrize("name", CHARTS)
def test_drawings_depend_on_the_chart_alone(name: str) -> None:
    assert str(render_inline_svg(CHARTS[name])) == draw(name)


@pytest.mark.parametrize("name", ["lines", "dots"])
def test_files_depend_on_the_chart_alone(name: str) -> None:
    assert render_files(CHARTS[name]) == render_files(CHARTS[name])


def test_names_are_drawn_as_they_are() -> None:
    wide = ET.fromstring(f"<div>{draw('intervals')}</div>")[0]
    drawn = {"".join(element.itertext()).strip() for element in wide.iter() if element.tag.endswith("text")}
    assert set(HOSTILE) <= drawn


def test_files_for_papers_are_what_they_say() -> None:
    files = render_files(CHARTS["lines"])
    assert set(files) == {"svg", "pdf", "png"}
    assert ET.fromstring(files["svg"]).tag == "{http://www.w3.org/2000/svg}svg"
    assert b"<text" not in files["svg"]  # letters are shapes: they look the same everywhere
    assert b"var(" not in files["svg"]
    assert files["pdf"].startswith(b"%PDF-")
    assert b"CreationDate" not in files["pdf"]
    assert Image.open(BytesIO(files["png"])).size == (2040, 900)


@pytest.mark.parametrize("name", ["a", "W" * 60])
def test_the_label_under_intervals_ends_inside_the_drawing(name: str) -> None:
    chart = IntervalChart("i", "title", "percent, with 95 % interval", (name,), (97.3,), (94.0,), (98.8,), "")
    for drawing in str(render_inline_svg(chart)).split("<svg ")[1:]:
        width = float(re.search(r'viewBox="0 0 ([\d.]+)', drawing)[1])  # type: ignore[index]
        label = re.search(r'text-anchor: end[^>]* x="([\d.]+)"[^>]*>percent', drawing)
        assert label
        assert width / 2 < float(label[1]) <= width


def test_a_matrix_of_two_classes_is_of_moderate_size_with_upright_labels() -> None:
    small, large = (Image.open(BytesIO(render_files(matrix(num))["png"])).size for num in (2, 12))
    assert small[0] == large[0]
    assert small[1] < 0.6 * large[1]
    text = str(render_inline_svg(matrix(2)))
    assert text.count("rotate(-90") < str(render_inline_svg(matrix(12))).count("rotate(-90") - 10


def test_drawings_in_a_page_have_the_height_of_their_contents() -> None:
    heights = re.findall(r'viewBox="0 0 [\d.]+ ([\d.]+)"', str(render_inline_svg(matrix(2))))
    assert list(map(float, heights)) == [170 + 2 * 90, 120 + 2 * 45]


def test_ticks_have_no_offset() -> None:
    chart = LineChart("l", "title", "step", "loss", (Series("a", (1.0, 2.0), (1_000_001.0, 1_000_002.0)),), "words")
    ticks = re.findall(r">([^<>]+)</text>", str(render_inline_svg(chart)))
    assert {"1.0000010", "1e6"} <= set(ticks)
    assert not any(tick.startswith("+") for tick in ticks)


def test_cells_show_shares_and_not_counts() -> None:
    text = str(render_inline_svg(matrix(4)))
    picture = re.search(r'data:image/png;base64,([^"]+)"', text)
    assert picture
    pixels = np.asarray(Image.open(BytesIO(base64.b64decode(re.sub(r"\s", "", picture[1])))).convert("RGBA"))
    opacity = pixels[..., 3].astype(int)
    assert opacity[1, 1] > opacity[0, 0] > opacity[0, 1] > opacity[1, 0] == 0
    assert tuple(pixels[1, 1, :3]) != tuple(pixels[0, 1, :3])


def draw_line(num_points: int, *labels: str) -> str:
    x = tuple(map(float, range(num_points)))
    series = tuple(Series(label, x, x) for label in labels)
    return str(render_inline_svg(LineChart("loss", "Loss", "epoch", "loss", series, "rises"))).split("</svg>")[0]


def test_a_single_line_needs_no_legend() -> None:
    assert ">ours<" not in draw_line(3, "ours")
    assert all(f">{label}<" in draw_line(3, "ours", "theirs") for label in ("ours", "theirs"))


def test_points_are_marked_up_to_forty() -> None:
    few, many = (draw_line(num_points, "ours").count("<use ") for num_points in (40, 41))
    assert few >= many + 38  # ticks are marks too


def test_drawings_have_room_for_a_line_of_text_for_each_interval() -> None:
    sizes = {
        name: re.findall(r'viewBox="0 0 ([\d. ]+)"', str(render_inline_svg(chart))) for name, chart in CHARTS.items()
    }
    assert sizes["lines"] == ["680 300", "328 250"]
    assert sizes["intervals"] == [f"{width} {66 + 5 * 30}" for width in (680, 328)]
    assert sizes["cells"] == sizes["dots"] == ["680 620", "328 328"]


def test_a_long_line_becomes_means_of_neighbours() -> None:
    x, y = downsample(range(10 * MAX_POINTS), [float(number % 10) for number in range(10 * MAX_POINTS)])
    assert len(x) == len(y) == MAX_POINTS
    assert set(y) == {4.5}
    assert x[:2] == (4.5, 14.5)
    assert downsample([1.0], [2.0]) == ((1.0,), (2.0,))


def test_a_series_needs_as_many_x_as_y_values() -> None:
    with pytest.raises(ValueError, match="'a' has 2 x for 1 y values"):
        Series("a", (1.0, 2.0), (1.0,))
