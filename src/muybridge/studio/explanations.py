"""Explanations of the studio: where and when a network sees a class in a part of a video.

An explanation stands in the folder of the job that made it: explanation.json and maps.png, a tile a frame, which the page
draws over the video. The server reads them without a network or torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from muybridge.files.atomic import atomic_write, write_json
from muybridge.parsing import parse_record, read_json_object
from muybridge.studio.annotation_records import StudioRecord
from muybridge.studio.errors import StudioError
from muybridge.studio.job_runner import find_project_folder
from muybridge.studio.model_address import read_change_time
from muybridge.studio.timelines import read_file_key

MAPS_FILE = "maps.png"
TILE_PIXELS, TILE_COLUMNS = 16, 32
_EXPLANATION_FILE = "explanation.json"
_FORMAT = 1


class ExplainedWindow(StudioRecord):
    """A window that the network saw, and the probability of the class in it."""

    start_seconds: float
    end_seconds: float
    probability: float


class PictureBox(StudioRecord):
    """A part of a picture, as shares of its width and height."""

    left: float
    top: float
    width: float
    height: float


class Explanation(StudioRecord):
    """Where and when a network sees a class in a part of a video."""

    path: str
    model: str
    label: str
    is_predicted: bool = Field(description="Whether the class is the one that the network finds there")
    stale: bool = Field(description="The network was trained further, or the video changed")
    windows: tuple[ExplainedWindow, ...]
    seconds: tuple[float, ...] = Field(description="The frames that the network saw, in order of time")
    importance: tuple[float, ...] = Field(description="The mean evidence in each frame; the largest is 1")
    box: PictureBox = Field(description="What the network sees of the picture")
    tile_pixels: int = Field(description="Side of a tile of the maps: a frame each, row by row")
    tile_columns: int


@dataclass(frozen=True)
class StoredExplanation:
    """The contents of explanation.json, as the fields of `Explanation`; `windows` are (start, end, probability).

    `model_address`, `model_change_time` and `video_key` are of the network and the video that it was made of.
    """

    path: str
    model: str
    model_address: str
    model_change_time: int
    video_key: tuple[int, int] | None
    label: str
    is_predicted: bool
    windows: tuple[tuple[float, float, float], ...]
    seconds: tuple[float, ...]
    importance: tuple[float, ...]
    box: tuple[float, float, float, float]
    format: int = _FORMAT


def describe_inputs(model_address: str, file: Path) -> dict[str, Any]:
    """What an explanation depends on beside its request: the network and the video as they are now."""
    return {"model_change_time": read_change_time(model_address), "video_key": read_file_key(file)}


def write_explanation(folder: Path, stored: StoredExplanation, tiles: NDArray[np.uint8]) -> None:
    """Store an explanation with its tiles, uint8 (F, side, side, 4)."""
    num_rows = -(-len(tiles) // TILE_COLUMNS)
    padded = np.zeros((num_rows * TILE_COLUMNS, *tiles.shape[1:]), np.uint8)
    padded[: len(tiles)] = tiles
    grid = padded.reshape(num_rows, TILE_COLUMNS, TILE_PIXELS, TILE_PIXELS, 4).transpose(0, 2, 1, 3, 4)
    picture = Image.fromarray(grid.reshape(num_rows * TILE_PIXELS, TILE_COLUMNS * TILE_PIXELS, 4), "RGBA")
    with atomic_write(folder / MAPS_FILE) as temporary:
        picture.save(temporary, "PNG")
    write_json(folder / _EXPLANATION_FILE, asdict(stored))  # last: without it there is none


def has_explanation(folder: Path) -> bool:
    """Whether the folder of a job holds an explanation that can be read."""
    try:
        read_explanation(folder)
    except (StudioError, ValueError):
        return False
    return True


def read_explanation(folder: Path) -> Explanation:
    """The explanation in the folder of a job. Raises StudioError(409) where there is none yet."""
    path = folder / _EXPLANATION_FILE
    if not path.is_file():
        raise StudioError(409, "the job has no explanation yet; wait until it is done")
    values = read_json_object(path)
    if values.get("format") != _FORMAT:
        raise ValueError(f"{path} has the format {values.get('format')!r}, expected {_FORMAT}; explain it again")
    stored = parse_record(StoredExplanation, values, str(path))
    made_of = {"model_change_time": stored.model_change_time, "video_key": stored.video_key}
    return Explanation(
        path=stored.path,
        model=stored.model,
        label=stored.label,
        is_predicted=stored.is_predicted,
        stale=describe_inputs(stored.model_address, find_project_folder(folder) / stored.path) != made_of,
        windows=tuple(
            ExplainedWindow(start_seconds=start, end_seconds=end, probability=probability)
            for start, end, probability in stored.windows
        ),
        seconds=stored.seconds,
        importance=stored.importance,
        box=PictureBox(**dict(zip(PictureBox.model_fields, stored.box, strict=True))),
        tile_pixels=TILE_PIXELS,
        tile_columns=TILE_COLUMNS,
    )
