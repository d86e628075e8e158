"""Folds of any data set for cross-validation: whole groups, with classes spread evenly over the folds.

Input: a manifest, whatever splits it has. Output: the same videos with fold `fold` as test split, and the others as training
videos of which a share of the groups, a tenth by default, is the validation split. Videos of the split unused stay unused. The
folds themselves depend on the names of the groups alone, so that every run and every machine has the same.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from muybridge.datasets.manifest import Manifest
from muybridge.datasets.rows import find_recording
from muybridge.datasets.splits import ValidationSplit
from muybridge.randomness import hash_to_fraction
from muybridge.settings import FoldUnit
from muybridge.text import format_count, join_names

_NUM_BINS = 5  # of the first target of a regression, which then takes the place of classes


def assign_cross_validation(
    manifest: Manifest, fold: int, num_folds: int, *, by: FoldUnit, validation: ValidationSplit
) -> Manifest:
    """The data set split for fold number `fold`, from 1, of `num_folds`.

    Raises ValueError for data without groups if `by` is group, with fewer groups than folds, and for a fold that there is not.
    """
    if not 1 <= fold <= num_folds:
        raise ValueError(f"fold is {fold}, expected 1 to {num_folds}, the number of folds")
    used = np.flatnonzero(np.array(manifest.table["split"].to_pylist()) != "unused")
    names = _list_group_names(manifest, used, by)
    groups, group_indices = np.unique(names, return_inverse=True)
    if len(groups) < num_folds:
        raise ValueError(
            f"{manifest.root} has {format_count(len(groups), by)} for {num_folds} folds; lower --num-folds (-k of `folds`)"
        )
    counts = _count_classes(manifest, used, group_indices, len(groups))
    fold_of_group = spread_groups([str(name) for name in groups], counts, num_folds)
    is_test = fold_of_group == fold - 1
    is_validation = _draw_validation(groups, ~is_test, validation, counts[:, :-1] > 0)
    splits_of_groups = np.where(is_test, "test", np.where(is_validation, "validation", "train"))
    splits = np.array(manifest.table["split"].to_pylist(), dtype=object)
    splits[used] = splits_of_groups[group_indices]
    table = manifest.table.set_column(
        manifest.table.column_names.index("split"), "split", pa.array(splits.tolist(), pa.string())
    )
    note = (
        f"Fold {fold} of {num_folds}, of whole {by}s: {int((splits == 'train').sum())} training, "
        f"{int((splits == 'validation').sum())} validation and {int((splits == 'test').sum())} test videos."
    )
    kept = tuple(text for text in manifest.notes if "split given" not in text)  # drawn splits are replaced
    split = replace(manifest, table=table, notes=(*kept, note))
    return replace(split, notes=(*split.notes, *_describe_untrained_classes(split)))


def _describe_untrained_classes(manifest: Manifest) -> list[str]:
    """A note on the classes of test videos that no training video has."""
    counts = manifest.count_videos()
    trained = counts.get("train", {})
    untrained = [name for name, number in counts.get("test", {}).items() if number and not trained.get(name)]
    if not untrained:
        return []
    verb = "has" if len(untrained) == 1 else "have"
    return [
        f"{join_names(untrained)} {verb} test videos and no training videos in this fold: none of them can be right."
    ]


def _list_group_names(manifest: Manifest, used: NDArray[np.int64], by: FoldUnit) -> NDArray[np.str_]:
    videos, groups = (manifest.table[name].to_pylist() for name in ("video", "group"))
    if by == "group" and not any(groups):
        raise ValueError(
            f"{manifest.root} names no groups, such as the person or the recording of each video; add a column group, or use "
            "--fold-by video (--by video of `folds`) if no two videos show the same"
        )
    return np.array(
        [(groups[index] if by == "group" else None) or find_recording(videos[index]) for index in used], np.str_
    )


def _count_classes(
    manifest: Manifest, used: NDArray[np.int64], group_indices: NDArray[np.int64], num_groups: int
) -> NDArray[np.float64]:
    """Videos of each class in each group, float64 (groups, classes); a regression has bins of its first target for classes."""
    if manifest.target_names:
        values = manifest.table[f"target_{manifest.target_names[0]}"].to_numpy()[used]
        edges = np.nanquantile(values, np.linspace(0, 1, _NUM_BINS + 1)[1:-1])
        labels = [[int(np.searchsorted(edges, value))] for value in values]
        num_classes = _NUM_BINS + 1  # NaN is above all edges
    else:
        labels = [list(row or ()) for row in manifest.table["labels"].take(pa.array(used)).to_pylist()]
        num_classes = len(manifest.classes)
    counts = np.zeros((num_groups, num_classes + 1))
    for group, row in zip(group_indices, labels, strict=True):
        counts[group, -1] += 1  # all videos, so that folds have one size
        counts[group, row] += 1
    return counts


def spread_groups(names: list[str], counts: NDArray[np.float64], num_folds: int) -> NDArray[np.int64]:
    """The fold of each group, int64 (groups,), from 0: largest groups first, each into the fold that lacks its videos most.

    As scikit-learn's StratifiedGroupKFold, with a hash of the name to order groups of one size.
    """
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    order = sorted(
        range(len(names)), key=lambda index: (-counts[index].max(), hash_to_fraction(0, "fold", names[index]))
    )
    filled, folds = np.zeros((num_folds, counts.shape[1])), np.zeros(len(names), np.int64)
    for group in order:
        costs = ((filled + shares[group]) ** 2 - filled**2).sum(axis=1)
        folds[group] = int(np.argmin(np.round(costs, 12)))
        filled[folds[group]] += shares[group]
    return folds


def _draw_validation(
    groups: NDArray[np.str_],
    is_training: NDArray[np.bool_],
    validation: ValidationSplit,
    has_class: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """A share of the training groups, at least one where there are three. No class loses its last training group.

    has_class: bool (groups, classes).
    """
    candidates, share = np.flatnonzero(is_training), validation.share
    if share is None:
        raise ValueError(
            "--validation given needs data whose splits are used, but folds replace them; use auto or a share"
        )
    number = max(int(len(candidates) > 2 and share > 0), round(len(candidates) * share))
    ranked = sorted(
        candidates.tolist(),
        key=lambda index: hash_to_fraction(validation.seed, "validation split", str(groups[index])),
    )
    is_validation = np.zeros(len(groups), np.bool_)
    num_left = has_class[is_training].sum(axis=0)
    for group in ranked:
        if is_validation.sum() < number and (num_left[has_class[group]] > 1).all():
            is_validation[group] = True
            num_left -= has_class[group]
    return is_validation
