"""The rate of videos that are stored as frames without one: pictures in a folder or an archive, and arrays.

A row's own `source_fps` takes precedence over the option `--source-fps`; without both, frames are read at ASSUMED_RATE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from muybridge.datasets.rows import VideoRow
from muybridge.datasets.video_files import has_video_extension, path_exists
from muybridge.text import format_count
from muybridge.video.picture_sequence import ASSUMED_RATE
from muybridge.video.pictures import STORED_FRAMES_EXTENSIONS

UNUSED_RATE_NOTE = "--source-fps is not used: every video is a file with a rate of its own, or has one in the list."


def set_source_rates(
    rows: Sequence[VideoRow], source_fps: float | None, root: str | Path
) -> tuple[list[VideoRow], list[str]]:
    """The rows with `source_fps` where they give none, and a note on those that are read at the assumed rate.

    `root` is the folder that their paths are relative to. Raises ValueError for a rate that is not positive.
    """
    if source_fps is not None and not 0 < source_fps < float("inf"):
        raise ValueError(f"--source-fps must be a positive number of frames a second, not {source_fps}")
    lacking = [
        index
        for index, row in enumerate(rows)
        if row.source_fps is None
        and (may_lack_rate(row.path) or (source_fps is not None and Path(root, row.path).is_dir()))
    ]
    if not lacking:
        return list(rows), [] if source_fps is None else [UNUSED_RATE_NOTE]
    if source_fps is None:
        return list(rows), [_format_assumed_rate(len(lacking))]
    filled = set(lacking)
    return [replace(row, source_fps=source_fps) if index in filled else row for index, row in enumerate(rows)], []


def describe_rates(paths_without_rate: Sequence[str], source_fps: float | None) -> list[str]:
    """A note where the rate of some files and folders of frames is assumed, or where `source_fps` is that of none."""
    num_lacking = sum(
        path_exists(Path(path)) and (_has_stored_frames_extension(path) or Path(path).is_dir())
        for path in paths_without_rate
    )
    if source_fps is None:
        return [_format_assumed_rate(num_lacking)] if num_lacking else []
    return [] if num_lacking else [UNUSED_RATE_NOTE]


def may_lack_rate(path: str) -> bool:
    """Whether a path is called like a folder or a file of frames, and not like a video; nothing is opened."""
    return not has_video_extension(path) or _has_stored_frames_extension(path)


def _has_stored_frames_extension(path: str) -> bool:
    return PurePosixPath(path).suffix[1:].lower() in STORED_FRAMES_EXTENSIONS


def _format_assumed_rate(num_videos: int) -> str:
    """What a user should know about videos whose rate is assumed."""
    return (
        f"{format_count(num_videos, 'video', 'is')} stored as frames without a rate and read at "
        f"{ASSUMED_RATE:g} frames a second where the file gives none; "
        "if that is wrong, add --source-fps RATE or a column source_fps."
    )
