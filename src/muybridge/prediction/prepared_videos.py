"""Videos of prepared data by name: DATA/NAME, as if the prepared folder DATA were a folder of video files.

Enters: a name from a command line. Leaves: where its frames come from and what they are asked for by, or None for what lies
in no prepared folder. Prediction then reads them as training and evaluation do.
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
    index_by_name: dict[str, int]  # by the manifest's name


def list_prepared_videos(folder: Path) -> list[str] | None:
    """The names of all videos of a prepared folder, failed ones too, in the manifest's order; None: it is not prepared."""
    if not is_prepared(str(folder)):
        return None
    return [str(folder / name) for name in open_prepared(str(folder)).table["video"].to_pylist()]


def find_prepared_video(video: str, preprocessing: Preprocessing) -> tuple[FrameSource, str] | None:
    """The source of a stored video and its name there; None where `video` is a file, or in no prepared folder.

    Raises VideoError where preparing it failed, or there is none of that name; ValueError where the folder holds frames of
    another size.
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
