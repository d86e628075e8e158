"""What a study asks for: runs by their settings, tests by their protocol, and names that follow from the content alone.

Enter: settings. Leave: `Run`s, each with a name that is the same on every machine and in every study that asks for the same
run, so that studies share what they have in common, and machines the work. No torch, nothing is read or written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from muybridge.settings import TrainSettings, diff_settings, settings_to_dict
from muybridge.synthetic.motions import MotionSettings

Split = Literal["test", "validation"]
DIGEST_LENGTH = 10
NOT_OF_THE_RUN = ("output", "init", "data", "device", "loading.", "checkpoints.", "timeouts.", "evaluation.batch_size")


@dataclass(frozen=True)
class Source:
    """A data set: an address that the user gave, or motions to be generated. `key` names what it holds, not where."""

    key: str
    address: str | None = None
    motions: MotionSettings | None = None

    def __post_init__(self) -> None:
        assert (self.address is None) != (self.motions is None), "data is either given or generated"

    def to_json(self) -> dict[str, Any]:
        """What a row says of its data: the address is this machine's affair and stays out."""
        return {"key": self.key, "motions": None if self.motions is None else asdict(self.motions)}


def generated(motions: MotionSettings) -> Source:
    """Motions of these settings; as with runs, those that are the defaults do not enter the name."""
    defaults = asdict(MotionSettings())
    changed = {name: value for name, value in asdict(motions).items() if value != defaults[name]}
    return Source(f"motions-{digest(changed)}", motions=motions)


@dataclass(frozen=True)
class Scoring:
    """One scoring of a run: how many clips of which length, on which videos."""

    clips: int
    length: int
    split: Split = "test"

    @property
    def key(self) -> str:
        """Its name within a run: `test-5x16f`."""
        return f"{self.split}-{self.clips}x{self.length}f"


@dataclass(frozen=True)
class Run:
    """One training, and the tests of its last weights. `settings.data`, `output` and `init` are filled in where it runs.

    `start` is the run whose weights it begins with. The last weights and not the best ones: nothing is chosen by looking.
    """

    settings: TrainSettings
    source: Source
    tests: tuple[Scoring, ...]
    start: Run | None = None

    @property
    def essence(self) -> dict[str, Any]:
        """What decides the weights: data, settings that are not the defaults, and the run before.

        Settings that are the defaults are left out, so that a setting added to the program renames no finished run.
        """
        defaults = settings_to_dict(TrainSettings(data="", seed=self.settings.seed))
        changed = {
            name: ours
            for name, (ours, _) in diff_settings(settings_to_dict(self.settings), defaults).items()
            if not name.startswith(NOT_OF_THE_RUN)
        }
        before = None if self.start is None else self.start.name
        return {"data": self.source.key, "seed": self.settings.seed, "start": before, "settings": changed}

    @property
    def name(self) -> str:
        """The folder of the run, for people and unique: `r2plus1d_10-16f-seed0-1a2b3c4d5e`."""
        settings = self.settings
        modality = "" if settings.modality == "rgb" else f"-{settings.modality}"
        return f"{settings.model}{modality}-{settings.clips.length}f-seed{settings.seed}-{digest(self.essence)}"

    @property
    def seed(self) -> int:
        """The seed of its settings."""
        return self.settings.seed


@dataclass(frozen=True)
class Fused:
    """The mean of the scores of several runs in one test: two streams. Nothing is trained for it."""

    members: tuple[Run, ...]
    test: Scoring

    @property
    def name(self) -> str:
        """As unique as its members: `fused-seed0-1a2b3c4d5e`."""
        return f"fused-seed{self.seed}-{digest([member.name for member in self.members])}"

    @property
    def seed(self) -> int:
        """That of all members."""
        return self.members[0].seed


def digest(value: Any) -> str:
    """A short hash of JSON values, the same on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def with_seeds(run: Run, seeds: int) -> list[Run]:
    """The same run with seeds 0, 1, 2, ..., each beginning with the weights of its own seed's run before."""
    return [seeded(run, seed) for seed in range(seeds)]


def seeded(run: Run, seed: int) -> Run:
    """The same run with another seed, and so the run that it starts from."""
    start = None if run.start is None else seeded(run.start, seed)
    return replace(run, settings=replace(run.settings, seed=seed), start=start)


def in_order(runs: Sequence[Run]) -> list[Run]:
    """Every run once, seed by seed, each after the one it starts from, with the tests of all that asked for it."""
    found: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: run.settings.seed):
        for link in reversed(_chain(run)):
            known = found.get(link.name)
            wanted = link.tests if known is None else tuple(dict.fromkeys((*known.tests, *link.tests)))
            found[link.name] = replace(link, tests=wanted)
    return list(found.values())


def part_of(runs: Sequence[Run], part: int, parts: int) -> list[Run]:
    """The runs of machine `part` of `parts` (from 1): whole chains, dealt out in turn.

    ValueError for a part that does not exist.
    """
    if not 1 <= part <= parts:
        raise ValueError(f"--part {part}/{parts} is not there; the parts of {parts} are 1/{parts} to {parts}/{parts}")
    firsts = list(dict.fromkeys(_chain(run)[-1].name for run in runs))
    mine = set(firsts[part - 1 :: parts])
    return [run for run in runs if _chain(run)[-1].name in mine]


def _chain(run: Run) -> list[Run]:
    """The run, the one it starts from, and so on to the first."""
    return [run] if run.start is None else [run, *_chain(run.start)]


def row_key(row: Mapping[str, Any]) -> tuple[str, str]:
    """What a finished row is found by: the run's name and the test's key."""
    return str(row["run"]), str(row["test"]["key"])
