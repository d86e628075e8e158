"""`AnnotationStore`: the annotations of a project, read from and written to the files beside its videos.

Every change is written at once, file by file atomically, under a lock that other processes of the server respect. Readers see
files as they are on disk: what is cached is dropped when a file changes.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TypeVar

from muybridge.files.atomic import write_text
from muybridge.files.lock import hold_lock
from muybridge.studio.annotation_files import (
    COLUMNS,
    check_columns,
    format_video,
    join_file,
    read_annotation_files,
)
from muybridge.studio.annotation_records import (
    Annotations,
    AnnotationSplit,
    EventMark,
    RejectedMark,
    ReviewedRange,
    SegmentMark,
    VideoMarks,
    current_time,
)
from muybridge.studio.errors import StudioError

STUDIO_FOLDER = ".muybridge"  # in a project, for what is not for people to read
_LOCK_NAME = "annotations.lock"
_MAX_LOCK_SECONDS = 10.0
_FilesKey = tuple[tuple[int, int, int] | None, ...]
_EMPTY = VideoMarks()
LabeledMark = TypeVar("LabeledMark", SegmentMark, EventMark, RejectedMark)


class AnnotationStore:
    """The annotations of the videos in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mutex = threading.Lock()
        self._key: _FilesKey | None = None
        self._marks: dict[str, VideoMarks] = {}
        self._texts: dict[str, tuple[VideoMarks, dict[str, str]]] = {}  # of the marks that were formatted last

    def read_all(self) -> Mapping[str, VideoMarks]:
        """The marks of all videos that have any, by path. Raises ValueError for files that cannot be read."""
        with self._mutex:
            key = self._read_key()
            if key != self._key:
                self._marks = read_annotation_files(self.folder)
                self._key = key
            return self._marks

    def read(self, path: str) -> Annotations:
        """The marks of one video."""
        return self._make_annotations(path, self.read_all().get(path, _EMPTY))

    def read_revisions(self) -> dict[str, str]:
        """The revision of each video that has marks."""
        return {path: self._compute_revision(path, marks) for path, marks in self.read_all().items()}

    def replace(self, path: str, marks: VideoMarks, revision: str | None) -> Annotations:
        """Replace the marks of a video. Raises StudioError(409) where `revision` is given and is not the present one."""
        stamped = _stamp(marks)

        def change(current: dict[str, VideoMarks]) -> None:
            present = self._compute_revision(path, current.get(path, _EMPTY))
            if revision is not None and revision != present:
                raise StudioError(409, "the annotations of this video changed meanwhile; load them again")
            current[path] = stamped

        return self._make_annotations(path, self.change(change).get(path, _EMPTY))

    def change(self, change: Callable[[dict[str, VideoMarks]], None]) -> Mapping[str, VideoMarks]:
        """Apply `change` to the marks of all videos, and write the files that differ. It may raise to change nothing.

        Returns what is stored then.
        """
        with wait_for_lock(self.folder / STUDIO_FOLDER, _LOCK_NAME):
            before = self._format(self.read_all())
            current = dict(self.read_all())
            change(current)
            current = _complete_splits({path: current[path] for path in sorted(current) if current[path] != _EMPTY})
            after = self._format(current)
            changed = [name for name in COLUMNS if _join_texts(before, name) != _join_texts(after, name)]
            if changed:
                check_columns(self.folder)
            for name in changed:
                write_text(self.folder / name, join_file(name, [_join_texts(after, name)]))
            with self._mutex:
                self._key, self._marks = self._read_key(), current
            return current

    def _format(self, marks_by_path: Mapping[str, VideoMarks]) -> dict[str, dict[str, str]]:
        """The rows of each video in each file."""
        return {path: self._format_video(path, marks) for path, marks in marks_by_path.items()}

    def _format_video(self, path: str, marks: VideoMarks) -> dict[str, str]:
        known = self._texts.get(path)
        if known is None or known[0] is not marks:
            known = self._texts[path] = (marks, format_video(path, marks))
        return known[1]

    def _compute_revision(self, path: str, marks: VideoMarks) -> str:
        """A name for a state of a video's marks: equal marks have equal ones, in whatever order they are."""
        text = "\0".join(self._format_video(path, marks).values())
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _make_annotations(self, path: str, marks: VideoMarks) -> Annotations:
        return Annotations(path=path, revision=self._compute_revision(path, marks), **dict(marks))

    def _read_key(self) -> _FilesKey:
        return tuple(_read_file_identity(self.folder / name) for name in COLUMNS)


