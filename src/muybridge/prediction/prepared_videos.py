"""Videos of prepared data, addressed as DATA/NAME as if the prepared folder DATA were a folder of video files.

Input: the name of a video. Output: its frame source and its name in that source, or None for a video outside prepared
folders. Prediction reads prepared videos in the same way as training and evaluation do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from muybridge.datasets.manifest import Manifest
from muybridge.loading.clip_reader import open_clip_reader
from muybridge.prepared.dataset import is_prepared, open_prepared
from muybridge.records import FrameSource, Preprocessing, VideoError


@dataclass(frozen=True)
class _PreparedFolder:
    source: FrameSource
    manifest: Manifest
    index_by_name: dict[str, int]  # name in the manifest -> row


def list_prepared_videos(folder: Path) -> list[str] | None:
    """All videos of a prepared folder, including failed ones, in manifest order; None if the folder is not prepared."""
    if not is_prepared(str(folder)):
        return None
    return [str(folder / name) for name in open_prepared(str(folder)).table["video"].to_pylist()]


def find_prepared_video(video: str, preprocessing: Preprocessing) -> tuple[FrameSource, str] | None:
    """Find the frame source of a prepared video and its name there; None if `video` is a file or not in a prepared folder.

    Raises VideoError if its preparation failed or the folder has no such video, ValueError if the frame size differs.
    """
    path = Path(video)
    if path.exists():
        return None
    root = find_prepared_folder(path)
    if root is None:
        return None
    folder = _open_folder(str(root), preprocessing)
    video_index = folder.index_by_name.get(path.relative_to(root).as_posix())
    if video_index is None:
        raise VideoError("missing", f"the prepared data {root} has no video of this name")
    folder.manifest.check_status(video_index)
    return folder.source, folder.manifest.get_path(video_index)


def find_prepared_folder(video: Path) -> Path | None:
    """The prepared folder in which a video without a file of its own lies; None if there is none."""
    return next((folder for folder in video.parents if is_prepared(str(folder))), None)


@lru_cache(maxsize=4)
def _open_folder(root: str, preprocessing: Preprocessing) -> _PreparedFolder:
    reader = open_clip_reader(root, preprocessing)
    manifest = reader.select_videos(open_prepared(root))
    names = manifest.table["video"].to_pylist()
    return _PreparedFolder(reader.source, manifest, {name: index for index, name in enumerate(names)})
