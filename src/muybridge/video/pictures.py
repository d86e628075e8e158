"""Videos that are stored as pictures or numbers: folders and archives of frames, arrays, animated WebP.

Input: a path. Output: a `PictureSequence`: how many frames there are, when they are shown, and their pixels in RGB. The frames
of a folder or an archive are in natural order (`img_2` before `img_10`). None of them is opened before it is read. Pictures
of optical flow beside the frames (`flow_x_00001.jpg`) are no frames; `video.flow_pictures` reads them.
"""

from __future__ import annotations

import lzma
import os
import re
import struct
import tarfile
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from itertools import accumulate, islice
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Literal, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from muybridge.limits import PICTURE_PIXELS, raise_if_system_is_short
from muybridge.records import FrameTimes, VideoError
from muybridge.text import format_count
from muybridge.video.array_files import open_array_file
from muybridge.video.picture_sequence import Picture, PictureSequence, make_uniform_times

IMAGE_EXTENSIONS = frozenset(("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff"))
STORED_FRAMES_EXTENSIONS = frozenset(("npy", "npz", "zip", "tar"))  # files that hold the frames of one video
FLOW_NAME = re.compile(r"((?:^|.*/))flow_([xy])(?=[^/]*$)")  # of pictures of optical flow (`flow_pictures`)
_NUM_CHECKED_NAMES = 64
_NUM_CHECKED_CHUNKS = 64  # of a PNG file, before its pixels
_MAX_PIXEL_BYTES = 8  # of a picture that is stored without compression: 16 bits of red, green, blue and opacity
_DEFAULT_ANIMATION_MILLISECONDS = 100  # what browsers take where an animated picture gives none
# What reading a damaged archive, array or picture raises besides OSError and ValueError. RuntimeError: a member has a password.
_ARCHIVE_ERRORS = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
    *(SyntaxError, tokenize.TokenError, TypeError),  # the header of an array is a Python literal
    *(EOFError, NotImplementedError, RuntimeError, LookupError, OverflowError, struct.error),
)

_Opener: TypeAlias = Callable[[str], "IO[bytes]"]


def is_picture_name(name: str) -> bool:
    """Whether a file name has the extension of a picture."""
    return name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS


def is_frame_folder(folder: str | Path) -> bool:
    """Whether a folder holds the frames of one video: pictures and nothing else, no folders among them.

    Only the first names are looked at, so that a tree of millions of frames is listed quickly; a file of another kind further
    on is an error when the frames are read.
    """
    with os.scandir(folder) as entries:
        visible = (entry for entry in entries if not entry.name.startswith(".") and entry.name != "Thumbs.db")
        names = [entry.name if not entry.is_dir() else "" for entry in islice(visible, _NUM_CHECKED_NAMES)]
    return bool(names) and all(map(is_picture_name, names)) and not is_animation(Path(folder, min(names)))


def is_animation(path: str | Path) -> bool:
    """Whether a file that is called .webp or .png is a picture of several frames."""
    extension = str(path).rpartition(".")[2].lower()
    if extension not in ("webp", "png"):
        return False
    try:
        with Path(path).open("rb") as file:
            return _is_animated_webp(file) if extension == "webp" else _is_animated_png(file)
    except OSError:
        return False


def _is_animated_webp(file: BinaryIO) -> bool:
    """The animation flag of the VP8X chunk (RFC 9649, 2.7)."""
    head = file.read(21)
    return len(head) == 21 and head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)


def _is_animated_png(file: BinaryIO) -> bool:
    """Whether a chunk acTL comes before the first chunk of pixels (PNG specification, third edition, 11.3.6.1)."""
    if file.read(8) != b"\x89PNG\r\n\x1a\n":
        return False
    for _ in range(_NUM_CHECKED_CHUNKS):
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IDAT":
            return False
        if head[4:] == b"acTL":
            return True
        file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)  # its data and checksum
    return False


