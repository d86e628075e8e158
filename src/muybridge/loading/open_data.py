"""Open a data address (docs/data.md), prepared or not, as a manifest."""

from __future__ import annotations

from muybridge.datasets.classes import check_trainable, collect_classes
from muybridge.datasets.folders import read_video_rows
from muybridge.datasets.manifest import Manifest, build_manifest
from muybridge.datasets.rows import check_file_names
from muybridge.datasets.source_rates import set_source_rates
from muybridge.datasets.splits import assign_splits
from muybridge.prepared.dataset import is_prepared, open_prepared


def open_data(address: str, *, fold: int | None = None, seed: int = 0, source_fps: float | None = None) -> Manifest:
    """The manifest of a data address; `seed` draws the validation split if the data has none.

    `source_fps` is the rate of frames that are stored without one, such as pictures in a folder.

    Raises ValueError if something is wrong with the address, the classes or the splits.
    """
    if is_prepared(address):
        return open_prepared(address, fold=fold)
    root, rows, notes = read_video_rows(address)
    if fold is not None:
        raise ValueError(f"{address} has no official folds; leave --fold out, or give the split in a CSV column")
    check_file_names(address, rows)
    rows, rate_notes = set_source_rates(rows, source_fps)
    rows, split_notes = assign_splits(rows, seed)
    classes = collect_classes(address, rows)
    check_trainable(address, rows)
    return build_manifest(rows, classes, root, (*notes, *rate_notes, *split_notes))
