"""A study of the paper: a grid of runs, a claim, and a summary made from finished rows alone.

Input: a `StudyConfig` and finished rows. Output: a `StudyResult`, from which `render.py` makes the contents of study.json. The
studies themselves are the rows of `catalogue.py`; `run.py` executes their runs. A summary needs no videos and, except for
Figure 6, no networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from muybridge.report.charts import Series
from muybridge.report.tables import Cell
from muybridge.studies.intervals import (
    BySeed,
    Estimate,
    Values,
    difference,
    estimate_percent,
    join_by_seed,
    mean_by_seed,
    pool_deviations,
    pool_recordings,
)
from muybridge.studies.laptop import STUDY_MOTIONS
from muybridge.studies.noise import (
    NUM_RERUNS,
    RERUN_KINDS,
    NoiseFloor,
    list_distinct,
    list_reruns,
    measure_floor,
    plan_reruns,
)
from muybridge.studies.plan import (
    DataSource,
    EvaluatedSplit,
    FusedRun,
    PlannedRun,
    RerunKind,
    RowKey,
    RunGroup,
    order_runs,
)
from muybridge.studies.video_results import VideoResults
from muybridge.synthetic.motions import MotionSettings

Scale = Literal["paper", "laptop"]
Row = Mapping[str, Any]
Metric = Literal["clip_top1", "video_top1", "video_top5"]
ErrorOrMetric = Literal[Metric, "training_clip_error", "validation_clip_error"]
Grid = dict[Hashable, RunGroup]


@dataclass(frozen=True)
class StudyConfig:
    """Scale, number of seeds and data of a study. `others` are further data sets by name; for `reruns` see `num_reruns`.

    Reruns are of `rerun_kinds` in turn, of all networks with `rerun_all`, else of those that the study names.
    """

    scale: Scale
    seeds: int
    source: DataSource
    split: EvaluatedSplit
    others: Mapping[str, DataSource] = field(default_factory=dict, hash=False)  # a dict has no hash
    reruns: int | None = None
    rerun_kinds: tuple[RerunKind, ...] = tuple(RERUN_KINDS)
    rerun_all: bool = False

    @property
    def num_reruns(self) -> int:
        """Runs of one seed from which the noise floor is measured: as given, else five at laptop scale, one at paper scale."""
        return self.reruns or (NUM_RERUNS if self.scale == "laptop" else 1)


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
    """Verdict, tables, charts and images of a study, its noise floor, and the deviation over seeds pooled over networks."""

    verdict: Verdict
    tables: tuple[StudyTable, ...]
    charts: tuple[StudyChart, ...] = ()
    images: tuple[StudyImage, ...] = ()
    floor: NoiseFloor | None = None
    pooled_deviation: float | None = None


@dataclass(frozen=True)
class GridResults:
    """The finished rows of a grid, all of one version; `run_folder` holds the run folders, for a study that reads weights.

    `stale` are the keys of rows of another version, which count as not run. `noisy` are the cells that are rerun for the noise
    floor.
    """

    config: StudyConfig
    grid: Grid
    rows: Mapping[RowKey, Row]
    run_folder: Path
    stale: Container[RowKey] = ()
    noisy: tuple[Hashable, ...] = ()

    def rows_by_seed(self, key: Hashable) -> dict[int, Row]:
        """The finished rows of one cell."""
        group = self.grid[key]
        rows_by_seed = {run.seed: self.rows.get((run.name, group.evaluation.key)) for run in group.members}
        return {seed: row for seed, row in rows_by_seed.items() if row is not None}

    def has_stale_rows(self, *keys: Hashable) -> bool:
        """Whether a cell has rows of another version."""
        groups = [self.grid[key] for key in keys]
        return any((run.name, group.evaluation.key) in self.stale for group in groups for run in group.members)

    @cached_property
    def floor(self) -> NoiseFloor:
        """The noise floor, from the cells that are rerun for it."""
        return measure_floor(list(self._reruns_by_network.values()), READERS)

    def make_floor_table(self) -> StudyTable:
        """The noise floor of each network by itself, under the name of its first run."""
        rows: list[tuple[Cell, ...]] = []
        for name, reruns in self._reruns_by_network.items():
            floor = measure_floor([reruns], READERS)
            accuracies = [np.mean([READERS["video_top1"](row) for row in rows]) for rows in list_distinct(reruns)]
            shown = ", ".join(f"{accuracy:.1f}" for accuracy in accuracies)
            deviations = [
                None if value is None else round(value, 1) for value in map(floor.get, ("video_top1", "clip_top1"))
            ]
            rows.append((name, shown, *deviations))
        columns = ("first run", "video@1 of it and its reruns", "deviation of video@1", "deviation of clip@1")
        return StudyTable("Noise floor by network", columns, tuple(rows), "networks without all reruns are left out")

    @cached_property
    def _reruns_by_network(self) -> dict[str, list[list[Row]]]:
        """The rows of every run of one seed, by network, one row for each fold.

        Cells that differ in the fold alone are one network. Folds without all reruns are left out: a mean of fewer folds moves
        rather more.
        """
        folds: dict[str, list[list[Row | None]]] = {}
        names: dict[str, str] = {}
        groups = (self.grid[key] for key in self.noisy)
        for group in {(group.members[0].name, group.evaluation): group for group in groups}.values():
            first = group.members[0]
            runs = (first, *list_reruns(group, self.config.num_reruns, self.config.rerun_kinds))
            rows = [self.rows.get((run.name, group.evaluation.key)) for run in runs]
            if sum(row is not None for row in rows) >= NUM_RERUNS:
                network = f"{replace(group.settings, fold=None)!r} {group.evaluation.key}"
                names.setdefault(network, f"{first.name} {group.evaluation.key}")
                folds.setdefault(network, []).append(rows)
        reruns = {}
        for network, rows_by_fold in folds.items():
            runs_by_fold = [[row for row in run if row is not None] for run in zip(*rows_by_fold, strict=True)]
            reruns[names[network]] = [rows for rows in runs_by_fold if len(rows) == len(rows_by_fold)]
        return reruns

    def pool_deviations(self) -> float | None:
        """The standard deviation of video@1 over seeds, pooled over the cells."""
        cells = [self.by_seed(key) for key in self.grid]
        return pool_deviations([{seed: float(values.mean()) for seed, values in cell.items()} for cell in cells])

    def by_seed(self, *keys: Hashable, metric: Metric = "video_top1") -> BySeed:
        """The mean of a metric over cells, in percent by video, for every seed that all of them have.

        Cells that were scored on the same videos are averaged video by video; the videos of others, such as folds, follow one
        another.
        """
        members: dict[Hashable, list[BySeed]] = {}
        for key, cell in zip(keys, self._each_by_seed(keys, metric), strict=True):
            is_by_video = any(len(values) > 1 for values in cell.values())
            members.setdefault(self._identify_videos(key) if is_by_video else None, []).append(cell)
        return join_by_seed([mean_by_seed(cells) for cells in members.values()], list(map(len, members.values())))

    def best_by_seed(self, *keys: Hashable) -> BySeed:
        """video@1 of the best of several cells, seed by seed: what the fusion of streams has to exceed."""
        cells = self._each_by_seed(keys, "video_top1")
        common = set(cells[0]).intersection(*cells[1:])
        return {seed: max((cell[seed] for cell in cells), key=np.mean) for seed in sorted(common)}

    def estimate(self, *keys: Hashable, metric: Metric = "video_top1") -> Estimate | None:
        """The mean over finished seeds of the mean over cells; None where no seed is finished."""
        return estimate_percent(list(self.by_seed(*keys, metric=metric).values()))

    def difference(self, key: Hashable, other: Hashable, metric: Metric = "video_top1") -> Estimate | None:
        """How far one cell lies above another, over the seeds that both have."""
        return self.compare(self.by_seed(key, metric=metric), self.by_seed(other, metric=metric), metric)

    def compare(self, first: BySeed, second: BySeed, metric: ErrorOrMetric = "video_top1") -> Estimate | None:
        """How far means over cells lie apart, with the margin that the noise floor of the metric gives."""
        return difference(first, second, self.floor.get(metric))

    def error_curves(self, key: Hashable, name: str) -> dict[int, dict[float, float]]:
        """seed -> epoch -> an error in percent, from the history of each run."""
        rows = self.rows_by_seed(key)
        return {seed: {point["epoch"]: point[name] for point in row["history"]} for seed, row in rows.items()}

    def final_errors(self, key: Hashable, name: str) -> BySeed:
        """The error of the last epoch, seed by seed."""
        curves = self.error_curves(key, name)
        return {seed: np.array([curve[max(curve)]]) for seed, curve in curves.items() if curve}

    @cached_property
    def recordings(self) -> dict[str, Sequence[int]]:
        """The number of segments of each recording, by the hash of the segments' names: older rows do not have it."""
        stored = [row["numbers"].get("videos") or {} for row in self.rows.values()]
        return {videos["sha256"]: videos["recordings"] for videos in stored if "recordings" in videos}

    def _identify_videos(self, key: Hashable) -> tuple[str, str]:
        """The data set and the hash of the names of the videos that a cell with results by video was scored on."""
        row = next(row for row in self.rows_by_seed(key).values() if row["numbers"].get("videos"))
        return row["data"]["key"], row["numbers"]["videos"]["sha256"]

    def _each_by_seed(self, keys: Sequence[Hashable], metric: Metric) -> list[BySeed]:
        return [
            {seed: _read_values(row, metric, self.recordings) for seed, row in self.rows_by_seed(key).items()}
            for key in keys
        ]


