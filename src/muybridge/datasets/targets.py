"""Targets of a regression: numbers of a list, as columns `target_<name>` of a manifest.

path,label,split                  path,target_ef,target_esv
a.mp4,61.5,train                  a.mp4,61.5,48
b.mp4,35,test                     b.mp4,,102        (not measured: NaN)

Targets of data without such columns, such as folders or data that was prepared as classes, are the names of the classes as
numbers. For ordinal targets the classes are put into the order of the levels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from muybridge.datasets.classes import match_classes
from muybridge.datasets.columns import TARGET_PREFIX, ColumnMapping
from muybridge.datasets.manifest import Manifest
from muybridge.datasets.text_table import TextRow, parse_number
from muybridge.records import Task
from muybridge.text import format_count, join_names

LABEL_TARGET = "label"  # the name of a target that stands in no column of its own
_MISSING = ("", "nan", "na", "n/a", "null", "none")


def parse_target(text: str) -> float | None:
    """The number in a cell, NaN for an empty one; None where it is none."""
    if text.strip().lower() in _MISSING:
        return math.nan
    value = parse_number(text)
    return value if value is not None and abs(value) < 1e30 else None


def find_target_columns(mapping: ColumnMapping, rows: Sequence[TextRow], task: Task | None) -> dict[str, int]:
    """The indices of the columns of targets, by the name of each target.

    Columns that `--columns` names as `target_<name>` come first. For a regression without any it is the column of the label.
    For task None columns are left out that are called `target_<name>` and hold no number. Raises ValueError for a regression
    without either.
    """
    if task not in (None, "regression"):
        return {}
    columns = {
        name.strip()[len(TARGET_PREFIX) :]: index
        for index, name in enumerate(mapping.names)
        if name.strip().lower().startswith(TARGET_PREFIX) and len(name.strip()) > len(TARGET_PREFIX)
    }
    given = {role[len(TARGET_PREFIX) :]: i for role, i in mapping.indices.items() if role.startswith(TARGET_PREFIX)}
    columns = {**given, **{name: index for name, index in columns.items() if index not in given.values()}}
    if task is None:
        return {name: index for name, index in columns.items() if name in given or _holds_numbers(rows, index)}
    if not columns and "label" in mapping.indices:
        index = mapping.indices["label"]
        columns = {mapping.names[index].strip(): index}
    if not columns:
        raise ValueError(
            f"a regression needs numbers in a column label or in columns target_<name>, but the columns are "
            f"{', '.join(mapping.names)}; say which it is, such as --columns label=NAME"
        )
    return columns


def _holds_numbers(rows: Sequence[TextRow], index: int) -> bool:
    """Whether a column has a number, or is empty."""
    values = [parse_target(cell) for row in rows for cell in row.cells[index : index + 1]]
    return None not in values or any(value is not None and not math.isnan(value) for value in values)


def prepare_for_task(manifest: Manifest, task: Task, levels: Sequence[str] = ()) -> Manifest:
    """The data set as a task needs it: with targets for regression, with classes in the order of `levels` for ordinal, and with
    a label of every video for single_label.

    Raises ValueError where its labels do not suit the task.
    """
    match task:
        case "regression":
            return manifest if manifest.target_names else _convert_labels_to_targets(manifest)
        case "ordinal":
            return _order_levels(manifest, levels)
        case "single_label":
            _check_labels_exist(manifest)
            return manifest
        case _:
            return manifest


def _check_labels_exist(manifest: Manifest) -> None:
    """Prepared data may hold videos without labels, for other tasks."""
    is_used = pc.not_equal(manifest.table["split"], "unused")
    is_empty = pc.equal(pc.fill_null(pc.list_value_length(manifest.table["labels"]), 0), 0)
    num_empty = pc.sum(pc.and_(is_used, is_empty)).as_py() or 0
    if num_empty:
        task = "regression" if manifest.target_names else "multi_label"
        verb = "has" if num_empty == 1 else "have"
        raise ValueError(
            f"{format_count(num_empty, 'video')} of {manifest.root} {verb} no label; add --training.task {task}, or label them"
        )


def _convert_labels_to_targets(manifest: Manifest) -> Manifest:
    numbers = [parse_target(name) for name in manifest.classes]
    wrong = [
        name for name, number in zip(manifest.classes, numbers, strict=True) if number is None or math.isnan(number)
    ]
    if wrong:
        raise ValueError(
            f"a regression needs numbers, but {manifest.root} has the labels {join_names(wrong)}; give a list with numbers in "
            "its column label or in columns target_<name>"
        )
    labels = manifest.table["labels"].to_pylist()
    _check_one_label(manifest, labels, "regression")
    values = [math.nan if not row else float(numbers[row[0]] or 0.0) for row in labels]
    return manifest.replace_table(
        manifest.table.append_column(f"{TARGET_PREFIX}{LABEL_TARGET}", pa.array(values, pa.float64()))
    )


def _order_levels(manifest: Manifest, levels: Sequence[str]) -> Manifest:
    _check_one_label(manifest, manifest.table["labels"].to_pylist(), "ordinal")
    if levels:
        return manifest.remap_labels(tuple(levels))
    names = manifest.classes
    numbers = [parse_target(name) for name in names]
    if any(number is None or math.isnan(number) for number in numbers):
        raise ValueError(
            f"the order of the labels {join_names(names)} is not known; name all of them from the lowest to the highest with "
            "training.levels"
        )
    return manifest.remap_labels([names[index] for index in np.argsort(np.array(numbers, np.float64), kind="stable")])


def _check_one_label(manifest: Manifest, labels: Sequence[Sequence[int] | None], task: Task) -> None:
    wrong = [
        manifest.get_video(index)
        for index, row in enumerate(labels)
        if len(row or ()) != 1 and manifest.table["split"][index].as_py() != "unused"
    ]
    if wrong:
        raise ValueError(
            f"a video of the task {task} has one label, but {format_count(len(wrong), 'video')} of {manifest.root} "
            f"{'has' if len(wrong) == 1 else 'have'} none or several ({join_names(wrong)})"
        )


def match_targets(manifest: Manifest, names: Sequence[str]) -> Manifest:
    """The data set with the targets `names` of a network, in its order, matched by name.

    A data set with one target that only the data or only the network names `label` matches a network with one.
    Raises ValueError where a target is missing.
    """
    available = manifest.target_names
    if len(available) == len(names) == 1 and LABEL_TARGET in (available[0], names[0]):
        return manifest.select_targets({names[0]: available[0]})
    try:
        indices = match_classes(names, available)
    except ValueError as error:
        raise ValueError(f"{manifest.root} does not have the targets of the network: {error}") from error
    return manifest.select_targets({name: available[index] for name, index in zip(names, indices, strict=True)})


def describe_missing_targets(manifest: Manifest) -> list[str]:
    """A note on each target that not all videos have."""
    values: Mapping[str, np.ndarray] = {
        name: manifest.table[f"{TARGET_PREFIX}{name}"].to_numpy() for name in manifest.target_names
    }
    missing = {name: int(np.isnan(column).sum()) for name, column in values.items()}
    return [
        f"{format_count(number, 'video')} of {len(manifest)} without {name}: not used for it."
        for name, number in missing.items()
        if number
    ]
