"""Which videos are for training, for validation and for test, where a data set does not say: pure, no I/O.

What enters are rows, some without a split; what leaves are the same rows, each in one. Videos of one group (a person, a
recording) stay together. The test split is drawn by a hash of the group's name alone, so that it is the same for everyone
and for ever; the validation split, which a run may spend as it likes, by the seed (docs/data.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from muybridge.randomness import fraction
from muybridge.records import Split

_TEST_PERCENT, _VALIDATION_PERCENT = 20, 10


@dataclass(frozen=True)
class VideoRow:
    """A video as an address names it. `split` is None where the address does not say."""

    path: str
    labels: tuple[str, ...]
    split: Split | None = None
    group: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    folds: tuple[Split, ...] = ()  # the split in each official fold, for data sets that have them

    @property
    def kept_together(self) -> str:
        """What a drawn split keeps on one side."""
        return self.group or self.path


def with_splits(rows: list[VideoRow], seed: int) -> tuple[list[VideoRow], list[str]]:
    """Every row in a split, and a line about each split that was drawn."""
    notes = []
    if all(row.split is None for row in rows):
        test = draw_groups(rows, _TEST_PERCENT, lambda group: fraction(0, "test split", group), every_class=True)
        rows = [replace(row, split="test" if row.kept_together in test else "train") for row in rows]
        number = sum(row.split == "test" for row in rows)
        kind = "group" if any(row.group for row in rows) else "path"
        notes.append(
            f"No split given: {number} of {len(rows)} videos are the test split, drawn by a hash of their {kind}."
        )
    training = [row for row in rows if row.split == "train"]
    if training and all(row.split != "validation" for row in rows):
        held_out = draw_groups(
            training, _VALIDATION_PERCENT, lambda group: fraction(seed, "validation split", group), every_class=False
        )
        rows = [
            replace(row, split="validation") if row.split == "train" and row.kept_together in held_out else row
            for row in rows
        ]
        number = sum(row.split == "validation" for row in rows)
        notes.append(
            f"No validation split given: {number} of {len(training)} training videos are held out for it, "
            f"a tenth of the groups, drawn by seed {seed}."
            if number
            else "No validation split given, and too few groups to hold any out: there is no validation."
        )
    return rows, notes


def draw_groups(
    rows: Sequence[VideoRow], percent: int, chance: Callable[[str], float], *, every_class: bool
) -> set[str]:
    """About `percent` of the groups, the same share of each class as near as whole groups allow; lower chances go first.

    No class loses its last group. `every_class` takes at least one group of each class that has two.
    """
    labels_of: dict[str, set[str]] = {}
    for row in rows:
        labels_of.setdefault(row.kept_together, set()).update(row.labels)
    chances = {group: chance(group) for group in labels_of}
    groups_of: dict[str, list[str]] = {}
    for group in sorted(labels_of, key=chances.__getitem__):
        for label in labels_of[group]:
            groups_of.setdefault(label, []).append(group)
    quantiles: dict[str, float] = {}
    for groups in groups_of.values():
        for rank, group in enumerate(groups):
            quantiles[group] = min(quantiles.get(group, 1.0), (rank + 0.5) / len(groups))
    left = {label: len(groups) for label, groups in groups_of.items()}
    taken: set[str] = set()

    def take(group: str) -> None:
        if group not in taken and all(left[label] > 1 for label in labels_of[group]):
            taken.add(group)
            left.update((label, left[label] - 1) for label in labels_of[group])

    if every_class:
        for label in sorted(groups_of):
            for group in groups_of[label]:
                if left[label] == len(groups_of[label]):
                    take(group)
    quota = max(1, (len(labels_of) * percent + 50) // 100)
    for group in sorted(labels_of, key=lambda group: (quantiles[group], chances[group])):
        if len(taken) < quota:
            take(group)
    return taken
