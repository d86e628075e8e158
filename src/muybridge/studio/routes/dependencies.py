"""What the routes have in common: the services of the process, the project of an address, parameters and errors."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request

from muybridge.studio.annotation_records import StudioRecord
from muybridge.studio.folders import MAX_PATH_CHARACTERS
from muybridge.studio.projects import Project
from muybridge.studio.services import Studio


class ErrorDetail(StudioRecord):
    """An error: one sentence for a person."""

    detail: str


def _get_studio(request: Request) -> Studio:
    """The services of this process."""
    studio: Studio = request.app.state.studio
    return studio


StudioServices = Annotated[Studio, Depends(_get_studio)]


def _get_project(studio: StudioServices, project: Annotated[str, Path(max_length=64)]) -> Project:
    """The project of an address."""
    return studio.projects.get(project)


OpenProject = Annotated[Project, Depends(_get_project)]
VideoPath = Annotated[
    str, Query(min_length=1, max_length=MAX_PATH_CHARACTERS, description="The video, relative to the project")
]
OptionalVideoPath = Annotated[
    str | None, Query(min_length=1, max_length=MAX_PATH_CHARACTERS, description="One video, else all of the project")
]
JobId = Annotated[str, Path(max_length=64)]
AnySeconds = Annotated[float, Query(ge=0, le=1e9, allow_inf_nan=False)]

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorDetail, "description": description}
    for status, description in {
        400: "This cannot be done with this input",
        401: "The token is missing",
        403: "Another origin, host or folder",
        404: "There is no such thing",
        408: "The body did not come in time",
        409: "It changed meanwhile, or is in the wrong state",
        413: "Too large",
        422: "A field is missing or out of bounds",
        429: "Too many at a time",
        503: "No worker is free",
        504: "It took too long",
    }.items()
}
