"""Routes for other programs: predictions of uploads and files, batches, health, measurements."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import Field, ValidationError
from starlette.datastructures import UploadFile

import muybridge
from muybridge.datasets.video_files import has_video_extension
from muybridge.parsing import parse_json
from muybridge.records import Status, VideoError
from muybridge.studio.annotation_records import StudioRecord
from muybridge.studio.api_page import render_api_page
from muybridge.studio.errors import StudioError, describe_field
from muybridge.studio.folders import MAX_PATH_CHARACTERS
from muybridge.studio.jobs import Job, JobState
from muybridge.studio.model_address import ModelAddress, resolve_model
from muybridge.studio.routes.dependencies import ERRORS, StudioServices
from muybridge.studio.routes.predictions import TimelineParameters
from muybridge.studio.server_metrics import PREDICTIONS, format_metrics
from muybridge.studio.services import Studio
from muybridge.studio.timelines import SegmentInfo
from muybridge.text import format_count, sanitize_text

router = APIRouter(tags=["integration"])
_MAX_BATCH = 100_000
_TEMPLATES = Path(__file__).parents[1] / "templates"
_Text = Annotated[str, Field(min_length=1, max_length=MAX_PATH_CHARACTERS)]


class Health(StudioRecord):
    """The server answers."""

    status: Literal["ok"]
    version: str


class PredictRequest(StudioRecord):
    """A file to classify. `model` is by default that of the server's command line."""

    model: _Text | None = None
    path: _Text = Field(description="Below an allowed folder; relative to the first one, or absolute")
    top: int = Field(default=5, ge=1, le=1000)
    clips: int = Field(default=10, ge=1, le=1000)


class TimelineRequest(PredictRequest, TimelineParameters):
    """A file whose timeline is wanted, too."""


class ClassProbability(StudioRecord):
    """A class and its probability."""

    label: str
    probability: float


class PredictAnswer(StudioRecord):
    """As a line of `muybridge predict --json`. A file that cannot be read has another status than ok, and a reason."""

    video: str
    status: Status
    reason: str
    classes: tuple[ClassProbability, ...]


class TimelineAnswer(PredictAnswer):
    """With the merged segments."""

    segments: tuple[SegmentInfo, ...]


class BatchRequest(TimelineParameters):
    """Files to predict one after another, in a process of their own."""

    model: _Text | None = None
    paths: tuple[_Text, ...] = Field(min_length=1, max_length=_MAX_BATCH)
    task: Literal["predict", "timeline"] = "predict"
    top: int = Field(default=5, ge=1, le=1000)
    clips: int = Field(default=10, ge=1, le=1000)


class BatchInfo(StudioRecord):
    """A batch and how far it is."""

    id: str
    state: JobState
    message: str
    num_videos: int
    num_done: int
    num_failed: int


class BatchResults(StudioRecord):
    """Results in the order of the request's paths; those that are not done are missing at the end."""

    results: tuple[dict[str, Any], ...]
    total: int


def _describe_body(model: type[StudioRecord]) -> dict[str, Any]:
    """The two forms of a body: JSON that names a file, or a form with an upload."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    fields = {name: field for name, field in schema["properties"].items() if name != "path"}
    form = {
        "type": "object",
        "properties": {**fields, "file": {"type": "string", "format": "binary"}},
        "required": ["file"],
    }
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema}, "multipart/form-data": {"schema": form}},
        }
    }


async def _read_fields(request: Request) -> dict[str, Any]:
    """The fields of a JSON body or of a form, in which `file` is the upload."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        async with request.form(max_files=1, max_fields=20, max_part_size=1 << 16) as form:
            fields: dict[str, Any] = dict(form)
            upload = fields.get("file")
            if isinstance(upload, UploadFile):
                fields["file"] = (upload.filename or "", os.fdopen(os.dup(upload.file.fileno()), "rb"))
            return fields
    if content_type not in ("application/json", ""):
        raise StudioError(415, f"the body is {content_type!r}, expected application/json or multipart/form-data")
    try:
        fields = parse_json(await request.body(), "the body")
    except ValueError as error:
        raise StudioError(422, str(error)) from error
    if not isinstance(fields, dict) or "file" in fields:
        raise StudioError(422, "the body is no JSON object with model and path")
    return fields


RequestFields = Annotated[dict[str, Any], Depends(_read_fields)]


@router.get("/health")
def _get_health() -> Health:
    """Whether the server answers. Needs no token."""
    return Health(status="ok", version=muybridge.__version__)


@router.get("/docs", response_class=HTMLResponse, include_in_schema=False)
def _get_docs(request: Request) -> str:
    """The OpenAPI description as a page."""
    return render_api_page(request.app.openapi())


@router.get("/docs.css", include_in_schema=False)
def _get_docs_style() -> FileResponse:
    """The style sheet of that page."""
    return FileResponse(_TEMPLATES / "api.css", media_type="text/css")


@router.get("/metrics", response_class=Response, responses={**ERRORS, 200: {"content": {"text/plain": {}}}})
def _get_measurements(studio: StudioServices) -> Response:
    """Measurements in Prometheus' text format."""
    states = [job.state for job in studio.batches.list_jobs()]
    return Response(format_metrics(states), media_type="text/plain; version=0.0.4")


@router.post("/predict", responses=ERRORS, openapi_extra=_describe_body(PredictRequest))
def _predict(studio: StudioServices, fields: RequestFields) -> PredictAnswer:
    """The most probable classes of an upload, or of a file below an allowed folder."""
    return PredictAnswer.model_validate(_predict_fields(studio, fields, PredictRequest, "predict"))


