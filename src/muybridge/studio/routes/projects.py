"""Routes: projects, and the folders to choose from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from muybridge.datasets.video_files import is_visible
from muybridge.studio.annotation_records import StudioRecord
from muybridge.studio.errors import StudioError
from muybridge.studio.folders import MAX_PATH_CHARACTERS, compute_project_id
from muybridge.studio.projects import ProjectInfo, count_videos
from muybridge.studio.routes.dependencies import ERRORS, OpenProject, StudioServices
from muybridge.text import sanitize_text

router = APIRouter(tags=["projects"], responses=ERRORS)
_MAX_SUBFOLDERS = 1000


class _ProjectList(StudioRecord):
    projects: tuple[ProjectInfo, ...]
    roots: tuple[str, ...] = Field(description="The folders that projects may lie in")
    default: str | None = Field(description="The project of the folder that the server was started with")


class _FolderAddress(StudioRecord):
    folder: str = Field(min_length=1, max_length=MAX_PATH_CHARACTERS)


class _FolderEntry(StudioRecord):
    name: str
    path: str
    num_videos: int


class _FolderListing(StudioRecord):
    path: str
    parent: str | None
    folders: tuple[_FolderEntry, ...]


@router.get("/projects")
def _list_projects(studio: StudioServices) -> _ProjectList:
    """The projects that were opened before, newest first."""
    projects = studio.projects.list_projects()
    default = compute_project_id(studio.folders.roots[0])
    return _ProjectList(
        projects=tuple(project.describe() for project in projects),
        roots=tuple(map(str, studio.folders.roots)),
        default=default if any(project.id == default for project in projects) else None,
    )


@router.post("/projects")
def _open_project(studio: StudioServices, address: _FolderAddress) -> ProjectInfo:
    """Open a folder of videos as a project."""
    project = studio.projects.open(address.folder)
    project.videos.examine_in_background()
    return project.describe()


@router.get("/projects/{project}")
def _get_project(project: OpenProject) -> ProjectInfo:
    """A project."""
    return project.describe()


@router.get("/folders")
def _list_folders(
    studio: StudioServices, path: Annotated[str | None, Query(min_length=1, max_length=MAX_PATH_CHARACTERS)] = None
) -> _FolderListing:
    """The folders in a folder; without `path` the allowed folders."""
    if path is None:
        entries = [(str(root), root) for root in studio.folders.roots]
        return _FolderListing(path="", parent=None, folders=tuple(_make_entry(*entry) for entry in entries))
    folder = studio.folders.resolve(path)
    if not folder.is_dir():
        raise StudioError(404, f"there is no folder {path!r}")
    children = sorted(child for child in folder.iterdir() if is_visible(child.name) and child.is_dir())
    allowed = [child for child in children[:_MAX_SUBFOLDERS] if studio.folders.contains(child)]
    parent = str(folder.parent) if studio.folders.contains(folder.parent) else ""
    return _FolderListing(
        path=str(folder), parent=parent, folders=tuple(_make_entry(child.name, child) for child in allowed)
    )


def _make_entry(name: str, folder: Path) -> _FolderEntry:
    shown_path = str(folder).encode("utf-8", "replace").decode()
    return _FolderEntry(name=sanitize_text(name), path=shown_path, num_videos=count_videos(folder))
