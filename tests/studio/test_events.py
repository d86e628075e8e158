"""What one tab or process changes, the others are told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from muybridge.studio.annotation_records import SegmentMark, VideoMarks
from muybridge.studio.annotation_store import AnnotationStore
from muybridge.studio.config import StudioConfig
from muybridge.studio.projects import Project
from muybridge.studio.routes.events import ProjectWatcher
from muybridge.studio.services import Studio
from studio_client import TOKEN
from videos import write_video


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Project, ProjectWatcher]]:
    """A project with one video, a.mp4, and its watcher."""
    folder = tmp_path / "videos"
    folder.mkdir()
    write_video(folder / "a.mp4", 10)
    studio = Studio(StudioConfig(folders=(str(folder),), token=TOKEN, state_folder=str(tmp_path / "state")))
    project = studio.projects.open(str(folder))
    yield project, ProjectWatcher(studio, project)
    studio.close()


def test_changes_become_events(watched: tuple[Project, ProjectWatcher]) -> None:
    project, watcher = watched
    assert watcher.read_events() == []
    project.videos.examine("a.mp4")
    (event,) = watcher.read_events()
    assert (event.event, event.data.path, event.data.num_frames) == ("video", "a.mp4", 10)
    other = AnnotationStore(project.folder)  # another process
    mark = SegmentMark(start_seconds=0, end_seconds=1, label="walk", annotator="kim")
    written = other.replace("a.mp4", VideoMarks(segments=(mark,)), None)
    events = {event.event: event.data for event in watcher.read_events()}
    assert events["annotations"] == {"path": "a.mp4", "revision": written.revision}
    assert events["classes"] == {"revision": project.classes.read_revision()}
    assert watcher.read_events() == []


def test_a_revision_told_is_the_newest_one(
    watched: tuple[Project, ProjectWatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stored while videos and jobs are read is told with them: the page need not read an older state again."""
    project, watcher = watched
    first, last = (
        VideoMarks(segments=(SegmentMark(start_seconds=0, end_seconds=end, label="walk", annotator="kim"),))
        for end in (1, 2)
    )
    project.annotations.replace("a.mp4", first, None)
    revisions = []

    def count() -> dict[str, int]:
        revisions.append(project.annotations.replace("a.mp4", last, None).revision)
        return {}

    monkeypatch.setattr(project.timelines, "count", count)
    told = [event.data["revision"] for event in watcher.read_events() if event.event == "annotations"]
    assert told == revisions
