"""Records of what a study runs: data sets, runs, evaluations, and names that follow from their content.

Input: settings. Output: `PlannedRun`s whose names are equal on every machine and in every study, so that studies share runs and
several machines share the work. Needs no torch; reads and writes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from typing import Any, Literal

from muybridge.settings import TrainSettings, settings_to_dict
from muybridge.synthetic.motions import MotionSettings
from muybridge.training.given_settings import diff_settings

EvaluatedSplit = Literal["test", "validation"]
RerunKind = Literal["weights", "threads", "convolution", "batch"]
RowKey = tuple[str, str]  # name of the run, key of the evaluation
DIGEST_LENGTH = 10
WEIGHTS = "last.safetensors"  # in the folder of a run: what it is evaluated by, and what other runs start from
# Settings that do not decide the weights, and so are no part of a run's name.
UNNAMED_SETTINGS = (
    "output",
    "init",
    "data",
    "device",
    "loading.",
    "checkpoints.",
    "timeouts.",
    "evaluation.batch_size",
)


@dataclass(frozen=True)
class DataSource:
    """A data set: the address of an existing one, or settings of generated motions. `key` names the content."""

    key: str
    address: str | None = None
    motions: MotionSettings | None = None

    def __post_init__(self) -> None:
        assert (self.address is None) != (self.motions is None), "data has either an address or motions"

    def to_json(self) -> dict[str, Any]:
        """The data as a row stores it: without the address, which is valid on one machine only."""
        return {"key": self.key, "motions": None if self.motions is None else asdict(self.motions)}


def motion_source(motions: MotionSettings) -> DataSource:
    """Generated motions. The key hashes only settings that differ from their defaults, as in names of runs."""
    defaults = asdict(MotionSettings())
    changed = {name: value for name, value in asdict(motions).items() if value != defaults[name]}
    return DataSource(f"motions-{digest(changed)}", motions=motions)


@dataclass(frozen=True)
class EvaluationSpec:
    """One evaluation of a run: `clips` uniform clips a video of `length` frames each, on the videos of `split`.

    `crops` and `crop_size` are those of `EvaluationSettings`; None is the run's own crop.
    """

    clips: int
    length: int
    split: EvaluatedSplit = "test"
    crops: Literal[1, 3] = 1
    crop_size: int | None = None

    @property
    def key(self) -> str:
        """The name within a run: `test-5x16f`, or `test-5x16f-3x48px` with three crops of 48 pixels."""
        is_usual = self.crops == 1 and self.crop_size is None
        return f"{self.split}-{self.clips}x{self.length}f" + ("" if is_usual else self._format_crops())

    def _format_crops(self) -> str:
        return f"-{self.crops}x{self.crop_size}px" if self.crop_size else f"-{self.crops}crops"


@dataclass(frozen=True)
class Rerun:
    """A repetition of a run that differs by rounding alone: what differs, and its number of this kind, from 1."""

    kind: RerunKind
    number: int

    @property
    def thread_factor(self) -> int:
        """How many times the threads of other runs it has."""
        return self.number + 1 if self.kind == "threads" else 1


@dataclass(frozen=True)
class PlannedRun:
    """One training and the evaluations of its last weights (not the best ones: nothing is selected on what is reported).

    `start` is the run whose last weights initialise it. `settings.data`, `output` and `init` are filled in by the runner.
    """

    settings: TrainSettings
    source: DataSource
    evaluations: tuple[EvaluationSpec, ...] = ()
    start: PlannedRun | None = None
    rerun: Rerun | None = None

    @property
    def thread_factor(self) -> int:
        """How many times the threads of the study's other runs it has."""
        return 1 if self.rerun is None else self.rerun.thread_factor

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the weights: data, seed, start, and settings that differ from their defaults.

        Defaults are left out so that a setting added to the program later renames no finished run.
        """
        defaults = {**_get_default_settings(), "seed": self.settings.seed}
        changed = {
            name: value
            for name, (value, _) in diff_settings(settings_to_dict(self.settings), defaults).items()
            if not name.startswith(UNNAMED_SETTINGS)
        }
        start = None if self.start is None else self.start.name
        threads = {"thread_factor": self.thread_factor} if self.thread_factor > 1 else {}
        return {"data": self.source.key, "seed": self.settings.seed, "start": start, "settings": changed} | threads

    @cached_property
    def name(self) -> str:
        """The name of the run's folder, readable and unique: `r2plus1d_10-16f-seed0-1a2b3c4d5e`."""
        settings = self.settings
        modality = "" if settings.modality == "rgb" else f"-{settings.modality}"
        return f"{settings.model}{modality}-{settings.clips.length}f-seed{settings.seed}-{digest(self.identity)}"

    def with_evaluations(self, evaluations: Iterable[EvaluationSpec]) -> PlannedRun:
        """The run with these evaluations, each once. It keeps its name: they do not decide it, and it takes long to compute."""
        run = replace(self, evaluations=tuple(dict.fromkeys(evaluations)))
        vars(run)["name"] = self.name
        return run

    @property
    def seed(self) -> int:
        """The seed of the settings."""
        return self.settings.seed

    @property
    def start_chain(self) -> list[PlannedRun]:
        """This run, the one it starts from, and so on to the first."""
        return [self] if self.start is None else [self, *self.start.start_chain]


