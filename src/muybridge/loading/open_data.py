"""Open a data address (docs/data.md), prepared or not, as a manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, Unpack

from muybridge.datasets.background import BackgroundMode, add_background, read_reviewed
from muybridge.datasets.classes import are_numbers, check_trainable, collect_classes, describe_classes
from muybridge.datasets.columns import AS_VERSION_0_1
from muybridge.datasets.cross_validation import assign_cross_validation
from muybridge.datasets.folders import read_video_rows
from muybridge.datasets.manifest import Manifest, build_manifest
from muybridge.datasets.rows import check_file_names, check_time_origin, normalize_names
from muybridge.datasets.source_rates import UNUSED_RATE_NOTE, set_source_rates
from muybridge.datasets.splits import TENTH, ValidationSplit, apply_rule_to_prepared, assign_splits
from muybridge.datasets.targets import prepare_for_task
from muybridge.prepared.dataset import is_prepared, leave_out_failed, open_prepared
from muybridge.records import Task, TimeOrigin
from muybridge.settings import FoldUnit


class DataOptions(TypedDict, total=False):
    """How data is opened."""

    fold: int | None
    """The official fold whose splits are used, or with `num_folds` one of these folds."""
    validation: ValidationSplit
    """How the validation split is drawn if the data has none."""
    columns: str | None
    """Which columns of a list are which, such as `path=filename,label=class`; what it leaves out is guessed."""
    source_fps: float | None
    """The rate of frames that are stored without one, such as pictures in a folder."""
    time_origin: TimeOrigin
    """Where seconds of segments count from: the first picture, or the clock of a player, which may start with the sound."""
    background: BackgroundMode
    """Whether reviewed time without a label is a class."""
    task: Task
    """What the data is read for: regression reads numbers, with multi_label a video may have no label."""
    levels: Sequence[str]
    """For ordinal: the labels from the lowest to the highest."""
    num_folds: int | None
    """Split the data into so many folds of its own (`datasets.cross_validation`)."""
    fold_by: FoldUnit
    """What these folds keep together."""


def read_data_options(saved: Mapping[str, Any]) -> DataOptions:
    """How a run reads its data, from its saved settings; those that an older version did not save have their meaning then."""
    training = saved.get("training") or {}
    seed = saved.get("seed", 0)
    return {
        "fold": saved.get("fold"),
        "validation": ValidationSplit(seed if isinstance(seed, int) else 0, str(saved.get("validation") or "auto")),
        "columns": saved.get("columns", AS_VERSION_0_1),
        "source_fps": saved.get("source_fps"),
        "time_origin": saved.get("time_origin") or "picture",
        "background": "drawn" if saved.get("background") else "none",
        "task": training.get("task") or "single_label",
        "levels": tuple(training.get("levels") or ()),
        "num_folds": saved.get("num_folds"),
        "fold_by": saved.get("fold_by") or "group",
    }


def open_data(address: str, **options: Unpack[DataOptions]) -> Manifest:
    """The manifest of a data address. Raises ValueError if something is wrong with the address, the classes or the splits."""
    task, num_folds = options.get("task", "single_label"), options.get("num_folds")
    manifest = prepare_for_task(_open_address(address, options), task, options.get("levels", ()))
    if num_folds is None:
        return manifest
    fold, validation = options.get("fold"), options.get("validation", TENTH)
    if fold is None:
        raise ValueError(
            f"which of the {num_folds} folds is not said; add --fold, or use `muybridge folds` for all of them"
        )
    split = assign_cross_validation(
        manifest, fold, num_folds, by=options.get("fold_by", "group"), validation=validation
    )
    return leave_out_failed(split) if is_prepared(address) else split


def _open_address(address: str, options: DataOptions) -> Manifest:
    has_own_splits = options.get("num_folds") is None
    fold = options.get("fold") if has_own_splits else None
    validation = options.get("validation", TENTH) if has_own_splits else TENTH
    columns, source_fps = options.get("columns"), options.get("source_fps")
    time_origin, background = options.get("time_origin", "picture"), options.get("background", "none")
    task = options.get("task", "single_label")
    min_classes = 1 if task == "multi_label" else 2
    if is_prepared(address):
        if columns not in (None, AS_VERSION_0_1):
            raise ValueError(f"--columns is for lists, but {address} is prepared data; leave it out")
        if time_origin != "picture":
            raise ValueError(
                f"--time-origin is for lists; {address} is prepared data, so give it to `muybridge prepare`"
            )
        if background != "none":
            raise ValueError(f"--background is for a list of segments, but {address} is prepared data; leave it out")
        manifest = open_prepared(address, fold=fold)
        if has_own_splits:
            if task != "regression" and are_numbers(
                manifest.classes
            ):  # which were not checked: they may have been targets
                check_trainable(address, _list_labels(manifest), min_classes=min_classes)
            manifest = leave_out_failed(apply_rule_to_prepared(manifest, validation, fold))
        return manifest if source_fps is None else replace(manifest, notes=(*manifest.notes, UNUSED_RATE_NOTE))
    root, rows, notes = read_video_rows(address, columns, task=task, source_fps=source_fps)
    if fold is not None:
        raise ValueError(f"{address} has no official folds; leave --fold out, or add --num-folds")
    check_file_names(address, rows)
    rows, rate_notes = set_source_rates(rows, source_fps, root)
    if columns != AS_VERSION_0_1:
        rows = normalize_names(rows)
    background_notes: list[str] = []
    if background != "none":
        rows, background_notes = add_background(rows, read_reviewed(address, source_fps), background)
    rows, split_notes = assign_splits(rows, validation)
    classes = collect_classes(address, rows, sort_numbers=columns != AS_VERSION_0_1)
    notes += (*rate_notes, *check_time_origin(rows, time_origin), *background_notes)
    if task != "regression":
        check_trainable(address, [(row.split, row.labels) for row in rows], min_classes=min_classes)
        notes += describe_classes(rows, classes) if task != "ordinal" else []
    notes += split_notes
    return build_manifest(rows, classes, root, notes, time_origin=time_origin)


def _list_labels(manifest: Manifest) -> list[tuple[str, list[str]]]:
    """Each split of prepared data with the classes of its videos."""
    counts_by_split = manifest.count_videos()
    return [(split, [name for name, number in counts.items() if number]) for split, counts in counts_by_split.items()]
