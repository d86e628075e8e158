"""Routes: an index of a project's windows, windows like a given one, and labels by nearest neighbours before any training."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from muybridge.prediction.feature_index import SimilarWindow
from muybridge.studio.annotation_records import StudioRecord, VideoMarks
from muybridge.studio.errors import StudioError
from muybridge.studio.feature_store import FeatureStore
from muybridge.studio.folders import MAX_PATH_CHARACTERS
from muybridge.studio.jobs import Job
from muybridge.studio.model_address import resolve_model
from muybridge.studio.routes.dependencies import ERRORS, AnySeconds, OpenProject, StudioServices, VideoPath

router = APIRouter(tags=["similar windows"], responses=ERRORS, prefix="/projects/{project}")


class _IndexRequest(StudioRecord):
    model: str = Field(min_length=1, max_length=MAX_PATH_CHARACTERS)
    step_frames: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Frames between two windows; by default half a clip"
    )


class _IndexInfo(StudioRecord):
    """The index of a project. `num_missing` videos are new, or changed since it was made."""

    model: str
    step_frames: int
    created: datetime
    num_videos: int
    num_missing: int


class _IndexState(StudioRecord):
    index: _IndexInfo | None


class _NeighborRequest(StudioRecord):
    neighbors: int | None = Field(default=None, ge=1, le=1000, description="Marked windows that vote; by default 5")


class _SimilarWindowInfo(StudioRecord):
    """A window, its cosine with what was looked for, and the classes that are marked at its centre."""

    path: str
    start_seconds: float
    end_seconds: float
    similarity: float
    labels: tuple[str, ...]


class _SimilarWindowList(StudioRecord):
    windows: tuple[_SimilarWindowInfo, ...]


@router.get("/index")
def _get_index(project: OpenProject) -> _IndexState:
    """The index of the project's windows, null if there is none."""
    store = FeatureStore(project.folder)
    if not store.settings_path.is_file():
        return _IndexState(index=None)
    settings = store.read_settings()
    paths = project.videos.list_paths()
    num_videos = store.count(paths)
    return _IndexState(
        index=_IndexInfo(
            model=settings.model,
            step_frames=settings.step_frames,
            created=datetime.fromisoformat(settings.created),
            num_videos=num_videos,
            num_missing=len(paths) - num_videos,
        )
    )


@router.post("/index", status_code=202)
def _start_index(studio: StudioServices, project: OpenProject, request: _IndexRequest) -> Job:
    """Extract the features of all windows of all videos, in a process of its own. What is in the index already is kept."""
    model = resolve_model(request.model, studio.folders, project.folder)
    paths = project.videos.list_paths()
    if not paths:
        raise StudioError(400, "the project has no videos; add some first")
    values = {
        "model": model.address,
        "model_name": model.name,
        "step_frames": request.step_frames,
        "memory_bytes": studio.config.child_bytes,
    }
    command = ["muybridge.studio.index_job", "{job}"]
    return project.jobs.start("index", f"index by {model.name}", command, paths=paths, values=values)


@router.get("/similar")
def _find_similar(
    studio: StudioServices,
    project: OpenProject,
    path: VideoPath,
    start_seconds: AnySeconds,
    end_seconds: AnySeconds,
    top: Annotated[int, Query(ge=1, le=1000)] = 20,
) -> _SimilarWindowList:
    """The windows most like the mean of those centred in a part of a video, or the one nearest to it; most similar first."""
    if end_seconds < start_seconds:
        raise StudioError(400, f"the part ends at {end_seconds:g} s, before its start at {start_seconds:g} s")
    project.videos.resolve(path)
    matches = studio.find_similar(str(project.folder), path, start_seconds, end_seconds, top)
    marks_by_path = project.annotations.read_all()
    return _SimilarWindowList(windows=tuple(_describe(match, marks_by_path) for match in matches))


@router.post("/neighbor-labels", status_code=202)
def _start_neighbor_labels(studio: StudioServices, project: OpenProject, request: _NeighborRequest) -> Job:
    """Give every window the class of the nearest marked windows: a prediction of each video, without any training."""
    settings = FeatureStore(project.folder).read_settings()
    values = {
        "model_name": f"nearest neighbours by {settings.model}",
        "neighbors": request.neighbors,
        "memory_bytes": studio.config.child_bytes,
    }
    paths = [path for path in project.videos.list_paths() if FeatureStore(project.folder).has(path)]
    command = ["muybridge.studio.neighbor_job", "{job}"]
    return project.jobs.start("neighbors", "labels by nearest neighbours", command, paths=paths, values=values)


def _describe(match: SimilarWindow, marks_by_path: Mapping[str, VideoMarks]) -> _SimilarWindowInfo:
    center = (match.start_seconds + match.end_seconds) / 2
    segments = marks_by_path.get(match.video, VideoMarks()).segments
    labels = {mark.label for mark in segments if mark.start_seconds <= center <= mark.end_seconds}
    return _SimilarWindowInfo(
        path=match.video,
        start_seconds=round(match.start_seconds, 6),
        end_seconds=round(match.end_seconds, 6),
        similarity=round(match.similarity, 5),
        labels=tuple(sorted(labels)),
    )
