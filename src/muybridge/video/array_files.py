"""Videos that are stored as arrays of NumPy: .npy and .npz files. No pickle.

Input: a path. Output: a `PictureSequence`. What a header claims is compared with the file's bytes and the limits before it is
used.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from muybridge.limits import VIDEO_BYTES, raise_if_system_is_short
from muybridge.records import VideoError
from muybridge.video.picture_sequence import (
    Picture,
    PictureSequence,
    check_frames,
    convert_to_rgb,
    make_uniform_times,
    open_frames,
)


def _open_npy(path: Path) -> PictureSequence:
    """Frames are read, not mapped: a file that is cut short while it is mapped would end the process by a signal."""
    with path.open("rb") as file:
        magic = file.read(len(np.lib.format.MAGIC_PREFIX))
    if magic != np.lib.format.MAGIC_PREFIX:  # np.load would take it for an archive of arrays, or a pickle
        raise ValueError("it does not begin like an array; give an archive of arrays a name that ends in .npz")
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    frames_thwc = check_frames(mapped)
    if not frames_thwc.flags.c_contiguous:  # in the order of Fortran a frame lies all over the file
        if problem := VIDEO_BYTES.exceed(frames_thwc.nbytes):
            raise ValueError(f"its array takes {problem}")
        return open_frames(np.load(path, allow_pickle=False))
    start, shape = int(mapped.offset), frames_thwc.shape[1:]
    num_bytes = math.prod(shape)

    def read_pictures(indices: Sequence[int]) -> Iterator[Picture]:
        try:
            with path.open("rb") as file:
                for index in indices:
                    file.seek(start + index * num_bytes)
                    yield convert_to_rgb(np.frombuffer(file.read(num_bytes), np.uint8).reshape(shape))
        except (OSError, ValueError) as error:
            raise_if_system_is_short(error)
            raise VideoError("unreadable", "the file changed while it was read") from error

    return PictureSequence(make_uniform_times(len(frames_thwc), None), read_pictures)


def open_array_file(path: Path) -> PictureSequence:
    """A .npy file of frames, or a .npz file with `frames` (or one array of any name) and optionally `fps`. No pickle."""
    if path.suffix.lower() == ".npy":
        return _open_npy(path)
    _check_arrays(path)
    with np.load(path, allow_pickle=False) as arrays:
        names = [name for name in arrays.files if name != "fps"]
        name = "frames" if "frames" in names else names[0] if len(names) == 1 else None
        if name is None:
            raise ValueError(f"it holds the arrays {', '.join(arrays.files) or 'none'}, expected frames")
        frames = check_frames(arrays[name])
        rate = float(arrays["fps"]) if "fps" in arrays.files else None
    if rate is not None and not 1e-6 <= rate <= 1e6:  # `make_uniform_times` rounds to millionths
        raise ValueError(f"its fps is {rate}, expected a number from 0.000001 to a million")
    return open_frames(frames, rate)


def _check_arrays(path: Path) -> None:
    """Raise ValueError for arrays that take more memory than a video may, or than they have bytes."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if problem := VIDEO_BYTES.exceed(sum(member.file_size for member in members)):
            raise ValueError(f"its arrays take {problem}, or split it")
        for member in (member for member in members if member.filename.endswith(".npy")):
            with archive.open(member) as file:
                is_first = np.lib.format.read_magic(file) == (1, 0)
                read_header = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
                shape, _, dtype = read_header(file)
                num_bytes = file.tell() + math.prod(shape) * dtype.itemsize
                if num_bytes != member.file_size and not dtype.hasobject:  # objects are refused when they are read
                    raise ValueError(
                        f"the shape {shape} of {member.filename} is not that of {member.file_size:,} bytes"
                    )