def is_stored_frames(path: str | Path) -> bool:
    """Whether a path is a folder, or a file of frames that FFmpeg does not read."""
    extension = Path(path).suffix[1:].lower()
    return extension in STORED_FRAMES_EXTENSIONS or Path(path).is_dir() or (extension == "webp" and is_animation(path))


def open_pictures(path: str | Path) -> PictureSequence:
    """The frames stored at a path. Raises VideoError: missing, unreadable or no_video."""
    path = Path(path)
    if not path.exists():
        raise VideoError("missing", "the file does not exist")
    try:
        if (stored := StoredPictures.open(path)) is not None:
            return _make_picture_sequence(stored)
        return open_array_file(path) if path.suffix.lower() in (".npy", ".npz") else _open_animation(path)
    except (*_ARCHIVE_ERRORS, OSError, ValueError) as error:
        raise_if_system_is_short(error)
        raise VideoError("unreadable", f"the file is damaged or no video ({error})") from error


@dataclass(frozen=True)
class StoredPictures:
    """The files of a folder or an archive: all names, how to open one, and what it is called in messages."""

    names: Sequence[str]
    open_picture: _Opener
    kind: str

    @classmethod
    def open(cls, path: Path) -> StoredPictures | None:
        """List a folder, a zip or a tar; None for another file."""
        if path.is_dir():
            return _list_folder(path)
        match path.suffix.lower():
            case ".zip":
                return _list_zip(path)
            case ".tar":
                return _list_tar(path)
            case _:
                return None

    def list_frames(self) -> list[str]:
        """The pictures that are no flow, in natural order."""
        return self._sort_pictures(name for name in self.names if not FLOW_NAME.match(name))

    def list_flow(self, axis: Literal["x", "y"]) -> list[str]:
        """The pictures of one direction of flow, in natural order."""
        matches = ((name, FLOW_NAME.match(name)) for name in self.names)
        return self._sort_pictures(name for name, match in matches if match and match[2] == axis)

    @staticmethod
    def _sort_pictures(names: Iterable[str]) -> list[str]:
        return sorted(filter(is_picture_name, names), key=_make_natural_key)


def _list_folder(folder: Path) -> StoredPictures:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if _is_visible(entry.name)]
    return StoredPictures(names, lambda name: Path(folder, name).open("rb"), "folder")


def _list_zip(path: Path) -> StoredPictures:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in dict.fromkeys(archive.namelist()) if not name.endswith("/") and _is_visible(name)]

    def open_member(name: str) -> IO[bytes]:
        with zipfile.ZipFile(path) as archive:
            _check_picture_bytes(archive.getinfo(name).file_size)
            return BytesIO(archive.read(name))

    return StoredPictures(names, open_member, "archive")


def _list_tar(path: Path) -> StoredPictures:
    with tarfile.open(path, "r:") as archive:
        members = {
            member.name: (member.offset_data, member.size)
            for member in archive
            if member.isreg() and _is_visible(member.name)
        }
        with path.open("rb") as file:
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise VideoError("truncated", f"the archive lacks its end mark after {len(members)} files")

    def open_member(name: str) -> IO[bytes]:
        offset, num_bytes = members[name]
        _check_picture_bytes(num_bytes)
        with path.open("rb") as file:
            file.seek(offset)
            return BytesIO(file.read(num_bytes))

    return StoredPictures(list(members), open_member, "archive")


def _check_picture_bytes(num_bytes: int) -> None:
    if num_bytes > PICTURE_PIXELS.value * _MAX_PIXEL_BYTES:
        raise ValueError(f"its {num_bytes:,} bytes are those of {PICTURE_PIXELS.describe_excess()}")


def _is_visible(name: str) -> bool:
    path = PurePosixPath(name)
    return not any(part.startswith(".") or part == "__MACOSX" for part in path.parts) and path.name != "Thumbs.db"


