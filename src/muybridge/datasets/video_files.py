"""Video files below a folder, and the files that a list means: links are followed, names are compared in Unicode's form NFC.

Files are listed but not opened: the extension decides whether a file is taken for a video.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from muybridge.text import format_count, join_names
from muybridge.video.pictures import STORED_FRAMES_EXTENSIONS, is_animation, is_frame_folder

# fmt: off
VIDEO_EXTENSIONS = frozenset((
    "3g2", "3gp", "amv", "apng", "asf", "avi", "avif", "divx", "dv", "f4v", "flv", "gif", "h264", "h265", "hevc", "ivf",
    "m1v", "m2t", "m2ts", "m2v", "m4v", "mj2", "mjpeg", "mjpg", "mkv", "mov", "mp4", "mpe", "mpeg", "mpg", "mpv", "mts",
    "mxf", "nut", "ogm", "ogv", "qt", "rm", "rmvb", "ts", "vob", "webm", "webp", "wmv", "xvid", "y4m",
))
# fmt: on
_MAX_SEARCHED_SUBFOLDERS = 20

_Identity = tuple[int, int]  # device and inode of a folder


def is_visible(name: str) -> bool:
    """Whether a file or folder is neither hidden nor an archive's metadata folder."""
    return not name.startswith(".") and name != "__MACOSX"


def has_video_extension(name: str) -> bool:
    """Whether a file name ends in one of VIDEO_EXTENSIONS, in any case."""
    _, dot, suffix = name.rpartition(".")
    return bool(dot) and suffix.lower() in VIDEO_EXTENSIONS | STORED_FRAMES_EXTENSIONS


def path_exists(path: Path) -> bool:
    """Whether a file or folder is there; not where no file system takes the path: too long for a name, or with a NUL."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises for these up to Python 3.11


def normalize_unicode(name: str) -> str:
    """A name in Unicode's form NFC: folders from a Mac spell accents in two characters."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


@dataclass
class SkippedFiles:
    """What a walk leaves out: files by extension, links to nothing, links to a folder that contains them."""

    num_files: Counter[str] = field(default_factory=Counter)
    broken_links: list[str] = field(default_factory=list)
    cyclic_links: list[str] = field(default_factory=list)

    def describe(self, root: str | Path) -> list[str]:
        """A note for each kind."""
        notes = []
        if num_files := self.num_files.total():
            verb = "is" if num_files == 1 else "are"
            counts = [f"{count} {extension}" for extension, count in sorted(self.num_files.items())]
            notes.append(
                f"{format_count(num_files, 'file')} in {root} {verb} left out, not called like a video: {join_names(counts)}."
            )
        for links, target in ((self.broken_links, "nothing"), (self.cyclic_links, "a folder that they are in")):
            if links:
                notes.append(f"Links to {target} are left out: {join_names(links)}.")
        return notes


def iterate_videos(
    root: str | Path, folder: str = "", skipped: SkippedFiles | None = None, *, follow_links: bool = True
) -> Iterator[str]:
    """Paths of the videos below root/folder, relative to root, in sorted order, without hidden ones.

    Links to folders are followed, except to a folder that contains the link. What is left out is added to `skipped`.
    """
    path = Path(root, folder).resolve()
    ancestors = frozenset(map(_identify, (path, *path.parents)))
    for video, is_behind_link in _iterate_folder(str(root), folder, ancestors, skipped or SkippedFiles()):
        if follow_links or not is_behind_link:
            yield video


def _iterate_folder(
    root: str, folder: str, ancestors: frozenset[_Identity], skipped: SkippedFiles
) -> Iterator[tuple[str, bool]]:
    """Each video, and whether a link leads to its folder."""
    with os.scandir(Path(root, folder)) as entries:
        visible = [(entry.name, entry.is_dir(), entry.is_symlink()) for entry in entries if is_visible(entry.name)]
    for name, is_folder, is_link in sorted(visible):
        path = f"{folder}/{name}" if folder else name
        if is_folder and is_frame_folder(Path(root, path)):
            yield path, is_link
        elif is_folder:
            identity = _identify(Path(root, path))
            if identity in ancestors:
                skipped.cyclic_links.append(path)
            else:
                for video, is_behind_link in _iterate_folder(root, path, ancestors | {identity}, skipped):
                    yield video, is_behind_link or is_link
        elif has_video_extension(name) or is_animation(Path(root, path)):
            yield path, False  # a link to nothing too: that video is missing
        elif is_link and not Path(root, path).exists():
            skipped.broken_links.append(path)
        else:
            skipped.num_files[PurePosixPath(name).suffix.lower() or "without extension"] += 1


def _identify(path: Path) -> _Identity:
    status = path.stat()
    return status.st_dev, status.st_ino


class VideoFinder:
    """Finds the file that a list means by a path, below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names_by_folder: dict[Path, dict[str, str]] = {}
        self._subfolders: list[str] | None = None
        self._paths_by_stem: dict[str, list[str]] | None = None
        self.searched: dict[str, str] = {}  # path in the list -> file, where it was not found under its path

    def find(self, *paths: str) -> str | None:
        """The first of `paths` that exists, relative to the root, as the file system spells it; None if there is none.

        A path is also looked for with `/` for a backslash, in the other Unicode forms, and in the folders directly below
        the root; without an extension, it is also looked for as the name of a video without its extension.
        """
        for path in paths:
            if self._exists(path):
                return path
        for path in paths:
            if (file := self._search(path)) is not None:
                self.searched[path] = file
                return file
        return None

    def _search(self, path: str) -> str | None:
        spelled = path if "/" in path else path.replace("\\", "/")
        if self._exists(spelled):
            return spelled
        if not spelled.isascii() and (file := self._find_normalized(spelled)) is not None:
            return file
        in_subfolders = [f"{name}/{spelled}" for name in self._list_subfolders() if self._exists(f"{name}/{spelled}")]
        if len(in_subfolders) == 1:
            return in_subfolders[0]
        if "." in PurePosixPath(spelled).name:
            return None
        candidates = self._find_stem(PurePosixPath(spelled).name)
        return candidates[0] if len(candidates) == 1 else None

    def _exists(self, path: str) -> bool:
        return bool(path) and path_exists(self.root / path)

    def _find_normalized(self, path: str) -> str | None:
        folder = Path("/") if path.startswith("/") else self.root
        names: list[str] = []
        for part in PurePosixPath(path).parts:
            if part == "/":
                continue
            name = part if path_exists(folder / part) else self._list_names(folder).get(normalize_unicode(part))
            if name is None:
                return None
            names.append(name)
            folder /= name
        return ("/" if path.startswith("/") else "") + "/".join(names)

    def _list_names(self, folder: Path) -> dict[str, str]:
        if folder not in self._names_by_folder:
            names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
            self._names_by_folder[folder] = {normalize_unicode(name): name for name in names}
        return self._names_by_folder[folder]

    def _list_subfolders(self) -> list[str]:
        if self._subfolders is None:
            names = [name for name in self._list_names(self.root).values() if is_visible(name)]
            folders = [name for name in names if (self.root / name).is_dir()]
            self._subfolders = folders if len(folders) <= _MAX_SEARCHED_SUBFOLDERS else []
        return self._subfolders

    def _find_stem(self, stem: str) -> Sequence[str]:
        if self._paths_by_stem is None:
            self._paths_by_stem = {}
            for path in iterate_videos(self.root):
                self._paths_by_stem.setdefault(PurePosixPath(path).stem, []).append(path)
        return self._paths_by_stem.get(stem, ())
