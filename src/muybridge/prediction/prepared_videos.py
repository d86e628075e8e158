"""Videos of prepared data, addressed as DATA/NAME as if the prepared folder DATA were a folder of video files.

Input: the name of a video. Output: its frame source and its name in that source, or None for a video outside prepared
folders. Prediction reads prepared videos in the same way as training and evaluation do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from muybridge.datasets.manifest import Manifest
from muybridge.prepared.dataset import check_frame_size, is_prepared, open_prepared, read_description
from muybridge.prepared.shards import ShardFrameSource
from muybridge.records import FrameSource, Preprocessing, VideoError


@dataclass(frozen=True)
class _PreparedFolder:
    source: ShardFrameSource
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
    root = next((folder for folder in path.parents if is_prepared(str(folder))), None)
    if root is None:
        return None
    folder = _open_folder(str(root))
    check_frame_size(str(root), (folder.source.scale_height, folder.source.scale_width), preprocessing)
    video_index = folder.index_by_name.get(path.relative_to(root).as_posix())
    if video_index is None:
        raise VideoError("missing", f"the prepared data {root} has no video of this name")
    folder.manifest.check_status(video_index)
    return folder.source, folder.manifest.get_path(video_index)


@lru_cache(maxsize=4)
def _open_folder(root: str) -> _PreparedFolder:
    description, manifest = read_description(root), open_prepared(root)
    source = ShardFrameSource(root, scale_height=description.scale_height, scale_width=description.scale_width)
    names = manifest.table["video"].to_pylist()
    return _PreparedFolder(source, manifest, {name: index for index, name in enumerate(names)})
