"""Paths in requests: resolved, and refused where they lead out of the folders that the server was started with.

Links are followed before the check, so a link inside an allowed folder that points outside is refused as `..` is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from muybridge.studio.errors import StudioError

MAX_PATH_CHARACTERS = 4096


class AllowedFolders:
    """The folders that requests may name files in; the first one is what relative paths are relative to."""

    def __init__(self, folders: Sequence[str | Path]) -> None:
        self.roots = tuple(Path(folder).resolve() for folder in folders)

    def resolve(self, text: str) -> Path:
        """The path that `text` means, without links; relative ones count from the first folder.

        Raises StudioError(403) where it is in no allowed folder, StudioError(400) where it cannot be a path.
        """
        return self._check(self.roots[0] / _check_text(text), text)

    def resolve_below(self, folder: Path, text: str) -> Path:
        """The path of a file relative to `folder`, without links. Raises StudioError as `resolve`, also for `..`."""
        relative = PurePosixPath(_check_text(text))
        if relative.is_absolute() or ".." in relative.parts:
            raise StudioError(403, f"the path {text!r} is not relative to the project; name a file below its folder")
        return self._check(folder / relative, text)

    def contains(self, path: Path) -> bool:
        """Whether a path is in an allowed folder after following its links."""
        try:
            resolved = path.resolve()
        except (OSError, RuntimeError):  # a cycle of links
            return False
        return any(resolved.is_relative_to(root) for root in self.roots)

    def _check(self, path: Path, text: str) -> Path:
        if not self.contains(path):
            raise StudioError(
                403, f"{text!r} is outside of the folders of this studio; start it with --allow FOLDER to use others"
            )
        return path.resolve()


def compute_project_id(folder: Path) -> str:
    """The id of a project: twelve digits of a hash of its folder."""
    return hashlib.sha256(str(folder).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _check_text(text: str) -> str:
    """Raise StudioError(400) for a text that cannot be a path."""
    if not text or "\0" in text or len(text) > MAX_PATH_CHARACTERS:
        raise StudioError(400, f"a path has 1 to {MAX_PATH_CHARACTERS} characters and no NUL; name a file or folder")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise StudioError(400, "the path has characters that cannot be encoded; rename the file") from error
    return text
