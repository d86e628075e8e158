"""Routes: a network along the videos of a project, its curves, and what to look at next."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field, model_validator

from muybridge.studio.annotation_records import (
    Annotations,
    Name,
    RejectedMark,
    SegmentMark,
    StudioRecord,
    TimeRange,
    VideoMarks,
)
from muybridge.studio.errors import StudioError
from muybridge.studio.folders import MAX_PATH_CHARACTERS
from muybridge.studio.jobs import Job
from muybridge.studio.model_address import resolve_model
from muybridge.studio.projects import Project
from muybridge.studio.routes.dependencies import (
    ERRORS,
    AnySeconds,
    OpenProject,
    OptionalVideoPath,
    StudioServices,
)
from muybridge.studio.services import Studio
from muybridge.studio.suggestions import PredictedVideo, Strategy, Suggestion, suggest
from muybridge.studio.timelines import MAX_POINTS, MAX_SEGMENTS, CurveWindow, SegmentWindow, TimelineInfo, TimelineStore

router = APIRouter(tags=["predictions"], responses=ERRORS)
_MAX_VIDEOS = 10_000
_TimelineId = Annotated[str, Path(max_length=64)]
_OptionalEnd = Annotated[float | None, Query(gt=0, le=1e9, allow_inf_nan=False)]


class TimelineParameters(StudioRecord):
    """How a timeline is made. What is null was chosen on the run's validation videos, else is the default."""

    step_frames: int | None = Field(default=None, ge=1, le=1_000_000, description="Frames between two windows")
    minimum_probability: float | None = Field(default=None, ge=0, le=1)
    minimum_seconds: float | None = Field(default=None, ge=0, le=1e9)
    mode: Literal["windows", "convolutional"] = "windows"


class _PredictionRequest(TimelineParameters):
    model: str = Field(min_length=1, max_length=MAX_PATH_CHARACTERS)
    paths: tuple[Annotated[str, Field(min_length=1, max_length=MAX_PATH_CHARACTERS)], ...] = Field(
        min_length=1, max_length=_MAX_VIDEOS
    )


class _PredictionList(StudioRecord):
    predictions: tuple[TimelineInfo, ...]


class _SuggestionList(StudioRecord):
    suggestions: tuple[Suggestion, ...]


class _SuggestedSegment(TimeRange):
    label: Name


class _Decision(StudioRecord):
    path: str = Field(min_length=1, max_length=MAX_PATH_CHARACTERS)
    suggested: _SuggestedSegment
    decision: Literal["accept", "change", "reject"]
    annotator: Name
    label: Name | None = None
    start_seconds: float | None = Field(default=None, ge=0, le=1e9)
    end_seconds: float | None = Field(default=None, ge=0, le=1e9)

    @model_validator(mode="after")
    def _check_change(self) -> _Decision:
        changes = (self.label, self.start_seconds, self.end_seconds)
        if (self.decision == "change") != any(change is not None for change in changes):
            raise ValueError("label and bounds are given for a change, and only for a change")
        return self


@router.post("/projects/{project}/predictions", status_code=202)
def _start_prediction(studio: StudioServices, project: OpenProject, request: _PredictionRequest) -> Job:
    """Run a network along videos, in a process of its own."""
    model = resolve_model(request.model, studio.folders, project.folder)
    for path in request.paths:
        project.videos.resolve(path)
    values = request.model_dump(exclude={"paths", "model"}) | {
        "model": model.address,
        "model_name": model.name,
        "memory_bytes": studio.config.child_bytes,
    }
    paths = tuple(dict.fromkeys(request.paths))
    title = f"{model.name} along {paths[0] if len(paths) == 1 else f'{len(paths)} videos'}"
    return project.jobs.start("predict", title, ["muybridge.studio.predict_job", "{job}"], paths=paths, values=values)


@router.get("/projects/{project}/predictions")
def _list_predictions(project: OpenProject, path: OptionalVideoPath = None) -> _PredictionList:
    """The predictions of a project or a video, newest first."""
    return _PredictionList(predictions=tuple(project.timelines.list_timelines(path)))


