"""Video containers: open files safely, choose the video stream, and index when each of its frames is shown.

Input: a path. Output: a `FrameIndex`, the time stamps of the frames and of the key frames that decoding may start from.
Files are read with FFmpeg's guesses switched off (`nofillin`), so a time stamp is either stored in the container or absent.
Stored presentation stamps are trusted, and so are decoding stamps if the codec never reorders frames. AVI with B-frames, MPEG
programme streams and bare elementary streams have neither, so their frames are found by decoding and counting: slow, but
FFmpeg's guesses there are off by whole frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import accumulate, islice
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from numpy.typing import NDArray

from muybridge.records import FrameTimes, VideoError

# Demuxers of formats that refer to other files or addresses, which a data set must not make us open.
_REFERENCING_DEMUXERS = frozenset(
    ("concat", "dash", "hls", "image2", "imf", "rtp", "rtsp", "sap", "sdp", "tty", "vapoursynth", "webm_dash_manifest")
)
_START_CODE, _VOP_START_CODE = b"\0\0\1", b"\0\0\1\xb6"  # of any part of an MPEG stream; of a picture (VOP) in MPEG-4


class _PacketInfo(NamedTuple):
    pts: int | None
    dts: int | None
    duration: int
    is_key: bool
    is_hidden: bool  # decoded but not shown: cut off by an edit list, or only a reference for other pictures
    vop_types: str | None  # MPEG-4 without stored presentation stamps: the types of its pictures


@dataclass(frozen=True)
class FrameIndex:
    """When the frames of a file are shown, and where decoding may start.

    `key_frame_stamps` int64 (K, 2): presentation and decoding stamp of each key frame, ordered by the first. If it is empty,
    frames are found by decoding from the start and counting. `uses_dts`: a packet's stamp is its decoding stamp.
    `num_leading_packets` packets come before the first key frame and cannot be decoded.
    """

    times: FrameTimes
    key_frame_stamps: NDArray[np.int64]
    uses_dts: bool
    num_leading_packets: int

    @property
    def uses_counting(self) -> bool:
        """Whether frames must be found by counting instead of by their stamps."""
        return len(self.key_frame_stamps) == 0

    def find_key_frame(self, tick: int) -> int:
        """The index in `key_frame_stamps` of the last key frame shown at or before `tick`."""
        return int(np.searchsorted(self.key_frame_stamps[:, 0], tick, side="right")) - 1


@contextmanager
def open_video_stream(path: str) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """The open file and its first video stream, decoded by one thread.

    Raises VideoError: missing, unreadable or no_video. Errors of FFmpeg inside the `with` block become unreadable.
    """
    _check_file(path)
    try:
        container = av.open(path, container_options=_build_open_options(), metadata_errors="replace")
    except av.error.ArgumentError as error:
        raise VideoError(
            "unreadable", "the file is no video (playlists that point to other files are refused)"
        ) from error
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError("unreadable", f"the file is damaged or no video ({_format_error(error)})") from error
    with container:
        stream = _find_video_stream(container)
        stream.codec_context.thread_count = 1  # many workers decode side by side
        try:
            yield container, stream
        except av.error.FFmpegError as error:
            raise VideoError("unreadable", f"the file cannot be read ({_format_error(error)})") from error


def _demux_packets(container: InputContainer, stream: av.VideoStream) -> Iterator[av.Packet[av.VideoStream]]:
    """Packets from the container's current position, as stored."""
    for packet in container.demux(stream):
        if packet.size:  # AVI repeats a frame by an empty packet, which would end the decoder's stream
            yield packet


def demux_indexed_packets(
    container: InputContainer, stream: av.VideoStream, index: FrameIndex, *, from_start: bool
) -> Iterator[av.Packet[av.VideoStream]]:
    """Packets with the stamps that `index` uses; `from_start` skips those before the first key frame."""
    packets = _demux_packets(container, stream)
    for packet in islice(packets, index.num_leading_packets, None) if from_start else packets:
        if index.uses_dts:
            if stream.codec_context.name == "mpeg4" and _START_CODE not in bytes(packet):
                continue  # the placeholder of a packed stream; without B-frames decoders report it as damage
            packet.pts = packet.dts
        yield packet


