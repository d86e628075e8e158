"""Atomic writes: under its name a file is either complete or absent.

A temporary file is locked by the process that writes it, so the leftover of a killed process is told from a file that is
being written. Devices and pipes are written directly: renaming over them would replace them by a file.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_PARTIAL = ".partial"
# Eight characters were drawn by mkstemp in versions before 0.3.
_PARTIAL_NAME = re.compile(r"\..+\.[a-z0-9_]{8}(\.muybridge)?\.partial", re.DOTALL)
_NUM_NAME_CHARACTERS = 100  # of the file's name in its temporary name: the longest allowed name stays writable


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`; at the end of the block it is synced and renamed to `path`.

    If the block raises or the process dies, `path` is unchanged. Only a killed process leaves its temporary file behind; the
    next write of the same file removes it. A missing folder is created. Where `path` is a link, its target is replaced; a
    device or a pipe is written directly, after the block. Raises ValueError where `path` is a folder.
    """
    check_output_file(path)
    if is_stream(path):
        with tempfile.TemporaryDirectory(prefix="muybridge-") as folder:
            temporary = Path(folder, path.name)
            temporary.touch()
            yield temporary
            _copy_to_stream(temporary, path)
        return
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers_of(target)
    temporary, descriptor = _create_partial(target)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(descriptor)  # and with it the lock


def check_output_file(path: Path, extensions: Sequence[str] = ()) -> None:
    """Raises ValueError where a folder has this name, or where a file would not have one of the extensions (`.parquet`).

    A device or a pipe may have any name; `-`, which is standard output to some commands, is none.
    """
    if str(path) == "-":
        raise ValueError("- is not the name of a file; write /dev/stdout for standard output")
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder; name a file to write in it, such as {path / 'output'}{next(iter(extensions), '')}"
        )
    if extensions and path.suffix.lower() not in extensions and not is_stream(path):
        expected = " or ".join(extensions)
        fault = "would be called like a file of another kind" if path.suffix else "has no extension"
        raise ValueError(
            f"{path} {fault}; give it a name that ends in {expected}, such as {path.with_suffix(extensions[0])}"
        )


def check_not_input(path: Path, inputs: Iterable[str | Path | None]) -> None:
    """Raises ValueError where an output is one of the files that are read, which writing it would destroy.

    A part of a video, `match.mp4#10-20`, is its file.
    """
    for name in [str(name) for name in inputs if name is not None]:
        for file in (Path(name), Path(name.rpartition("#")[0] or name)):
            with suppress(OSError):  # an input or output that does not exist
                if path.samefile(file) and not is_stream(path):
                    raise ValueError(f"the output {path} is also an input, and would replace it; give it another name")


def is_stream(path: Path) -> bool:
    """Whether writing to `path` means writing to a device, a pipe or an open file of a process, as with /dev/stdout."""
    if _find_process_link(path):
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def is_partial(path: Path) -> bool:
    """Whether a file is a temporary one of `atomic_write`, by its name."""
    return _PARTIAL_NAME.fullmatch(path.name) is not None


def remove_partial_files(folder: Path) -> None:
    """Removes the temporary files that killed processes left under a folder; those that are being written stay."""
    for path in [path for path in folder.rglob(f".*{_PARTIAL}") if is_partial(path)]:
        _remove_if_abandoned(path)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def _create_partial(target: Path) -> tuple[Path, int]:
    """A new temporary file and its locked descriptor. The kernel applies the umask, which nobody has to read."""
    while True:
        name = f".{target.name[:_NUM_NAME_CHARACTERS]}.{secrets.token_hex(4)}.muybridge{_PARTIAL}"
        temporary = target.with_name(name)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink > 0:
            return temporary, descriptor
        os.close(descriptor)  # another process took it for a leftover before it was locked


def _remove_leftovers_of(target: Path) -> None:
    """Removes the temporary files that killed processes left of one file."""
    prefix = f".{target.name[:_NUM_NAME_CHARACTERS]}."
    with os.scandir(target.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(prefix)]
    for name in names:
        path = target.with_name(name)
        if path.suffix == _PARTIAL and is_partial(path):
            _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    """Removes a temporary file unless a process holds its lock, or the file system has no locks to tell."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return  # renamed meanwhile, or another user's
    try:
        if _try_lock(descriptor):
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _find_process_link(path: Path) -> Path | None:
    """What a path such as /dev/stdout leads to below /proc: /proc/PID/fd/1. None for other paths."""
    link = path
    while link.is_symlink():
        folder = Path(os.path.realpath(link.parent))
        if folder.is_relative_to("/proc"):
            return folder / link.name
        link = link.parent / link.readlink()
    return None


def _copy_to_stream(source: Path, stream: Path) -> None:
    with source.open("rb") as reader, os.fdopen(_open_stream(stream), "wb") as writer:
        shutil.copyfileobj(reader, writer)


def _open_stream(stream: Path) -> int:
    """A descriptor of a device or a pipe; of an open file of this process one at the same position, also where it appends."""
    link = _find_process_link(stream)
    if link and link.parent == Path(f"/proc/{os.getpid()}/fd") and link.name.isdigit():
        sys.stdout.flush()
        sys.stderr.flush()
        return os.dup(int(link.name))
    return os.open(stream, os.O_WRONLY | os.O_CLOEXEC)
