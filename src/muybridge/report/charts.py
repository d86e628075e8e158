"""Charts as records, and their drawings: SVG inside a page, SVG, PDF and PNG for papers.

Enter: what is to be seen, with a sentence for those who cannot see it. Leave: text or bytes that depend on nothing else: no
date, no random names. Inside a page a chart has no colours of its own but those of the page's style, so that light, dark and
print agree, and is drawn twice, wide and narrow, so that its letters keep their size on a phone. Names come from outside and
are drawn as they are, never as formulas.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from muybridge.report.series import Series
from muybridge.text import format_count, sanitize_text, shorten

MAX_POINTS = 300  # of a line: more are not told apart on a page, and a night's run has a million steps
WIDE_PIXELS, NARROW_PIXELS = 680, 328  # CSS pixels: a column of text, and a phone's width without its margins
FONT_PIXELS = 12.0
POINTS_PER_INCH = 72  # matplotlib's; one of its points becomes one CSS pixel
MAX_NUMBERED_CLASSES = 16  # classes of a matrix whose cells show their numbers
MAX_CELL_CLASSES = 80  # classes of a matrix that is drawn cell by cell
_MARKERS = "os^DvP"
_DASHES = ("-", "--", "-.", ":")

# Right and wrong cells of a matrix, as red, green and blue; both stand out from white and from near black.
CORRECT_COLOR, WRONG_COLOR = (59, 130, 196), (204, 102, 34)
MAX_OPACITY = 0.75  # numbers on top of a cell keep a contrast of 4.5

# For papers. In a page each colour is a property of the style, and these stand in for them while a chart is drawn.
NUM_SERIES = 6
_PAPER_COLORS = {"ink": "#1b1b1a", "quiet": "#595956", "grid": "#d8d8d4"} | {
    f"series-{number}": colour
    for number, colour in enumerate(("#1f6fb2", "#c2410c", "#2e7d32", "#7b3fa0", "#8a5d00", "#5f6b6d"))
}
_PLACEHOLDER_COLORS = {name: f"#0a0b{number:02x}" for number, name in enumerate(_PAPER_COLORS)}


@dataclass(frozen=True)
class LineChart:
    """Series over a common axis."""

    kind: ClassVar[str] = "chart"
    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    alt: str


@dataclass(frozen=True)
class IntervalChart:
    """A value with its interval for each label, one below the other."""

    kind: ClassVar[str] = "chart"
    name: str
    title: str
    x_label: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    alt: str


@dataclass(frozen=True)
class MatrixChart:
    """Counts (rows, columns) of a square matrix; a cell's colour is its share of its row in `shares`."""

    kind: ClassVar[str] = "chart"
    name: str
    title: str
    labels: tuple[str, ...]
    counts: NDArray[np.int64]
    shares: NDArray[np.float64]
    alt: str


Chart: TypeAlias = LineChart | IntervalChart | MatrixChart


@dataclass(frozen=True)
class _Canvas:
    """How large, and in what colours."""

    width: int
    colors: dict[str, str] = field(default_factory=lambda: _PAPER_COLORS)

    def get_series_color(self, index: int) -> str:
        return self.colors[f"series-{index % NUM_SERIES}"]

    @property
    def is_wide(self) -> bool:
        return self.width >= WIDE_PIXELS


def render_inline_svg(chart: Chart) -> Markup:
    """Both drawings of a chart as SVG elements for a page, of which its style shows one."""
    alt = escape(sanitize_text(f"{chart.title}. {chart.alt}"))
    drawings = []
    for name, width in (("wide", WIDE_PIXELS), ("narrow", NARROW_PIXELS)):
        text = _render(chart, _Canvas(width, _PLACEHOLDER_COLORS), file_format="svg").decode()
        body = _embed_svg(text, prefix=f"{chart.name}-{name}-")
        drawings.append(f'<svg class="{name}" role="img" aria-label="{alt}" {body}')
    return Markup("\n".join(drawings))


def render_files(chart: Chart) -> dict[str, bytes]:
    """A chart's files by their suffix."""
    return {kind: _render(chart, _Canvas(WIDE_PIXELS), file_format=kind) for kind in ("svg", "pdf", "png")}


