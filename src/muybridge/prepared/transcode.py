"""One source video to one stored video: decoded, scaled, and encoded again for fast random access.

Input: a `TranscodeJob`. Output: a `StoredVideo`. The frames are those that `MediaFiles` reads, so raw and prepared data
differ only by the encoding. Every frame is decoded, so a damaged file is found here and not during training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from muybridge.files.hashing import hash_ends
from muybridge.prepared.mp4 import EncodedVideo, mux_mp4
from muybridge.prepared.stored_flow import compute_encoded_flow, encode_flow_pictures
from muybridge.records import FrameTimes, TimeOrigin, VideoError, YuvClip
from muybridge.video.media import MediaFiles, probe_media
from muybridge.video.planes import make_frame
from muybridge.video.sampling import compute_sampling_grid, trim_frame_times

GOP_FRAMES = 16  # between key frames: reading a random clip of 16 frames decodes 23.5 frames on average
# fastdecode turns CABAC and deblocking off: decoding is 1.7 times as fast, and files are a tenth larger (docs/data.md).
_ENCODER_OPTIONS = {"preset": "veryfast", "tune": "fastdecode", "crf": "22"}
_X264_MATRIX_NAMES = {"bt601": "smpte170m", "bt709": "bt709"}
_BLOCK_FRAMES = 1024  # decoded at once: 34 MB; each further block seeks to the key frame before it


@dataclass(frozen=True)
class TranscodeJob:
    """A source video and how to store it. `path` is absolute; bounds are seconds from its first frame.

    With `time_origin` container they count from where its sound begins, if that is earlier.
    """

    path: str
    start_seconds: float | None
    end_seconds: float | None
    frames_per_second: float | None
    scale_height: int
    scale_width: int
    flow: bool = False
    source_fps: float | None = None  # of frames that are stored without a rate
    time_origin: TimeOrigin = "picture"


@dataclass(frozen=True)
class StoredVideo:
    """A stored file and its properties; without content only its flow is stored.

    `sha256` is that of its header; height and width are those of the source in pixels, after rotation. Size and `hash_ends` of
    the source are None where it is no file.
    """

    content: bytes | None
    sha256: str | None
    num_frames: int
    duration_seconds: float
    frames_per_second: float
    height: int
    width: int
    flow_content: bytes | None = None
    flow_sha256: str | None = None
    source_num_bytes: int | None = None
    source_sha256: str | None = None


def transcode(job: TranscodeJob) -> StoredVideo:
    """Decode a video, scale it and encode it, with its optical flow if the job asks for it.

    Raises VideoError if any frame cannot be read, or if there is no frame within the bounds.
    """
    properties = probe_media(job.path, job.source_fps)
    if not (properties.has_frames or job.flow):
        raise VideoError("no_video", "optical flow (flow_x, flow_y) without its frames; store it with --flow")
    source = MediaFiles(
        "",
        scale_height=job.scale_height,
        scale_width=job.scale_width,
        source_fps=job.source_fps,
        time_origin=job.time_origin,
    )
    times = trim_frame_times(source.read_frame_times(job.path), job.start_seconds, job.end_seconds)
    ticks, stored_times = times.ticks, times
    if job.frames_per_second is not None:
        ticks = compute_sampling_grid(times, job.frames_per_second)
        rate = Fraction(job.frames_per_second).limit_denominator(1_000_000)
        stored_times = FrameTimes(np.arange(len(ticks), dtype=np.int64), 1 / rate, len(ticks))

    def read_blocks() -> Iterator[YuvClip]:
        for start in range(0, len(ticks), _BLOCK_FRAMES):
            yield source.read(job.path, ticks[start : start + _BLOCK_FRAMES])

    content = sha256 = flow_content = flow_sha256 = None
    try:
        if properties.has_frames:
            content, sha256 = mux_mp4(encode_h264(read_blocks(), stored_times))
        if job.flow:  # decodes the video again, which takes little time compared with the flow
            stored_flow = source.open_flow(job.path)
            flow_blocks = (
                compute_encoded_flow(read_blocks())
                if stored_flow is None
                else encode_flow_pictures(stored_flow, ticks, (job.scale_height, job.scale_width))
            )
            flow_content, flow_sha256 = mux_mp4(encode_h264(flow_blocks, stored_times))
    except ValueError as error:
        raise VideoError("unreadable", str(error)) from error
    duration_seconds = stored_times.duration_seconds
    path = Path(job.path)
    return StoredVideo(
        content,
        sha256,
        num_frames=len(ticks),
        duration_seconds=duration_seconds,
        frames_per_second=len(ticks) / duration_seconds,
        height=properties.height,
        width=properties.width,
        flow_content=flow_content,
        flow_sha256=flow_sha256,
        source_num_bytes=path.stat().st_size if path.is_file() else None,
        source_sha256=hash_ends(path) if path.is_file() else None,
    )


def encode_h264(blocks: Iterator[YuvClip], times: FrameTimes) -> EncodedVideo:
    """Encode the frames of `blocks` in order. Odd heights and widths are made even by repeating the last row or column.

    The output is deterministic: the encoder uses one thread, and its time stamps are frame indices, independent of `times`.
    """
    encoder: av.VideoCodecContext | None = None
    packets: list[av.Packet[av.VideoStream]] = []
    num_frames = 0
    for block in blocks:
        if encoder is None:
            encoder = _create_encoder(block)
        for index in range(len(block.luma_thw)):
            packets += encoder.encode(make_frame(block, index, num_frames))
            num_frames += 1
    assert encoder is not None, "a video has frames"
    packets += encoder.encode(None)
    assert len(packets) == num_frames == len(times), (
        f"{len(packets)} packets of {num_frames} frames for {len(times)} times"
    )
    keyframe_indices = [index for index, packet in enumerate(packets) if packet.is_keyframe]
    return EncodedVideo([bytes(packet) for packet in packets], keyframe_indices, times, encoder.height, encoder.width)


def _create_encoder(block: YuvClip) -> av.VideoCodecContext:
    _, height, width = block.luma_thw.shape
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.height, encoder.width, encoder.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
    encoder.framerate = Fraction(25)
    encoder.thread_count = 1
    color_options = f"fullrange={'on' if block.full_range else 'off'}:colormatrix={_X264_MATRIX_NAMES[block.matrix]}"
    # No look-ahead (mbtree): its result differs from run to run on processors with AVX-512 (docs/decisions.md).
    gop_options = f"keyint={GOP_FRAMES}:min-keyint={GOP_FRAMES}:scenecut=0:bframes=0:mbtree=0:rc-lookahead=0"
    encoder.options = {**_ENCODER_OPTIONS, "x264-params": f"{gop_options}:{color_options}"}
    return encoder