@dataclass(frozen=True)
class FusedRun:
    """The mean of the scores of several runs in one evaluation, such as two streams. Nothing is trained for it."""

    members: tuple[PlannedRun, ...]
    evaluation: EvaluationSpec

    @property
    def name(self) -> str:
        """Unique by its members: `fused-seed0-1a2b3c4d5e`."""
        return f"fused-seed{self.seed}-{digest([member.name for member in self.members])}"

    @property
    def seed(self) -> int:
        """The seed that all members share."""
        return self.members[0].seed


@dataclass(frozen=True)
class RunGroup:
    """The runs of one cell of a study's grid, one per seed, and the evaluation that the study reads from them."""

    members: tuple[PlannedRun, ...] | tuple[FusedRun, ...]
    evaluation: EvaluationSpec

    @property
    def settings(self) -> TrainSettings:
        """The settings of the first seed's (first) run."""
        first = self.members[0]
        return first.settings if isinstance(first, PlannedRun) else first.members[0].settings

    def with_evaluation(self) -> list[PlannedRun]:
        """The group's own trainings, each with this group's evaluation; empty for fused runs."""
        return [run.with_evaluations([self.evaluation]) for run in self.members if isinstance(run, PlannedRun)]


def digest(value: Any) -> str:
    """A short hash of JSON values, equal on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


@cache
def _get_default_settings() -> dict[str, Any]:
    return settings_to_dict(TrainSettings(data=""))


def with_seeds(run: PlannedRun, num_seeds: int) -> tuple[PlannedRun, ...]:
    """The run with seeds 0, 1, 2, ...; each starts from the run of its own seed."""
    return tuple(_with_seed(run, seed) for seed in range(num_seeds))


def _with_seed(run: PlannedRun, seed: int) -> PlannedRun:
    """The run with another seed, as well as every run it starts from."""
    start = None if run.start is None else _with_seed(run.start, seed)
    return replace(run, settings=replace(run.settings, seed=seed), start=start)


def order_runs(runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Every run once, seed by seed, after the run it starts from, with the evaluations of all its occurrences."""
    ordered: dict[str, PlannedRun] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        for link in reversed(run.start_chain):
            known = ordered.get(link.name)
            ordered[link.name] = link.with_evaluations((*(known.evaluations if known else ()), *link.evaluations))
    return list(ordered.values())


def select_part(runs: Sequence[PlannedRun], part: int, num_parts: int) -> list[PlannedRun]:
    """The runs of machine `part` of `num_parts` (from 1). Chains of runs stay together and are dealt in turn.

    ValueError for a part out of range.
    """
    if not 1 <= part <= num_parts:
        raise ValueError(f"--part {part}/{num_parts} does not exist; use 1/{num_parts} to {num_parts}/{num_parts}")
    chain_names = [run.start_chain[-1].name for run in runs]
    selected = set(list(dict.fromkeys(chain_names))[part - 1 :: num_parts])
    return [run for run, name in zip(runs, chain_names, strict=True) if name in selected]


def row_key(row: Mapping[str, Any]) -> RowKey:
    """The key that finds a finished row: name of the run, key of the evaluation."""
    return str(row["run"]), str(row["test"]["key"])
