"""Routes: training on the annotations of a project, and its runs."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query

from muybridge.models.family import build_specification
from muybridge.studio.annotation_records import StudioRecord
from muybridge.studio.errors import StudioError
from muybridge.studio.jobs import LIVE_STATES, Job
from muybridge.studio.model_address import RUNS_FOLDER, resolve_model
from muybridge.studio.projects import Project
from muybridge.studio.routes.dependencies import ERRORS, OpenProject, StudioServices
from muybridge.studio.training_runs import (
    DEFAULT_MODEL,
    RunInfo,
    RunMetrics,
    TrainingData,
    TrainingRequest,
    build_train_command,
    check_training_data,
    list_runs,
    read_metrics,
)

router = APIRouter(tags=["training"], responses=ERRORS, prefix="/projects/{project}")


class WeightsInfo(StudioRecord):
    """Weights to start from."""

    address: str
    title: str
    kind: Literal["run", "catalogue"]
    network: str | None
    num_classes: int | None
    accuracy: str
    licence: str
    is_local: bool


class _WeightsList(StudioRecord):
    weights: tuple[WeightsInfo, ...]


class _RunList(StudioRecord):
    runs: tuple[RunInfo, ...]


@router.get("/weights")
def _list_weights(studio: StudioServices, project: OpenProject) -> _WeightsList:
    """What a training may start from: runs of the project and of allowed folders, then the catalogue.

    A weights file below the allowed folders works, too.
    """
    runs = [_describe_weights(run, run.name) for run in _list_project_runs(project) if run.has_weights]
    for root in studio.folders.roots:
        if root != project.folder:
            runs += [_describe_weights(run, str(root / run.name)) for run in list_runs(root, []) if run.has_weights]
    return _WeightsList(weights=(*runs, *(WeightsInfo.model_validate(entry) for entry in studio.list_catalogue())))


@router.get("/training-data")
def _check_data(project: OpenProject, background: bool = False) -> TrainingData:
    """What a training would see, and what prevents it."""
    return check_training_data(project.folder, dict(project.annotations.read_all()), background=background)


@router.post("/trainings", status_code=202)
def _start_training(studio: StudioServices, project: OpenProject, request: TrainingRequest) -> Job:
    """Train a network, in a process of its own that goes on without the server."""
    data = check_training_data(project.folder, dict(project.annotations.read_all()), background=request.background)
    if data.problems:
        raise StudioError(400, data.problems[0])
    init = resolve_model(request.init, studio.folders, project.folder).address if request.init else None
    if init is None:
        build_specification(request.model or DEFAULT_MODEL)  # raises ValueError for a name that there is not
    if any(job.run == request.name and job.state in LIVE_STATES for job in project.jobs.list_jobs()):
        raise StudioError(409, f"a run {request.name!r} is being trained or waits; choose another name")
    command = build_train_command(request, project.folder, init)
    return project.jobs.start("train", f"train {request.name}", command, run=request.name)


@router.get("/runs")
def _list_runs(studio: StudioServices, project: OpenProject) -> _RunList:
    """The runs of the project, newest first."""
    runs = (
        run.model_copy(update={"classes": studio.read_run_classes(project.folder / RUNS_FOLDER / run.name)})
        if run.has_weights
        else run
        for run in _list_project_runs(project)
    )
    return _RunList(runs=tuple(runs))


@router.get("/runs/{name}/metrics")
def _get_metrics(
    project: OpenProject,
    name: Annotated[str, Path(max_length=100)],
    after_step: Annotated[int, Query(ge=0, le=10**12)] = 0,
) -> RunMetrics:
    """The log of a run after a step."""
    return read_metrics(project.folder, name, after_step)


def _list_project_runs(project: Project) -> list[RunInfo]:
    return list_runs(project.folder / RUNS_FOLDER, project.jobs.list_jobs())


def _describe_weights(run: RunInfo, address: str) -> WeightsInfo:
    return WeightsInfo(
        address=address,
        title=f"{run.name} (your run{f', {run.unfinished}' if run.unfinished else ''})",
        kind="run",
        network=run.model,
        num_classes=None,
        accuracy=run.validation or "",
        licence="",
        is_local=True,
    )
