"""The tables of `real_data.py` from its rows: accuracy and recall by class, the paper's claims as paired differences, a floor.

Input: rows of one version and the results of baselines. Output: Markdown. A network is shown for the seeds of which every fold
has run. Intervals are over recordings and seeds. Differences are paired by seed and video, and judged beyond the noise floor,
as those of studies are (docs/reproduction.md, "Rules of a comparison").
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muybridge.models.family import FAMILIES
from muybridge.studies.claims import MIXED, SINGLE_FRAME
from muybridge.studies.fingerprint import Version
from muybridge.studies.intervals import BySeed, Estimate, difference, estimate_mean, mean_by_seed, pool_recordings
from muybridge.studies.noise import NUM_RERUNS
from muybridge.text import format_count

NOISY = ("r2plus1d", "r3d")  # rerun from seed 0 with initial weights moved by a unit in the last place, from scratch
REVERSED_MIXED = tuple(family for family in FAMILIES if family.startswith("rmc"))
SEE_MOTION = tuple(family for family in FAMILIES if family not in SINGLE_FRAME)
CLAIMS = (
    ("r3d above f_r2d: motion helps", ("r3d",), ("f_r2d",)),
    ("networks that see motion above 2-D ones", SEE_MOTION, SINGLE_FRAME),
    ("r2plus1d above r3d: factorized convolutions help", ("r2plus1d",), ("r3d",)),
    ("MCx on average above r3d: mixed convolutions help", MIXED, ("r3d",)),
    ("rMCx on average above r3d: reversed mixed convolutions help", REVERSED_MIXED, ("r3d",)),
    ("r2plus1d above MCx on average", ("r2plus1d",), MIXED),
)  # a claim, and the networks whose mean it puts above that of the others
Results = dict[str, list[Any]]  # video -> [class, right]
Cell = tuple[str, int, str]  # family, frames, start


@dataclass(frozen=True)
class Grid:
    """What there is to run on a data set: its folds, seeds, networks in the order of the table, clip lengths and starts."""

    num_folds: int
    seeds: int
    families: Sequence[str]
    lengths: Sequence[int]
    starts: Sequence[str]

    def list_cells(self) -> Iterator[Cell]:
        """Network by network, for each length and start."""
        for frames, start, family in itertools.product(self.lengths, self.starts, self.families):
            yield family, frames, start


def render_versions(groups: Sequence[Sequence[Mapping[str, Any]]], baselines: Mapping[str, Results], grid: Grid) -> str:
    """The tables of each version: those of the first say what is missing, those of others have what it lacks."""
    first, *others = groups or [[]]
    head = "Rows of another version of the code or another kind of machine, for what is missing above:"
    tables = [f"{head}\n\n{render(rows, baselines, grid, lists_missing=False)}" for rows in others]
    return "\n\n".join([render(first, baselines, grid), *tables])


def render(
    rows: Sequence[Mapping[str, Any]],
    baselines: Mapping[str, Results],
    grid: Grid,
    *,
    lists_missing: bool = True,
) -> str:
    """The tables: accuracy over recordings and seeds, and recall by class; what is missing; the paper's claims."""
    classes = sorted({name for name, _ in next(iter(baselines.values())).values()})
    lines = [
        f"| network | frames | start | runs | video@1 | {' | '.join(map(_escape, classes))} |",
        "|---" * (5 + len(classes)) + "|",
    ]
    for name, videos in baselines.items():
        lines.append(f"| {name} | - | - | - | {_share(videos):.1f} | {_list_recalls([videos], classes)} |")
    pooled, not_run = pool_folds(rows, grid.num_folds), defaultdict(list)
    for cell in grid.list_cells():
        family, frames, start = cell
        if cell not in pooled:
            not_run[f"{frames} frames from {start}"].append(family)
            continue
        results = [videos for _, videos in sorted(pooled[cell].items())]
        estimate = estimate_mean(list(_by_seed(pooled[cell]).values()))
        assert estimate is not None, "there is a seed"
        progress = f"{len(pooled[cell]) * grid.num_folds} of {grid.seeds * grid.num_folds}"
        recalls = _list_recalls(results, classes)
        lines.append(f"| {family} | {frames} | {start} | {progress} | {estimate.clip(0, 100).format()} | {recalls} |")
    missing = "; ".join(f"{', '.join(families)} ({setting})" for setting, families in not_run.items())
    claims = _render_claims(pooled, grid, measure_floors(rows, grid))
    version = "All rows shown are of one version of the code and one kind of machine."
    lines += ["", f"Not run: {missing or 'nothing'}."] if lists_missing else []
    return "\n".join([*lines, *(["", version] if rows else []), *claims])


