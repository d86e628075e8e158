"""`TimelineStore`: the predictions of a project along its videos, a folder each in `.muybridge/predictions`.

Probabilities are a memory-mapped array (classes, windows), so that a curve of a long video is read without the others and the
server's memory does not grow with the video. Nothing here needs a network or torch.
"""

from __future__ import annotations

import json
import math
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from pydantic import Field

from muybridge.files.atomic import write_json
from muybridge.models.heads import Head
from muybridge.parsing import parse_record, read_json_object
from muybridge.prediction.timeline import Segment, Window
from muybridge.studio.annotation_records import StudioRecord, current_time
from muybridge.studio.annotation_store import STUDIO_FOLDER
from muybridge.studio.curves import reduce_curves, select_windows
from muybridge.studio.errors import StudioError
from muybridge.text import join_names

MAX_POINTS = 4000
MAX_SEGMENTS = 4000
_NUM_DEFAULT_CURVES = 12
_FORMAT = 2  # 1 had no head
_FileKey = tuple[int, int]


class TimelineInfo(StudioRecord):
    """A network's prediction along one video."""

    id: str
    path: str
    model: str
    created: datetime
    classes: tuple[str, ...]
    num_windows: int
    duration_seconds: float
    stale: bool = Field(description="The network was trained further, or the video changed")
    video_changed: bool = Field(description="Its times are of another version of the video: nothing is suggested by it")


class CurveSeries(StudioRecord):
    """The probabilities of one class."""

    label: str
    probabilities: tuple[float | None, ...]


class CurveWindow(StudioRecord):
    """Curves of a part of a video, which share `seconds`."""

    start_seconds: float
    end_seconds: float
    num_windows: int
    is_exact: bool
    seconds: tuple[float, ...]
    curves: tuple[CurveSeries, ...]


class SegmentInfo(StudioRecord):
    """A merged segment of a prediction."""

    label: str
    start_seconds: float
    end_seconds: float
    mean_probability: float


class SegmentWindow(StudioRecord):
    """Segments of a part of a video; `total` counts those that were left out, too."""

    segments: tuple[SegmentInfo, ...]
    total: int


@dataclass(frozen=True)
class TimelineArrays:
    """Windows along a video: starts and ends float64 (W,), probabilities float32 (C, W), `gaps` before these windows."""

    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    probabilities: NDArray[np.float32]
    gaps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        arrays = (self.starts, self.ends, self.probabilities)
        shapes = [array.shape for array in arrays]
        if any(array.dtype.kind != "f" for array in arrays) or [len(shape) for shape in shapes] != [1, 1, 2]:
            raise ValueError("starts, ends and probabilities are no arrays of numbers")
        if not shapes[0] == shapes[1] == shapes[2][1:]:
            raise ValueError(
                f"starts, ends and probabilities have the shapes {join_names(shapes)}, expected (W,), (W,) and (C, W)"
            )
        if not (np.isfinite(self.starts).all() and np.isfinite(self.ends).all()):
            raise ValueError("starts and ends hold numbers that are not finite")

    @classmethod
    def from_windows(cls, windows: Sequence[Window], gaps: tuple[int, ...] = ()) -> TimelineArrays:
        """The arrays of windows in order of time."""
        return cls(
            np.array([window.start_seconds for window in windows]),
            np.array([window.end_seconds for window in windows]),
            np.array([window.probabilities for window in windows], np.float32).T,
            gaps,
        )

    @property
    def centers(self) -> NDArray[np.float64]:
        """The middle of each window."""
        return (self.starts + self.ends) / 2


@dataclass(frozen=True)
class _StoredSegments:
    gaps: tuple[int, ...]
    segments: tuple[SegmentInfo, ...]


@dataclass(frozen=True)
class StoredTimeline:
    """A prediction on disk. `weights` and `video` are paths with time of change and size, to see that they changed.

    `head` is that of a network whose classes do not exclude each other, or are levels.
    """

    id: str
    path: str
    model: str
    created: str
    classes: tuple[str, ...]
    num_windows: int
    duration_seconds: float
    weights: str
    weights_key: _FileKey | None
    video_key: _FileKey | None
    head: Head | None = None
    format: int = _FORMAT


