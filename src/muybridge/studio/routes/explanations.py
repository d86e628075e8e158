"""Routes: where and when a network sees a class in a part of a video."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response
from pydantic import Field, model_validator

from muybridge.studio.annotation_records import StudioRecord
from muybridge.studio.errors import StudioError
from muybridge.studio.explanations import MAPS_FILE, Explanation, describe_inputs, has_explanation, read_explanation
from muybridge.studio.folders import MAX_PATH_CHARACTERS
from muybridge.studio.jobs import LIVE_STATES, Job
from muybridge.studio.model_address import resolve_model
from muybridge.studio.routes.dependencies import ERRORS, JobId, OpenProject, StudioServices

router = APIRouter(tags=["explanations"], responses=ERRORS, prefix="/projects/{project}/explanations")
_NUM_KEPT = 20  # explanations of a project


class _ExplanationRequest(StudioRecord):
    model: str = Field(min_length=1, max_length=MAX_PATH_CHARACTERS)
    path: str = Field(min_length=1, max_length=MAX_PATH_CHARACTERS)
    start_seconds: float = Field(ge=0, le=1e9)
    end_seconds: float = Field(ge=0, le=1e9, description="The start again for the window around it")
    label: str | None = Field(default=None, min_length=1, max_length=1000, description="By default the class it finds")

    @model_validator(mode="after")
    def _check_order(self) -> _ExplanationRequest:
        if self.end_seconds < self.start_seconds:
            raise ValueError(f"the part ends at {self.end_seconds:g} s, before its start at {self.start_seconds:g} s")
        return self


@router.post("", status_code=202)
def _start_explanation(studio: StudioServices, project: OpenProject, request: _ExplanationRequest) -> Job:
    """Compute where and when a network sees a class (Grad-CAM), in a process of its own. What was asked before is kept."""
    model = resolve_model(request.model, studio.folders, project.folder)
    file = project.videos.resolve(request.path)
    values = request.model_dump(include={"start_seconds", "end_seconds", "label"}) | {
        "model": model.address,
        "model_name": model.name,
        "memory_bytes": studio.config.child_bytes,
        **describe_inputs(model.address, file),
    }
    known = project.jobs.find("explain", [request.path], values)
    if known is not None and (known.state in LIVE_STATES or has_explanation(project.jobs.find_folder(known.id))):
        return known
    project.jobs.remove_ended("explain", _NUM_KEPT - 1)
    label = request.label or "what it does"
    title = f"why {model.name} finds {label} at {request.start_seconds:.1f} s of {request.path}"
    command = ["muybridge.studio.explain_job", "{job}"]
    return project.jobs.start("explain", title, command, paths=[request.path], values=values)


@router.get("/{job}")
def _get_explanation(project: OpenProject, job: JobId) -> Explanation:
    """The explanation that a job made. 409 before it is done."""
    return read_explanation(project.jobs.find_folder(job))


@router.get("/{job}/maps", response_class=Response, responses={200: {"content": {"image/png": {}}}})
def _get_maps(project: OpenProject, job: JobId) -> Response:
    """The evidence as colour, to be drawn over the video: a PNG of a tile for each frame."""
    relative = (project.jobs.find_folder(job) / MAPS_FILE).relative_to(project.folder)
    path = project.videos.folders.resolve_below(project.folder, str(relative))
    if not path.is_file():
        raise StudioError(409, "the job has no explanation yet; wait until it is done")
    return FileResponse(path, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})
