"""Limits on what a file from outside may ask for, checked before memory is allocated. No torch.

Each limit is far above what an honest file needs, and can be raised by an environment variable of its name, which every error
message states (docs/security.md). A limit is read when it is needed, so that worker processes have the same ones.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """One limit: the environment variable that raises it, its default, and the unit of both."""

    variable: str
    default: int
    unit: str

    @property
    def value(self) -> int:
        """The limit in force. Raises ValueError where the environment variable is not a positive whole number."""
        text = os.environ.get(self.variable)
        if text is None:
            return self.default
        if not (text.isascii() and text.isdigit() and 0 < len(text) <= 18 and int(text) > 0):
            raise ValueError(
                f"the environment variable {self.variable} is {text[:40]!r}, expected a whole number above 0"
            )
        return int(text)

    def exceed(self, amount: int) -> str | None:
        """A clause for an error message where `amount` is above the limit, else None."""
        if amount <= self.value:
            return None
        return f"{amount:,} {self.unit}, above the limit of {self.value:,}; set {self.variable} to raise it"

    def describe_excess(self) -> str:
        """A clause for an error message where an amount that is not known is above the limit."""
        return f"more than the limit of {self.value:,} {self.unit}; set {self.variable} to raise it"


def raise_if_system_is_short(error: Exception) -> None:
    """Raise OSError where a file could not be opened because too many are open: that says nothing about the file."""
    number = getattr(error, "errno", None)
    if number in (errno.EMFILE, errno.ENFILE):
        raise OSError(number, os.strerror(number)) from error


TEXT_BYTES = Limit("MUYBRIDGE_MAX_TEXT_BYTES", 256 << 20, "bytes")
"""Size of a JSON or YAML file."""
TABLE_BYTES = Limit("MUYBRIDGE_MAX_TABLE_BYTES", 16 << 30, "bytes")
"""Memory of the table that is read from a Parquet file."""
VIDEO_BYTES = Limit("MUYBRIDGE_MAX_VIDEO_BYTES", 4 << 30, "bytes of memory")
"""Memory that indexing one video takes in a process of its own."""
ONNX_BYTES = Limit("MUYBRIDGE_MAX_ONNX_BYTES", 8 << 30, "bytes of memory")
"""Memory that checking an ONNX file takes; several times the file."""
HEADER_BYTES = Limit("MUYBRIDGE_MAX_HEADER_BYTES", 8 << 20, "bytes")
"""Header of a safetensors file. That of R(2+1)D-152 with 10,000 classes takes 400 kB; parsing takes many times its size."""
PICKLE_STEPS = Limit("MUYBRIDGE_MAX_PICKLE_STEPS", 2_000_000, "steps")
"""Instructions of a pickle, and objects that are searched for tensors; about 100 for a tensor of a checkpoint."""
PICTURE_PIXELS = Limit("MUYBRIDGE_MAX_PICTURE_PIXELS", 1 << 26, "pixels")
"""Pixels of a frame of a video, or of a picture: 8192 x 8192."""
VIDEO_FRAMES = Limit("MUYBRIDGE_MAX_VIDEO_FRAMES", 10_000_000, "frames")
"""Frames of a video, stored or at the rate at which it is sampled: 92 hours at 30 frames a second."""