def _make_picture_sequence(stored: StoredPictures) -> PictureSequence:
    """The frames among pictures, in natural order. Raises VideoError where there are none, or other files between them."""
    pictures, kind = stored.list_frames(), stored.kind
    others = sorted(name for name in stored.names if not is_picture_name(name))
    if not pictures and not others and (num_steps := len(stored.list_flow("x"))):
        return _make_flow_sequence(num_steps, kind)
    if not pictures:
        reason = f"the {kind} holds no pictures such as img_00001.jpg"
        if others:
            reason += f"; a {kind} is one video, made of pictures: give the files in it instead, such as {others[0]}"
        raise VideoError("no_video", reason)
    if others:
        reason = (
            f"the {kind} holds {format_count(len(pictures), 'picture')} and "
            f"{format_count(len(others), 'other file')}, such as {others[0]}"
        )
        raise VideoError("unreadable", f"{reason}; keep the frames of one video by themselves")

    def read_pictures(indices: Sequence[int]) -> Iterator[Picture]:
        for index in indices:
            with read_stored_picture(pictures[index], stored.open_picture) as image:
                yield np.asarray(ImageOps.exif_transpose(image).convert("RGB"))

    return PictureSequence(make_uniform_times(len(pictures), None), read_pictures)


def _make_flow_sequence(num_steps: int, kind: str) -> PictureSequence:
    """The times of frames of which only the flow from one to the next is stored."""

    def refuse(indices: Sequence[int]) -> Iterator[Picture]:
        raise VideoError(
            "no_video",
            f"the {kind} holds optical flow (flow_x, flow_y) without its frames: only networks of flow can read it",
        )

    return PictureSequence(make_uniform_times(num_steps + 1, None), refuse, has_frames=False)


def _make_natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sorts runs of digits as numbers: `img_2.jpg` before `img_10.jpg`."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if place % 2 else (-1, part) for place, part in enumerate(parts)], name


@contextmanager
def read_stored_picture(name: str, open_picture: _Opener) -> Iterator[Image.Image]:
    """Open one picture of a folder or an archive, with 8 bits a channel. Raises VideoError where it cannot be read."""
    try:
        with open_picture(name) as file, _open_image(file) as image:
            yield _reduce_to_8_bits(image) if image.mode.startswith(("I", "F")) else image
    except (*_ARCHIVE_ERRORS, OSError, ValueError) as error:
        raise_if_system_is_short(error)
        raise VideoError("unreadable", f"the frame {name} cannot be read ({error})") from error


@contextmanager
def _open_image(file: Path | IO[bytes]) -> Iterator[Image.Image]:
    """Open a picture. Raises ValueError for one of more pixels than allowed, which Pillow compares as it decodes."""
    previous, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, PICTURE_PIXELS.value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"a picture has {PICTURE_PIXELS.describe_excess()}") from error
    finally:
        Image.MAX_IMAGE_PIXELS = previous


def _reduce_to_8_bits(image: Image.Image) -> Image.Image:
    """The upper 8 of 16 bits in gray, as Pillow reads them in colour. Raises ValueError for wider numbers and fractions."""
    if not (image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")):
        raise ValueError("its pixels are neither of 8 nor of 16 bits; save it with 8 bits a channel")
    reduced = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    reduced.info = image.info  # its orientation
    return reduced


def _open_animation(path: Path) -> PictureSequence:
    with _open_image(path) as image:
        num_frames = int(getattr(image, "n_frames", 1))
        durations = []
        for index in range(num_frames):
            image.seek(index)
            image.load()  # the duration is known once a frame is decoded
            durations.append(int(image.info.get("duration") or _DEFAULT_ANIMATION_MILLISECONDS))
    if num_frames < 2:
        raise VideoError("no_video", "the file is a picture, not a video")
    ticks = np.array([0, *accumulate(durations)], np.int64)

    def read_pictures(indices: Sequence[int]) -> Iterator[Picture]:
        with read_stored_picture(path.name, lambda _: path.open("rb")) as image:
            for index in indices:
                image.seek(index)
                yield np.asarray(image.convert("RGB"))

    return PictureSequence(FrameTimes(ticks[:-1], Fraction(1, 1000), int(ticks[-1])), read_pictures)
