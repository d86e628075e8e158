"""Windows like a given one, from a project's index. Runs in a child of the server, which keeps the index that it used last."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from muybridge.prediction.feature_index import FeatureIndex, SimilarWindow
from muybridge.studio.errors import StudioError
from muybridge.studio.feature_store import FeatureStore


def find_similar(
    project_folder: str, path: str, start_seconds: float, end_seconds: float, top: int
) -> list[SimilarWindow]:
    """The `top` windows most like the part of a video. Raises StudioError(409) where the video is not in the index."""
    store = FeatureStore(Path(project_folder))
    index = _read_index(project_folder, store.get_change_time())
    if path not in index.videos:
        raise StudioError(409, f"{path} is not in the index; make it again, which adds what is new")
    rows = index.find_rows_between(path, start_seconds, end_seconds)
    if len(rows) == 0:
        raise StudioError(409, f"{path} has no window in the index at {start_seconds:g} s or later")
    return index.find_similar(rows, top=top)


@lru_cache(maxsize=1)
def _read_index(project_folder: str, change_time: int) -> FeatureIndex:
    return FeatureStore(Path(project_folder)).read_index()