def decode_frames(packets: Iterable[av.Packet[av.VideoStream]], stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Frames in presentation order. Raises VideoError("unreadable") with the time at which decoding fails."""
    num_decoded = 0
    for packet in packets:
        try:
            frames = stream.decode(packet)
        except av.error.FFmpegError as error:
            stamp, tick_seconds = packet.pts, packet.time_base
            where = f"after {num_decoded} frames" if stamp is None else f"at {float(stamp * tick_seconds):.2f} s"
            raise VideoError(
                "unreadable", f"the file is damaged: decoding fails {where} ({_format_error(error)})"
            ) from error
        num_decoded += len(frames)
        yield from frames
    yield from stream.decode(None)


def index_frames(path: str) -> FrameIndex:
    """Index when each frame of the file is shown. Decodes only if the container does not store it.

    Raises VideoError: missing, unreadable, no_video, or truncated if the file has fewer frames than it lists.
    """
    with open_video_stream(path) as (container, stream):
        packets = _read_packets(container, stream)
        num_leading_packets = next((packet_index for packet_index, packet in enumerate(packets) if packet.is_key), 0)
        packets = [packet for packet in packets[num_leading_packets:] if packet.vop_types != ""]
        uses_dts = any(packet.pts is None for packet in packets) and not _can_reorder_frames(stream, packets)
        stamps = [packet.dts if uses_dts else packet.pts for packet in packets]
        trusted = [stamp for stamp in stamps if stamp is not None]
        shown = [stamp for stamp, packet in zip(stamps, packets, strict=True) if not packet.is_hidden]
        if len(trusted) == len(stamps) and len(shown) == len(set(shown)):
            return _index_by_stamps(stream, packets, np.array(trusted, np.int64), uses_dts, num_leading_packets)
    return _index_by_decoding(path, packets, num_leading_packets)


def interpolate_stamps(stamps: list[int | None], default_step: int) -> NDArray[np.int64]:
    """Strictly increasing ticks for frames in presentation order, from the known stamps.

    Gaps between known stamps are filled evenly and the ends continue at the mean step. `default_step` is used if fewer than
    two stamps are known, or if they do not increase.
    """
    frame_indices = np.arange(len(stamps), dtype=np.int64)
    known_indices = np.array([index for index, stamp in enumerate(stamps) if stamp is not None], np.int64)
    known = np.array([stamp for stamp in stamps if stamp is not None], np.int64)
    if len(known) < 2 or bool(np.any(np.diff(known) < np.diff(known_indices))):
        return frame_indices * default_step + (known[0] - known_indices[0] * default_step if len(known) else 0)
    default_step = max(1, round((int(known[-1]) - int(known[0])) / (int(known_indices[-1]) - int(known_indices[0]))))
    ticks = np.rint(np.interp(frame_indices, known_indices, known)).astype(np.int64)
    before, after = frame_indices < known_indices[0], frame_indices > known_indices[-1]
    ticks[before] -= default_step * (known_indices[0] - frame_indices[before])
    ticks[after] += default_step * (frame_indices[after] - known_indices[-1])
    return ticks


def _check_file(path: str) -> None:
    try:
        file_stat = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise VideoError("missing", "the file does not exist") from error
    except OSError as error:
        raise VideoError("unreadable", f"the file cannot be opened ({_format_error(error)})") from error
    if not S_ISREG(file_stat.st_mode):  # reading a pipe or device could block forever
        raise VideoError(
            "unreadable", "the path is a folder" if S_ISDIR(file_stat.st_mode) else "the path is not a file"
        )
    if file_stat.st_size == 0:
        raise VideoError("unreadable", "the file is empty")


@cache
def _build_open_options() -> dict[str, str]:
    formats = sorted(av.formats_available - _REFERENCING_DEMUXERS)
    return {"fflags": "+nofillin-genpts", "protocol_whitelist": "file", "format_whitelist": ",".join(formats)}


def _find_video_stream(container: InputContainer) -> av.VideoStream:
    if container.format.name.endswith("_pipe"):  # FFmpeg's demuxers of single pictures: png_pipe, jpeg_pipe, ...
        raise VideoError("no_video", f"the file is a picture ({container.format.name[:-5]}), not a video")
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise VideoError("unreadable", "the file's video codec is unknown to this FFmpeg")
            return stream
    if container.streams.audio:
        raise VideoError("no_video", "the file holds sound and no video")
    raise VideoError("no_video", "the file holds no video stream")


def _read_packets(container: InputContainer, stream: av.VideoStream) -> list[_PacketInfo]:
    """The stamps of all packets with data, in file order. Raises VideoError("truncated")."""
    packets: list[_PacketInfo] = []
    is_truncated = False
    is_mpeg4, is_vp8 = (stream.codec_context.name == name for name in ("mpeg4", "vp8"))
    for packet in _demux_packets(container, stream):
        is_truncated = packet.is_corrupt
        vop_types = parse_vop_types(bytes(packet)) if is_mpeg4 and packet.pts is None else None
        is_key = packet.is_keyframe and vop_types != ""  # placeholders of packed streams are marked too
        # The first byte of a VP8 picture has a flag whether it is shown (RFC 6386, 9.1).
        is_dropped = packet.is_discard or (is_vp8 and not bytes(packet)[0] & 0x10)
        packets.append(_PacketInfo(packet.pts, packet.dts, max(packet.duration or 0, 0), is_key, is_dropped, vop_types))
    is_mov = container.format.name.startswith("mov,")
    num_indexed = len(stream.index_entries) if is_mov else 0  # MP4 lists every frame; others list key frames, or none
    if len(packets) < num_indexed:
        raise VideoError("truncated", f"the file ends after {len(packets) - is_truncated} of {num_indexed} frames")
    # MPEG-TS marks damaged packets in the same way, anywhere in the file.
    if is_truncated and container.format.name != "mpegts":
        raise VideoError("truncated", f"the file ends in the middle of frame {len(packets)}")
    return packets


def parse_vop_types(packet: bytes) -> str:
    """The types (I, P, B, S) of the MPEG-4 pictures in a packet: two bits after each start code (ISO 14496-2, 6.2.5)."""
    vop_types, position = "", packet.find(_VOP_START_CODE)
    while 0 <= position < len(packet) - len(_VOP_START_CODE):
        vop_types += "IPBS"[packet[position + len(_VOP_START_CODE)] >> 6]
        position = packet.find(_VOP_START_CODE, position + 1)
    return vop_types


def _can_reorder_frames(stream: av.VideoStream, packets: list[_PacketInfo]) -> bool:
    """Whether frames may be shown in another order than that of their packets."""
    if not stream.codec_context.codec.reorder:
        return False
    return any(packet.vop_types is None or "B" in packet.vop_types for packet in packets)


def _index_by_stamps(
    stream: av.VideoStream,
    packets: list[_PacketInfo],
    stamps: NDArray[np.int64],
    uses_dts: bool,
    num_leading_packets: int,
) -> FrameIndex:
    if len(packets) == 0:
        raise VideoError("no_video", "the file's video stream has no frames")
    keys = [index for index, packet in enumerate(packets) if packet.is_key] or [0]
    shown = np.array([not packet.is_hidden for packet in packets]) & (stamps >= stamps[keys[0]])
    ticks = np.sort(stamps[shown])
    last_duration = packets[int(np.argmax(np.where(shown, stamps, np.iinfo(np.int64).min)))].duration
    pairs = [
        (stamps[packet_index], stamps[packet_index] if packets[packet_index].dts is None else packets[packet_index].dts)
        for packet_index in keys
    ]
    key_stamps = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return FrameIndex(_build_frame_times(ticks, stream, last_duration), key_stamps, uses_dts, num_leading_packets)


def _index_by_decoding(path: str, packets: list[_PacketInfo], num_leading_packets: int) -> FrameIndex:
    with open_video_stream(path) as (container, stream):
        frames = decode_frames(islice(_demux_packets(container, stream), num_leading_packets, None), stream)
        decoded = [(frame.pts, frame.dts) for frame in frames]
        durations = [packet.duration for packet in packets]
        stamps: list[int | None] = [pts for pts, _ in decoded]
        if all(stamp is None for stamp in stamps):
            stamps = [dts for _, dts in decoded]
        if all(stamp is None for stamp in stamps) and len(durations) == len(decoded) and min(durations, default=0) > 0:
            stamps = [0, *accumulate(durations[:-1])]  # GIF and similar formats store durations only
        ticks = interpolate_stamps(stamps, _estimate_frame_step(stream))
        times = _build_frame_times(ticks, stream, durations[-1] if len(durations) == len(decoded) else 0)
        return FrameIndex(times, np.empty((0, 2), np.int64), False, num_leading_packets)


def _build_frame_times(ticks: NDArray[np.int64], stream: av.VideoStream, last_duration: int) -> FrameTimes:
    """`last_duration` 0 is unknown: the last frame then has the median duration of the others."""
    if len(ticks) == 0:
        raise VideoError("no_video", "the file's video stream has no frames")
    typical = int(np.median(np.diff(ticks))) if len(ticks) > 1 else _estimate_frame_step(stream)
    tick_seconds = stream.time_base
    assert tick_seconds is not None
    return FrameTimes(ticks, tick_seconds, int(ticks[-1]) + (last_duration or max(1, typical)))


def _estimate_frame_step(stream: av.VideoStream) -> int:
    """Ticks per frame from the frame rate of the codec, which is stored, or of the container, which FFmpeg guesses."""
    rate = stream.codec_context.framerate or stream.average_rate or stream.guessed_rate or Fraction(25)
    assert stream.time_base is not None
    return max(1, round(1 / (rate * stream.time_base)))


def _format_error(error: OSError | av.error.FFmpegError) -> str:
    return str(error.strerror or error)
