"""The state of a video's file, by the name of the video."""

from __future__ import annotations

from pathlib import Path

from muybridge.files.file_state import FileState, read_path_state
from muybridge.prediction.prepared_videos import find_prepared_folder
from muybridge.prediction.segments import get_file_name
from muybridge.prepared.dataset import DESCRIPTION


def read_file_state(video: str) -> FileState | None:
    """The state of a video's file, or of the description of the prepared data it lies in. None for what is not there."""
    state = read_path_state(video) or read_path_state(get_file_name(video))
    if state is None and (folder := find_prepared_folder(Path(video))):
        return read_path_state(folder / DESCRIPTION)
    return state
