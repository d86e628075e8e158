"""Projects: folders of videos that were opened, each with an id that is part of addresses.

The list of projects is a file in the studio's state folder, so that an address means the same in every worker process and after
a restart. A project is served only while its folder is in an allowed folder.
"""

from __future__ import annotations

import getpass
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from muybridge.datasets.video_files import has_video_extension, is_visible
from muybridge.files.atomic import write_json
from muybridge.parsing import read_json_object
from muybridge.studio.annotation_files import COLUMNS
from muybridge.studio.annotation_records import StudioRecord, check_name
from muybridge.studio.annotation_store import STUDIO_FOLDER, AnnotationStore, wait_for_lock
from muybridge.studio.classes import ClassStore
from muybridge.studio.errors import StudioError
from muybridge.studio.folders import AllowedFolders, compute_project_id
from muybridge.studio.jobs import JobStore
from muybridge.studio.model_address import RUNS_FOLDER
from muybridge.studio.timelines import TimelineStore
from muybridge.studio.videos import VideoCatalogue

_MAX_PROJECTS = 100
_MAX_COUNTED = 1000  # files of a folder that is offered


class ProjectInfo(StudioRecord):
    """A project as the page shows it."""

    id: str
    name: str
    folder: str
    num_videos: int
    annotator: str = Field(description="The name of the account, a default for who annotates")


@dataclass(frozen=True)
class Project:
    """A folder of videos with what is stored about them."""

    id: str
    folder: Path
    annotations: AnnotationStore
    classes: ClassStore
    videos: VideoCatalogue
    timelines: TimelineStore
    jobs: JobStore

    def check_links(self) -> None:
        """Raise StudioError(403) where a file or folder that the studio writes is a link out of the allowed folders.

        Somebody else may have made the project: writing through such a link would replace a file of the person's own.
        """
        for path in _list_own_paths(self.folder):
            if path.is_symlink() and not self.videos.folders.contains(path):
                raise StudioError(
                    403,
                    f"{path.relative_to(self.folder)} in this project is a link out of the folders of this studio; "
                    "remove the link, or start with --allow FOLDER",
                )

    def describe(self) -> ProjectInfo:
        """The project for the page."""
        return ProjectInfo(
            id=self.id,
            name=self.folder.name or str(self.folder),
            folder=str(self.folder),
            num_videos=len(self.videos.list_paths()),
            annotator=_find_account_name(),
        )


class ProjectRegistry:
    """The projects of a server."""

    def __init__(
        self, folders: AllowedFolders, state_folder: Path, create_videos: Callable[[Path], VideoCatalogue]
    ) -> None:
        self.folders = folders
        self.state_folder = state_folder
        self._create_videos = create_videos
        self._projects: dict[str, Project] = {}
        self._mutex = threading.Lock()

    def open(self, text: str) -> Project:
        """Open a folder as a project, and remember it. Raises StudioError for a folder that is not allowed or absent."""
        folder = self.folders.resolve(text)
        if not folder.is_dir():
            raise StudioError(404, f"there is no folder {text!r}; name an existing one")
        project = self._create(folder)
        with wait_for_lock(self.state_folder, "projects.lock"):
            folders = [str(folder), *(other for other in self._read_folders() if other != str(folder))]
            write_json(self.state_folder / "projects.json", {"folders": folders[:_MAX_PROJECTS]})
        return project

    def get(self, project_id: str) -> Project:
        """An opened project. Raises StudioError(404) where there is none of this id, (403) as `Project.check_links`."""
        project = self._find(project_id)
        project.check_links()
        return project

    def list_projects(self) -> list[Project]:
        """The projects that were opened and are still there and allowed, newest first."""
        return [self._create(folder) for folder in self._iterate_folders()]

    def _find(self, project_id: str) -> Project:
        with self._mutex:
            project = self._projects.get(project_id)
        if project is not None:
            return project
        for folder in self._iterate_folders():
            if compute_project_id(folder) == project_id:
                return self._create(folder)
        raise StudioError(404, f"there is no project {project_id!r}; open its folder first")

    def _iterate_folders(self) -> Iterator[Path]:
        for text in self._read_folders():
            folder = Path(text)
            if self.folders.contains(folder) and folder.is_dir():
                yield folder.resolve()

    def _read_folders(self) -> list[str]:
        path = self.state_folder / "projects.json"
        if not path.exists():
            return []
        folders = read_json_object(path).get("folders")
        return [text for text in folders if isinstance(text, str)] if isinstance(folders, list) else []

    def _create(self, folder: Path) -> Project:
        project_id = compute_project_id(folder)
        with self._mutex:
            if project_id not in self._projects:
                annotations = AnnotationStore(folder)
                self._projects[project_id] = Project(
                    project_id,
                    folder,
                    annotations,
                    ClassStore(annotations),
                    self._create_videos(folder),
                    TimelineStore(project_id, folder),
                    JobStore(folder, self.state_folder / "queues", self.folders),
                )
            return self._projects[project_id]


def _list_own_paths(folder: Path) -> Iterator[Path]:
    """What the studio keeps in a project; single jobs, predictions and runs are checked where they are used."""
    yield from (folder / name for name in (*COLUMNS, RUNS_FOLDER, STUDIO_FOLDER))
    if (folder / STUDIO_FOLDER).is_dir():
        yield from (folder / STUDIO_FOLDER).iterdir()


def count_videos(folder: Path) -> int:
    """Files directly in a folder that are called like videos; of a large folder, among its first files."""
    try:
        names = [path.name for path, _ in zip(folder.iterdir(), range(_MAX_COUNTED), strict=False)]
    except OSError:
        return 0
    return sum(is_visible(name) and has_video_extension(name) for name in names)


def _find_account_name() -> str:
    try:
        return check_name(getpass.getuser())
    except (OSError, KeyError, ValueError):  # no account, or a name that is not fit
        return "annotator"
