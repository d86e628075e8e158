"""Open a data address (docs/data.md), prepared or not, as a manifest."""

from __future__ import annotations

from dataclasses import replace

from muybridge.datasets.background import BackgroundMode, add_background, read_reviewed
from muybridge.datasets.classes import check_trainable, collect_classes, describe_classes
from muybridge.datasets.columns import AS_VERSION_0_1
from muybridge.datasets.folders import read_video_rows
from muybridge.datasets.manifest import Manifest, build_manifest
from muybridge.datasets.rows import check_file_names, check_time_origin, normalize_names
from muybridge.datasets.source_rates import UNUSED_RATE_NOTE, set_source_rates
from muybridge.datasets.splits import TENTH, ValidationSplit, apply_rule_to_prepared, assign_splits
from muybridge.prepared.dataset import is_prepared, open_prepared
from muybridge.records import TimeOrigin


def open_data(
    address: str,
    *,
    fold: int | None = None,
    columns: str | None = None,
    source_fps: float | None = None,
    time_origin: TimeOrigin = "picture",
    background: BackgroundMode = "none",
    validation: ValidationSplit = TENTH,
) -> Manifest:
    """The manifest of a data address; `validation` says how its validation split is drawn if the data has none.

    `columns` says which columns of a list are which, such as `path=filename,label=class`; what it leaves out is guessed.
    `source_fps` is the rate of frames that are stored without one, such as pictures in a folder. `time_origin` is where seconds
    of segments count from: the first picture, or the clock of a player, which may start earlier, with the sound. `background`
    adds a class of reviewed time without a label. Raises ValueError if something is wrong with the address, the classes or the
    splits.
    """
    if is_prepared(address):
        if columns not in (None, AS_VERSION_0_1):
            raise ValueError(f"--columns is for lists, but {address} is prepared data; leave it out")
        if time_origin != "picture":
            raise ValueError(
                f"--time-origin is for lists; {address} is prepared data, so give it to `muybridge prepare`"
            )
        if background != "none":
            raise ValueError(f"--background is for a list of segments, but {address} is prepared data; leave it out")
        manifest = apply_rule_to_prepared(open_prepared(address, fold=fold), validation, fold)
        return manifest if source_fps is None else replace(manifest, notes=(*manifest.notes, UNUSED_RATE_NOTE))
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
    rows, split_notes = assign_splits(rows, validation)
    classes = collect_classes(address, rows, sort_numbers=columns != AS_VERSION_0_1)
    check_trainable(address, rows)
    notes += (*rate_notes, *check_time_origin(rows, time_origin), *background_notes)
    notes += (*describe_classes(rows, classes), *split_notes)
    return build_manifest(rows, classes, root, notes, time_origin=time_origin)
