"""`Studio`: everything that the routes of one server process share."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from muybridge.prediction.feature_index import SimilarWindow
from muybridge.studio.child_pool import ChildPool
from muybridge.studio.config import StudioConfig
from muybridge.studio.errors import StudioError
from muybridge.studio.folders import AllowedFolders
from muybridge.studio.jobs import JobStore
from muybridge.studio.media import MediaCache
from muybridge.studio.projects import ProjectRegistry
from muybridge.studio.videos import VideoCatalogue

_MAX_DECODERS = 4
_MAX_WAITING = 8  # requests for predictions, so that they do not take all threads of the server
_LOAD_SECONDS = 120.0  # torch is imported first


class Studio:
    """The services of a server process. `close` ends the processes that it started; jobs go on."""

    def __init__(self, config: StudioConfig) -> None:
        self.config = config
        self.folders = AllowedFolders(config.folders)
        num_decoders = max(2, min(_MAX_DECODERS, os.cpu_count() or 1))
        self.decoders = ChildPool(
            "muybridge.studio.examine", num_children=num_decoders, memory_bytes=config.child_bytes
        )
        self.predictors = ChildPool("muybridge.studio.recognition", num_children=1, memory_bytes=config.child_bytes)
        self.searchers = ChildPool("muybridge.studio.similarity", num_children=1, memory_bytes=config.child_bytes)
        self.batches = JobStore(config.state_path / "batches", config.state_path / "queues", self.folders)
        self._predict_slots = threading.BoundedSemaphore(_MAX_WAITING)
        self._catalogue: list[dict[str, Any]] | None = None
        self.media = MediaCache(config.state_path)
        self.projects = ProjectRegistry(self.folders, config.state_path, self._create_videos)
        self.projects.open(str(self.folders.roots[0]))

    def list_catalogue(self) -> list[dict[str, Any]]:
        """The public weights, as `recognition.list_catalogue`; read once."""
        if self._catalogue is None:
            self._catalogue = self.predictors.call_by_name(_LOAD_SECONDS, "", "list_catalogue")
        return self._catalogue

    def predict_file(self, *args: Any) -> dict[str, Any]:
        """`recognition.predict_file` in a child process. Raises StudioError(429) where too many requests wait for one."""
        if not self._predict_slots.acquire(blocking=False):
            raise StudioError(429, f"{_MAX_WAITING} predictions are under way already; try again, or send a batch")
        try:
            timeout = self.config.predict_seconds
            values: dict[str, Any] = self.predictors.call_by_name(timeout, "", "predict_file", *args)
            return values
        finally:
            self._predict_slots.release()

    def find_similar(self, *args: Any) -> list[SimilarWindow]:
        """`similarity.find_similar` in a child process."""
        matches: list[SimilarWindow] = self.searchers.call_by_name(_LOAD_SECONDS, "", "find_similar", *args)
        return matches

    def read_run_classes(self, folder: Path) -> tuple[str, ...]:
        """The classes of a run folder's weights."""
        return tuple(self.predictors.call_by_name(_LOAD_SECONDS, "", "read_run_classes", str(folder)))

    def close(self) -> None:
        """End the child processes."""
        self.decoders.close()
        self.predictors.close()
        self.searchers.close()
        self.media.close()

    def _create_videos(self, folder: Path) -> VideoCatalogue:
        return VideoCatalogue(folder, self.folders, self.decoders, self.config.decode_seconds)
