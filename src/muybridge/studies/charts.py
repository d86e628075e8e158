"""The charts of Figures 3, 4 and 5.

Input: `GridResults`. Output: `StudyChart`s, each with its points described in words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from muybridge.models.family import FAMILIES, PAPER_NAMES
from muybridge.report.charts import Series
from muybridge.studies.claims import ERRORS
from muybridge.studies.counting import count_multiply_adds, get_paper_settings
from muybridge.studies.grids import DEPTHS, FIGURE5_CLIPS, FIGURE5_LENGTHS, TABLE2_LENGTHS
from muybridge.studies.intervals import Estimate, estimate_percent
from muybridge.studies.paper import TABLE2
from muybridge.studies.study import GridResults, StudyChart
from muybridge.studies.tables import METRICS, count_cell_gmacs

Point = tuple[float, Estimate | None]
NOTHING_RUN = "nothing has been run"
FAMILY_GROUPS = {
    "R2D, f-R2D": ("r2d", "f_r2d"),
    "R3D": ("r3d",),
    "MC2 to MC5": tuple(family for family in FAMILIES if family.startswith("mc")),
    "rMC2 to rMC5": tuple(family for family in FAMILIES if family.startswith("rmc")),
    "R(2+1)D": ("r2plus1d",),
}


def draw_figure3(results: GridResults) -> tuple[StudyChart, ...]:
    """A chart per depth: training and validation error of both networks by epoch."""
    charts = []
    for depth in DEPTHS[results.config.scale]:
        series = tuple(
            _average_curves(f"{PAPER_NAMES[family]}, {label}", results.error_curves((family, depth), name))
            for family in ("r3d", "r2plus1d")
            for name, label in ERRORS.items()
        )
        finals = "; ".join(f"{curve.label} ends at {curve.y[-1]:.1f}" for curve in series if curve.y) or NOTHING_RUN
        alt = f"Clip error in percent by epoch at {depth} layers: {finals}."
        charts.append(StudyChart(f"Figure 3, {depth} layers", "epoch", "clip error in percent", series, alt))
    return tuple(charts)


def draw_figure4(results: GridResults) -> tuple[StudyChart, ...]:
    """Two charts per length: our accuracies over our multiply-adds, and the paper's over the paper's."""
    charts = []
    for length in TABLE2_LENGTHS:
        cells = {family: (family, length) for family in FAMILIES}
        ours = {family: (count_cell_gmacs(results, key), results.estimate(key)) for family, key in cells.items()}
        charts.append(_draw_cost(f"Figure 4, {length} frames, ours", ours))
        printed: dict[str, Point] = {
            row.family: (
                count_multiply_adds(get_paper_settings(row.family, length)) / 1e9,
                Estimate(float(getattr(row, f"video_top1_{length}f")), None, None, 1),
            )
            for row in TABLE2
        }
        charts.append(_draw_cost(f"Figure 4, {length} frames, the paper's accuracies", printed))
    return tuple(charts)


def draw_figure5(results: GridResults) -> tuple[StudyChart, ...]:
    """Accuracy over the length of clips (a) and over the number of clips averaged (b)."""
    lengths, counts = FIGURE5_LENGTHS[results.config.scale], FIGURE5_CLIPS[results.config.scale]
    by_length = tuple(
        _build_series(
            METRICS[metric],
            [(float(length), results.estimate(("length", length), metric=metric)) for length in lengths],
            "line",
        )
        for metric in ("clip_top1", "video_top1")
    )
    averaged = [(float(num_clips), results.estimate(("clips", num_clips))) for num_clips in counts]
    by_count = (_build_series("ours", averaged, "line"),)
    return (
        StudyChart("Figure 5a", "frames of a clip", "accuracy in percent", by_length, _describe(by_length)),
        StudyChart("Figure 5b", "clips averaged", "video@1 in percent", by_count, _describe(by_count)),
    )


def _build_series(label: str, points: Sequence[Point], style: Literal["line", "points"]) -> Series:
    """A series of estimates over x; points that have not been run are left out."""
    known = [(x, estimate) for x, estimate in points if estimate is not None]
    return Series(
        label,
        tuple(x for x, _ in known),
        tuple(estimate.mean for _, estimate in known),
        tuple(estimate.mean if estimate.low is None else estimate.low for _, estimate in known),
        tuple(estimate.mean if estimate.high is None else estimate.high for _, estimate in known),
        style,
    )


def _average_curves(label: str, curves: Mapping[int, Mapping[float, float]]) -> Series:
    """The mean over seeds of curves epoch -> error in percent."""
    epochs = sorted({epoch for curve in curves.values() for epoch in curve})
    means = [
        (epoch, estimate_percent([curve[epoch] for curve in curves.values() if epoch in curve])) for epoch in epochs
    ]
    return _build_series(label, means, "line")


def _draw_cost(title: str, points: Mapping[str, Point]) -> StudyChart:
    """Accuracy over multiply-adds: a point per family, a series per kind of network."""
    series = tuple(
        _build_series(name, sorted((points[family] for family in families), key=lambda point: point[0]), "points")
        for name, families in FAMILY_GROUPS.items()
    )
    described = [
        f"{PAPER_NAMES[family]} {estimate.mean:.1f} at {gmacs:.3f}"
        for family, (gmacs, estimate) in points.items()
        if estimate is not None
    ]
    alt = f"Accuracy over cost: {'; '.join(described) or NOTHING_RUN}."
    return StudyChart(title, "10^9 multiply-adds a clip", "video@1 in percent", series, alt)


def _describe(series: Sequence[Series]) -> str:
    described = [
        f"{curve.label}: " + ", ".join(f"{y:.1f} at {x:g}" for x, y in zip(curve.x, curve.y, strict=True))
        for curve in series
        if curve.x
    ]
    return f"{'; '.join(described) or NOTHING_RUN}."
