"""Atomic writes: under its name a file is either complete or absent."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PARTIAL = ".partial"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`; at the end of the block it is synced and renamed to `path`.

    If the block raises or the process dies, `path` is unchanged. Only a killed process leaves its temporary file behind; see
    `remove_partial_files`. A missing folder is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PARTIAL)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_get_umask())  # mkstemp makes the file private to its owner
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_partial(path: Path) -> bool:
    """Whether a file is a temporary one of `atomic_write`, left behind by a killed process."""
    return path.name.startswith(".") and path.suffix == _PARTIAL


def remove_partial_files(folder: Path) -> None:
    """Removes the temporary files of killed processes under a folder. No other process may be writing to it."""
    for path in [path for path in folder.rglob(f".*{_PARTIAL}") if is_partial(path)]:
        path.unlink()


def _get_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")
