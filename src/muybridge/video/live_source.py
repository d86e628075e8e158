"""Frames of a camera or stream as they arrive: RTSP, HTTP, SRT, UDP, TCP, RTMP, a video device, or a pipe.

Input: an address. Output: scaled frames with their times, as soon as they are decoded. This is the one place where FFmpeg
may use the network, and only for an address that a person gave to `muybridge watch`; files and lists of a data set never
get here. Damaged frames, and those that refer to them, are left out and counted.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISCHR, S_ISFIFO

import av
import numpy as np
from av.container import InputContainer

from muybridge.limits import PICTURE_PIXELS
from muybridge.records import VideoError, YuvClip
from muybridge.video.containers import demux_streams
from muybridge.video.planes import YuvClipBuilder

_NETWORK_PROTOCOLS = "crypto,http,https,httpproxy,hls,rtp,rtmp,rtmps,rtsp,srt,srtp,tcp,tls,udp"
_SCHEMES = ("rtsp", "rtsps", "http", "https", "srt", "udp", "tcp", "rtmp", "rtmps", "rtp")
_OPEN_SECONDS, _READ_SECONDS = 15.0, 10.0
_KEY_FRAME_SECONDS = 2.0
_WAITING = (
    "no picture yet: a stream shows one from its next key frame on, of which its encoder should send one a second"
)
_MAX_DECODE_ERRORS = 250  # in a row: ten seconds of a stream that cannot be decoded
STANDARD_INPUT = "-"
_RECEIVERS = {"srt": ": `srt-live-transmit srt://HOST:PORT file://con | muybridge watch - --model RUN`"}


@dataclass(frozen=True)
class LiveFrame:
    """One scaled frame: seconds by the stream's own clock, and when it had been decoded, in seconds of `time.monotonic`.

    `aspect` is the width of the frame over its height before it was scaled.
    """

    planes: YuvClip
    seconds: float
    arrival: float
    aspect: float


@dataclass
class DamageCount:
    """Frames left out since they are damaged, or refer to one that is; those before the first picture are not counted."""

    num_frames: int = field(default=0)


def is_live_address(address: str) -> bool:
    """Whether frames of an address arrive at their own pace: a stream, a device or a pipe, not a file."""
    if address == STANDARD_INPUT or _find_scheme(address) in _SCHEMES:
        return True
    path = Path(address)
    return path.exists() and (S_ISFIFO(path.stat().st_mode) or S_ISCHR(path.stat().st_mode))


def hide_credentials(address: str) -> str:
    """An address as it may be shown to others: without the name, password and parameters that a camera may want."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def read_live_frames(
    address: str,
    *,
    scale_height: int,
    scale_width: int,
    damage: DamageCount,
    on_wait: Callable[[str], object] | None = None,
) -> Iterator[LiveFrame]:
    """The frames of one connection, until the stream ends.

    The first picture comes with the next key frame, which may take ten seconds: after two, `on_wait` is called with a sentence.
    Raises VideoError where the address cannot be opened, no data comes for ten seconds, or nothing can be decoded;
    ValueError for an address of another kind.
    """
    with _open_live(address) as container:
        stream = next(iter(container.streams.video), None)
        if stream is None or stream.codec_context is None:
            raise VideoError("no_video", "the stream holds no video that this FFmpeg can decode")
        stream.codec_context.options = {"max_pixels": str(PICTURE_PIXELS.value), "flags": "low_delay"}
        stream.codec_context.thread_count = 1  # more threads hold frames back
        is_damaged = has_begun = False
        for frame in _decode(container, stream, on_wait):
            is_damaged = frame is None or frame.is_corrupt or (is_damaged and not frame.key_frame)
            if is_damaged or frame is None or frame.time is None:
                damage.num_frames += has_begun
                continue
            has_begun = True
            builder = YuvClipBuilder(1, scale_height, scale_width)
            builder.write_frame(0, frame)
            planes = builder.build_clip(np.zeros(1, np.int64))
            yield LiveFrame(planes, float(frame.time), time.monotonic(), frame.width / frame.height)


def _decode(
    container: InputContainer, stream: av.VideoStream, on_wait: Callable[[str], object] | None
) -> Iterator[av.VideoFrame | None]:
    """Frames as they are decoded; None where data was lost before the next one."""
    num_errors = 0
    deadline = time.monotonic() + _KEY_FRAME_SECONDS if on_wait else math.inf
    for packet in demux_streams(container, [stream]):
        if on_wait and time.monotonic() > deadline:
            on_wait(_WAITING)
            deadline = math.inf
        if packet.is_corrupt:
            yield None
        try:
            frames = stream.decode(packet) if packet.size else []
        except av.error.FFmpegError as error:
            num_errors += 1
            if num_errors > _MAX_DECODE_ERRORS:
                raise VideoError("unreadable", f"nothing of the stream can be decoded ({error.strerror})") from error
            yield None
            continue
        num_errors = 0
        if frames:
            deadline = math.inf
        yield from frames
    yield from stream.decode(None)


@contextmanager
def _open_live(address: str) -> Iterator[InputContainer]:
    options = {"analyzeduration": "1000000"}
    format_name = None
    scheme = _find_scheme(address)
    if address == STANDARD_INPUT:
        address, options["protocol_whitelist"] = "pipe:0", "pipe"
    elif scheme in _SCHEMES:
        options["protocol_whitelist"] = _NETWORK_PROTOCOLS
        if scheme in ("rtsp", "rtsps"):
            options["rtsp_flags"] = (
                "prefer_tcp"  # UDP loses packets behind most routers; some cameras offer nothing else
            )
        if scheme == "udp":
            options |= {"fifo_size": "65536", "overrun_nonfatal": "1"}
    elif is_live_address(address):
        options["protocol_whitelist"] = "file,pipe"
        if S_ISCHR(Path(address).stat().st_mode):
            format_name, options["protocol_whitelist"] = "v4l2", "file"
    else:
        raise ValueError(
            f"{address} is no stream, expected an address ({', '.join(f'{name}://' for name in _SCHEMES)}), a device such as "
            "/dev/video0, a pipe, - for standard input, or a file"
        )
    try:
        container = av.open(address, format=format_name, options=options, timeout=(_OPEN_SECONDS, _READ_SECONDS))
    except av.error.ProtocolNotFoundError as error:
        raise ValueError(
            f"the stream cannot be opened: this FFmpeg was built without {scheme}://; let another program receive it and "
            f"name - as the source{_RECEIVERS.get(str(scheme), '')}"
        ) from error
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError("unreadable", f"the stream cannot be opened ({error.strerror or error})") from error
    with container:
        try:
            yield container
        except av.error.FFmpegError as error:
            raise VideoError("unreadable", f"the stream broke off ({error.strerror})") from error


def _find_scheme(address: str) -> str | None:
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", address)
    return match[1].lower() if match else None