def _read_values(row: Row, metric: Metric, recordings: Mapping[str, Sequence[int]]) -> Values:
    """A metric of a row in percent, by video where the row has it so, and by recording where videos are segments."""
    numbers = row["numbers"]
    videos = numbers.get("videos")
    values = None if videos is None else VideoResults.from_json(videos).get_values(metric)
    if values is None:
        return np.array([float(numbers[metric])])
    nums = recordings.get(videos["sha256"])
    return values if nums is None else pool_recordings(values, nums)


def _make_error_reader(name: str) -> Callable[[Row], float]:
    return lambda row: float(row["history"][-1][name]) if row["history"] else math.nan


READERS: dict[str, Callable[[Row], float]] = {
    "clip_top1": lambda row: float(row["numbers"]["clip_top1"]),
    "video_top1": lambda row: float(row["numbers"]["video_top1"]),
    "training_clip_error": _make_error_reader("training_clip_error"),
    "validation_clip_error": _make_error_reader("validation_clip_error"),
}


def _first_trained_cell(grid: Grid) -> tuple[Hashable, ...]:
    """The first cell that is a training: the one that is rerun for the noise floor by default."""
    trained = [key for key, group in grid.items() if group.with_evaluation()]
    return tuple(trained[:1])


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
    noisy: Callable[[Grid], tuple[Hashable, ...]] = _first_trained_cell
    motions: MotionSettings = STUDY_MOTIONS  # of the data at laptop scale

    def runs(self, config: StudyConfig) -> list[PlannedRun]:
        """The trainings of the grid, what they start from, and reruns for the noise floor, each once, in order of execution."""
        return list(_plan_runs(self, config))

    def rerun_cells(self, config: StudyConfig) -> tuple[Hashable, ...]:
        """The cells that are rerun for the noise floor; none where the study has no floor."""
        grid = _build_grid(self, config)
        noisy = self.noisy(grid)
        if not (config.rerun_all and noisy):
            return noisy
        return tuple(key for key, group in grid.items() if group.with_evaluation())

    def fused_runs(self, config: StudyConfig) -> list[FusedRun]:
        """The means of scores in the grid."""
        return [
            run for group in _build_grid(self, config).values() for run in group.members if isinstance(run, FusedRun)
        ]

    def row_keys(self, config: StudyConfig) -> list[RowKey]:
        """The keys of all rows that the study needs."""
        trained = [(run.name, evaluation.key) for run in self.runs(config) for evaluation in run.evaluations]
        return trained + [(fused.name, fused.evaluation.key) for fused in self.fused_runs(config)]

    def find_runs(self, config: StudyConfig, rows: Container[RowKey]) -> dict[RowKey, PlannedRun | FusedRun]:
        """The rows that the study can use, those it needs and further reruns for the noise floor, with the run of each."""
        grid = _build_grid(self, config)
        reruns = [
            run.with_evaluations([group.evaluation])
            for group in (grid[key] for key in self.rerun_cells(config))
            for run in list_reruns(group, config.num_reruns, config.rerun_kinds)
        ]
        trained = [*self.runs(config), *reruns]
        runs: dict[RowKey, PlannedRun | FusedRun] = {
            (run.name, evaluation.key): run for run in trained for evaluation in run.evaluations
        }
        runs |= {(fused.name, fused.evaluation.key): fused for fused in self.fused_runs(config)}
        return {key: run for key, run in runs.items() if key in rows}

    def summarize(
        self, config: StudyConfig, rows: Mapping[RowKey, Row], run_folder: Path, stale: Container[RowKey] = ()
    ) -> StudyResult:
        """Everything that the study derives from the rows that exist, all of one version."""
        grid = _build_grid(self, config)
        results = GridResults(config, grid, rows, run_folder, stale, self.rerun_cells(config))
        noise = (results.floor, results.pool_deviations()) if results.noisy else (None, None)
        tables = (*self.tables(results), *([results.make_floor_table()] if config.rerun_all and results.noisy else []))
        return StudyResult(self.verdict(results), tables, self.charts(results), self.images(results), *noise)


@cache
def _build_grid(study: Study, config: StudyConfig) -> Grid:
    """The grid, built once: tables, verdict and rows of a study ask for the same one."""
    return study.grid(config)


@cache
def _plan_runs(study: Study, config: StudyConfig) -> tuple[PlannedRun, ...]:
    grid = _build_grid(study, config)
    trained = [run for group in grid.values() for run in group.with_evaluation()]
    for group in (grid[key] for key in study.rerun_cells(config)):
        reruns = plan_reruns(group, config.num_reruns, config.rerun_kinds)
        trained += [run.with_evaluations([group.evaluation]) for run in reruns]
    return tuple(order_runs(trained))
