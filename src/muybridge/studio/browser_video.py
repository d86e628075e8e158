"""A video as H.264 MP4 that every browser plays: `python -m muybridge.studio.browser_video FILE` (a process of `media`).

Input: any video that the package reads. Output: a file with its index in front, or, on standard output, fragments that can be
played while they are made. Frames keep their time stamps, and seconds count from the first frame shown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
import numpy as np

from muybridge.files.atomic import atomic_write
from muybridge.records import FrameTimes, VideoError, YuvClip
from muybridge.studio.child_pool import limit_memory
from muybridge.terminal import print_line
from muybridge.video.index_cache import get_index_folder
from muybridge.video.media import MediaFiles, probe_media
from muybridge.video.planes import make_frame

_MAX_WIDTH, _MAX_HEIGHT = 1280, 720
_BLOCK_FRAMES = 32
_TICKS_PER_SECOND = 90_000
_MEMORY_BYTES = 8 << 30
_ENCODER_OPTIONS = {"preset": "ultrafast", "crf": "23", "tune": "zerolatency"}
_MATRIX_NAMES = {"bt601": "smpte170m", "bt709": "bt709"}


def _write_browser_video(
    path: str, target: Path | IO[bytes], start_seconds: float = 0.0, progress_file: Path | None = None
) -> None:
    """Encode a video from `start_seconds` on. Raises VideoError where it cannot be read."""
    metadata = probe_media(path)
    scale = min(1.0, _MAX_WIDTH / metadata.width, _MAX_HEIGHT / metadata.height)
    height, width = (max(2, 2 * round(side * scale / 2)) for side in (metadata.height, metadata.width))
    files = MediaFiles(
        "/", scale_height=height, scale_width=width, time_origin="container", index_folder=get_index_folder()
    )
    times = files.read_frame_times(path)
    seconds = (times.ticks - times.ticks[0]).astype(np.float64) * float(times.tick_seconds)
    first = max(0, int(np.searchsorted(seconds, start_seconds, side="right")) - 1)
    is_stream = not isinstance(target, Path)
    movflags = "frag_keyframe+empty_moov+default_base_moof" if is_stream else "faststart"
    file = str(target) if isinstance(target, Path) else target
    with av.open(file, "w", format="mp4", options={"movflags": movflags}) as output:
        stream: av.VideoStream | None = None
        blocks = files.read_in_order(path, times.ticks[first:], _BLOCK_FRAMES)
        for frame_index, frame, block in _iterate_frames(blocks, times, first):
            if stream is None:
                stream = _add_stream(output, block, metadata.frames_per_second)
            output.mux(stream.encode(frame))
            if progress_file is not None and frame_index % _BLOCK_FRAMES == 0:
                progress_file.write_text(f"{(frame_index - first) / (len(times) - first):.4f}")
        if stream is not None:
            output.mux(stream.encode(None))


def _iterate_frames(
    blocks: Iterator[YuvClip], times: FrameTimes, first: int
) -> Iterator[tuple[int, av.VideoFrame, YuvClip]]:
    index = first
    for block in blocks:
        for number in range(len(block)):
            seconds = (int(times.ticks[index]) - int(times.ticks[first])) * times.tick_seconds
            frame = make_frame(block, number, round(seconds * _TICKS_PER_SECOND))
            frame.time_base = Fraction(1, _TICKS_PER_SECOND)
            yield index, frame, block
            index += 1


def _add_stream(output: av.container.OutputContainer, block: YuvClip, frames_per_second: float) -> av.VideoStream:
    _, height, width = block.luma_thw.shape
    rate = Fraction(frames_per_second).limit_denominator(1001)
    colors = f"fullrange={'on' if block.full_range else 'off'}:colormatrix={_MATRIX_NAMES[block.matrix]}"
    gop = max(1, round(frames_per_second))
    options = {**_ENCODER_OPTIONS, "x264-params": f"keyint={gop}:scenecut=0:{colors}"}
    stream = output.add_stream("libx264", rate=max(rate, Fraction(1)), options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.time_base = Fraction(1, _TICKS_PER_SECOND)
    stream.codec_context.thread_count = 1
    return stream


def _main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Encode a video as H.264 MP4 for a browser.")
    parser.add_argument("file")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--progress", type=Path)
    parser.add_argument("--start", type=float, default=0.0)
    parsed = parser.parse_args(arguments)
    limit_memory(_MEMORY_BYTES)
    try:
        if parsed.output is None:
            _write_browser_video(parsed.file, sys.stdout.buffer, parsed.start)
        else:
            with atomic_write(parsed.output) as temporary:
                _write_browser_video(parsed.file, temporary, parsed.start, parsed.progress)
    except VideoError as error:
        print_line(str(error), error=True)
        return 1
    except BrokenPipeError:
        return 1  # the player was closed
    finally:
        if parsed.progress is not None:
            parsed.progress.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
