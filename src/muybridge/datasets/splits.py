"""Which videos are for training, for validation and for test, where a data set does not say: pure, no I/O.

What enters are rows, some without a split; what leaves are the same rows, each in one. Videos of one group (a person, a
recording) stay together. The test split is drawn by a hash of the group's name alone, so that it is the same for everyone
and for ever; the validation split, which a run may spend as it likes, by the seed (docs/data.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from muybridge.randomness import hash_to_fraction
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
    def group_key(self) -> str:
        """What a drawn split keeps on one side."""
        return self.group or self.path


def assign_splits(rows: list[VideoRow], seed: int) -> tuple[list[VideoRow], list[str]]:
    """Every row in a split, and a line about each split that was drawn."""
    notes = []
    if all(row.split is None for row in rows):
        test = sample_groups(
            rows, _TEST_PERCENT, lambda group: hash_to_fraction(0, "test split", group), cover_every_class=True
        )
        rows = [replace(row, split="test" if row.group_key in test else "train") for row in rows]
        num_drawn = sum(row.split == "test" for row in rows)
        hashed_column = "group" if any(row.group for row in rows) else "path"
        notes.append(
            f"No split given: {num_drawn} of {len(rows)} videos are the test split, drawn by a hash of their {hashed_column}."
        )
    training = [row for row in rows if row.split == "train"]
    if training and all(row.split != "validation" for row in rows):
        held_out = sample_groups(
            training,
            _VALIDATION_PERCENT,
            lambda group: hash_to_fraction(seed, "validation split", group),
            cover_every_class=False,
        )
        rows = [
            replace(row, split="validation") if row.split == "train" and row.group_key in held_out else row
            for row in rows
        ]
        num_drawn = sum(row.split == "validation" for row in rows)
        notes.append(
            f"No validation split given: {num_drawn} of {len(training)} training videos are held out for it, "
            f"a tenth of the groups, drawn by seed {seed}."
            if num_drawn
            else "No validation split given, and too few groups to hold any out: there is no validation."
        )
    return rows, notes


def sample_groups(
    rows: Sequence[VideoRow], percent: int, hash_group: Callable[[str], float], *, cover_every_class: bool
) -> set[str]:
    """About `percent` of the groups, the same share of each class as near as whole groups allow; lower chances go first.

    No class loses its last group. `every_class` takes at least one group of each class that has two.
    """
    labels_of: dict[str, set[str]] = {}
    for row in rows:
        labels_of.setdefault(row.group_key, set()).update(row.labels)
    group_hashes = {group: hash_group(group) for group in labels_of}
    groups_of: dict[str, list[str]] = {}
    for group in sorted(labels_of, key=group_hashes.__getitem__):
        for label in labels_of[group]:
            groups_of.setdefault(label, []).append(group)
    quantiles: dict[str, float] = {}
    for groups in groups_of.values():
        for rank, group in enumerate(groups):
            quantiles[group] = min(quantiles.get(group, 1.0), (rank + 0.5) / len(groups))
    num_left = {label: len(groups) for label, groups in groups_of.items()}
    selected: set[str] = set()

    def try_select(group: str) -> None:
        if group not in selected and all(num_left[label] > 1 for label in labels_of[group]):
            selected.add(group)
            num_left.update((label, num_left[label] - 1) for label in labels_of[group])

    if cover_every_class:
        for label in sorted(groups_of):
            for group in groups_of[label]:
                if num_left[label] == len(groups_of[label]):
                    try_select(group)
    quota = max(1, (len(labels_of) * percent + 50) // 100)
    for group in sorted(labels_of, key=lambda group: (quantiles[group], group_hashes[group])):
        if len(selected) < quota:
            try_select(group)
    return selected