@router.get("/predictions/{prediction}/curves")
def _get_curves(
    studio: StudioServices,
    prediction: _TimelineId,
    start_seconds: AnySeconds = 0.0,
    end_seconds: _OptionalEnd = None,
    points: Annotated[int, Query(ge=2, le=MAX_POINTS)] = 1000,
    labels: Annotated[list[str] | None, Query(max_length=100)] = None,
) -> CurveWindow:
    """The probabilities of classes in a part of a video, reduced to `points` without losing a peak."""
    if end_seconds is not None and end_seconds <= start_seconds:
        raise StudioError(400, f"the part ends at {end_seconds:g} s, not after its start at {start_seconds:g} s")
    timelines = _find_timelines(studio, prediction)
    return timelines.read_curves(prediction, start_seconds, end_seconds, points, labels or ())


@router.get("/predictions/{prediction}/segments")
def _get_segments(
    studio: StudioServices, prediction: _TimelineId, start_seconds: AnySeconds = 0.0, end_seconds: _OptionalEnd = None
) -> SegmentWindow:
    """The merged segments in a part of a video; of more than 4,000 the longest."""
    segments = _find_timelines(studio, prediction).read_segments(prediction, start_seconds, end_seconds)
    longest = sorted(segments, key=lambda one: one.start_seconds - one.end_seconds)[:MAX_SEGMENTS]
    shown = sorted(longest, key=lambda one: one.start_seconds)
    return SegmentWindow(segments=tuple(shown), total=len(segments))


@router.delete("/predictions/{prediction}", status_code=204)
def _remove_prediction(studio: StudioServices, prediction: _TimelineId) -> Response:
    """Delete a prediction."""
    _find_timelines(studio, prediction).remove(prediction)
    return Response(status_code=204)


@router.get("/projects/{project}/suggestions")
def _list_suggestions(
    project: OpenProject,
    strategy: Strategy = "doubt",
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    path: OptionalVideoPath = None,
) -> _SuggestionList:
    """What to look at next, by the newest prediction of each video."""
    marks_by_path = project.annotations.read_all()
    num_marks = Counter(segment.label for marks in marks_by_path.values() for segment in marks.segments)
    videos = [_read_predicted(project, info) for info in _select_newest(project, path)]
    return _SuggestionList(suggestions=tuple(suggest(videos, num_marks, strategy, limit)))


@router.post("/projects/{project}/suggestions/decision")
def _decide(project: OpenProject, decision: _Decision) -> Annotations:
    """Accept, change or reject a suggestion: it becomes a segment with that origin, or a rejected one."""
    project.videos.resolve(decision.path)
    suggested, annotator = decision.suggested, decision.annotator
    annotations = project.annotations.read(decision.path)
    marks = VideoMarks.model_construct(**{name: getattr(annotations, name) for name in VideoMarks.model_fields})
    if decision.decision == "reject":
        rejected = RejectedMark(**dict(suggested), annotator=annotator)
        return project.annotations.replace(
            decision.path, marks.model_copy(update={"rejected": (*marks.rejected, rejected)}), annotations.revision
        )
    segment = SegmentMark(
        label=decision.label or suggested.label,
        start_seconds=suggested.start_seconds if decision.start_seconds is None else decision.start_seconds,
        end_seconds=suggested.end_seconds if decision.end_seconds is None else decision.end_seconds,
        annotator=annotator,
        origin="accepted" if decision.decision == "accept" else "changed",
    )
    update: dict[str, object] = {"segments": (*marks.segments, segment)}
    if segment.label != suggested.label:  # so that the wrong class is not suggested again
        update["rejected"] = (*marks.rejected, RejectedMark(**dict(suggested), annotator=annotator))
    return project.annotations.replace(decision.path, marks.model_copy(update=update), annotations.revision)


def _find_timelines(studio: Studio, prediction: str) -> TimelineStore:
    return studio.projects.get(prediction.partition("-")[0]).timelines


def _select_newest(project: Project, path: str | None) -> list[TimelineInfo]:
    """The newest prediction of each video as it is now."""
    newest: dict[str, TimelineInfo] = {}
    for info in project.timelines.list_timelines(path):
        if not info.video_changed:
            newest.setdefault(info.path, info)
    return list(newest.values())


def _read_predicted(project: Project, info: TimelineInfo) -> PredictedVideo:
    return PredictedVideo(
        info.path,
        info.id,
        info.classes,
        project.timelines.read_arrays(info.id),
        tuple(project.timelines.read_segments(info.id)),
        project.annotations.read_all().get(info.path, VideoMarks()),
        project.timelines.read_head(info.id),
    )
