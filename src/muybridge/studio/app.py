"""The studio's server: a FastAPI application over the services of `Studio`, with the page at `/`.

Input: a `StudioConfig`. Every request passes `AccessControl`; every failure becomes one sentence and a status.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import muybridge
from muybridge.records import VideoError
from muybridge.studio.access import AccessControl, AccessRules
from muybridge.studio.body_limits import BodyLimits
from muybridge.studio.config import StudioConfig, read_exported_config
from muybridge.studio.errors import StudioError, describe_field
from muybridge.studio.routes import (
    classes,
    events,
    exchange,
    explanations,
    integration,
    jobs,
    predictions,
    projects,
    similar,
    training,
    videos,
)
from muybridge.studio.routes.annotations import router as annotations_router
from muybridge.studio.server_metrics import RequestMeter
from muybridge.studio.services import Studio
from muybridge.text import join_names, sanitize_text, shorten

PAGE_FOLDER = Path(__file__).with_name("page")
_MAX_SENTENCE_CHARACTERS = 1000
_ERROR_TYPES = (StudioError, VideoError, ValueError, OSError, RequestValidationError, HTTPException, ClientDisconnect)
_ROUTERS = (
    integration.router,
    projects.router,
    videos.router,
    classes.router,
    annotations_router,
    exchange.router,
    events.router,
    jobs.router,
    predictions.router,
    explanations.router,
    similar.router,
    training.router,
)


def create_app(config: StudioConfig) -> FastAPI:
    """The application of one server process."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        app.state.studio.close()

    app = FastAPI(
        title="Muybridge Studio",
        version=muybridge.__version__,
        description="Watch, annotate, train and correct; and predictions for other programs.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=_name_operation,
    )
    app.state.studio = Studio(config)
    for router in _ROUTERS:
        app.include_router(router, prefix="/api")
    for error_type in _ERROR_TYPES:
        app.add_exception_handler(error_type, _answer_error)
    if PAGE_FOLDER.is_dir():
        app.mount("/", StaticFiles(directory=PAGE_FOLDER, html=True), name="page")
    else:
        app.add_api_route("/", _redirect_to_description, include_in_schema=False)
    app.add_middleware(BodyLimits, max_upload_bytes=config.max_upload_bytes)
    app.add_middleware(AccessControl, rules=AccessRules(config.token, config.host, config.port, config.allowed_hosts))
    app.add_middleware(RequestMeter)
    return app


def create_app_from_environment() -> FastAPI:
    """The application of a worker process, by the configuration that its parent exported."""
    return create_app(read_exported_config())


def _name_operation(route: APIRoute) -> str:
    return route.name.lstrip("_")


def _redirect_to_description() -> RedirectResponse:
    """Where an installation has no page, the description of the HTTP interface."""
    return RedirectResponse("/api/docs")


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    status, sentence = _describe_failure(error)
    sentence = shorten(sanitize_text(" ".join(sentence.split())), _MAX_SENTENCE_CHARACTERS)
    headers = error.headers if isinstance(error, HTTPException) else None
    return JSONResponse({"detail": sentence}, status, headers=headers)


def _describe_failure(error: Exception) -> tuple[int, str]:
    match error:
        case StudioError():
            return error.status, str(error)
        case HTTPException():
            return error.status_code, str(error.detail)
        case RequestValidationError():
            return 422, join_names([describe_field(problem, num_outer=1) for problem in error.errors()], "; ")
        case ValidationError():
            return 422, join_names([describe_field(problem) for problem in error.errors()], "; ")
        case VideoError():
            return {"missing": 404, "timed_out": 504}.get(error.status, 400), error.reason
        case ClientDisconnect():
            return 400, "the client ended the connection"
        case OSError():
            return 400, f"the system refused to read or write a file: {error.strerror or error}"
    return 400, str(error)
