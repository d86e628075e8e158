"""Atomic writes: a file is complete under its name, or it is not there at all."""

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
    """Yields a temporary path beside `path`; when the block ends well it is synced and takes `path`'s place in one move.

    When the block fails, or the process dies, `path` is as it was before; only a process that is killed leaves the temporary
    file, for `remove_partial_files`. The folder is made where it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PARTIAL)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_get_umask())  # mkstemp makes files private; a run folder is shared like any other
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_partial(path: Path) -> bool:
    """Whether a file is one that `written_whole` left behind when its process was killed."""
    return path.name.startswith(".") and path.suffix == _PARTIAL


def remove_partial_files(folder: Path) -> None:
    """Removes what killed processes left below a folder that no other process writes to."""
    for path in [path for path in folder.rglob(f".*{_PARTIAL}") if is_partial(path)]:
        path.unlink()


def _get_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")
