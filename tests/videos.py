"""Test videos that carry their own frame index in the pixels, so that a test reads which frames were decoded.

`write_video` encodes with any encoder of PyAV's FFmpeg; `read_index` reads the index back from the luma of a frame of any
size. The index is eight blocks of dark and light, coarse enough to survive every codec and scaling down to 16x16.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
_ROWS, _COLUMNS = 2, 4
_DARK, _LIGHT = 30, 220


def index_picture(index: int, height: int, width: int) -> Picture:
    """RGB (height, width, 3) showing `index` (0-255), highest bit first, row by row."""
    bits = np.array([(index >> (7 - place)) & 1 for place in range(8)]).reshape(_ROWS, _COLUMNS)
    blocks = bits[np.arange(height) * _ROWS // height][:, np.arange(width) * _COLUMNS // width]
    return np.repeat(np.where(blocks == 1, _LIGHT, _DARK)[:, :, None], 3, axis=2).astype(np.uint8)


def read_index(luma_hw: NDArray[np.uint8]) -> int:
    """The index shown by a frame of any size; an AssertionError where a block is neither dark nor light."""
    height, width = luma_hw.shape
    index = 0
    for row in range(_ROWS):
        for column in range(_COLUMNS):
            y, x = (2 * row + 1) * height // (2 * _ROWS), (2 * column + 1) * width // (2 * _COLUMNS)
            level = int(luma_hw[y, x])
            assert not 90 < level < 160, f"a block of level {level}"
            index = 2 * index + (level >= 160)
    return index


def read_indices(luma_thw: NDArray[np.uint8]) -> list[int]:
    """`read_index` of every frame."""
    return [read_index(luma) for luma in luma_thw]


def needs_encoder(name: str) -> None:
    """Skip the test where this FFmpeg cannot encode `name`."""
    try:
        av.codec.Codec(name, "w")
    except av.error.FFmpegError:
        pytest.skip(f"this FFmpeg has no encoder {name}")


def write_uniform_video(path: Path, num_frames: int, level: int) -> Path:
    """A video of one gray level, for a network that learns in seconds."""
    return write_video(path, num_frames, height=48, width=64, paint=lambda _: np.full((48, 64, 3), level, np.uint8))


def write_video(
    path: Path,
    num_frames: int,
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    height: int = 48,
    width: int = 64,
    frames_per_second: int = 25,
    gop: int = 12,
    options: dict[str, str] | None = None,
    container: str | None = None,
    container_options: dict[str, str] | None = None,
    ticks: Sequence[int] | None = None,
    tick_seconds: Fraction | None = None,
    paint: Callable[[int], Picture | av.VideoFrame] | None = None,
    audio: bool = False,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Encode `num_frames` frames; frame n is `paint(n)` (default: its index) at `ticks[n]` (default: n) of `tick_seconds`."""
    paint = paint or (lambda index: index_picture(index, height, width))
    tick_seconds = tick_seconds or Fraction(1, frames_per_second)
    with av.open(str(path), "w", format=container, container_options=container_options or {}) as output:
        output.metadata.update(metadata or {})
        stream = output.add_stream(codec, rate=frames_per_second, options=options or {})
        stream.height, stream.width, stream.pix_fmt = height, width, pixel_format
        stream.codec_context.gop_size = gop
        stream.codec_context.time_base = tick_seconds
        stream.codec_context.thread_count = 1
        sound = output.add_stream("mp2" if path.suffix == ".avi" else "aac", rate=44100) if audio else None
        for number in range(num_frames):
            picture = paint(number)
            frame = (
                picture if isinstance(picture, av.VideoFrame) else av.VideoFrame.from_ndarray(picture, format="rgb24")
            )
            frame.pts = ticks[number] if ticks is not None else number
            frame.time_base = tick_seconds
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if sound is not None:
            write_silence(output, sound, num_frames / frames_per_second)
    return path


def write_damaged_video(path: Path) -> Path:
    """60 frames at 25 a second, of which those from 18 to 35 cannot be decoded: ten packets of zeros."""
    whole = write_video(path.with_name(f"whole-{path.name}"), 60)
    rewrite(whole, path, lambda number, packet: bytes(len(bytes(packet))) if 20 <= number < 30 else None)
    whole.unlink()
    return path


def write_sound(path: Path, codec: str = "aac") -> Path:
    """A second of silence and no pictures."""
    with av.open(str(path), "w") as output:
        write_silence(output, output.add_stream(codec, rate=44100), 1.0)
    return path


def write_picture(path: Path, codec: str = "png", pixel_format: str = "rgb24", *, cover: bool = False) -> Path:
    """One still picture; `cover`: as the cover of a second of silence."""
    with av.open(str(path), "w", format=None if cover else "image2") as output:
        sound = output.add_stream("aac", rate=44100) if cover else None
        stream = output.add_stream(codec)
        stream.height, stream.width, stream.pix_fmt = 48, 64, pixel_format
        if cover:
            stream.disposition = av.stream.Disposition.attached_pic
        packets = stream.encode(av.VideoFrame.from_ndarray(index_picture(5, 48, 64), format="rgb24"))
        packets += stream.encode(None)
        if sound is not None:
            write_silence(output, sound, 1.0)
        output.mux(packets)
    return path


def write_silence(output: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    """Silence on an audio stream of 44.1 kHz."""
    layout = np.zeros((1, 1152), np.float32 if stream.codec_context.name != "mp2" else np.int16)
    for number in range(int(seconds * 44100) // 1152):
        frame = av.AudioFrame.from_ndarray(
            layout, format="fltp" if layout.dtype == np.float32 else "s16", layout="mono"
        )
        frame.sample_rate = 44100
        frame.pts = number * 1152
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def rewrite(source: Path, target: Path, change: Callable[[int, av.Packet], bytes | None]) -> Path:
    """Copy the video stream of `source`; packet n becomes `change(n, packet)`, None leaves it. `change` may set its stamps."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        template = old.streams.video[0]
        stream = new.add_stream_from_template(template)
        for number, packet in enumerate(packet for packet in old.demux(template) if packet.size):
            data = change(number, packet)
            copy = av.Packet(bytes(packet) if data is None else data)
            copy.pts, copy.dts, copy.time_base, copy.duration = (
                packet.pts,
                packet.dts,
                packet.time_base,
                packet.duration,
            )
            copy.is_keyframe = packet.is_keyframe
            copy.stream = stream
            new.mux(copy)
    return target