def pool_folds(rows: Sequence[Mapping[str, Any]], num_folds: int, rounding: int = 0) -> dict[Cell, dict[int, Results]]:
    """Cell -> seed -> the videos of all folds, for the seeds of which every fold has run."""
    folds: dict[Cell, dict[int, dict[int, Results]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row.get("rounding", 0) == rounding:
            folds[_get_cell(row)][row["seed"]][row["fold"]] = row["videos"]
    pooled: dict[Cell, dict[int, Results]] = defaultdict(dict)
    for cell, seeds in folds.items():
        for seed, by_fold in seeds.items():
            if len(by_fold) == num_folds:
                pooled[cell][seed] = {
                    f"{fold}/{name}": by_fold[fold][name] for fold in sorted(by_fold) for name in by_fold[fold]
                }
    return dict(pooled)


def measure_floors(rows: Sequence[Mapping[str, Any]], grid: Grid) -> dict[str, float]:
    """The standard deviation of video@1 over reruns that differ by rounding alone, of each network that has enough of them.

    The noise floor is the largest.
    """
    deviations = {}
    for family in NOISY:
        cell = (family, grid.lengths[0], grid.starts[0])
        runs = [pool_folds(rows, grid.num_folds, number).get(cell, {}).get(0) for number in range(NUM_RERUNS)]
        whole = [_share(videos) for videos in runs if videos is not None]
        if len(whole) == NUM_RERUNS:
            deviations[family] = float(np.std(whole, ddof=1))
    return deviations


def select_versions(
    rows: Sequence[Mapping[str, Any]], versions: Sequence[Version], num_folds: int
) -> list[list[Mapping[str, Any]]]:
    """The rows of the version with the most rows, then those of others that have networks, lengths or starts which it lacks.

    Rows without a fingerprint, of an old file, are of none.
    """
    groups = [[row for row in rows if version.matches(row.get("fingerprint"))] for version in versions]
    shown: list[list[Mapping[str, Any]]] = []
    cells: set[Cell] = set()
    for group in sorted(groups, key=len, reverse=True):
        added = pool_folds(group, num_folds).keys() - cells
        if group and (added or not shown):
            shown.append(group)
            cells |= added
    return shown


def describe_hidden_rows(shown: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> str:
    """A sentence on the rows that are not shown; empty where all are. A row of two versions may be shown twice."""
    shown_ids = set(map(id, shown))
    num_hidden = sum(id(row) not in shown_ids for row in rows)
    return (
        f"Not shown, since another version or recipe made them: {format_count(num_hidden, 'row')}."
        if num_hidden
        else ""
    )


def _describe_floor(floors: Mapping[str, float]) -> str:
    """`2.9 points (r3d; not measured of r2plus1d)`."""
    if not floors:
        return "not measured, so nothing is decided"
    missing = [family for family in NOISY if family not in floors]
    unmeasured = f"; not measured of {', '.join(missing)}" if missing else ""
    return f"{max(floors.values()):.1f} points ({', '.join(floors)}{unmeasured})"


def _render_claims(pooled: Mapping[Cell, dict[int, Results]], grid: Grid, floors: Mapping[str, float]) -> list[str]:
    """The claims of the paper that networks of a length and start show, and whether pre-training helps."""
    floor, (scratch, *others) = max(floors.values(), default=None), grid.starts
    pairs = [
        (claim, frames, start, _mean_of(pooled, first, frames, start), _mean_of(pooled, second, frames, start))
        for frames, start in itertools.product(grid.lengths, grid.starts)
        for claim, first, second in CLAIMS
    ]
    names = {"all networks on average": tuple(grid.families), **{family: (family,) for family in grid.families}}
    for frames, start, (name, families) in itertools.product(grid.lengths, others, names.items()):
        ends = [_mean_of(pooled, families, frames, end) for end in (start, scratch)]
        pairs.append((f"{name} from {start} above {scratch}: pre-training helps", frames, start, *ends))
    lines = []
    for claim, frames, start, first_values, second_values in pairs:
        gap = difference(first_values, second_values, floor)
        if gap is not None:
            lines.append(f"| {claim} | {frames} | {start} | {gap.num} | {gap.format()} | {_judge(gap)} |")
    if not lines:
        return []
    head = ["| claim | frames | start | seeds | difference in video@1 | verdict |", "|---" * 6 + "|"]
    return ["", f"Differences, paired by seed and video; noise floor: {_describe_floor(floors)}.", "", *head, *lines]


def _mean_of(pooled: Mapping[Cell, dict[int, Results]], families: Sequence[str], frames: int, start: str) -> BySeed:
    """The mean of networks, seed by seed and recording by recording; empty where one of them has not run."""
    return mean_by_seed([_by_seed(pooled.get((family, frames, start), {})) for family in families])


def _judge(gap: Estimate) -> str:
    return {True: "supported", False: "contradicted", None: "undecided"}[gap.is_positive]


def _get_cell(row: Mapping[str, Any]) -> Cell:
    return row["family"], row["frames"], row["start"]


def _by_seed(results: Mapping[int, Results]) -> BySeed:
    """Seed -> a value in percent for each recording, in one order."""
    return {seed: _value_recordings(videos) for seed, videos in sorted(results.items())}


def _value_recordings(videos: Results) -> NDArray[np.float64]:
    """Values (R,) in percent of R recordings; where every video is a recording of its own, they are right or not."""
    names = sorted(videos)  # fold/recording/segment, or fold/video
    num_videos = Counter(tuple(name.split("/")[:2]) for name in names)
    return pool_recordings(np.array([100.0 * videos[name][1] for name in names]), list(num_videos.values()))


def _escape(name: str) -> str:
    """A name as a cell of a table in Markdown."""
    return " ".join(name.split()).replace("|", "\\|")


def _share(videos: Results) -> float:
    return 100 * float(np.mean([right for _, right in videos.values()]))


def _list_recalls(results: Sequence[Results], classes: Sequence[str]) -> str:
    """The share that is right of each class, in percent, over all seeds."""
    by_class: dict[str, list[bool]] = defaultdict(list)
    for videos in results:
        for name, right in videos.values():
            by_class[name].append(right)
    return " | ".join(f"{100 * float(np.mean(by_class[name])):.0f}" for name in classes)
