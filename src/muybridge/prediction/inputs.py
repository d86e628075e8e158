"""Listing the videos of files, folders, lists and prepared folders.

Input: paths. Output: names of videos in a fixed order. A missing file stays in the list, so that it fails under its own name
and the other videos are still processed; so does a row of a list that cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from muybridge.datasets.video_files import SkippedFiles, iterate_videos
from muybridge.datasets.video_list import is_video_list, read_video_list
from muybridge.prediction.prepared_videos import list_prepared_videos
from muybridge.prediction.recognizer import Prediction
from muybridge.video.pictures import is_frame_folder


@dataclass(frozen=True)
class VideoInputs:
    """Names of videos, `problems` of those that stand for a row that cannot be read, and what a user should know.

    A segment of a file is named as in a manifest, `clips/long.mkv#1.5-4` (`prediction/segments.py`).
    """

    videos: tuple[str, ...]
    problems: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def readable_videos(self) -> tuple[str, ...]:
        """The videos without those of `problems`."""
        return tuple(video for video in self.videos if video not in self.problems)

    def add_problems(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """`predictions` of the readable videos, in order, with a failed one for each problem, in its place."""
        remaining = iter(predictions)
        for video in self.videos:
            if video in self.problems:
                yield self.make_failure(video)
            else:
                yield next(remaining)

    def make_failure(self, video: str) -> Prediction:
        """The failed prediction of a row that cannot be read."""
        return Prediction(video, "unreadable", self.problems[video])


def list_videos(paths: Sequence[str | Path], *, columns: str | None = None) -> VideoInputs:
    """List videos without duplicates, in the order given.

    A folder gives the video files below it in order of name, without hidden ones; a prepared folder gives its videos; a list
    (.csv, .tsv, .txt, .json) gives the files or segments in its rows, relative to itself. `columns` says which columns of
    the lists are which. Raises ValueError where there is no path, a path is empty, or a folder or list has no video.
    """
    videos: list[str] = []
    problems: dict[str, str] = {}
    notes: list[str] = []
    for text in map(str, paths):
        path = Path(text)
        if not text.strip():
            raise ValueError("an empty name was given for a video; name files or folders")
        if path.is_dir():
            part = _list_videos_in_folder(path)
        elif is_video_list(path):
            part = _list_videos_in_list(path, columns)
        else:
            part = VideoInputs((str(path),))
        videos += part.videos
        problems |= part.problems
        notes += part.notes
    if not videos:
        raise ValueError("no video was given; name files or folders")
    return VideoInputs(tuple(dict.fromkeys(videos)), problems, tuple(notes))


def _list_videos_in_folder(folder: Path) -> VideoInputs:
    if (prepared_videos := list_prepared_videos(folder)) is not None:
        return VideoInputs(tuple(prepared_videos))
    if is_frame_folder(folder):
        return VideoInputs((str(folder),))
    skipped = SkippedFiles()
    videos = tuple(str(folder / path) for path in iterate_videos(folder, skipped=skipped))
    if not videos:
        raise ValueError(
            f"there is no video in the folder {folder}; expected files such as .mp4 or .avi, or folders of frames"
        )
    return VideoInputs(videos, notes=tuple(skipped.describe(folder)))


def _list_videos_in_list(path: Path, columns: str | None) -> VideoInputs:
    videos = read_video_list(path, columns=columns, needs_labels=False)
    names_by_line = {
        line_number: str(path.parent / (row.path if row.is_whole_file else row.segment_name))
        for line_number, row in zip(videos.line_numbers, videos.rows, strict=True)
    }
    names = list(names_by_line.items())
    problems = {f"{path}, line {number}": f"the line {problem}" for number, problem in videos.problems}
    names += [(number, f"{path}, line {number}") for number, _ in videos.problems]
    if not names:
        raise ValueError(f"{path} lists no video")
    return VideoInputs(tuple(name for _, name in sorted(names)), problems, videos.notes)
