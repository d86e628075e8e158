"""Listing the videos of files, folders, lists and prepared folders.

Input: paths. Output: names of videos in a fixed order. A missing file stays in the list, so that it fails under its own name
and the other videos are still processed; so does a row of a list that cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from muybridge.datasets.rows import check_time_origin
from muybridge.datasets.source_rates import describe_rates
from muybridge.datasets.video_files import SkippedFiles, iterate_videos
from muybridge.datasets.video_list import is_video_list, read_video_list
from muybridge.prediction.prepared_videos import list_prepared_videos
from muybridge.prediction.recognizer import Prediction
from muybridge.prediction.segments import get_file_name
from muybridge.prediction.video_inputs import ADDRESS
from muybridge.records import TimeOrigin
from muybridge.text import format_count
from muybridge.video.pictures import is_frame_folder


@dataclass(frozen=True)
class VideoInputs:
    """Names of videos, `problems` of those that stand for a row that cannot be read, and what a user should know.

    A segment of a file is named as in a manifest, `clips/long.mkv#1.5-4` (`prediction/segments.py`). `rates`, in frames a
    second, are of videos that are stored without one.
    """

    videos: tuple[str, ...]
    problems: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)

    @property
    def readable_videos(self) -> tuple[str, ...]:
        """The videos without those of `problems`."""
        return tuple(video for video in self.videos if video not in self.problems)

    @property
    def has_segments(self) -> bool:
        """Whether one of the videos is a segment of a file."""
        return any(get_file_name(video) != video for video in self.videos)

    def get_rates(self, videos: Sequence[str]) -> list[float | None]:
        """The rate of each of some of the videos; None: not given."""
        return [self.rates.get(video) for video in videos]

    def make_absolute(self) -> VideoInputs:
        """The same videos by absolute paths, for other processes."""
        names = {video: video if video in self.problems else str(Path(video).absolute()) for video in self.videos}
        return replace(
            self,
            videos=tuple(dict.fromkeys(names.values())),
            rates={names[video]: rate for video, rate in self.rates.items()},
        )

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


def list_videos(
    paths: Sequence[str | Path],
    *,
    columns: str | None = None,
    source_fps: float | None = None,
    time_origin: TimeOrigin = "picture",
) -> VideoInputs:
    """List videos without duplicates, in the order given.

    A folder gives the video files below it in order of name, without hidden ones; a prepared folder gives its videos; a list
    (.csv, .tsv, .txt, .json) gives the files or segments in its rows, relative to itself. `columns` says which columns of
    the lists are which, `source_fps` is the rate of frames stored without one where a list gives none. Raises ValueError where
    there is no path, a path is empty, a folder or list has no video, or a list gives frames that `time_origin` is not for.
    """
    videos: list[str] = []
    problems: dict[str, str] = {}
    notes: list[str] = []
    rates: dict[str, float] = {}
    for text in map(str, paths):
        path = Path(text)
        if not text.strip():
            raise ValueError("an empty name was given for a video; name files or folders")
        if ADDRESS.match(text):
            part = VideoInputs((text,), {text: "an address is not read here; save it as a file first"})
        elif path.is_dir():
            part = _list_videos_in_folder(path)
        elif is_video_list(path):
            part = _list_videos_in_list(path, columns, time_origin, source_fps)
        else:
            part = VideoInputs((str(path),))
        videos += part.videos
        problems |= part.problems
        notes += part.notes
        rates |= part.rates
    if not videos:
        raise ValueError("no video was given; name files or folders")
    if columns is not None and not any(is_video_list(Path(path)) for path in paths):
        raise ValueError("--columns is for lists, but no list was given; leave it out")
    different = tuple(dict.fromkeys(videos))
    if num_duplicates := len(videos) - len(different):
        notes.append(f"{format_count(num_duplicates, 'duplicate')} left out; each video or segment is read once")
    without_rate = [video for video in different if video not in rates and video not in problems]
    notes += describe_rates(list(dict.fromkeys(map(get_file_name, without_rate))), source_fps)
    if source_fps is not None:
        rates |= dict.fromkeys(without_rate, source_fps)
    return VideoInputs(different, problems, tuple(notes), rates)


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


def _list_videos_in_list(
    path: Path, columns: str | None, time_origin: TimeOrigin, source_fps: float | None
) -> VideoInputs:
    videos = read_video_list(path, columns=columns, needs_labels=False, source_fps=source_fps)
    if any(row.bounds_in_frames for row in videos.rows):
        check_time_origin(videos.rows, time_origin)
    names_by_line = {
        line_number: str(path.parent / (row.path if row.is_whole_file else row.segment_name))
        for line_number, row in zip(videos.line_numbers, videos.rows, strict=True)
    }
    row_rates = [row.source_fps for row in videos.rows]
    rates = {name: rate for name, rate in zip(names_by_line.values(), row_rates, strict=True) if rate is not None}
    names = list(names_by_line.items())
    problems = {f"{path}, line {number}": f"the line {problem}" for number, problem in videos.problems}
    names += [(number, f"{path}, line {number}") for number, _ in videos.problems]
    if not names:
        raise ValueError(f"{path} lists no video")
    return VideoInputs(tuple(name for _, name in sorted(names)), problems, videos.notes, rates)