def downsample(x: Sequence[float], y: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A line of at most `MAX_POINTS` points: means of as many neighbours each as that takes."""
    if len(x) <= MAX_POINTS:
        return tuple(x), tuple(y)
    edges = np.linspace(0, len(x), MAX_POINTS + 1).astype(int)
    counts = np.diff(edges)
    means = [np.add.reduceat(np.asarray(values, np.float64), edges[:-1]) / counts for values in (x, y)]
    return tuple(means[0].tolist()), tuple(means[1].tolist())


@contextmanager
def _matplotlib_style(name: str, *, keep_text: bool) -> Iterator[None]:
    options: dict[Any, Any] = {
        "text.parse_math": False,  # a class may be called $a$
        "svg.hashsalt": name,
        "svg.fonttype": "none" if keep_text else "path",
        "pdf.fonttype": 42,  # what journals ask for
        "font.size": FONT_PIXELS,
        "axes.formatter.useoffset": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(options), warnings.catch_warnings():
        # A page's letters are the reader's; in other files a sign that the font lacks is a box.
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
            height = 60 + 30 * len(chart.labels)
        case MatrixChart():
            height = 620 if canvas.is_wide else 328
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
            label=shorten(sanitize_text(series.label), 60 if canvas.is_wide else 32),
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
    axes.set_yticks(positions, [shorten(sanitize_text(label), 44 if canvas.is_wide else 18) for label in chart.labels])
    axes.set_ylim(len(chart.labels) - 0.4, -0.6)
    axes.set_xlabel(sanitize_text(chart.x_label))
    axes.grid(visible=False, axis="y")


def _draw_matrix(axes: Axes, chart: MatrixChart, canvas: _Canvas) -> None:
    num_classes = len(chart.labels)
    axes.grid(visible=False)
    if num_classes > MAX_CELL_CLASSES:
        _draw_dots(axes, chart.shares, scale=1.0 if canvas.is_wide else 0.3)
    else:
        axes.imshow(_color_cells(chart.shares), interpolation="none", aspect="equal")
    size = FONT_PIXELS - (2 if canvas.is_wide else 4)
    # A line of text needs its height: of more classes than fit, every second, third, ... is named.
    step = math.ceil(num_classes * size * 1.15 / (460 if canvas.is_wide else 200))
    positions = range(0, num_classes, step)
    names = [shorten(sanitize_text(chart.labels[place]), 24 if canvas.is_wide else 13) for place in positions]
    axes.set_xticks(positions, names, rotation=90, fontsize=size)
    axes.set_yticks(positions, names, fontsize=size)
    axes.set_xlabel("first class of the network")
    axes.set_ylabel("label")
    if num_classes <= MAX_NUMBERED_CLASSES:
        for row, column in zip(*np.nonzero(chart.counts), strict=True):
            text = str(chart.counts[row, column])
            axes.text(column, row, text, ha="center", va="center", color=canvas.colors["ink"], fontsize=size)


def _draw_dots(axes: Axes, shares: NDArray[np.float64], *, scale: float) -> None:
    """Cells smaller than the eye finds, as dots that are larger than their cells; as pixels, for there are thousands."""
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
    """Red, green, blue and opacity of each cell; the root of a share, so that few confusions among many videos are seen."""
    colors = np.where(np.eye(len(shares), dtype=np.bool_)[..., None], CORRECT_COLOR, WRONG_COLOR)
    opacity = np.sqrt(np.nan_to_num(shares)) * MAX_OPACITY * 255
    return np.concatenate([colors, np.ceil(opacity)[..., None]], axis=2).astype(np.uint8)


def _embed_svg(svg: str, *, prefix: str) -> str:
    """What follows `<svg ` in a page: without a size of its own, names that no other drawing has, the page's colours."""
    _, _, body = svg.partition("<svg ")
    body = re.sub(r"<metadata>.*?</metadata>\s*|<style .*?</style>\s*|<!--.*?-->\s*", "", body, flags=re.DOTALL)
    head, _, rest = body.partition(">")
    view = re.search(r'viewBox="[\d. ]+"', head)
    assert view is not None, "matplotlib writes a viewBox"
    names = set(re.findall(r'(?:xlink:href="|url\()#([\w.-]+)', rest))
    rest = re.sub(r' id="([\w.-]+)"', lambda found: f' id="{prefix}{found[1]}"' if found[1] in names else "", rest)
    rest = re.sub(r'(xlink:href="|url\()#', rf"\g<1>#{prefix}", rest)
    for name, color in _PLACEHOLDER_COLORS.items():
        rest = rest.replace(color, f"var(--{name})")
    return f'xmlns:xlink="http://www.w3.org/1999/xlink" {view[0]}>{rest}'


def describe_series(series: Series, unit: str = "") -> str:
    """A line in words: where it begins and ends."""
    if not series.y or not all(math.isfinite(value) for value in (series.y[0], series.y[-1])):
        return f"{series.label}: no values"
    if len(series.y) == 1:
        return f"{series.label}: {series.y[0]:.3g}{unit}"
    return (
        f"{series.label}: from {series.y[0]:.3g}{unit} to {series.y[-1]:.3g}{unit} over "
        f"{format_count(len(series.y), 'point')}"
    )
