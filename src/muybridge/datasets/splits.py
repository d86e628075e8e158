"""Splits of data that gives none: which videos are for training, validation and test. Pure functions, no I/O.

Input: rows, some without a split. Output: the same rows, each with a split. Videos of one group (a person, a recording) get the
same split. The test split is sampled by a hash of the group's name alone, so that it is the same on every machine; the
validation split depends on the seed of the run and on `--validation` (docs/data.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pyarrow.compute as pc

from muybridge.datasets.manifest import Manifest
from muybridge.datasets.rows import VideoRow, choose_noun
from muybridge.randomness import hash_to_fraction
from muybridge.records import parse_validation_share
from muybridge.text import format_count

_TEST_PERCENT = 20
_DRAWN_NOTE = "No validation split given: "


@dataclass(frozen=True)
class ValidationSplit:
    """How validation videos are held out of training videos where the data gives none.

    `rule` is auto (a tenth of the groups), none, given (the data must give them), or the share of the groups, as text. `seed`
    draws them. Raises ValueError for another rule.
    """

    seed: int = 0
    rule: str = "auto"

    def __post_init__(self) -> None:
        parse_validation_share(self.rule)

    @property
    def share(self) -> float | None:
        """The share of the groups to hold out; None where the data must give a validation split."""
        return parse_validation_share(self.rule)

    @property
    def is_number(self) -> bool:
        """Whether the rule is a share."""
        return self.rule not in ("auto", "none", "given")


TENTH = ValidationSplit()
"""A tenth of the groups, drawn by seed 0: what holds where nothing else is said."""


def assign_splits(rows: list[VideoRow], validation: ValidationSplit) -> tuple[list[VideoRow], list[str]]:
    """The rows with a split each, and a note on each split that was sampled.

    Raises ValueError where the rule for validation does not fit the data.
    """
    notes = []
    if all(row.split is None for row in rows):
        test = _sample_groups(
            rows, _TEST_PERCENT, lambda group: hash_to_fraction(0, "test split", group), cover_every_class=True
        )
        rows = [replace(row, split="test" if row.group_key in test else "train") for row in rows]
        num_drawn = sum(row.split == "test" for row in rows)
        noun, verb = choose_noun(rows), "is" if num_drawn == 1 else "are"
        hashed_column = "group" if any(row.group for row in rows) else "path"
        notes.append(
            f"No split given: {num_drawn} of {format_count(len(rows), noun)} {verb} the test split, "
            f"drawn by a hash of their {hashed_column}."
        )
    training = [row for row in rows if row.split == "train"]
    has_validation = any(row.split == "validation" for row in rows)
    _check_rule(validation, has_validation=has_validation)
    if training and not has_validation and validation.share == 0:
        notes.append(
            f"No validation split given, and none is drawn: {'all ' * (len(training) > 1)}"
            f"{format_count(len(training), f'training {choose_noun(rows)}', 'is')} trained on, and there are "
            "no best weights."
        )
    elif training and not has_validation:
        share = validation.share or 0.0
        held_out = _sample_groups(
            training,
            100 * share,
            lambda group: hash_to_fraction(validation.seed, "validation split", group),
            cover_every_class=False,
        )
        rows = [
            replace(row, split="validation") if row.split == "train" and row.group_key in held_out else row
            for row in rows
        ]
        num_drawn = sum(row.split == "validation" for row in rows)
        verb = "is" if num_drawn == 1 else "are"
        notes.append(
            f"{_DRAWN_NOTE}{num_drawn} of {format_count(len(training), f'training {choose_noun(rows)}')} "
            f"{verb} held out for it, "
            f"{'a tenth' if share == 0.1 else f'{share:g}'} of the groups, drawn by seed {validation.seed}."
            if num_drawn
            else "No validation split given, and too few groups to hold any out: there is no validation."
        )
    return rows, notes


def _check_rule(validation: ValidationSplit, *, has_validation: bool) -> None:
    if validation.share is None and not has_validation:
        raise ValueError(
            "--validation given needs data with a validation split, and this has none; use auto, none or a share"
        )
    if validation.is_number and has_validation:
        raise ValueError(
            f"--validation {validation.rule} draws a validation split, and this data has one; use auto or given"
        )


def apply_rule_to_prepared(manifest: Manifest, validation: ValidationSplit, fold: int | None) -> Manifest:
    """Prepared data, whose validation split may have been drawn when it was prepared, under a rule.

    `none` trains on the videos that were drawn, never on those that the corpus gives. Raises ValueError for a share, since the
    draw is made, and for `given` where the split was drawn or there is none.
    """
    prefixes = (_DRAWN_NOTE, f"Fold {fold or 1}: {_DRAWN_NOTE}")
    is_drawn = any(note.startswith(prefixes) for note in manifest.notes)
    if validation.is_number:
        raise ValueError(
            f"--validation {validation.rule} draws a validation split, which prepared data has or was prepared without; give "
            "it to `muybridge prepare`, or use auto or none"
        )
    has_validation = bool(pc.any(pc.equal(manifest.table["split"], "validation")).as_py())
    if validation.share is None and (is_drawn or not has_validation):
        raise ValueError(
            f"--validation given needs data with a validation split of its own, and this "
            f"{'one was drawn when it was prepared' if has_validation else 'was prepared without'}; use auto or none"
        )
    if validation.share != 0 or not is_drawn:
        return manifest
    table, is_readable = manifest.table, pc.equal(manifest.table["status"], "ok")
    split = pc.if_else(
        pc.equal(table["split"], "validation"), pc.if_else(is_readable, "train", "unused"), table["split"]
    )
    notes = (
        *(note for note in manifest.notes if not note.startswith(prefixes)),
        "The validation videos that were drawn when the data was prepared are trained on, and there are no best weights.",
    )
    table = table.set_column(table.column_names.index("split"), "split", split)
    return replace(manifest, table=table, notes=notes)


def assign_fold_splits(rows: list[VideoRow], validation: ValidationSplit) -> tuple[list[VideoRow], list[str]]:
    """`assign_splits` for the split of every official fold; `split` becomes that of the first fold."""
    if not rows or not rows[0].folds:
        return assign_splits(rows, validation)
    splits_by_fold = []
    notes: list[str] = []
    for fold in range(len(rows[0].folds)):
        fold_rows, fold_notes = assign_splits([replace(row, split=row.folds[fold]) for row in rows], validation)
        splits_by_fold.append([row.split for row in fold_rows])
        notes += [f"Fold {fold + 1}: {note}" for note in fold_notes]
    rows = [
        replace(row, split=splits[0], folds=tuple(split for split in splits if split))
        for row, splits in zip(rows, zip(*splits_by_fold, strict=True), strict=True)
    ]
    return rows, notes


def _sample_groups(
    rows: Sequence[VideoRow], percent: float, hash_group: Callable[[str], float], *, cover_every_class: bool
) -> set[str]:
    """About `percent` of the groups, with the share of each class as equal as whole groups allow; lowest hashes first.

    No class loses its last group. With `cover_every_class` every class that has two groups loses at least one.
    """
    labels_by_group: dict[str, set[str]] = {}
    for row in rows:
        labels_by_group.setdefault(row.group_key, set()).update(row.labels or ("",))  # "": a video without labels
    hashes = {group: hash_group(group) for group in labels_by_group}
    groups_by_label: dict[str, list[str]] = {}
    for group in sorted(labels_by_group, key=hashes.__getitem__):
        for label in labels_by_group[group]:
            groups_by_label.setdefault(label, []).append(group)
    quantiles: dict[str, float] = {}  # the lowest rank of a group among the groups of its classes, as a fraction
    for groups in groups_by_label.values():
        for rank, group in enumerate(groups):
            quantiles[group] = min(quantiles.get(group, 1.0), (rank + 0.5) / len(groups))
    num_left = {label: len(groups) for label, groups in groups_by_label.items()}
    selected: set[str] = set()

    def try_select(group: str) -> None:
        if group not in selected and all(num_left[label] > 1 for label in labels_by_group[group]):
            selected.add(group)
            num_left.update((label, num_left[label] - 1) for label in labels_by_group[group])

    if cover_every_class:
        for label, groups in sorted(groups_by_label.items()):
            for group in groups:
                if num_left[label] == len(groups):
                    try_select(group)
    quota = max(1, int((len(labels_by_group) * percent + 50) // 100))
    for group in sorted(labels_by_group, key=lambda group: (quantiles[group], hashes[group])):
        if len(selected) < quota:
            try_select(group)
    return selected
