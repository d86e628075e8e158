"""Locks on folders: one process writes a run, a prepared folder, a study or an unfinished table at a time.

A lock is `flock` on a file in the folder, so it ends with its owner however that dies, and a lock file that was left behind
locks nothing. Where the file system has no locks, the folder is used without one, and a line says so (docs/reliability.md).
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from muybridge.terminal import print_line

LOCK_NAME = ".lock"
_HELD_ERRNOS = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_MAX_OWNER_BYTES = 200
_MAX_ATTEMPTS = 100
_held_descriptors: set[int] = set()


@contextmanager
def lock_folder(folder: Path, *, name: str = LOCK_NAME, subject: Path | None = None) -> Iterator[None]:
    """Locks a folder for the duration of the block, and creates it where it is missing.

    Raises ValueError where another process holds the lock, or where `folder` is a file; the sentence names `subject`, by
    default the folder. Folders that were created here and are empty at the end are removed. Child processes do not inherit
    the lock.
    """
    with hold_lock(folder, name=name, subject=subject) as problem:
        if problem:
            raise ValueError(problem)
        yield


def find_folder_problem(folder: Path) -> str | None:
    """A sentence where a path to be written into is neither a folder nor free to become one."""
    if folder.exists() and not folder.is_dir():
        return f"{folder} is a file; name a folder with -o"
    if folder.is_symlink() and not folder.exists():
        return f"{folder} is a link to {folder.readlink()}, which does not exist; create it, or name another folder with -o"
    return None


@contextmanager
def hold_lock(folder: Path, *, name: str = LOCK_NAME, subject: Path | None = None) -> Iterator[str]:
    """As `lock_folder`, but yields a sentence where the folder cannot be locked, else an empty string."""
    if problem := find_folder_problem(folder):
        yield problem
        return
    new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    path = folder / name
    descriptor = _open_locked(path)
    if descriptor is None:
        yield f"{subject or folder} is being written by {_read_owner(path)}; wait until it ends, or name another output with -o"
        return
    try:
        yield ""
    finally:
        if descriptor in _held_descriptors:  # else this is a forked child, which has closed it
            if _is_same_file(path, descriptor):
                path.unlink(missing_ok=True)
            _close(descriptor)
            with suppress(OSError):
                for new_folder in new_folders:
                    new_folder.rmdir()  # succeeds where it is empty


def _open_locked(path: Path) -> int | None:
    """The descriptor of the lock file, locked; None where another process holds the lock."""
    _release_in_forked_children()
    while True:
        descriptor = _create(path)
        _held_descriptors.add(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD_ERRNOS:
                _close(descriptor)
                return None
            print_line(
                f"muybridge: {path.parent} is not locked, since its file system has no locks ({error.strerror}); "
                "let only one process write there",
                error=True,
            )
        if _is_same_file(path, descriptor):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return descriptor
        _close(descriptor)  # its last owner removed it between open and flock


def _create(path: Path) -> int:
    """The descriptor of the lock file, created with its folder.

    The folder's last owner, who had created it, may remove it between any two calls. Raises ValueError for a link: somebody
    else's run or project would have the file emptied that it leads to.
    """
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except (FileNotFoundError, FileExistsError):
            if attempt == _MAX_ATTEMPTS:
                raise
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ValueError(f"{path} is a link, expected a file of the folder's own; remove it") from error
            raise
    raise AssertionError("the last attempt returns or raises")


def _close(descriptor: int) -> None:
    _held_descriptors.discard(descriptor)
    os.close(descriptor)


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _read_owner(path: Path) -> str:
    try:
        return path.read_bytes()[:_MAX_OWNER_BYTES].decode(errors="replace") or "another process"
    except OSError:
        return "another process"


@cache
def _release_in_forked_children() -> None:
    """A forked child shares its parent's locks, and would keep them after the parent's end."""
    os.register_at_fork(after_in_child=_close_held_descriptors)


def _close_held_descriptors() -> None:
    for descriptor in _held_descriptors:
        os.close(descriptor)
    _held_descriptors.clear()
