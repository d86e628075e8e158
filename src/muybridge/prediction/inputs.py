"""Listing the videos of files, folders, CSV files and prepared folders.

Input: paths. Output: names of videos in a fixed order. A missing file stays in the list, so that it fails under its own name
and the other videos are still processed.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from muybridge.datasets.folders import iterate_videos
from muybridge.prediction.prepared_videos import list_prepared_videos
from muybridge.video.pictures import is_frame_folder


def list_video_files(paths: Sequence[str | Path]) -> list[str]:
    """List videos without duplicates, in the order given.

    A folder gives the videos below it in order of name, without hidden ones; a folder of frames is a video. A prepared folder
    gives its videos, and a CSV file the files in its column `path`, relative to itself. Raises ValueError where there is no
    path, or a folder or CSV file has no video.
    """
    videos: list[str] = []
    for path in map(Path, paths):
        if path.is_dir():
            videos += _list_videos_in_folder(path)
        elif path.suffix.lower() == ".csv":
            videos += _read_video_list(path)
        else:
            videos.append(str(path))
    if not videos:
        raise ValueError("no video was given; name files or folders")
    return list(dict.fromkeys(videos))


def _list_videos_in_folder(folder: Path) -> list[str]:
    if (prepared_videos := list_prepared_videos(folder)) is not None:
        return prepared_videos
    if is_frame_folder(folder):
        return [str(folder)]
    videos = [str(folder / path) for path in iterate_videos(folder)]
    if not videos:
        raise ValueError(
            f"there is no video in the folder {folder}; expected files such as .mp4 or .avi, or folders of frames"
        )
    return videos


def _read_video_list(csv_file: Path) -> list[str]:
    if not csv_file.is_file():
        raise ValueError(f"there is no file {csv_file}")
    with csv_file.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if "path" not in (rows.fieldnames or ()):
            raise ValueError(f"{csv_file} has no column path; its first line must name the columns")
        videos = [str(csv_file.parent / row["path"]) for row in rows if row["path"]]
    if not videos:
        raise ValueError(f"{csv_file} lists no video")
    return videos
