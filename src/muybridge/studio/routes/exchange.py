"""Routes: annotations from and to the files of other tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Response, UploadFile
from pydantic import Field

from muybridge.studio.annotation_records import Name, StudioRecord, VideoMarks, current_time
from muybridge.studio.annotation_store import LabeledMark, list_labels
from muybridge.studio.errors import StudioError
from muybridge.studio.exchange.formats import FORMATS, FormatName, read_annotations
from muybridge.studio.exchange.marks import ImportedMarks, ProjectMarks, VideoFacts
from muybridge.studio.folders import MAX_PATH_CHARACTERS
from muybridge.studio.projects import Project
from muybridge.studio.routes.dependencies import ERRORS, OpenProject, OptionalVideoPath

router = APIRouter(tags=["annotations"], responses=ERRORS, prefix="/projects/{project}")
_MAX_IMPORT_BYTES = 64 << 20
_EXPORTED_TYPES: dict[str, dict[str, object]] = {chosen.media_type: {} for chosen in FORMATS.values()}


class _Skipped(StudioRecord):
    name: str
    reason: str


class _ImportResult(StudioRecord):
    num_segments: int
    num_events: int
    classes_added: tuple[str, ...]
    skipped: tuple[_Skipped, ...] = Field(description="What was left out, and why")


@router.get("/export", response_class=Response, responses={200: {"content": _EXPORTED_TYPES}})
def _export(
    project: OpenProject, file_format: Annotated[FormatName, Query(alias="format")], path: OptionalVideoPath = None
) -> Response:
    """The annotations of the project, or of one video, as a file of another tool."""
    chosen = FORMATS[file_format]
    marks_by_path = {
        one: marks
        for one, marks in project.annotations.read_all().items()
        if path in (None, one) and (marks.segments or marks.events)
    }
    colors = {entry.name: entry.color for entry in project.classes.read().classes}
    text = chosen.write(ProjectMarks(marks_by_path, _read_facts(project, list(marks_by_path)), colors))
    stem = project.folder.name if path is None else PurePosixPath(path).stem
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(stem)}{chosen.extension}"}
    return Response(text.encode(), media_type=chosen.media_type, headers=headers)


@router.post("/import", max_body_size=_MAX_IMPORT_BYTES)
def _import(
    project: OpenProject,
    file: UploadFile,
    file_format: Annotated[FormatName, Form(alias="format")],
    annotator: Annotated[Name, Form()],
    path: Annotated[str | None, Form(min_length=1, max_length=MAX_PATH_CHARACTERS)] = None,
) -> _ImportResult:
    """Add the annotations in a file of another tool to those of the project. What is there already is kept once."""
    if path is not None:
        project.videos.resolve(path)
    facts = _read_facts(project, project.videos.list_paths())
    imported = ImportedMarks(facts, annotator, current_time(), path)
    read_annotations(file_format, file.file.read(), imported)
    before = set(list_labels(project.annotations.read_all()))
    counts = _add_marks(project, imported)
    added = sorted(set(list_labels(project.annotations.read_all())) - before)
    skipped = tuple(_Skipped(name=name, reason=reason) for name, reason in imported.skipped)
    return _ImportResult(num_segments=counts[0], num_events=counts[1], classes_added=tuple(added), skipped=skipped)


def _add_marks(project: Project, imported: ImportedMarks) -> tuple[int, int]:
    """Store imported marks; returns how many segments and events were new."""
    counts = [0, 0]

    def change(current: dict[str, VideoMarks]) -> None:
        for path in {*imported.segments, *imported.events}:
            marks = current.get(path, VideoMarks())
            segments = _select_new(marks.segments, imported.segments.get(path, ()))
            events = _select_new(marks.events, imported.events.get(path, ()))
            counts[0] += len(segments)
            counts[1] += len(events)
            current[path] = marks.model_copy(
                update={"segments": (*marks.segments, *segments), "events": (*marks.events, *events)}
            )

    project.annotations.change(change)
    return counts[0], counts[1]


def _select_new(known: Sequence[LabeledMark], imported: Sequence[LabeledMark]) -> list[LabeledMark]:
    """Those that are not known, each once; other tools round times to milliseconds."""
    keys = {_make_key(one) for one in known}
    new = {key: one for one in imported if (key := _make_key(one)) not in keys}
    return list(new.values())


def _make_key(mark: LabeledMark) -> tuple[str, tuple[int, ...], str]:
    return mark.label, tuple(round(1000 * seconds) for seconds in mark.bounds), mark.annotator


def _read_facts(project: Project, paths: list[str]) -> dict[str, VideoFacts]:
    """What is known of videos; those that were not examined are, so that frames are converted by their own rate."""
    facts = {}
    for path in paths:
        try:
            properties = project.videos.examine(path).properties
        except StudioError:
            properties = None  # it is gone, or not in an allowed folder
        facts[path] = (
            VideoFacts(properties.frames_per_second, properties.duration_seconds, properties.width, properties.height)
            if properties
            else VideoFacts()
        )
    return facts
