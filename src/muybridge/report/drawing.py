"""Drawing of charts with matplotlib: SVG inside a page; SVG, PDF and PNG files for papers.

Input: a chart of `charts`. Output: text or bytes that depend on the chart alone: no date, no random identifiers. Inside a page
a chart takes its colours from the page's style sheet, so that it follows light mode, dark mode and print, and it is drawn
twice, wide and narrow, so that its letters keep their size on a phone. Labels come from outside and are drawn as plain text,
never as formulas.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from muybridge.report.charts import Chart, IntervalChart, LineChart, MatrixChart
from muybridge.text import sanitize_text, shorten

WIDE_PIXELS, NARROW_PIXELS = 680, 328  # CSS pixels: a column of text, and a phone's width without its margins
FONT_PIXELS = 12.0
POINTS_PER_INCH = 72  # matplotlib's; one of its points becomes one CSS pixel
MAX_NUMBERED_CLASSES = 16  # matrices of at most as many classes show the count in each cell
MAX_LARGE_LABELS = 4  # matrices of at most as many classes have labels as large as other text
MAX_CELL_CLASSES = 80  # matrices of more classes show dots instead of cells
_MARKERS = "os^DvP"
_DASHES = ("-", "--", "-.", ":")

# RGB of correct and wrong cells of a matrix; both contrast with white and with near black.
CORRECT_COLOR, WRONG_COLOR = (59, 130, 196), (204, 102, 34)
_MAX_CELL_PIXELS = 90  # of a matrix of few classes
_CHARACTER_WIDTH = 0.6  # of the font's size, on average
MAX_OPACITY = 0.75  # keeps a contrast of 4.5 between a cell and the number on it

# Files use these colours. matplotlib knows no CSS variables, so charts for pages are drawn in placeholder colours that
# `_embed_svg` replaces with `var(--name)`.
NUM_SERIES = 6
_PAPER_COLORS = {"ink": "#1b1b1a", "quiet": "#595956", "grid": "#d8d8d4"} | {
    f"series-{index}": color
    for index, color in enumerate(("#1f6fb2", "#c2410c", "#2e7d32", "#7b3fa0", "#8a5d00", "#5f6b6d"))
}
_PLACEHOLDER_COLORS = {name: f"#0a0b{index:02x}" for index, name in enumerate(_PAPER_COLORS)}


@dataclass(frozen=True)
class _Canvas:
    """Width in pixels and colours by name."""

    width: int
    colors: dict[str, str] = field(default_factory=lambda: _PAPER_COLORS)

    def get_series_color(self, index: int) -> str:
        return self.colors[f"series-{index % NUM_SERIES}"]

    @property
    def is_wide(self) -> bool:
        return self.width >= WIDE_PIXELS


def render_inline_svg(chart: Chart) -> Markup:
    """The wide and the narrow drawing of a chart as SVG elements; the page's style sheet shows one of them."""
    alt = escape(sanitize_text(f"{chart.title}. {chart.alt}"))
    drawings = []
    for name, width in (("wide", WIDE_PIXELS), ("narrow", NARROW_PIXELS)):
        text = _render(chart, _Canvas(width, _PLACEHOLDER_COLORS), file_format="svg").decode()
        body = _embed_svg(text, prefix=f"{re.sub(r'[^A-Za-z0-9_.-]', '_', chart.name)}-{name}-")
        drawings.append(f'<svg class="{name}" role="img" aria-label="{alt}" {body}')
    return Markup("\n".join(drawings))


def render_files(chart: Chart) -> dict[str, bytes]:
    """Contents of a chart's files by suffix."""
    return {kind: _render(chart, _Canvas(WIDE_PIXELS), file_format=kind) for kind in ("svg", "pdf", "png")}