@router.post("/timeline", responses=ERRORS, openapi_extra=_describe_body(TimelineRequest))
def _predict_timeline(studio: StudioServices, fields: RequestFields) -> TimelineAnswer:
    """The same, and when the classes occur. For long videos use a batch, which has no time limit."""
    return TimelineAnswer.model_validate(_predict_fields(studio, fields, TimelineRequest, "timeline"))


@router.post("/batches", status_code=202, responses=ERRORS)
def _start_batch(studio: StudioServices, request: BatchRequest) -> BatchInfo:
    """Predict many files in a process of its own, which goes on without the server."""
    model = _resolve_model(studio, request.model)
    values = {
        "files": [str(studio.folders.resolve(path)) for path in request.paths],
        "model": model.address,
        "top": request.top,
        "clips": request.clips,
        "timeline": _list_timeline_options(request) if request.task == "timeline" else None,
        "memory_bytes": studio.config.child_bytes,
    }
    title = f"{model.name} on {format_count(len(request.paths), 'file')}"
    command = ["muybridge.studio.batch_job", "{job}"]
    return _describe_batch(studio, studio.batches.start("predict", title, command, paths=request.paths, values=values))


@router.get("/batches/{batch}", responses=ERRORS)
def _get_batch(studio: StudioServices, batch: Annotated[str, PathParameter(max_length=64)]) -> BatchInfo:
    """A batch."""
    return _describe_batch(studio, studio.batches.get(batch))


@router.get("/batches/{batch}/results", responses=ERRORS)
def _get_results(
    studio: StudioServices,
    batch: Annotated[str, PathParameter(max_length=64)],
    offset: Annotated[int, Query(ge=0, le=_MAX_BATCH)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> BatchResults:
    """Results of a batch so far."""
    results = studio.batches.read_results(batch)
    return BatchResults(results=tuple(results[offset : offset + limit]), total=len(results))


@router.delete("/batches/{batch}", status_code=204, responses=ERRORS)
def _remove_batch(studio: StudioServices, batch: Annotated[str, PathParameter(max_length=64)]) -> Response:
    """Stop a batch and forget it."""
    studio.batches.stop_and_remove(batch)
    return Response(status_code=204)


def _predict_fields(
    studio: Studio, fields: dict[str, Any], request_type: type[PredictRequest], task: str
) -> dict[str, Any]:
    upload = fields.pop("file", None)
    if upload is not None and not isinstance(upload, tuple):
        raise StudioError(422, "file: it is text, expected an upload")
    with ExitStack() as stack:
        if upload is not None:
            stack.enter_context(upload[1])
        request = _parse_request({**fields, "path": "upload"} if upload else fields, request_type)
        model = _resolve_model(studio, request.model)
        timeline = _list_timeline_options(request) if isinstance(request, TimelineRequest) else None
        file, name = stack.enter_context(_open_file(studio, request.path, upload))
        try:
            values = studio.predict_file(model.address, str(file), request.top, request.clips, timeline)
        except VideoError as error:
            values = {"status": error.status, "reason": error.reason, "classes": []}
            values |= {"segments": []} if timeline is not None else {}
    PREDICTIONS.labels(task, values["status"]).inc()
    return {**values, "video": name}


def _parse_request(fields: dict[str, Any], request_type: type[PredictRequest]) -> PredictRequest:
    try:
        return request_type.model_validate(fields)
    except ValidationError as error:
        raise StudioError(422, "; ".join(map(describe_field, error.errors()))) from error


@contextmanager
def _open_file(studio: Studio, path: str, upload: tuple[str, Any] | None) -> Iterator[tuple[Path, str]]:
    """The file to predict and its name in the result; an upload is a file while the block runs."""
    if upload is None:
        file = studio.folders.resolve(path)
        if not file.exists():
            raise StudioError(404, f"there is no file {path!r}")
        yield file, path
        return
    name, content = upload
    if os.fstat(content.fileno()).st_size > studio.config.max_upload_bytes:
        raise StudioError(413, f"the upload has more than {studio.config.max_upload_bytes:,} bytes")
    base = PurePosixPath(name.replace("\\", "/")).name
    suffix = PurePosixPath(base).suffix.lower() if has_video_extension(base) else ".mp4"
    folder = studio.config.state_path / "uploads"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=suffix) as copy:
        content.seek(0)
        shutil.copyfileobj(content, copy)
        copy.flush()
        yield Path(copy.name), sanitize_text(base)[:200] or "upload"


def _resolve_model(studio: Studio, text: str | None) -> ModelAddress:
    chosen = text or studio.config.model
    if chosen is None:
        raise StudioError(400, "no network is named; name one as model, or start the server with --model")
    if text is None and Path(chosen).exists():
        return ModelAddress(str(Path(chosen).resolve()), Path(chosen).name)  # of the command line, wherever it is
    return resolve_model(chosen, studio.folders, studio.folders.roots[0])


def _list_timeline_options(request: TimelineParameters) -> dict[str, Any]:
    return {name: getattr(request, name) for name in TimelineParameters.model_fields}


def _describe_batch(studio: Studio, job: Job) -> BatchInfo:
    num_done, num_failed = studio.batches.count_results(job.id)
    return BatchInfo(
        id=job.id,
        state=job.state,
        message=job.message,
        num_videos=len(job.paths),
        num_done=num_done,
        num_failed=num_failed,
    )
