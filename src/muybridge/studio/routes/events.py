"""Route: what changes in a project, as server-sent events.

Each connection compares the state on disk once a second, so it reports what other tabs, other worker processes and jobs do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter
from fastapi.sse import EventSourceResponse, ServerSentEvent

from muybridge.studio.errors import StudioError
from muybridge.studio.projects import Project
from muybridge.studio.routes.dependencies import ERRORS, OpenProject, StudioServices
from muybridge.studio.routes.videos import describe_video
from muybridge.studio.services import Studio

router = APIRouter(tags=["events"], responses=ERRORS, prefix="/projects/{project}")
_POLL_SECONDS = 1.0


class ProjectWatcher:
    """Finds what changed in a project since it last looked."""

    def __init__(self, studio: Studio, project: Project) -> None:
        self.studio = studio
        self.project = project
        self._position, _ = project.videos.read_changes(-1)
        self._revisions = project.annotations.read_revisions()
        self._marks = project.annotations.read_all()
        self._classes = project.classes.read_revision()
        self._media = self._read_media()
        self._jobs = {job.id: job for job in project.jobs.list_jobs()}

    def read_events(self) -> list[ServerSentEvent]:
        """An event for each change. Raises ValueError or StudioError for files that cannot be read.

        Revisions are read last: the page goes on saving while the rest is read.
        """
        self.project.check_links()
        return [*self._read_video_events(), *self._read_job_events(), *self._read_annotation_events()]

    def _read_job_events(self) -> list[ServerSentEvent]:
        jobs = {job.id: job for job in self.project.jobs.list_jobs()}
        changed = [job for job in jobs.values() if self._jobs.get(job.id) != job]
        self._jobs = jobs
        return [_make_event("job", job) for job in changed]

    def _read_annotation_events(self) -> list[ServerSentEvent]:
        events = []
        marks = self.project.annotations.read_all()
        if marks is not self._marks:
            revisions = self.project.annotations.read_revisions()
            paths = [
                path for path in {*revisions, *self._revisions} if revisions.get(path) != self._revisions.get(path)
            ]
            for path in sorted(paths):
                revision = self.project.annotations.read(path).revision
                events.append(_make_event("annotations", {"path": path, "revision": revision}))
            self._marks, self._revisions = marks, revisions
        classes = self.project.classes.read_revision()
        if classes != self._classes:
            events.append(_make_event("classes", {"revision": classes}))
            self._classes = classes
        return events

    def _read_video_events(self) -> list[ServerSentEvent]:
        self._position, paths = self.project.videos.read_changes(self._position)
        media = self._read_media()
        changed = [path for path, progress in media.items() if self._media.get(path) != progress]
        self._media = media
        counts = self.project.timelines.count()
        return [
            _make_event("video", describe_video(self.studio, self.project, path, counts.get(path, 0)))
            for path in dict.fromkeys((*paths, *changed))
        ]

    def _read_media(self) -> dict[str, float]:
        folder = self.project.folder
        return {
            file.relative_to(folder).as_posix(): progress
            for file, progress in self.studio.media.read_running().items()
            if file.is_relative_to(folder)
        }


@router.get("/events", response_class=EventSourceResponse)
async def _stream_events(studio: StudioServices, project: OpenProject) -> AsyncIterator[ServerSentEvent]:
    """Events `hello`, `video`, `annotations`, `classes`, `job` and `problem`; see docs/studio_api.md."""
    watcher = await run_sync(ProjectWatcher, studio, project)
    yield _make_event("hello", {"project": project.id})
    while True:
        await anyio.sleep(_POLL_SECONDS)
        try:
            events = await run_sync(watcher.read_events)
        except (ValueError, StudioError) as error:  # a file that a person is editing
            events = [_make_event("problem", {"detail": str(error)})]
        for event in events:
            yield event


def _make_event(name: str, data: Any) -> ServerSentEvent:
    return ServerSentEvent(event=name, data=data)