@contextmanager
def _matplotlib_style(name: str, *, keep_text: bool) -> Iterator[None]:
    options: dict[Any, Any] = {
        "text.parse_math": False,  # class names may contain $
        "svg.hashsalt": name,
        "svg.fonttype": "none" if keep_text else "path",
        "pdf.fonttype": 42,  # TrueType, which journals require
        "font.size": FONT_PIXELS,
        "axes.formatter.useoffset": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(options), warnings.catch_warnings():
        # Pages use the reader's fonts; in files a missing glyph is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _render(chart: Chart, canvas: _Canvas, *, file_format: Literal["svg", "pdf", "png"]) -> bytes:
    dateless = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
    target = io.BytesIO()
    with _matplotlib_style(chart.name, keep_text=canvas.colors is _PLACEHOLDER_COLORS):
        figure = _draw_figure(chart, canvas)
        figure.savefig(
            target,
            format=file_format,
            metadata=dateless[file_format],
            dpi=POINTS_PER_INCH * (3 if file_format == "png" else 2),
        )
    return target.getvalue()


def _draw_figure(chart: Chart, canvas: _Canvas) -> Figure:
    match chart:
        case LineChart():
            height = 300 if canvas.is_wide else 250
        case IntervalChart():
            height = 66 + 30 * len(chart.labels)
        case MatrixChart():
            cell, labels = (_MAX_CELL_PIXELS, 170) if canvas.is_wide else (_MAX_CELL_PIXELS // 2, 120)
            height = min(620 if canvas.is_wide else 328, labels + cell * len(chart.labels))
    size = (canvas.width / POINTS_PER_INCH, height / POINTS_PER_INCH)
    figure = Figure(figsize=size, dpi=POINTS_PER_INCH, layout="constrained", facecolor="none")
    axes = figure.subplots()
    _style_axes(axes, canvas)
    match chart:
        case LineChart():
            _draw_lines(axes, chart, canvas)
        case IntervalChart():
            _draw_intervals(axes, chart, canvas)
        case MatrixChart():
            _draw_matrix(axes, chart, canvas)
    return figure


def _style_axes(axes: Axes, canvas: _Canvas) -> None:
    ink, quiet = canvas.colors["ink"], canvas.colors["quiet"]
    axes.set_facecolor("none")
    axes.tick_params(colors=quiet, labelcolor=ink)
    axes.grid(visible=True, color=canvas.colors["grid"], linewidth=0.7)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_color(quiet)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(ink)


def _shorten_label(label: str, max_length: int) -> str:
    return shorten(sanitize_text(label), max_length)


def _draw_lines(axes: Axes, chart: LineChart, canvas: _Canvas) -> None:
    for series_index, series in enumerate(chart.series):
        color = canvas.get_series_color(series_index)
        is_line = series.style == "line" and len(series.x) > 1
        has_markers = not is_line or len(series.x) <= 40
        axes.plot(
            series.x,
            series.y,
            color=color,
            linestyle=_DASHES[series_index // 2 % len(_DASHES)] if is_line else "none",
            marker=_MARKERS[series_index % len(_MARKERS)] if has_markers else "none",
            markersize=4.5,
            linewidth=1.6,
            label=_shorten_label(series.label, 60 if canvas.is_wide else 32),
        )
        if series.low is not None and series.high is not None:
            if is_line:
                axes.fill_between(series.x, series.low, series.high, color=color, alpha=0.16, linewidth=0)
            else:
                axes.vlines(series.x, series.low, series.high, color=color, linewidth=1.2)
    axes.set_xlabel(sanitize_text(chart.x_label))
    axes.set_ylabel(sanitize_text(chart.y_label))
    if len(chart.series) > 1:
        columns = 1 if not canvas.is_wide or len(chart.series) > 6 else 3
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1.02),
            ncols=columns,
            frameon=False,
            labelcolor=canvas.colors["ink"],
            borderaxespad=0,
            fontsize=FONT_PIXELS - 1,
        )


def _draw_intervals(axes: Axes, chart: IntervalChart, canvas: _Canvas) -> None:
    positions = np.arange(len(chart.labels))
    color = canvas.get_series_color(0)
    axes.hlines(positions, chart.low, chart.high, color=color, linewidth=2.2)
    axes.plot(chart.values, positions, color=color, linestyle="none", marker="o", markersize=7)
    axes.set_yticks(positions, [_shorten_label(label, 44 if canvas.is_wide else 18) for label in chart.labels])
    axes.set_ylim(len(chart.labels) - 0.4, -0.6)
    axes.set_xlabel(sanitize_text(chart.x_label), loc="right")  # beside long names the axis is shorter than its label
    axes.grid(visible=False, axis="y")


def _draw_matrix(axes: Axes, chart: MatrixChart, canvas: _Canvas) -> None:
    num_classes = len(chart.labels)
    axes.grid(visible=False)
    if num_classes > MAX_CELL_CLASSES:
        _draw_dots(axes, chart.shares, scale=1.0 if canvas.is_wide else 0.3)
    else:
        axes.imshow(_color_cells(chart.shares), interpolation="none", aspect="equal")
    size = FONT_PIXELS - (0 if num_classes <= MAX_LARGE_LABELS else 2 if canvas.is_wide else 4)
    # Where the labels of all classes do not fit, every second, third, ... class is labelled.
    step = math.ceil(num_classes * size * 1.15 / (460 if canvas.is_wide else 200))
    positions = range(0, num_classes, step)
    labels = [_shorten_label(chart.labels[index], 24 if canvas.is_wide else 13) for index in positions]
    are_short = max(map(len, labels)) * size * _CHARACTER_WIDTH < (_MAX_CELL_PIXELS if canvas.is_wide else 0)
    is_upright = num_classes <= MAX_LARGE_LABELS and are_short
    axes.set_xticks(positions, labels, rotation=0 if is_upright else 90, fontsize=size)
    axes.set_yticks(positions, labels, fontsize=size)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("label")
    if num_classes <= MAX_NUMBERED_CLASSES:
        for row, column in zip(*np.nonzero(chart.counts), strict=True):
            text = str(chart.counts[row, column])
            axes.text(column, row, text, ha="center", va="center", color=canvas.colors["ink"], fontsize=size)


def _draw_dots(axes: Axes, shares: NDArray[np.float64], *, scale: float) -> None:
    """Draw cells too small to see as larger dots, rasterized because there are thousands of them."""
    wrong = np.nonzero(shares - np.diag(np.diag(shares)))
    color = [part / 255 for part in WRONG_COLOR]
    axes.scatter(
        wrong[1],
        wrong[0],
        s=scale * (2 + 60 * shares[wrong]),
        color=color,
        alpha=MAX_OPACITY,
        linewidths=0,
        rasterized=True,
    )
    positions = np.arange(len(shares))
    axes.scatter(
        positions,
        positions,
        s=scale * (2 + 4 * np.diag(shares)),
        color=[part / 255 for part in CORRECT_COLOR],
        linewidths=0,
        rasterized=True,
    )
    axes.set_xlim(-1, len(shares))
    axes.set_ylim(len(shares), -1)
    axes.set_aspect("equal")


def _color_cells(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """RGBA of each cell. Opacity is the square root of the share, so that rare confusions remain visible."""
    colors = np.where(np.eye(len(shares), dtype=np.bool_)[..., None], CORRECT_COLOR, WRONG_COLOR)
    opacity = np.sqrt(np.nan_to_num(shares)) * MAX_OPACITY * 255
    return np.concatenate([colors, np.ceil(opacity)[..., None]], axis=2).astype(np.uint8)


def _embed_svg(svg: str, *, prefix: str) -> str:
    """What follows `<svg ` in a page: no fixed size, identifiers unique in the page, the page's colours."""
    _, _, body = svg.partition("<svg ")
    body = re.sub(r"<metadata>.*?</metadata>\s*|<style .*?</style>\s*|<!--.*?-->\s*", "", body, flags=re.DOTALL)
    head, _, rest = body.partition(">")
    view = re.search(r'viewBox="[\d. ]+"', head)
    assert view is not None, "matplotlib writes a viewBox"
    names = set(re.findall(r'(?:xlink:href="|url\()#([\w.-]+)', rest))
    rest = re.sub(r' id="([\w.-]+)"', lambda match: f' id="{prefix}{match[1]}"' if match[1] in names else "", rest)
    rest = re.sub(r'(xlink:href="|url\()#', rf"\g<1>#{prefix}", rest)
    for name, color in _PLACEHOLDER_COLORS.items():
        rest = rest.replace(color, f"var(--{name})")
    return f'xmlns:xlink="http://www.w3.org/1999/xlink" {view[0]}>{rest}'
