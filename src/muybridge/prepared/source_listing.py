"""The rows of a source of videos in the order of the manifest to be written, with unique names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from muybridge.datasets.challenges import read_activitynet, read_jester, read_moments, read_something_something
from muybridge.datasets.classes import are_numbers, check_trainable, collect_classes, describe_classes
from muybridge.datasets.folders import read_video_rows
from muybridge.datasets.official import read_hmdb51, read_kinetics, read_sports1m, read_ucf101
from muybridge.datasets.rows import VideoRow, check_file_names, normalize_names
from muybridge.datasets.source_rates import set_source_rates
from muybridge.datasets.splits import TENTH, ValidationSplit, assign_fold_splits
from muybridge.records import Task

_OFFICIAL_READERS = {
    "kinetics": read_kinetics,
    "ucf101": read_ucf101,
    "hmdb51": read_hmdb51,
    "sports1m": read_sports1m,
    "something_something_v2": read_something_something,
    "jester": read_jester,
    "moments_in_time": read_moments,
    "activitynet": read_activitynet,
}
_FORMATS = ("folder", "csv", *_OFFICIAL_READERS)


@dataclass(frozen=True)
class SourceListing:
    """The videos of a source. `names` are unique, one per row; `root` is absolute."""

    root: str
    rows: tuple[VideoRow, ...]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def read_source(
    address: str,
    source_format: str,
    *,
    columns: str | None = None,
    source_fps: float | None = None,
    validation: ValidationSplit = TENTH,
    task: Task | None = None,
) -> SourceListing:
    """List a source: a folder or list (folder, csv) or one with the official lists of a data set.

    `columns` says which columns of a list are which, `source_fps` is the rate of frames stored without one, `validation` how
    videos are held out, and `task` what is read: labels, numbers, or with None both. Raises ValueError for any problem of its
    lists, classes or file names.
    """
    if source_format not in _FORMATS:
        raise ValueError(f"there is no format {source_format!r}; the formats are {', '.join(_FORMATS)}")
    is_official = source_format in _OFFICIAL_READERS
    if source_format == "csv" and Path(address).is_dir():
        raise ValueError(f"{address} is a folder, not a list; leave --format csv out, or name the list")
    if is_official and task not in (None, "single_label"):
        raise ValueError(f"--task {task} is for data of your own, not for {source_format}; leave it out")
    if is_official and columns:
        raise ValueError(f"--columns is for lists of your own, not for {source_format}; leave it out")
    notes: list[str] = []
    if is_official:
        if not Path(address).is_dir():
            raise ValueError(f"{address} is not a folder; {source_format} needs a folder with the lists and the videos")
        root, rows = address, _OFFICIAL_READERS[source_format](Path(address).absolute())
    else:
        root, rows, notes = read_video_rows(address, columns, task=task, source_fps=source_fps)
    if not rows:
        raise ValueError(f"{address} lists no videos")
    check_file_names(address, rows)
    rows, rate_notes = set_source_rates(rows, source_fps, root)
    rows = normalize_names(rows)
    rows, split_notes = assign_fold_splits(rows, validation)
    classes = collect_classes(address, rows)
    if not is_official and task != "regression":
        if not are_numbers(classes) and task != "ordinal":  # numbers may be targets, of which each is its own
            labels = [(row.split, row.labels) for row in rows]
            check_trainable(address, labels, min_classes=1 if task == "multi_label" else 2)
        notes += describe_classes(rows, classes) if task != "ordinal" else []
    root = str(Path(root).absolute())
    return SourceListing(
        root,
        tuple(rows),
        make_unique_names(rows),
        tuple(classes),
        (*notes, *rate_notes, *split_notes),
    )


def make_unique_names(rows: Sequence[VideoRow]) -> tuple[str, ...]:
    """The path of each row, followed by its segment, its split and a counter as far as needed to make the names unique."""
    num_rows_by_path = Counter(row.path for row in rows)
    names = [row.path if num_rows_by_path[row.path] == 1 else row.segment_name.removesuffix("#-") for row in rows]
    num_rows_by_name = Counter(names)
    names = [
        f"{name}#{row.split}" if num_rows_by_name[name] > 1 else name for row, name in zip(rows, names, strict=True)
    ]
    num_uses: Counter[str] = Counter()
    unique_names = []
    for name in names:
        num_uses[name] += 1
        unique_names.append(name if num_uses[name] == 1 else f"{name}#{num_uses[name]}")
    return tuple(unique_names)