def _join_texts(texts_by_path: Mapping[str, Mapping[str, str]], name: str) -> str:
    """All rows of a file."""
    return "".join(texts[name] for texts in texts_by_path.values())


@contextmanager
def wait_for_lock(folder: Path, name: str) -> Iterator[None]:
    """Hold a lock in a folder, and wait for others that do. Raises StudioError(503) after ten seconds."""
    deadline = time.monotonic() + _MAX_LOCK_SECONDS
    while True:
        with hold_lock(folder, name=name) as problem:
            if not problem:
                yield
                return
        if time.monotonic() > deadline:
            raise StudioError(503, problem)
        time.sleep(0.02)


def _read_file_identity(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _complete_splits(marks_by_path: Mapping[str, VideoMarks]) -> dict[str, VideoMarks]:
    """Marks in which segments without split and group have those of their video, else the split train where others have one.

    Nothing trains on a list in which some rows have a split and others, marked later, do not.
    """
    all_segments = chain.from_iterable(marks.segments for marks in marks_by_path.values())
    fallback: AnnotationSplit | None = "train" if any(segment.split for segment in all_segments) else None
    completed = {}
    for path, marks in marks_by_path.items():
        split = next((one.split for one in marks.segments if one.split), fallback)
        group = next((one.group for one in marks.segments if one.group), None)
        if any((one.split, one.group) != (one.split or split, one.group or group) for one in marks.segments):
            segments = (
                one.model_copy(update={"split": one.split or split, "group": one.group or group})
                for one in marks.segments
            )
            marks = marks.model_copy(update={"segments": tuple(segments)})
        completed[path] = marks
    return completed


def _stamp(marks: VideoMarks) -> VideoMarks:
    """The marks without duplicates, those without a time created now."""
    now = {"created": current_time()}
    return VideoMarks(
        segments=tuple(dict.fromkeys(mark if mark.created else mark.model_copy(update=now) for mark in marks.segments)),
        events=tuple(dict.fromkeys(mark if mark.created else mark.model_copy(update=now) for mark in marks.events)),
        reviewed=tuple(dict.fromkeys(marks.reviewed)),
        rejected=tuple(dict.fromkeys(mark if mark.created else mark.model_copy(update=now) for mark in marks.rejected)),
    )


def count_marks(marks: VideoMarks) -> tuple[int, int, float]:
    """The number of segments and of events, and the seconds that were reviewed."""
    return len(marks.segments), len(marks.events), _measure(marks.reviewed)


def _measure(ranges: Sequence[ReviewedRange]) -> float:
    """Seconds covered by ranges that may overlap."""
    covered, last = 0.0, 0.0
    for start, end in sorted(part.bounds for part in ranges):
        covered += max(0.0, end - max(start, last))
        last = max(last, end)
    return covered


def relabel(marks: VideoMarks, names: Mapping[str, str | None]) -> VideoMarks:
    """The marks with classes renamed; those whose new name is None are removed. What then is equal is kept once."""
    return VideoMarks(
        segments=_relabel_each(marks.segments, names),
        events=_relabel_each(marks.events, names),
        reviewed=marks.reviewed,
        rejected=_relabel_each(marks.rejected, names),
    )


def _relabel_each(marks: Sequence[LabeledMark], names: Mapping[str, str | None]) -> tuple[LabeledMark, ...]:
    kept: dict[object, LabeledMark] = {}
    for mark in marks:
        label = names.get(mark.label, mark.label)
        if label is not None:
            renamed = mark if label == mark.label else mark.model_copy(update={"label": label})
            kept.setdefault((label, mark.bounds, mark.annotator), renamed)
    return tuple(kept.values())


def list_labels(marks_by_path: Mapping[str, VideoMarks]) -> list[str]:
    """All classes of segments and events, in order of name."""
    labels = {segment.label for marks in marks_by_path.values() for segment in marks.segments}
    return sorted(labels | {event.label for marks in marks_by_path.values() for event in marks.events})
