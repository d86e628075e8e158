"""Routes: the annotations of a video."""

from __future__ import annotations

from fastapi import APIRouter

from muybridge.studio.annotation_records import Annotations, VideoMarks
from muybridge.studio.errors import StudioError
from muybridge.studio.routes.dependencies import ERRORS, OpenProject, VideoPath

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
