"""Class folders, optionally below split folders, as rows; and the choice between a folder and a CSV file (docs/data.md).

    DATA/handshake/a.mp4          DATA/train/handshake/a.mp4
    DATA/hug/b.avi                DATA/test/hug/b.avi

Files are listed but not opened; a file that cannot be read is recorded as such when it is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from muybridge.datasets.csv_file import read_csv
from muybridge.datasets.rows import SPLIT_ALIASES, VideoRow
from muybridge.records import Split
from muybridge.text import join_names
from muybridge.video.pictures import STORED_FRAMES_EXTENSIONS, is_animated_webp, is_frame_folder, is_picture_name

# fmt: off
VIDEO_EXTENSIONS = frozenset((
    "3g2", "3gp", "amv", "asf", "avi", "divx", "dv", "f4v", "flv", "gif", "h264", "h265", "hevc", "ivf", "m1v", "m2t",
    "m2ts", "m2v", "m4v", "mj2", "mjpeg", "mjpg", "mkv", "mov", "mp4", "mpe", "mpeg", "mpg", "mpv", "mts", "mxf", "nut",
    "ogm", "ogv", "qt", "rm", "rmvb", "ts", "vob", "webm", "wmv", "xvid", "y4m",
))
# fmt: on


def read_video_rows(address: str) -> tuple[str, list[VideoRow], list[str]]:
    """The root, the rows and the notes of a folder or a CSV file, with the splits that it gives.

    Raises ValueError for an address that is neither, and for a layout or a file with problems.
    """
    path = Path(address)
    if path.is_dir():
        return str(path), *_read_folder(path)
    if not path.exists():
        raise ValueError(f"there is no folder or CSV file {address!r}")
    if path.suffix.lower() != ".csv":
        raise ValueError(f"{address} is neither a folder of class folders nor a .csv file")
    return str(path.parent), read_csv(path), []


def _read_folder(root: Path) -> tuple[list[VideoRow], list[str]]:
    """Rows and notes of a folder of class folders, or of split folders that contain class folders."""
    folders = _list_subfolders(root)
    if not folders:
        raise ValueError(f"{root} has no class folders; put the videos of each class into a folder named after it")
    splits = {name: SPLIT_ALIASES.get(name.lower()) for name in folders}
    notes = _describe_loose_videos(root)
    class_folders: list[tuple[str, str, Split | None]] = [(name, name, None) for name in folders]  # path, label, split
    if "train" in splits.values() and None not in splits.values():
        class_folders = [
            (f"{name}/{label}", label, split)
            for name, split in splits.items()
            for label in _list_subfolders(root / name)
        ]
        notes += [note for name in splits for note in _describe_loose_videos(root / name)]
    rows: list[VideoRow] = []
    empty_folders = []
    for folder, label, split in class_folders:
        class_rows = [VideoRow(path, (label,), split) for path in iterate_videos(root, folder)]
        rows += class_rows
        if not class_rows:
            empty_folders.append(folder)
    if empty_folders:
        with_pictures = [folder for folder in empty_folders if _has_pictures(root / folder)]
        if with_pictures:
            raise ValueError(
                f"{root} has class folders that hold pictures and no videos: {join_names(with_pictures)}; put the frames of "
                "each video into a folder of their own below its class"
            )
        raise ValueError(f"{root} has class folders without videos: {join_names(empty_folders)}; fill or remove them")
    if not rows:
        raise ValueError(f"{root} has split folders without class folders; expected {root}/train/CLASS/video.mp4")
    return rows, notes


def _list_subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and is_visible(entry.name))


def _has_pictures(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(is_visible(entry.name) and is_picture_name(entry.name) for entry in entries)


def iterate_videos(root: Path, folder: str = "") -> Iterator[str]:
    """Paths of the videos below root/folder, relative to root, in sorted order; a folder of frames is a video."""
    with os.scandir(root / folder) as entries:
        visible = [entry for entry in entries if is_visible(entry.name)]
        sorted_entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in visible)
    for name, is_folder in sorted_entries:
        path = f"{folder}/{name}" if folder else name
        if is_folder and is_frame_folder(root / path):
            yield path
        elif is_folder:
            yield from iterate_videos(root, path)
        elif has_video_extension(name) or is_animated_webp(root / path):
            yield path


def _describe_loose_videos(folder: Path) -> list[str]:
    """A note on the videos directly in `folder`, outside any class folder, if there are any."""
    with os.scandir(folder) as entries:
        num_loose = sum(
            is_visible(entry.name) and has_video_extension(entry.name) and entry.is_file() for entry in entries
        )
    return [f"{num_loose} videos directly in {folder} have no class folder and are left out."] if num_loose else []


def is_visible(name: str) -> bool:
    """Whether a file or folder is neither hidden nor an archive's metadata folder."""
    return not name.startswith(".") and name != "__MACOSX"


def has_video_extension(name: str) -> bool:
    """Whether a file name has the extension of a video, or of stored frames (`video.pictures`), in any case."""
    _, dot, suffix = name.rpartition(".")
    return bool(dot) and suffix.lower() in VIDEO_EXTENSIONS | STORED_FRAMES_EXTENSIONS
