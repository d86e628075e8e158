"""What a study is, and what it leaves: a claim, the runs it needs, and tables, figures and a verdict from finished rows.

A study is one module of this package with a `Study` in it. It asks for runs by their settings; the runner has them executed, or
finds that another study had; `tell` sees rows alone and so works long after, without a network or a video.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from muybridge.report.charts import Series
from muybridge.studies.intervals import Estimate, estimate
from muybridge.studies.plan import Fused, Run, Scoring, Source, Split, in_order

FORMAT = 1
Scale = Literal["paper", "laptop"]
Cell = str | float | int | None
Row = Mapping[str, Any]
Figure = Literal["clip_top1", "video_top1", "video_top5"]
NOT_RUN = "not run"
SCALE_NOTES: dict[Scale, str] = {
    "paper": "ours: mean over seeds [95 % t-interval]; paper: as printed, Kinetics-400 validation",
    "laptop": "ours: mean over seeds [95 % t-interval], small networks on other data, so only the order of rows compares with "
    "the paper's; paper: as printed, Kinetics-400 validation",
}


@dataclass(frozen=True)
class Setting:
    """Where and how large a study is run. `source` is the data of `--data`, or motions; `others` are more data sets by name."""

    scale: Scale
    seeds: int
    source: Source
    split: Split
    others: Mapping[str, Source] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table of a study. Numbers are percent unless a column says otherwise; None is not known or not run."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A figure of a study; `alt` says in words what it shows."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    alt: str


@dataclass(frozen=True)
class Picture:
    """Gray or colour pixels, rows of columns of a level or of three, 0 to 255; `alt` says in words what it shows."""

    title: str
    pixels: tuple[Any, ...]
    alt: str


@dataclass(frozen=True)
class Verdict:
    """Whether the runs support the claim: True, False, or None where they cannot tell; and why, in words."""

    text: str
    supported: bool | None


@dataclass(frozen=True)
class Told:
    """All that a study says from its rows."""

    verdict: Verdict
    tables: tuple[Table, ...]
    figures: tuple[Chart, ...] = ()
    images: tuple[Picture, ...] = ()


def nothing_fused(setting: Setting) -> list[Fused]:
    """For a study of single networks."""
    return []


@dataclass(frozen=True)
class Study:
    """One table or figure. `runs` are of all seeds, `fused` the means of scores besides; `tell` sees what is finished."""

    name: str
    title: str
    claim: str
    runs: Callable[[Setting], list[Run]]
    tell: Callable[[Setting, Results], Told]
    fused: Callable[[Setting], list[Fused]] = nothing_fused

    def wanted(self, setting: Setting) -> list[tuple[str, str]]:
        """The rows it needs, by (run, test)."""
        of_runs = [(run.name, test.key) for run in in_order(self.runs(setting)) for test in run.tests]
        return of_runs + [(fused.name, fused.test.key) for fused in self.fused(setting)]


@dataclass(frozen=True)
class Results:
    """Finished rows by (name of the run, key of the test), and where run folders are, for a study that looks at weights."""

    rows: Mapping[tuple[str, str], Row]
    folder: Path

    def row(self, run: Run | Fused, test: Scoring) -> Row | None:
        """The row of one run and test; None where it has not been run."""
        return self.rows.get((run.name, test.key))

    def by_seed(self, runs: Sequence[Run | Fused], test: Scoring, figure: Figure = "video_top1") -> dict[int, float]:
        """One number for every seed that has been run, in percent."""
        found = {run.seed: self.row(run, test) for run in runs}
        return {seed: float(row["numbers"][figure]) for seed, row in found.items() if row is not None}

    def estimate(self, runs: Sequence[Run | Fused], test: Scoring, figure: Figure = "video_top1") -> Estimate | None:
        """The mean over the seeds that have been run."""
        found = estimate(list(self.by_seed(runs, test, figure).values()))
        return None if found is None else found.within(0.0, 100.0)


def cell(found: Estimate | None) -> str:
    """An estimate in a table."""
    return NOT_RUN if found is None else found.text()


def points(label: str, found: Sequence[tuple[float, Estimate | None]], style: Literal["line", "points"]) -> Series:
    """A series of estimates over x; what has not been run is left out."""
    known = [(x, at) for x, at in found if at is not None]
    bounds = [(at.mean if at.low is None else at.low, at.mean if at.high is None else at.high) for _, at in known]
    return Series(
        label,
        tuple(x for x, _ in known),
        tuple(at.mean for _, at in known),
        tuple(low for low, _ in bounds),
        tuple(high for _, high in bounds),
        style,
    )


def concluded(findings: Sequence[tuple[str, bool | None]]) -> Verdict:
    """One verdict from several: refuted where one is, supported where all are, else undecided. Each is said."""
    said = {True: "yes", False: "no", None: "undecided"}
    text = " ".join(f"{sentence}: {said[supported]}." for sentence, supported in findings)
    verdicts = [supported for _, supported in findings]
    overall = False if False in verdicts else True if verdicts and all(verdicts) else None
    return Verdict(text, overall)


def compared(sentence: str, found: Estimate | None) -> tuple[str, bool | None]:
    """A finding: whether a difference is above zero, with the difference."""
    if found is None:
        return f"{sentence} (not run)", None
    return f"{sentence} ({found.mean:+.1f} points{_between(found)})", found.is_positive


def _between(found: Estimate) -> str:
    return "" if found.low is None or found.high is None else f", 95 % {found.low:+.1f} to {found.high:+.1f}"


def to_json(
    study: Study,
    setting: Setting,
    told: Told,
    *,
    rows: Sequence[Row],
    missing: Sequence[str],
    environment: Mapping[str, Any],
) -> dict[str, Any]:
    """What study.json holds: all of a study as plain values, for pages, tables and figures to be made from."""
    return {
        "format": FORMAT,
        "name": study.name,
        "title": study.title,
        "claim": study.claim,
        "verdict": asdict(told.verdict),
        "scale": setting.scale,
        "seeds": setting.seeds,
        "data": setting.source.to_json(),
        "environment": dict(environment),
        "tables": [asdict(table) for table in told.tables],
        "figures": [asdict(figure) for figure in told.figures],
        "images": [asdict(image) for image in told.images],
        "rows": [short(row) for row in rows],
        "missing": list(missing),
    }


def short(row: Row) -> dict[str, Any]:
    """What study.json says of a row; rows.jsonl has its settings and its history too."""
    numbers, machine = row["numbers"], row["machine"]
    return {
        "run": row["run"],
        "test": row["test"]["key"],
        "model": row["model"],
        "seed": row["seed"],
        "data": row["data"]["key"],
        **{
            name: numbers[name] for name in ("clip_top1", "video_top1", "video_top5", "num_videos", "num_failed_videos")
        },
        "training_seconds": row["training"]["seconds"] if row["training"] else None,
        "commit": row["commit"],
        "date": row["date"],
        "processor": machine["processor"],
        "torch": machine["packages"]["torch"],
    }
