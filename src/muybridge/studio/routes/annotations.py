"""Routes: the annotations of a video."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from muybridge.studio.agreement import Agreement, compute_agreement, list_annotators
from muybridge.studio.annotation_records import MAX_NAME_CHARACTERS, Annotations, VideoMarks
from muybridge.studio.errors import StudioError
from muybridge.studio.projects import Project
from muybridge.studio.routes.dependencies import ERRORS, OpenProject, OptionalVideoPath, VideoPath

router = APIRouter(tags=["annotations"], responses=ERRORS, prefix="/projects/{project}")


@router.get("/annotations")
def _get_annotations(project: OpenProject, path: VideoPath) -> Annotations:
    """All marks of a video."""
    project.videos.folders.resolve_below(project.folder, path)
    return project.annotations.read(path)


@router.put("/annotations")
def _put_annotations(project: OpenProject, path: VideoPath, annotations: Annotations) -> Annotations:
    """Replace all marks of a video, and write them at once. 409 where `revision` is not the present one."""
    if annotations.path != path:
        raise StudioError(400, f"the body is of {annotations.path!r}, the address of {path!r}; send one of them")
    project.videos.resolve(path)
    marks = VideoMarks.model_construct(**{name: getattr(annotations, name) for name in VideoMarks.model_fields})
    return project.annotations.replace(path, marks, annotations.revision)


@router.get("/agreement")
def _get_agreement(
    project: OpenProject,
    first: Annotated[str | None, Query(max_length=MAX_NAME_CHARACTERS)] = None,
    second: Annotated[str | None, Query(max_length=MAX_NAME_CHARACTERS)] = None,
    path: OptionalVideoPath = None,
) -> Agreement:
    """How far two annotators agree: kappa over time, and F1 of segments. Without names, who there is."""
    marks_by_path = {one: marks for one, marks in project.annotations.read_all().items() if path in (None, one)}
    if first is None or second is None:
        return Agreement(annotators=list_annotators(marks_by_path))
    durations = {one: _read_duration(project, one) for one in marks_by_path}
    known = {one: duration for one, duration in durations.items() if duration is not None}
    return compute_agreement(marks_by_path, known, first, second)


def _read_duration(project: Project, path: str) -> float | None:
    """The duration of a video, which is examined if it was not yet; None where it cannot be."""
    try:
        properties = project.videos.examine(path).properties
    except StudioError:
        return None
    return properties.duration_seconds if properties else None
