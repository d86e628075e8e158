"""A study of the paper: a grid of runs, a claim, and a summary made from finished rows alone.

Input: a `StudyConfig` and finished rows. Output: a `StudyResult`, and from it the contents of study.json. The studies
themselves are the rows of `catalogue.py`; `run.py` executes their runs. A summary needs no videos and, except for
Figure 6, no networks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from muybridge.report.charts import Series
from muybridge.report.tables import Cell
from muybridge.studies.intervals import Estimate, difference, estimate_mean, mean_by_seed
from muybridge.studies.plan import DataSource, EvaluatedSplit, FusedRun, PlannedRun, RowKey, RunGroup, order_runs

FORMAT = 1
Scale = Literal["paper", "laptop"]
Row = Mapping[str, Any]
Metric = Literal["clip_top1", "video_top1", "video_top5"]
BySeed = dict[int, float]
Grid = dict[Hashable, RunGroup]


@dataclass(frozen=True)
class StudyConfig:
    """Scale, number of seeds and data of a study. `others` are further data sets by name."""

    scale: Scale
    seeds: int
    source: DataSource
    split: EvaluatedSplit
    others: Mapping[str, DataSource] = field(default_factory=dict)


# The fields of the next four classes are keys of study.json, format 1: they keep their names.
@dataclass(frozen=True)
class StudyTable:
    """A table. Numbers are percent unless a column says otherwise; None is unknown, or not ours to run."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class StudyChart:
    """A chart; `alt` describes it in words."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    alt: str


@dataclass(frozen=True)
class StudyImage:
    """An image: rows of columns of gray levels or of (red, green, blue), 0 to 255; `alt` describes it in words."""

    title: str
    pixels: tuple[Any, ...]
    alt: str


@dataclass(frozen=True)
class Verdict:
    """Whether the runs support the claim: True, False, or None for undecided; `text` gives the reasons."""

    text: str
    supported: bool | None


@dataclass(frozen=True)
class StudyResult:
    """Verdict, tables, charts and images of a study."""

    verdict: Verdict
    tables: tuple[StudyTable, ...]
    charts: tuple[StudyChart, ...] = ()
    images: tuple[StudyImage, ...] = ()


@dataclass(frozen=True)
class GridResults:
    """The finished rows of a grid; `run_folder` holds the run folders, for a study that reads weights."""

    config: StudyConfig
    grid: Grid
    rows: Mapping[RowKey, Row]
    run_folder: Path

    def rows_by_seed(self, key: Hashable) -> dict[int, Row]:
        """The finished rows of one cell."""
        group = self.grid[key]
        rows_by_seed = {run.seed: self.rows.get((run.name, group.evaluation.key)) for run in group.members}
        return {seed: row for seed, row in rows_by_seed.items() if row is not None}

    def by_seed(self, *keys: Hashable, metric: Metric = "video_top1") -> BySeed:
        """The mean of a metric over cells, in percent, for every seed that all of them have."""
        return mean_by_seed(self._each_by_seed(keys, metric))

    def best_by_seed(self, *keys: Hashable) -> BySeed:
        """video@1 of the best of several cells, seed by seed: what the fusion of streams has to exceed."""
        cells = self._each_by_seed(keys, "video_top1")
        common = set(cells[0]).intersection(*cells[1:])
        return {seed: max(values[seed] for values in cells) for seed in sorted(common)}

    def estimate(self, *keys: Hashable, metric: Metric = "video_top1") -> Estimate | None:
        """The mean over finished seeds of the mean over cells; None where no seed is finished."""
        mean = estimate_mean(list(self.by_seed(*keys, metric=metric).values()))
        return None if mean is None else mean.clip(0.0, 100.0)

    def difference(self, key: Hashable, other: Hashable, metric: Metric = "video_top1") -> Estimate | None:
        """How far one cell lies above another, over the seeds that both have."""
        return difference(self.by_seed(key, metric=metric), self.by_seed(other, metric=metric))

    def error_curves(self, key: Hashable, name: str) -> dict[int, dict[float, float]]:
        """seed -> epoch -> an error in percent, from the history of each run."""
        rows = self.rows_by_seed(key)
        return {seed: {point["epoch"]: point[name] for point in row["history"]} for seed, row in rows.items()}

    def final_errors(self, key: Hashable, name: str) -> BySeed:
        """The error of the last epoch, seed by seed."""
        return {seed: curve[max(curve)] for seed, curve in self.error_curves(key, name).items() if curve}

    def _each_by_seed(self, keys: Sequence[Hashable], metric: Metric) -> list[BySeed]:
        return [{seed: float(row["numbers"][metric]) for seed, row in self.rows_by_seed(key).items()} for key in keys]


def empty(results: GridResults) -> tuple[()]:
    """No charts, no images."""
    return ()


@dataclass(frozen=True)
class Study:
    """One table or figure of the paper: the grid of its runs, its claim, and what is derived from the finished rows."""

    name: str
    title: str
    claim: str
    grid: Callable[[StudyConfig], Grid]
    verdict: Callable[[GridResults], Verdict]
    tables: Callable[[GridResults], tuple[StudyTable, ...]]
    charts: Callable[[GridResults], tuple[StudyChart, ...]] = empty
    images: Callable[[GridResults], tuple[StudyImage, ...]] = empty

    def runs(self, config: StudyConfig) -> list[PlannedRun]:
        """The trainings of the grid and what they start from, each once, in the order of execution."""
        return order_runs(run for group in self.grid(config).values() for run in group.with_evaluation())

    def fused_runs(self, config: StudyConfig) -> list[FusedRun]:
        """The means of scores in the grid."""
        return [run for group in self.grid(config).values() for run in group.members if isinstance(run, FusedRun)]

    def row_keys(self, config: StudyConfig) -> list[RowKey]:
        """The keys of all rows that the study needs."""
        trained = [(run.name, evaluation.key) for run in self.runs(config) for evaluation in run.evaluations]
        return trained + [(fused.name, fused.evaluation.key) for fused in self.fused_runs(config)]

    def summarize(self, config: StudyConfig, rows: Mapping[RowKey, Row], run_folder: Path) -> StudyResult:
        """Everything that the study derives from the rows that exist."""
        results = GridResults(config, self.grid(config), rows, run_folder)
        return StudyResult(self.verdict(results), self.tables(results), self.charts(results), self.images(results))


def result_to_json(
    study: Study,
    config: StudyConfig,
    result: StudyResult,
    *,
    rows: Sequence[Row],
    missing: Sequence[str],
    environment: Mapping[str, Any],
) -> dict[str, Any]:
    """The contents of study.json: plain values from which pages, tables and figures are made."""
    return {
        "format": FORMAT,
        "name": study.name,
        "title": study.title,
        "claim": study.claim,
        "verdict": asdict(result.verdict),
        "scale": config.scale,
        "seeds": config.seeds,
        "data": config.source.to_json(),
        "environment": dict(environment),
        "tables": [asdict(table) for table in result.tables],
        "figures": [asdict(chart) for chart in result.charts],
        "images": [asdict(image) for image in result.images],
        "rows": [_shorten_row(row) for row in rows],
        "missing": list(missing),
    }


def _shorten_row(row: Row) -> dict[str, Any]:
    """A row as study.json stores it; rows.jsonl has its settings and its history too."""
    numbers, machine = row["numbers"], row["machine"]
    names = ("clip_top1", "video_top1", "video_top5", "num_videos", "num_failed_videos")
    return {
        "run": row["run"],
        "test": row["test"]["key"],
        "model": row["model"],
        "seed": row["seed"],
        "data": row["data"]["key"],
        **{name: numbers[name] for name in names},
        "training_seconds": row["training"]["seconds"] if row["training"] else None,
        "commit": row["commit"],
        "date": row["date"],
        "processor": machine["processor"],
        "torch": machine["packages"]["torch"],
    }
