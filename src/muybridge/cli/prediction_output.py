"""What `muybridge predict` prints of each video, or writes into the file of -o, whose extension decides the format.

| -o | without --timeline | with --timeline |
|---|---|---|
| nothing, or `-` | printed | printed |
| x.parquet, x.csv | a table of classes (`prediction_table`) | segments; .csv of one video |
| x.json, x.jsonl, x.txt | what --json and the terminal show | the same, with segments |
| x.srt | refused | subtitles of one video |
| a folder | refused | a file for each video, in the format of --timeline |
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muybridge.distributed.stop import StopFlag, stop_on_signals
from muybridge.files.atomic import check_output_file, is_stream, write_text
from muybridge.terminal import print_document, print_line
from muybridge.text import format_count

if TYPE_CHECKING:
    from rich.progress import Progress

    from muybridge.prediction.recognizer import Prediction

TABLE_EXTENSIONS = (".parquet", ".csv")
_DOCUMENT_EXTENSIONS = (".json", ".jsonl", ".txt")
_TIMELINE_EXTENSIONS = (".csv", ".json", ".jsonl", ".parquet", ".srt", ".txt")
_FORMATS_OF_ONE_VIDEO = ("csv", "srt")


@dataclass(frozen=True)
class OutputOptions:
    """Where predictions go. `file`: None for the terminal; `timeline`: the value of --timeline."""

    file: Path | None
    timeline: str | None
    json: bool

    @property
    def is_table(self) -> bool:
        """Whether the classes of all videos go into one table."""
        return self.file is not None and self.timeline is None and self.file.suffix.lower() in TABLE_EXTENSIONS

    @property
    def is_folder(self) -> bool:
        """Whether each video has a file of its own in a folder."""
        return self.file is not None and not is_stream(self.file) and (self.file.is_dir() or not self.file.suffix)

    @property
    def format(self) -> str | None:
        """The format of the file or files: by the extension, else by --timeline. None for the terminal."""
        if self.file is None:
            return None
        by_option = "txt" if self.timeline in (None, "text") else str(self.timeline)
        return by_option if self.is_folder or is_stream(self.file) else self.file.suffix.lower()[1:]

    def check(self) -> None:
        """Raises ValueError for a file whose extension is of another kind than what would be written."""
        if self.file is None or self.is_table:
            return
        if self.is_folder:
            if self.timeline is None:
                raise ValueError(
                    f"-o is {self.file}, expected a file that ends in {', '.join((*TABLE_EXTENSIONS, *_DOCUMENT_EXTENSIONS))}; "
                    "a folder is for timelines: add --timeline"
                )
            return
        if self.timeline is None and self.file.suffix.lower() == ".srt":
            raise ValueError(f"-o is {self.file}, and subtitles are of a timeline; add --timeline")
        extensions = _TIMELINE_EXTENSIONS if self.timeline else (*TABLE_EXTENSIONS, *_DOCUMENT_EXTENSIONS)
        check_output_file(self.file, extensions)
        if self.timeline not in (None, "text", self.format):
            raise ValueError(
                f"-o is {self.file} and --timeline is {self.timeline}, which are two formats; leave the value of --timeline out"
            )

    def check_videos(self, num_videos: int) -> None:
        """Raises ValueError where one file or stream cannot hold the timelines of so many videos."""
        if self.timeline is None or num_videos == 1:
            return
        if self.file is None:
            if self.timeline != "text" and not self.json:
                raise ValueError(f"--timeline {self.timeline} prints one video's timeline only; name a folder with -o")
        elif not self.is_folder and self.format in _FORMATS_OF_ONE_VIDEO:
            raise ValueError(
                f"{self.file} holds one timeline, and there are {num_videos}; name a folder, a .jsonl or a .parquet file"
            )


class VideoProgress:
    """A progress bar over videos; `update_share` moves it within one of them. With `stop`, a signal ends the work early."""

    def __init__(self, bar: Progress, num_videos: int, stop: StopFlag | None) -> None:
        self._bar, self._num_videos, self._stop = bar, num_videos, stop
        self._num_done = 0
        self._task = bar.add_task(format_count(num_videos, "video"), total=num_videos, figures=())

    @property
    def is_stopping(self) -> bool:
        """Whether a signal asks for the end."""
        return self._stop is not None and self._stop.signal_number is not None

    def update_share(self, share: float) -> bool:
        """Shows how much of the present video is done, and returns whether to go on."""
        completed = self._num_done + share
        self._bar.update(self._task, completed=completed, figures=[f"{100 * completed / self._num_videos:.0f} %"])
        return not self.is_stopping

    def update_share_or_stop(self, share: float) -> None:
        """As `update_share`; raises `StopRequested` where a signal asks for the end."""
        self.update_share(share)
        self.raise_if_stopping()

    def finish_video(self) -> None:
        """One more video is done."""
        self._num_done += 1
        self._bar.update(self._task, completed=self._num_done, figures=[f"{self._num_done}/{self._num_videos}"])

    def raise_if_stopping(self) -> None:
        """Raises `StopRequested` where a signal has ended the work."""
        if self._stop is not None:
            self._stop.raise_if_requested()


@contextmanager
def follow_videos(num_videos: int, finished_unit: str | None) -> Iterator[VideoProgress]:
    """Shows progress on a terminal. A stop signal ends the work after the `finished_unit` it is in; None: at once."""
    from muybridge.console import create_progress

    with stop_on_signals(finished_unit) if finished_unit else nullcontext() as stop, create_progress() as bar:
        yield VideoProgress(bar, num_videos, stop)


@dataclass
class PredictionOutput:
    """Prints or collects predictions one by one; `finish` writes what was collected, also when it is not all."""

    options: OutputOptions
    classes: Sequence[str]
    videos: Sequence[str]
    _collected: list[Prediction] = field(default_factory=list)

    def add(self, prediction: Prediction) -> None:
        """Prints a prediction, or writes or keeps it for the file."""
        options, failed = self.options, prediction.status != "ok"
        prints_timeline_only = options.timeline not in (None, "text") and options.file is None and not options.json
        if options.json:
            print_line(json.dumps(self._make_json(prediction)))
        elif prints_timeline_only and not failed:
            print_document(self._format_timeline(prediction, str(options.timeline)))
        elif failed or options.file is None or options.is_folder:
            for line in self._list_lines(prediction, with_segments=options.timeline == "text"):
                print_line(line)
        if prediction.reason and not failed and not options.json and (self._is_collected or prints_timeline_only):
            print_line(f"{prediction.video}: {prediction.reason}", error=True)
        if options.is_folder and not failed:
            self._write_into_folder(prediction)
        elif self._is_collected:
            self._collected.append(prediction)

    @property
    def _is_collected(self) -> bool:
        """Whether one file holds all predictions."""
        return self.options.file is not None and not self.options.is_folder

    def finish(self) -> None:
        """Writes the file of all predictions, if there is one."""
        path, predictions = self.options.file, self._collected
        if path is None or self.options.is_folder:
            return
        readable = [prediction for prediction in predictions if prediction.status == "ok"]
        if self.options.timeline and not readable:
            return
        if self.options.format == "parquet":
            from muybridge.prediction.timeline_files import write_segments_table

            write_segments_table(path, readable)
        else:
            write_text(path, self._format_document(predictions, readable))
        print_line(f"wrote {path}", error=True)

    def _format_document(self, predictions: Sequence[Prediction], readable: Sequence[Prediction]) -> str:
        timeline, extension = self.options.timeline, str(self.options.format)
        if timeline and len(self.videos) == 1 and extension != "jsonl":
            return self._format_timeline(readable[0], extension)
        values = [self._make_json(prediction) for prediction in predictions]
        match extension:
            case "json":
                return json.dumps(values, indent=2) + "\n"
            case "jsonl":
                return "".join(f"{json.dumps(value)}\n" for value in values)
            case _:
                lines = (self._list_lines(prediction, with_segments=timeline is not None) for prediction in predictions)
                return "".join(f"{line}\n" for of_video in lines for line in of_video)

    def _write_into_folder(self, prediction: Prediction) -> None:
        from muybridge.prediction.timeline_files import resolve_timeline_path

        assert self.options.file is not None, "a folder is given"
        extension = str(self.options.format)
        path = resolve_timeline_path(prediction.video, self.videos, extension, self.options.file)
        write_text(path, self._format_timeline(prediction, extension))
        print_line(f"wrote {path}", error=True)

    def _make_json(self, prediction: Prediction) -> dict[str, Any]:
        from muybridge.prediction.timeline_files import make_timeline_json

        values = prediction.to_json()
        return {**values, "timeline": make_timeline_json(prediction, self.classes)} if self.options.timeline else values

    def _format_timeline(self, prediction: Prediction, timeline_format: str) -> str:
        from muybridge.prediction.timeline_files import format_timeline

        return format_timeline(prediction, self.classes, timeline_format)

    def _list_lines(self, prediction: Prediction, *, with_segments: bool) -> list[str]:
        """The lines for people."""
        from muybridge.prediction.timeline_files import list_segment_lines

        if prediction.status != "ok":
            return [prediction.video, f"  {prediction.status}: {prediction.reason}"]
        lines = [f"  {value:10.4g} {unit:<3} {name}" for name, value, unit in prediction.values]
        predicted = prediction.labels or ()
        lines += [
            f"  {100 * probability:5.1f} %  {label}{'  *' if label in predicted else ''}"
            for label, probability in prediction.classes
        ]
        lines += [f"  ({prediction.reason})"] if prediction.reason else []
        lines += [f"  {line}" for line in list_segment_lines(prediction)] if with_segments else []
        return [prediction.video, *lines]