class TimelineStore:
    """The predictions of a project. An id is that of the project and the end of a folder's name, whatever the file says.

    So those of a project that was copied or moved belong to where it is now.
    """

    def __init__(self, project_id: str, project_folder: Path) -> None:
        self.project_id = project_id
        self.project_folder = project_folder
        self.folder = project_folder / STUDIO_FOLDER / "predictions"

    def write(self, values: Mapping[str, Any], arrays: TimelineArrays, segments: Sequence[Segment]) -> str:
        """Store a prediction, in place of an older one of the same network along the same video; returns its id.

        `values` are the fields of `StoredTimeline` but for those that follow from the arrays.
        """
        timeline_id = f"{self.project_id}-{secrets.token_hex(6)}"
        weights = Path(values["weights"])
        if weights.is_relative_to(self.project_folder):  # so that they are there when the project was moved
            values = {**values, "weights": str(weights.relative_to(self.project_folder))}
        stored = StoredTimeline(
            id=timeline_id, num_windows=len(arrays.starts), created=current_time().isoformat(), **values
        )
        folder = self.folder / timeline_id
        folder.mkdir(parents=True)
        np.save(folder / "starts.npy", arrays.starts)
        np.save(folder / "ends.npy", arrays.ends)
        np.save(folder / "probabilities.npy", np.ascontiguousarray(arrays.probabilities, np.float32))
        write_json(
            folder / "segments.json", {"gaps": arrays.gaps, "segments": [asdict(segment) for segment in segments]}
        )
        write_json(folder / "prediction.json", asdict(stored))  # last: without it the folder is none
        for other in self._list_folders():
            older = self._read_stored(other)
            if (older.path, older.model) == (stored.path, stored.model) and other != folder:
                shutil.rmtree(other)
        return timeline_id

    def list_timelines(self, path: str | None = None) -> list[TimelineInfo]:
        """The predictions of the project or of one video, newest first."""
        stored = [one for one in self._read_all() if path is None or one.path == path]
        stored.sort(key=lambda one: (one.created, one.id), reverse=True)
        return [self._describe(one) for one in stored]

    def count(self) -> dict[str, int]:
        """The number of predictions of each video that has any."""
        counts: dict[str, int] = {}
        for stored in self._read_all():
            counts[stored.path] = counts.get(stored.path, 0) + 1
        return counts

    def get(self, timeline_id: str) -> TimelineInfo:
        """A prediction. Raises StudioError(404) where there is none of this id."""
        return self._describe(self._read_stored(self._find_folder(timeline_id)))

    def read_head(self, timeline_id: str) -> Head | None:
        """The head of the network of a prediction, None where its classes exclude each other."""
        return self._read_stored(self._find_folder(timeline_id)).head

    def remove(self, timeline_id: str) -> None:
        """Delete a prediction."""
        shutil.rmtree(self._find_folder(timeline_id))

    def read_arrays(self, timeline_id: str) -> TimelineArrays:
        """The windows of a prediction; probabilities are memory-mapped."""
        folder = self._find_folder(timeline_id)
        stored, gaps = self._read_stored(folder), _read_segments(folder).gaps
        try:
            names = ("starts", "ends", "probabilities")
            starts, ends, probabilities = (open_memmap(folder / f"{name}.npy", mode="r") for name in names)
            arrays = TimelineArrays(starts, ends, probabilities, gaps)
            if probabilities.shape != (len(stored.classes), stored.num_windows):
                raise ValueError(f"its probabilities have the shape {probabilities.shape}")
            return arrays
        except ValueError as error:
            raise StudioError(
                409, f"{folder} is damaged ({error}); remove this prediction and predict again"
            ) from error

    def read_curves(
        self, timeline_id: str, start_seconds: float, end_seconds: float | None, points: int, labels: Sequence[str]
    ) -> CurveWindow:
        """The curves of some classes in a part of the video; by default of those that are highest somewhere in it.

        Raises StudioError(400) for a class that the network does not have.
        """
        info = self.get(timeline_id)
        arrays = self.read_arrays(timeline_id)
        end = info.duration_seconds if end_seconds is None else end_seconds
        window = select_windows(arrays.centers, start_seconds, end)
        part = arrays.probabilities[:, window]
        indices = _choose_classes(info.classes, labels, part)
        gaps = [gap - window.start for gap in arrays.gaps]
        reduced = reduce_curves(arrays.centers[window], np.asarray(part[indices]), gaps, points)
        curves = tuple(
            CurveSeries(label=info.classes[index], probabilities=_to_json(values))
            for index, values in zip(indices, reduced.values, strict=True)
        )
        return CurveWindow(
            start_seconds=start_seconds,
            end_seconds=end,
            num_windows=part.shape[1],
            is_exact=reduced.is_exact,
            seconds=tuple(reduced.seconds.round(6).tolist()),
            curves=curves,
        )

    def read_segments(
        self, timeline_id: str, start_seconds: float = 0.0, end_seconds: float | None = None
    ) -> list[SegmentInfo]:
        """The merged segments that overlap a part of the video, in order of time."""
        segments = _read_segments(self._find_folder(timeline_id)).segments
        end = float("inf") if end_seconds is None else end_seconds
        return [one for one in segments if one.start_seconds < end and one.end_seconds > start_seconds]

    def _describe(self, stored: StoredTimeline) -> TimelineInfo:
        video_changed, network_changed = (
            read_file_key(path) != key
            for path, key in (
                (self.project_folder / stored.path, stored.video_key),
                (self.project_folder / stored.weights, stored.weights_key),
            )
        )
        return TimelineInfo(
            id=stored.id,
            path=stored.path,
            model=stored.model,
            created=datetime.fromisoformat(stored.created),
            classes=stored.classes,
            num_windows=stored.num_windows,
            duration_seconds=stored.duration_seconds,
            stale=video_changed or network_changed,
            video_changed=video_changed,
        )

    def _read_all(self) -> list[StoredTimeline]:
        return [self._read_stored(path) for path in self._list_folders()]

    def _read_stored(self, folder: Path) -> StoredTimeline:
        """The prediction in a folder. The id in the file is not used: it may be somebody else's, and any path."""
        values = read_json_object(folder / "prediction.json")
        if values.get("format") == 1:
            values |= {"head": None, "format": _FORMAT}
        if values.get("format") != _FORMAT:
            raise ValueError(
                f"{folder} has the format {values.get('format')!r}, expected 1 or {_FORMAT}; remove it and predict again"
            )
        values["id"] = place_prediction(self.project_id, folder.name)
        return parse_record(StoredTimeline, values, str(folder / "prediction.json"))

    def _list_folders(self) -> list[Path]:
        """The folders that hold a prediction. A link is none: what it leads to is not the project's."""
        folders = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        return [path for path in folders if _is_prediction(path)]

    def _find_folder(self, timeline_id: str) -> Path:
        suffix = _get_suffix(timeline_id)
        if timeline_id == place_prediction(self.project_id, timeline_id) and suffix.isalnum():
            for folder in sorted(self.folder.glob(f"*{suffix}")):
                if _get_suffix(folder.name) == suffix and _is_prediction(folder):
                    return folder
        raise StudioError(404, f"there is no prediction {timeline_id!r}")


