"""Open a data address (docs/data.md), prepared or not, as a manifest."""

from __future__ import annotations

from muybridge.datasets.background import BackgroundMode, add_background, read_reviewed
from muybridge.datasets.classes import check_trainable, collect_classes, describe_classes
from muybridge.datasets.columns import AS_VERSION_0_1
from muybridge.datasets.folders import read_video_rows
from muybridge.datasets.manifest import Manifest, build_manifest
from muybridge.datasets.rows import check_file_names, normalize_names
from muybridge.datasets.source_rates import set_source_rates
from muybridge.datasets.splits import assign_splits
from muybridge.prepared.dataset import is_prepared, open_prepared


def open_data(
    address: str,
    *,
    fold: int | None = None,
    seed: int = 0,
    columns: str | None = None,
    source_fps: float | None = None,
    background: BackgroundMode = "none",
) -> Manifest:
    """The manifest of a data address; `seed` draws the validation split if the data has none.

    `columns` says which columns of a list are which, such as `path=filename,label=class`; what it leaves out is guessed.
    `source_fps` is the rate of frames that are stored without one, such as pictures in a folder. `background` adds a
    class of reviewed time without a label.
    Raises ValueError if something is wrong with the address, the classes or the splits.
    """
    if is_prepared(address):
        if columns not in (None, AS_VERSION_0_1):
            raise ValueError(f"--columns is for lists, but {address} is prepared data; leave it out")
        if background != "none":
            raise ValueError(f"--background is for a list of segments, but {address} is prepared data; leave it out")
        return open_prepared(address, fold=fold)
    root, rows, notes = read_video_rows(address, columns)
    if fold is not None:
        raise ValueError(f"{address} has no official folds; leave --fold out, or give the split in a CSV column")
    check_file_names(address, rows)
    rows, rate_notes = set_source_rates(rows, source_fps)
    if columns != AS_VERSION_0_1:
        rows = normalize_names(rows)
    background_notes: list[str] = []
    if background != "none":
        rows, background_notes = add_background(rows, read_reviewed(address), background)
    rows, split_notes = assign_splits(rows, seed)
    classes = collect_classes(address, rows, sort_numbers=columns != AS_VERSION_0_1)
    check_trainable(address, rows)
    class_notes = describe_classes(rows, classes)
    return build_manifest(rows, classes, root, (*notes, *rate_notes, *background_notes, *class_notes, *split_notes))
