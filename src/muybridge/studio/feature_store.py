"""`FeatureStore`: the features of all windows of a project's videos by one network, a file a video in `.muybridge/features`.

Input: what `index_job` extracts. Output: a `FeatureIndex` of the videos that did not change since. A video that is added or
changed is extracted again by itself. Nothing here needs a network or torch.
"""

from __future__ import annotations

import hashlib
import shutil
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from muybridge.files.atomic import atomic_write, write_json
from muybridge.parsing import parse_record, read_json_object
from muybridge.prediction.feature_index import FeatureIndex, normalize_features
from muybridge.studio.annotation_store import STUDIO_FOLDER
from muybridge.studio.errors import StudioError
from muybridge.studio.timelines import read_file_key
from muybridge.text import join_names

_FORMAT = 1
_NUM_DIGITS = 24


@dataclass(frozen=True)
class IndexSettings:
    """What made an index. `weights` is the file of the network, with its time of change and size in `weights_key`."""

    model: str
    weights: str
    weights_key: tuple[int, int] | None
    step_frames: int
    created: str
    format: int = _FORMAT


@dataclass(frozen=True, eq=False)
class VideoFeatures:
    """The windows of a video: starts and ends float64 (W,) in seconds, features float32 (W, D)."""

    path: str
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    features: NDArray[np.float32]

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", str(self.path))  # as stored, an array of one text
        shapes = [np.shape(array) for array in (self.starts, self.ends, self.features)]
        if shapes[0] != shapes[1] or len(shapes[0]) != 1 or len(shapes[2]) != 2 or shapes[2][0] != shapes[0][0]:
            raise ValueError(
                f"starts, ends and features have the shapes {join_names(shapes)}, expected (W,), (W,) and (W, D)"
            )
        if not (np.isfinite(self.starts).all() and np.isfinite(self.ends).all()):
            raise ValueError("starts and ends hold numbers that are not finite")


class FeatureStore:
    """The index of a project."""

    def __init__(self, project_folder: Path) -> None:
        self.project_folder = project_folder
        self.folder = project_folder / STUDIO_FOLDER / "features"
        self.settings_path = self.folder / "index.json"

    def read_settings(self) -> IndexSettings:
        """What made the index. Raises StudioError(409) where there is none."""
        if not _is_own_file(self.settings_path):
            raise StudioError(409, "the windows of this project have no index yet; make one first")
        values = read_json_object(self.settings_path)
        if values.get("format") != _FORMAT:
            raise StudioError(
                409, f"the index has the format {values.get('format')!r}, expected {_FORMAT}; make it anew"
            )
        return parse_record(IndexSettings, values, str(self.settings_path))

    def prepare(self, settings: IndexSettings) -> None:
        """Keep what the same network extracted with the same step, remove what others did."""
        try:
            present = self.read_settings()
        except StudioError:
            present = None
        if present is None or replace(present, created=settings.created) != settings:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.settings_path, asdict(settings))

    def has(self, path: str) -> bool:
        """Whether a video is in the index, and did not change since."""
        file = self._find_file(path)
        return file is not None and _is_own_file(file)

    def write(self, video: VideoFeatures) -> None:
        """Store the windows of a video in place of older ones."""
        target = self._find_file(video.path)
        if target is None:
            return  # it was deleted meanwhile
        if target.is_symlink():
            target.unlink()
        with atomic_write(target) as temporary, temporary.open("wb") as file:
            path = np.array(video.path)
            np.savez(file, path=path, starts=video.starts, ends=video.ends, features=video.features)
        for older in self.folder.glob(f"{_digest(video.path)}-*.npz"):
            if older != target:
                older.unlink(missing_ok=True)

    def count(self, paths: Iterable[str]) -> int:
        """How many of these videos are in the index."""
        return sum(map(self.has, paths))

    def get_change_time(self) -> int:
        """What differs whenever the index changed."""
        return self.folder.stat().st_mtime_ns if self.folder.is_dir() else 0

    def read_index(self) -> FeatureIndex:
        """The windows of all videos that are still as they were. Raises StudioError(409) where there are none."""
        self.read_settings()
        videos = sorted(self._read_videos(), key=lambda video: video.path)
        if not videos:
            raise StudioError(409, "no video of this project is in the index; make it again")
        features_nd = normalize_features(np.concatenate([video.features for video in videos]))
        return FeatureIndex(
            tuple(video.path for video in videos),
            np.repeat(np.arange(len(videos), dtype=np.int32), [len(video.starts) for video in videos]),
            np.concatenate([video.starts for video in videos]),
            np.concatenate([video.ends for video in videos]),
            features_nd,
        )

    def _read_videos(self) -> Iterator[VideoFeatures]:
        for file in filter(_is_own_file, self.folder.glob("*.npz")):
            try:
                with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
                    video = VideoFeatures(*(arrays[name] for name in ("path", "starts", "ends", "features")))
            except (BadZipFile, zlib.error, KeyError, TypeError, ValueError, EOFError) as error:
                raise StudioError(409, f"{file} is damaged ({error}); make the index again") from error
            if self._find_file(video.path) == file and len(video.starts):
                yield video

    def _find_file(self, path: str) -> Path | None:
        """Where the windows of a video as it is now are stored; None where the video is gone."""
        key = read_file_key(self.project_folder / path)
        return None if key is None else self.folder / f"{_digest(path)}-{key[0]}-{key[1]}.npz"


def _is_own_file(path: Path) -> bool:
    """Whether a path is a file, and no link to one elsewhere."""
    return path.is_file() and not path.is_symlink()


def _digest(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:_NUM_DIGITS]
