"""Videos of prepared data by name: DATA/NAME, as if the prepared folder DATA were a folder of video files.

Enters: a name from a command line. Leaves: where its frames come from and what they are asked for by, or None for what lies
in no prepared folder. Prediction then reads them as training and evaluation do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from muybridge.datasets.manifest import Manifest
from muybridge.prepared.dataset import is_prepared, open_prepared, read_description
from muybridge.prepared.shards import ShardFrames
from muybridge.records import FrameSource, Preprocessing, VideoError


@dataclass(frozen=True)
class _Folder:
    source: ShardFrames
    manifest: Manifest
    places: dict[str, int]  # by the manifest's name


def stored_videos(folder: Path) -> list[str] | None:
    """The names of all videos of a prepared folder, failed ones too, in the manifest's order; None: it is not prepared."""
    if not is_prepared(str(folder)):
        return None
    return [str(folder / name) for name in open_prepared(str(folder)).table["video"].to_pylist()]


def stored_video(video: str, preprocessing: Preprocessing) -> tuple[FrameSource, str] | None:
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
    folder = _opened(str(root))
    _check_size(str(root), folder.source, preprocessing)
    place = folder.places.get(path.relative_to(root).as_posix())
    if place is None:
        raise VideoError("missing", f"the prepared data {root} has no video of this name")
    folder.manifest.require_ok(place)
    return folder.source, folder.manifest.path(place)


@lru_cache(maxsize=4)
def _opened(root: str) -> _Folder:
    described, manifest = read_description(root), open_prepared(root)
    source = ShardFrames(root, scale_height=described.scale_height, scale_width=described.scale_width)
    names = manifest.table["video"].to_pylist()
    return _Folder(source, manifest, {name: place for place, name in enumerate(names)})


def _check_size(root: str, source: ShardFrames, preprocessing: Preprocessing) -> None:
    stored = (source.scale_height, source.scale_width)
    wanted = (preprocessing.scale_height, preprocessing.scale_width)
    if stored != wanted:
        raise ValueError(
            f"{root} holds frames of {stored[0]}x{stored[1]}, but the network wants {wanted[0]}x{wanted[1]}; "
            f"prepare it with --scale {wanted[0]} {wanted[1]}, or predict from the video files"
        )
