"""`Studio`: everything that the routes of one server process share."""

from __future__ import annotations

import os
from pathlib import Path

from muybridge.studio.child_pool import ChildPool
from muybridge.studio.config import StudioConfig
from muybridge.studio.folders import AllowedFolders
from muybridge.studio.media import MediaCache
from muybridge.studio.projects import Project, ProjectRegistry
from muybridge.studio.videos import VideoCatalogue

_MAX_DECODERS = 4


class Studio:
    """The services of a server process. `close` ends the processes that it started; jobs go on."""

    def __init__(self, config: StudioConfig) -> None:
        self.config = config
        self.folders = AllowedFolders(config.folders)
        num_decoders = max(2, min(_MAX_DECODERS, os.cpu_count() or 1))
        self.decoders = ChildPool(
            "muybridge.studio.examine", num_children=num_decoders, memory_bytes=config.child_bytes
        )
        self.media = MediaCache(config.state_path)
        self.projects = ProjectRegistry(self.folders, config.state_path, self._create_videos)
        self.projects.open(str(self.folders.roots[0]))

    def count_predictions(self, project: Project) -> dict[str, int]:
        """The number of predictions of each video that has any."""
        return {}

    def close(self) -> None:
        """End the child processes."""
        self.decoders.close()
        self.media.close()

    def _create_videos(self, folder: Path) -> VideoCatalogue:
        return VideoCatalogue(folder, self.folders, self.decoders, self.config.decode_seconds)
