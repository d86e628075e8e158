"""Open a data address (docs/data.md), prepared or not, as a manifest."""

from __future__ import annotations

from muybridge.datasets.classes import check_trainable, collect_classes, describe_classes
from muybridge.datasets.columns import AS_VERSION_0_1
from muybridge.datasets.folders import read_video_rows
from muybridge.datasets.manifest import Manifest, build_manifest
from muybridge.datasets.rows import check_file_names, normalize_names
from muybridge.datasets.source_rates import set_source_rates
from muybridge.datasets.splits import assign_splits
from muybridge.prepared.dataset import is_prepared, open_prepared
from muybridge.records import Task


def open_data(
    address: str,
    *,
    fold: int | None = None,
    seed: int = 0,
    columns: str | None = None,
    source_fps: float | None = None,
    task: Task = "single_label",
) -> Manifest:
    """The manifest of a data address; `seed` draws the validation split if the data has none.

    `columns` says which columns of a list are which, such as `path=filename,label=class`; what it leaves out is guessed.
    `source_fps` is the rate of frames that are stored without one, such as pictures in a folder.
    `task` is what the data is read for: regression reads numbers, with multi_label a video may have no label.
    Raises ValueError if something is wrong with the address, the classes or the splits.
    """
    if is_prepared(address):
        if columns not in (None, AS_VERSION_0_1):
            raise ValueError(f"--columns is for lists, but {address} is prepared data; leave it out")
        return open_prepared(address, fold=fold)
    root, rows, notes = read_video_rows(address, columns, task=task)
    if fold is not None:
        raise ValueError(f"{address} has no official folds; leave --fold out, or give the split in a CSV column")
    check_file_names(address, rows)
    rows, rate_notes = set_source_rates(rows, source_fps)
    if columns != AS_VERSION_0_1:
        rows = normalize_names(rows)
    rows, split_notes = assign_splits(rows, seed)
    classes = collect_classes(address, rows, sort_numbers=columns != AS_VERSION_0_1)
    class_notes = []
    if task != "regression":
        check_trainable(address, rows, min_classes=1 if task == "multi_label" else 2)
        class_notes = describe_classes(rows, classes) if task != "ordinal" else []
    return build_manifest(rows, classes, root, (*notes, *rate_notes, *class_notes, *split_notes))
