"""`VideoRow`: one video as a folder, a CSV file or an official list describes it, before it becomes a row of a manifest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from muybridge.datasets.video_files import normalize_unicode
from muybridge.records import Split, TimeOrigin
from muybridge.text import format_count, join_names

_SEGMENT_NAME = re.compile(r"(.+)#[\d.e+-]*-[\d.e+-]*")
SPLIT_ALIASES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
    "unused": "unused",
}


@dataclass(frozen=True)
class VideoRow:
    """A video with its labels by name. `split` is None where the data set does not give one."""

    path: str  # relative to the root of the data set
    labels: tuple[str, ...]
    split: Split | None = None
    group: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    source_fps: float | None = None  # the rate of frames that are stored without one
    bounds_in_frames: bool = False  # the list gives frames; `start_seconds` and `end_seconds` are converted from them
    folds: tuple[Split, ...] = ()  # the split in each official fold, for data sets that have folds
    targets: tuple[tuple[str, float], ...] = ()  # names and numbers of a regression; NaN: not measured

    @property
    def group_key(self) -> str:
        """The unit of a random split: rows with equal keys get the same split."""
        return self.group or self.path

    @property
    def is_whole_file(self) -> bool:
        """Whether no bounds are given."""
        return self.start_seconds is None and self.end_seconds is None

    @property
    def segment_name(self) -> str:
        """The path with the bounds of the segment: `clips/a.mp4#1.5-4`; a bound that is not given is left out."""
        start, end = ("" if bound is None else f"{bound:.12g}" for bound in (self.start_seconds, self.end_seconds))
        return f"{self.path}#{start}-{end}"


def find_recording(video: str) -> str:
    """The path in the name of a segment (`VideoRow.segment_name`); other names of videos as they are."""
    matched = _SEGMENT_NAME.fullmatch(video)
    return matched[1] if matched else video


def choose_noun(rows: Sequence[VideoRow]) -> str:
    """What a row is: a video, or a segment of one."""
    return "video" if all(row.is_whole_file for row in rows) else "segment"


def check_time_origin(rows: Sequence[VideoRow], time_origin: TimeOrigin) -> list[str]:
    """A note where `time_origin` is not the default and no row has bounds that would count from it.

    Raises ValueError for rows with bounds in frames, which always count from the first picture.
    """
    if time_origin == "picture":
        return []
    num_in_frames = sum(row.bounds_in_frames for row in rows)
    if num_in_frames:
        raise ValueError(
            f"--time-origin {time_origin} is for segments in seconds, but {format_count(num_in_frames, 'row', 'is')} in "
            "frames, which count from the first picture; leave it out"
        )
    if not all(row.is_whole_file for row in rows):
        return []
    return ["--time-origin is not used: no video has start_seconds or end_seconds."]


def normalize_names(rows: Sequence[VideoRow]) -> list[VideoRow]:
    """The rows with labels and groups in Unicode's form NFC, so that one name is one class however it is spelled."""
    return [
        row
        if all(name.isascii() for name in (*row.labels, row.group or ""))
        else replace(
            row,
            labels=tuple(dict.fromkeys(map(normalize_unicode, row.labels))),
            group=row.group and normalize_unicode(row.group),
        )
        for row in rows
    ]


def check_file_names(address: str, rows: Sequence[VideoRow]) -> None:
    """Raise ValueError for file names that are not UTF-8, since Arrow strings cannot hold them."""
    # The file system returns them with surrogates in place of the bytes that cannot be decoded.
    undecodable_paths = [
        ascii(row.path)
        for row in rows
        if not row.path.isprintable() and any("\ud800" <= character <= "\udfff" for character in row.path)
    ]
    if undecodable_paths:
        raise ValueError(f"{address} has file names that are not UTF-8: {join_names(undecodable_paths)}; rename them")
