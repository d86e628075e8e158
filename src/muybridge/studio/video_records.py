"""Records that `examine` returns from child processes. The server imports these, and not what decodes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VideoProperties:
    """Properties of a video file. `offset_seconds`: what a player's clock shows at the first frame."""

    num_frames: int
    duration_seconds: float
    frames_per_second: float
    width: int
    height: int
    codec: str
    is_playable: bool
    offset_seconds: float


@dataclass(frozen=True)
class RenderedFrame:
    """A frame as JPEG, its index and its time."""

    jpeg: bytes
    index: int
    seconds: float
