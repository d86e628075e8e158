"""One source video to one stored video: read as any raw file is, scaled, and encoded again for fast random access.

What enters is a path with the bounds of its segment, what leaves is a `StoredVideo` (design decision 6). Frames are those
that `VideoFiles` would read, so raw and prepared data differ by the encoding alone. Every frame is decoded once: what is
wrong with a file is found here and not in the middle of a training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from muybridge.prepared.mp4 import EncodedVideo, write_mp4
from muybridge.prepared.stored_flow import coded_flow
from muybridge.records import FrameTimes, VideoError, YuvClip
from muybridge.video.containers import open_pictures
from muybridge.video.decode import VideoFiles, probe
from muybridge.video.sampling import sampling_grid, within

GROUP_FRAMES = 16  # between key frames: a clip of 16 frames decodes 23.5 on average
# Without CABAC and deblocking decoding is 1.7 times as fast, and files a tenth larger (docs/data.md).
ENCODER_OPTIONS = {"preset": "veryfast", "tune": "fastdecode", "crf": "22"}
_BLOCK_FRAMES = 1024  # decoded at once: 34 MB; each further block goes back to the key frame before it


@dataclass(frozen=True)
class Transcoding:
    """What is to be made of one source video. `path` is absolute; bounds are seconds from its first frame."""

    path: str
    start_seconds: float | None
    end_seconds: float | None
    frames_per_second: float | None
    scale_height: int
    scale_width: int
    flow: bool = False


@dataclass(frozen=True)
class StoredVideo:
    """The file to store and what is known of the video. height and width are the source's, upright, in pixels."""

    content: bytes
    sha256: str
    num_frames: int
    duration_seconds: float
    frames_per_second: float
    height: int
    width: int
    flow_content: bytes | None = None
    flow_sha256: str | None = None


def transcode(wanted: Transcoding) -> StoredVideo:
    """Raises VideoError where the video cannot be read from beginning to end, or has no frame within the bounds."""
    facts = probe(wanted.path)
    check_promise(wanted.path)
    source = VideoFiles("", scale_height=wanted.scale_height, scale_width=wanted.scale_width)
    times = within(source.frame_times(wanted.path), wanted.start_seconds, wanted.end_seconds)
    ticks, stored_times = times.ticks, times
    if wanted.frames_per_second is not None:
        ticks = sampling_grid(times, wanted.frames_per_second)
        rate = Fraction(wanted.frames_per_second).limit_denominator(1_000_000)
        stored_times = FrameTimes(np.arange(len(ticks), dtype=np.int64), 1 / rate, len(ticks))
    starts = range(0, len(ticks), _BLOCK_FRAMES)
    flow_content = flow_sha256 = None
    try:
        blocks = (source.read(wanted.path, ticks[start : start + _BLOCK_FRAMES]) for start in starts)
        content, sha256 = write_mp4(encode(blocks, stored_times))
        if wanted.flow:  # decoded once more, which costs little beside the flow
            blocks = (source.read(wanted.path, ticks[start : start + _BLOCK_FRAMES]) for start in starts)
            flow_content, flow_sha256 = write_mp4(encode(coded_flow(blocks), stored_times))
    except ValueError as error:
        raise VideoError("unreadable", str(error)) from error
    seconds = stored_times.duration_seconds
    shape = len(ticks), seconds, len(ticks) / seconds, facts.height, facts.width
    return StoredVideo(content, sha256, *shape, flow_content, flow_sha256)


def check_promise(path: str) -> None:
    """Raises VideoError("truncated") where the container promises more frames than it holds.

    `VideoFiles` itself looks at tables of frames only (MP4): a count in a header (AVI) is no reason to refuse the frames that
    are there. Preparing, a person can still fetch the file again.
    """
    with open_pictures(str(Path(path).absolute())) as (container, stream):
        num_promised = stream.frames
        if container.format.name.startswith("mov,") or num_promised == 0:
            return
        num_found = sum(packet.pts is not None or packet.dts is not None for packet in container.demux(stream))
    if num_found < num_promised:
        raise VideoError("truncated", f"the file ends after {num_found} of {num_promised} frames")


def encode(blocks: Iterator[YuvClip], times: FrameTimes) -> EncodedVideo:
    """H.264 of the frames of `blocks` in order. Odd heights and widths are made even by repeating the last line.

    One thread and time stamps of no meaning: the same frames are the same bytes wherever and whenever they are shown.
    """
    encoder: av.VideoCodecContext | None = None
    packets: list[av.Packet[av.VideoStream]] = []
    number = 0
    for block in blocks:
        if encoder is None:
            encoder = _encoder(block)
        for place in range(len(block.luma_thw)):
            packets += encoder.encode(_frame(block, place, number))
            number += 1
    assert encoder is not None, "a video has frames"
    packets += encoder.encode(None)
    assert len(packets) == number == len(times), f"{len(packets)} packets of {number} frames for {len(times)} times"
    keys = [place for place, packet in enumerate(packets) if packet.is_keyframe]
    return EncodedVideo([bytes(packet) for packet in packets], keys, times, encoder.height, encoder.width)


def _encoder(block: YuvClip) -> av.VideoCodecContext:
    _, height, width = block.luma_thw.shape
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.height, encoder.width, encoder.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    encoder.thread_count = 1
    colours = f"fullrange={'on' if block.full_range else 'off'}:colormatrix={_MATRIX_NAMES[block.matrix]}"
    # Without the look-ahead (mbtree): on processors with AVX-512 its result differs from run to run (docs/decisions.md).
    groups = f"keyint={GROUP_FRAMES}:min-keyint={GROUP_FRAMES}:scenecut=0:bframes=0:mbtree=0:rc-lookahead=0"
    encoder.options = {**ENCODER_OPTIONS, "x264-params": f"{groups}:{colours}"}
    return encoder


_MATRIX_NAMES = {"bt601": "smpte170m", "bt709": "bt709"}


def _frame(block: YuvClip, place: int, number: int) -> av.VideoFrame:
    _, height, width = block.luma_thw.shape
    frame = av.VideoFrame(width + width % 2, height + height % 2, "yuv420p")
    for plane, pixels in zip(frame.planes, (block.luma_thw[place], *block.chroma_cthw[:, place]), strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]  # a buffer
        rows[: plane.height, : plane.width] = np.pad(
            pixels, ((0, plane.height - pixels.shape[0]), (0, plane.width - pixels.shape[1])), mode="edge"
        )
    frame.pts = number
    frame.time_base = Fraction(1, 25)
    return frame
