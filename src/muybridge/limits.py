"""Limits on what a file from outside may ask for, checked before memory is allocated. No torch.

Each limit is far above what an honest file needs, and can be raised by an environment variable of its name, which every error
message states (docs/security.md). A limit is read when it is needed, so that worker processes have the same ones.
"""

from __future__ import annotations

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


TEXT_BYTES = Limit("MUYBRIDGE_MAX_TEXT_BYTES", 256 << 20, "bytes")
"""Size of a JSON or YAML file."""
TABLE_BYTES = Limit("MUYBRIDGE_MAX_TABLE_BYTES", 16 << 30, "bytes")
"""Memory of the table that is read from a Parquet file."""
PICTURE_PIXELS = Limit("MUYBRIDGE_MAX_PICTURE_PIXELS", 1 << 26, "pixels")
"""Pixels of a frame of a video, or of a picture: 8192 x 8192."""
VIDEO_FRAMES = Limit("MUYBRIDGE_MAX_VIDEO_FRAMES", 10_000_000, "frames")
"""Frames of a video, stored or at the rate at which it is sampled: 92 hours at 30 frames a second."""
