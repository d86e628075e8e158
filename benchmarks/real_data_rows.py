"""Rows of `real_data.py`: what a run is, and which rows tables may be made from.

Input: rows.jsonl and baselines.json of a folder, which anybody may have written. Output: rows that are what they say: of the
network that their fingerprint is of, of the videos that every row of their fold has, with the accuracy that these give, and
started from the weights that the other folds started from. Anything else is a ValueError that names the row.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Interval

from muybridge.bounds import ClipLength, Fold, NumVideos, Percent, Seed
from muybridge.files.run_folder import read_json_lines
from muybridge.models.family import FAMILIES
from muybridge.parsing import parse_record
from muybridge.studies.fingerprint import identify
from muybridge.text import join_names
from real_data_sets import FIRST_RECIPE, DataSet, Recipe

BASELINES = ("majority class", "duration and aspect ratio alone")
POINTS_OF_ROUNDING = 0.0051  # of an accuracy in percent with two places


@dataclass(frozen=True)
class Run:
    """One row: a network trained on all folds but one, and scored on that one. `rounding` numbers reruns, from 1."""

    data: str
    family: str
    frames: ClipLength
    start: Literal["scratch", "motions"]
    seed: Seed
    fold: Fold
    rounding: Annotated[int, Interval(ge=0, le=1000)] = 0
    recipe: Recipe = FIRST_RECIPE

    @property
    def name(self) -> str:
        values = [self.data, self.family, self.frames, self.start, self.seed, self.fold]
        return "-".join(map(str, [*values, f"rounding{self.rounding}"] if self.rounding else values))

    @property
    def without_fold(self) -> Run:
        """What the runs of all folds share."""
        return replace(self, fold=0)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Run:
        """The run of a row; an old one has no rounding or recipe."""
        values = {field.name: row[field.name] for field in fields(cls) if field.name in row}
        if "recipe" in row:
            values["recipe"] = Recipe(*(row["recipe"][field.name] for field in fields(Recipe)))
        return cls(**values)


@dataclass(frozen=True)
class _Fingerprint:
    environment: dict[str, Any]
    micro_runs: dict[str, str]


@dataclass(frozen=True)
class _Row(Run):
    """The values of a row that tables are made from. `videos`: the hash of a name -> class, right."""

    video_top1: Percent = field(kw_only=True)
    videos: dict[str, tuple[str, bool]] = field(kw_only=True)
    fingerprint: _Fingerprint | None = None
    start_sha256: str | None = None

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family is {self.family!r}, expected one of {', '.join(FAMILIES)}")
        if not self.videos:
            raise ValueError("it has no videos")
        mean = 100 * sum(right for _, right in self.videos.values()) / len(self.videos)
        if not math.isclose(mean, self.video_top1, abs_tol=POINTS_OF_ROUNDING):
            raise ValueError(f"video_top1 is {self.video_top1:g}, and the results by video give {mean:g}")
        if self.fingerprint is not None and (self.start == "scratch") != (self.start_sha256 is None):
            raise ValueError(
                f"start is {self.start!r} with start_sha256 {self.start_sha256!r}: only motions have a hash"
            )


def read_rows(
    path: Path, sets: Sequence[DataSet], name_micro_run: Callable[[Run, DataSet], str]
) -> list[dict[str, Any]]:
    """All rows of the file, of two equal ones the first. A line that a crash left incomplete is no row.

    `name_micro_run` gives the name in the fingerprint of a run of a data set. Raises ValueError for a row that cannot be used,
    and for rows that contradict each other.
    """
    sets_by_name = {data.name: data for data in sets}
    rows: dict[tuple[Run, str], dict[str, Any]] = {}
    first_videos: dict[tuple[str, int], dict[str, str]] = {}
    first_starts: dict[tuple[Run, str], str | None] = {}
    for number, row in enumerate(read_json_lines(path), 1):
        name = f"row {number} of {path}"
        parse_record(_Row, row, name, optional=None, unknown="ignore")
        run, fingerprint = Run.from_row(row), row.get("fingerprint")
        if (data := sets_by_name.get(run.data)) and (problem := _find_problem(run, row, data, name_micro_run)):
            raise ValueError(f"{name}, {run.name}, {problem}")
        classes = {video: label for video, (label, _) in row["videos"].items()}
        if first_videos.setdefault((run.data, run.fold), classes) != classes:
            raise ValueError(
                f"{name}, {run.name}, was scored on other videos or classes than an earlier row of this fold; differences are "
                "taken video by video, so take one of them away"
            )
        if fingerprint is None:
            rows[run, str(number)] = row  # of an old file: never shown, only counted
            continue
        version = identify(fingerprint)
        if rows.setdefault((run, version), row)["videos"] != row["videos"]:
            raise ValueError(
                f"{name} has other results than an earlier row of {run.name} at the same version of the code on the same kind "
                "of machine, where a run repeats exactly; take one of them away"
            )
        start = row.get("start_sha256")
        if first_starts.setdefault((run.without_fold, version), start) != start:
            raise ValueError(
                f"{name}, {run.name}, starts from other weights than an earlier row of the same network and seed; take one of "
                "them away"
            )
    return list(rows.values())


def _find_problem(
    run: Run, row: Mapping[str, Any], data: DataSet, name_micro_run: Callable[[Run, DataSet], str]
) -> str | None:
    """What is wrong with a row of this data set; None where nothing is."""
    if run.fold > data.num_folds:
        return f"is of fold {run.fold}, and {data.name} has {data.num_folds}"
    fingerprint = row.get("fingerprint")
    if fingerprint and set(fingerprint["micro_runs"]) != {expected := name_micro_run(run, data)}:
        stored = ", ".join(sorted(fingerprint["micro_runs"])) or "nothing"
        return f"has the fingerprint of {stored}, expected that of {expected}"
    return None


@dataclass(frozen=True)
class _Baselines:
    """baseline -> class -> how many of its videos are right, and how many there are."""

    baselines: dict[str, dict[str, tuple[NumVideos, NumVideos]]]

    def __post_init__(self) -> None:
        totals = [{label: num for label, (_, num) in counts.items()} for counts in self.baselines.values()]
        if not totals or not sum(totals[0].values()) or any(each != totals[0] for each in totals):
            raise ValueError("its baselines are not of the same videos, or of none")
        if any(right > num for counts in self.baselines.values() for right, num in counts.values()):
            raise ValueError("more videos of a class are right than there are")
        if set(self.baselines) != set(BASELINES):
            raise ValueError(f"its baselines are {join_names(list(self.baselines))}, expected {join_names(BASELINES)}")


def check_baselines(stored: Any, name: str, rows: Sequence[Mapping[str, Any]], num_folds: int) -> None:
    """Raises ValueError where these are no counts, or not of the videos that the rows of all folds have."""
    parse_record(_Baselines, {"baselines": stored}, name)
    videos = {row["fold"]: row["videos"] for row in rows}
    if len(videos) < num_folds:
        return
    totals: dict[str, int] = defaultdict(int)
    for fold in videos.values():
        for label, _ in fold.values():
            totals[label] += 1
    counts = next(iter(stored.values()))
    if totals != {label: num for label, (_, num) in counts.items() if num}:
        raise ValueError(f"{name} are of other videos than the rows: the classes or their numbers differ")
