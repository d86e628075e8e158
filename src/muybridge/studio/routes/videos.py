"""Routes: the videos of a project, what a browser plays of them, and single frames."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Query, UploadFile
from fastapi.responses import FileResponse, Response
from pydantic import Field

from muybridge.datasets.video_files import has_video_extension, is_visible, normalize_unicode
from muybridge.files.atomic import atomic_write
from muybridge.studio.annotation_records import StudioRecord, VideoMarks
from muybridge.studio.annotation_store import count_marks
from muybridge.studio.errors import StudioError
from muybridge.studio.media import MediaInfo
from muybridge.studio.projects import Project
from muybridge.studio.routes.conversion import ConversionResponse
from muybridge.studio.routes.dependencies import ERRORS, AnySeconds, OpenProject, StudioServices, VideoPath
from muybridge.studio.services import Studio
from muybridge.studio.videos import VideoStatus
from muybridge.text import join_names, sanitize_text

router = APIRouter(tags=["videos"], responses=ERRORS, prefix="/projects/{project}")
MAX_FRAME_TIMES = 10_000
_MAX_FILES = 100
_PROPERTY_NAMES = ("duration_seconds", "frames_per_second", "num_frames", "width", "height", "codec")
_MEDIA_TYPES = {".webm": "video/webm", ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4"}


class VideoInfo(StudioRecord):
    """A video of a project. Numbers are null until it was examined, and where it cannot be used."""

    path: str
    status: VideoStatus
    reason: str
    num_bytes: int | None
    duration_seconds: float | None
    frames_per_second: float | None
    num_frames: int | None
    width: int | None
    height: int | None
    codec: str | None
    media: MediaInfo
    num_segments: int
    num_events: int
    reviewed_seconds: float
    num_predictions: int


class _VideoList(StudioRecord):
    videos: tuple[VideoInfo, ...]
    total: int


class _UploadedVideos(_VideoList):
    removed: tuple[str, ...] = Field(description="Those of `videos` that are no videos, and were removed again")


class _FrameTimes(StudioRecord):
    num_frames: int
    duration_seconds: float
    start_index: int
    seconds: tuple[float, ...] = Field(description="The time stamps of frames `start_index` and following")


def describe_video(studio: Studio, project: Project, path: str, num_predictions: int) -> VideoInfo:
    """A video as the page shows it, without examining it."""
    examined = project.videos.get_known(path)
    properties = examined.properties if examined else None
    file = project.folder / path
    media = studio.media.describe(file, examined) if file.exists() else studio.media.describe(file, None)
    num_segments, num_events, reviewed = count_marks(project.annotations.read_all().get(path, VideoMarks()))
    known: dict[str, Any] = {"num_bytes": examined and examined.num_bytes}
    known |= {name: properties and getattr(properties, name) for name in _PROPERTY_NAMES}
    return VideoInfo.model_validate(
        {
            "path": path,
            "status": examined.status if examined else ("pending" if file.exists() else "missing"),
            "reason": examined.reason if examined else "",
            **known,
            "media": media,
            "num_segments": num_segments,
            "num_events": num_events,
            "reviewed_seconds": round(reviewed, 3),
            "num_predictions": num_predictions,
        }
    )


@router.get("/videos")
def _list_videos(
    studio: StudioServices,
    project: OpenProject,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> _VideoList:
    """The videos of a project in order of path. Those with status `pending` are examined in the background."""
    paths = project.videos.list_paths()
    project.videos.examine_in_background()
    counts = project.timelines.count()
    videos = (describe_video(studio, project, path, counts.get(path, 0)) for path in paths[offset : offset + limit])
    return _VideoList(videos=tuple(videos), total=len(paths))


@router.get("/video")
def _get_video(studio: StudioServices, project: OpenProject, path: VideoPath) -> VideoInfo:
    """One video, examined now."""
    project.videos.examine(path)
    return describe_video(studio, project, path, project.timelines.count().get(path, 0))


@router.post("/videos", form_limits={"max_files": _MAX_FILES})
def _upload_videos(studio: StudioServices, project: OpenProject, file: list[UploadFile]) -> _UploadedVideos:
    """Add videos to the folder of the project. A name that is taken is refused, and what is no video is removed again."""
    if sum(upload.size or 0 for upload in file) > studio.config.max_upload_bytes:
        raise StudioError(413, f"the uploads have more than {studio.config.max_upload_bytes:,} bytes")
    targets = [_choose_target(project, upload.filename or "") for upload in file]
    names = Counter(normalize_unicode(target.name).casefold() for target in targets)
    if twice := [target.name for target in targets if names[normalize_unicode(target.name).casefold()] > 1]:
        raise StudioError(400, f"the upload has several files of one name: {join_names(twice)}; rename them")
    for upload, target in zip(file, targets, strict=True):
        with atomic_write(target) as temporary, temporary.open("wb") as output:
            shutil.copyfileobj(upload.file, output)
    no_videos = [target for target in targets if _is_no_video(project, target.name)]
    infos = tuple(describe_video(studio, project, target.name, 0) for target in targets)
    for target in no_videos:
        target.unlink()
    removed = tuple(target.name for target in no_videos)
    return _UploadedVideos(videos=infos, total=len(project.videos.list_paths()), removed=removed)


@router.get(
    "/media",
    response_class=Response,
    responses={
        200: {"content": {"video/mp4": {}, "video/webm": {}}},
        206: {"description": "A range of the file", "content": {"video/mp4": {}, "video/webm": {}}},
        416: {"description": "No such range"},
    },
)
def _get_media(
    studio: StudioServices, project: OpenProject, path: VideoPath, start_seconds: AnySeconds = 0.0
) -> Response:
    """What a browser plays: the file itself or a converted one, with ranges; until that is made, a stream without ranges."""
    properties = project.videos.get_properties(path)
    file = project.videos.resolve(path)
    playable = file if properties.is_playable else studio.media.find(file)
    if playable is not None:
        return FileResponse(playable, media_type=_MEDIA_TYPES.get(playable.suffix.lower(), "video/mp4"))
    studio.media.start(file)
    return ConversionResponse(studio.media.stream(file, start_seconds))


@router.get("/frames")
def _get_frame_times(
    project: OpenProject,
    path: VideoPath,
    start_index: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    around_seconds: Annotated[float | None, Query(ge=0, le=1e9, allow_inf_nan=False)] = None,
    count: Annotated[int, Query(ge=1, le=MAX_FRAME_TIMES)] = 1000,
) -> _FrameTimes:
    """The time stamps of frames from `start_index`, or of `count` frames around a time."""
    frame_seconds, duration = project.videos.read_frame_seconds(path)
    if around_seconds is not None:
        shown = int(frame_seconds.searchsorted(around_seconds + 5e-7, side="right")) - 1
        start_index = max(0, min(shown - count // 2, len(frame_seconds) - count))
    return _FrameTimes(
        num_frames=len(frame_seconds),
        duration_seconds=duration,
        start_index=start_index,
        seconds=tuple(frame_seconds[start_index : start_index + count].round(6).tolist()),
    )


@router.get(
    "/frame",
    response_class=Response,
    responses={
        200: {
            "content": {"image/jpeg": {}},
            "headers": {
                "X-Frame-Index": {"schema": {"type": "integer"}, "description": "The frame, counted from 0"},
                "X-Frame-Seconds": {"schema": {"type": "number"}, "description": "Its time stamp"},
            },
        }
    },
)
def _get_frame(
    project: OpenProject,
    path: VideoPath,
    index: Annotated[int | None, Query(ge=0, le=10_000_000)] = None,
    seconds: Annotated[float | None, Query(ge=0, le=1e9, allow_inf_nan=False)] = None,
    max_width: Annotated[int, Query(ge=16, le=8192)] = 1280,
) -> Response:
    """One frame as JPEG: frame number `index`, or the one shown at `seconds`."""
    if (index is None) == (seconds is None):
        raise StudioError(400, "a frame is named by its index or by its seconds; give one of them")
    frame = project.videos.render_frame(path, index, seconds, max_width)
    headers = {
        "X-Frame-Index": str(frame.index),
        "X-Frame-Seconds": f"{frame.seconds:.6f}",
        "Cache-Control": "private, max-age=60",
    }
    return Response(frame.jpeg, media_type="image/jpeg", headers=headers)


def _is_no_video(project: Project, path: str) -> bool:
    """Whether a file is known to be no video; not where the machine is too busy to tell."""
    try:
        examined = project.videos.examine(path)
    except StudioError:  # no child is free: it stays pending
        return False
    return examined.status in ("no_video", "unreadable") and not examined.may_pass


def _choose_target(project: Project, name: str) -> Path:
    """Where an upload is stored. Raises StudioError for a name that is no video's, or is taken."""
    base = PurePosixPath(name.replace("\\", "/")).name
    if (
        not base
        or not is_visible(base)
        or not has_video_extension(base)
        or sanitize_text(base) != base
        or len(base) > 200
    ):
        raise StudioError(400, f"{sanitize_text(base)!r} is no name of a video file; expected one such as walk.mp4")
    target = project.videos.folders.resolve_below(project.folder, base)
    if target.exists():
        raise StudioError(409, f"there is a file {base!r} already; rename the upload")
    return target