def place_prediction(project_id: str, name: str) -> str:
    """The id of a prediction in a project, whatever project it was in when its folder was named."""
    return f"{project_id}-{_get_suffix(name)}"


def read_file_key(path: Path) -> _FileKey | None:
    """The time of change and the size of a file, None if there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    return status.st_mtime_ns, status.st_size


def _get_suffix(name: str) -> str:
    return name.rpartition("-")[2]


def _is_prediction(folder: Path) -> bool:
    return (
        _get_suffix(folder.name).isalnum()
        and (folder / "prediction.json").is_file()
        and not any(path.is_symlink() for path in (folder, *folder.iterdir()))
    )


def _read_segments(folder: Path) -> _StoredSegments:
    return parse_record(_StoredSegments, read_json_object(folder / "segments.json"), str(folder / "segments.json"))


def _choose_classes(classes: Sequence[str], labels: Sequence[str], part: NDArray[np.float32]) -> list[int]:
    unknown = [label for label in labels if label not in classes]
    if unknown:
        raise StudioError(
            400, f"the network has no class {unknown[0]!r}; its classes are {json.dumps(list(classes)[:20])}"
        )
    if labels:
        return [classes.index(label) for label in labels]
    if part.shape[1] == 0:
        return list(range(min(len(classes), _NUM_DEFAULT_CURVES)))
    highest = part.max(axis=1)
    return [int(index) for index in np.argsort(-highest, kind="stable")[:_NUM_DEFAULT_CURVES]]


def _to_json(values: NDArray[np.float32]) -> tuple[float | None, ...]:
    rounded = values.astype(np.float64).round(5).tolist()
    return tuple(value if math.isfinite(value) else None for value in rounded)
