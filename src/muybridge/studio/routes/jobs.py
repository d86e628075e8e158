"""Routes: the jobs of a project."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from muybridge.studio.annotation_records import StudioRecord
from muybridge.studio.jobs import Job
from muybridge.studio.routes.dependencies import ERRORS, JobId, OpenProject

router = APIRouter(tags=["jobs"], responses=ERRORS, prefix="/projects/{project}/jobs")


class _JobList(StudioRecord):
    jobs: tuple[Job, ...]


@router.get("")
def _list_jobs(project: OpenProject) -> _JobList:
    """All jobs, newest first."""
    return _JobList(jobs=tuple(project.jobs.list_jobs()))


@router.get("/{job}")
def _get_job(project: OpenProject, job: JobId) -> Job:
    """A job."""
    return project.jobs.get(job)


@router.post("/{job}/stop")
def _stop_job(project: OpenProject, job: JobId) -> Job:
    """Ask a job to end. A training saves a checkpoint first, and can be resumed."""
    return project.jobs.stop(job)


@router.post("/{job}/resume")
def _resume_job(project: OpenProject, job: JobId) -> Job:
    """Run a job on that was stopped or failed."""
    return project.jobs.resume(job)


@router.delete("/{job}", status_code=204)
def _remove_job(project: OpenProject, job: JobId) -> Response:
    """Forget an ended job. A run folder stays."""
    project.jobs.remove(job)
    return Response(status_code=204)


@router.get("/{job}/log", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def _get_output(project: OpenProject, job: JobId) -> Response:
    """The end of what the job printed."""
    return PlainTextResponse(project.jobs.read_output(job))
