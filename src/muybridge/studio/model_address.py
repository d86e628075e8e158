"""Which network a request means: a run of the project, a path below the allowed folders, or a name of the catalogue."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from muybridge.studio.errors import StudioError
from muybridge.studio.folders import AllowedFolders

RUNS_FOLDER = "runs"
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_CATALOGUE_NAME = re.compile(r"[a-z0-9_]+-[A-Za-z0-9_-]+")
RUN_WEIGHTS = ("best.safetensors", "last.safetensors")
_WEIGHTS_SUFFIXES = (".safetensors", ".onnx")


@dataclass(frozen=True)
class ModelAddress:
    """What the library loads, and how the page calls it."""

    address: str
    name: str


def resolve_model(text: str, folders: AllowedFolders, project_folder: Path | None = None) -> ModelAddress:
    """The network that `text` names. Raises StudioError(403) outside of the allowed folders, (404) where there is none."""
    if (
        project_folder is not None
        and _RUN_NAME.fullmatch(text)
        and (run := project_folder / RUNS_FOLDER / text).is_dir()
    ):
        return ModelAddress(str(folders.resolve(str(run))), text)
    if _CATALOGUE_NAME.fullmatch(text) and not (folders.roots[0] / text).exists():
        return ModelAddress(text, text)
    path = folders.resolve(text)
    if not path.exists():
        raise StudioError(404, f"there is no network {text!r}; name a run, a weights file or a name of the catalogue")
    if path.is_file() and path.suffix not in _WEIGHTS_SUFFIXES:
        raise StudioError(400, f"{text!r} is no weights file; expected a run folder, .safetensors or .onnx")
    return ModelAddress(str(path), path.name)


def read_change_time(address: str) -> int:
    """What differs when the network of an address was trained further or replaced; 0 for a name of the catalogue."""
    path = Path(address)
    candidates = [path / name for name in RUN_WEIGHTS] if path.is_dir() else [path]
    return max((candidate.stat().st_mtime_ns for candidate in candidates if candidate.exists()), default=0)


def check_run_name(name: str) -> str:
    """A name for a run folder. Raises ValueError for one that is no plain file name."""
    if not _RUN_NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name of a run; use letters, digits, . _ and -, beginning with a letter or digit"
        )
    return name
