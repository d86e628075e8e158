"""When each frame of a file is shown, and where decoding may start.

Input: a path. Output: a `FrameIndex`. Stored presentation stamps are used if they can be right, and so are decoding stamps if
the codec never reorders frames. AVI with B-frames, MPEG programme streams, bare elementary streams, files whose clock steps
back and files with decoding stamps in place of presentation stamps have none that tell one frame from another, so their frames
are found by decoding and counting: slow, but FFmpeg's guesses there are off by whole frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate, islice
from typing import Any, NamedTuple

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from muybridge.limits import VIDEO_BYTES, raise_if_system_is_short
from muybridge.memory import bounded_memory, is_reader_process
from muybridge.records import FrameTimes, VideoError
from muybridge.text import format_count
from muybridge.video.bitstream import BitstreamParser
from muybridge.video.containers import (
    decode_frames,
    demux_packets,
    demux_streams,
    describe_stream_choice,
    open_video_stream,
)
from muybridge.video.stamps import MAX_FRAME_SECONDS, has_step_back, interpolate_stamps, join_stamps
from muybridge.video.truncation import find_missing_end, is_too_short, read_last_seconds, read_promised_seconds

_START_CODE, _VOP_START_CODE = b"\0\0\1", b"\0\0\1\xb6"  # of any part of an MPEG stream; of a picture (VOP) in MPEG-4
_MIN_LEAD_SECONDS = 0.1  # encoders start sound a few hundredths of a second earlier
_MAX_SOUND_PACKETS = 64  # of all sound streams, looked at for when the sound begins
_HEAD_DURATIONS = ("mxf", "rm", "ivf")  # formats whose duration FFmpeg reads from the head and nowhere else
_MAX_STAMP = 1 << 61  # a stamp beyond it is damage; differences of smaller ones do not overflow


class _PacketInfo(NamedTuple):
    pts: int | None
    dts: int | None
    duration: int
    is_key: bool  # by the container's flag
    is_entry: bool  # decoding may start here
    is_hidden: bool  # decoded but not shown: cut off by an edit list, or only a reference for other pictures
    is_picture: bool  # not a placeholder, nor the second field of the picture before
    may_reorder: bool  # its codec may show it in another order
    header: bytes  # parameter sets in force that a decoder lacks which starts here


@dataclass(frozen=True)
class _Stream:
    """The packets of the video stream, and what is known of the file around them."""

    index: int
    packets: list[_PacketInfo]
    tick_seconds: Fraction
    frame_step: int  # ticks per frame by the frame rate of the codec or of the container
    sound_start_seconds: float | None
    declares_reordering: bool  # its H.264 or HEVC parameters say that frames are shown in another order than stored

    def has_decoding_stamps_only(self) -> bool:
        """Whether the writer stored when frames are decoded as when they are shown, as broken ones do."""
        return self.declares_reordering and all(packet.pts == packet.dts for packet in self.packets)


@dataclass(frozen=True)
class FrameIndex:
    """When the frames of a file are shown, and where decoding may start.

    `stamps` int64 (N,): the presentation stamp in the file of each frame of `times`. `key_frame_stamps` int64 (K, 2):
    presentation and decoding stamp of each frame that decoding may start from, ordered by the first, and `key_frame_headers`
    what its decoder must be given before. Without key frames, frames are found by decoding from the start and counting.
    `uses_dts`: a packet's stamp is its decoding stamp. `num_leading_packets` packets come before the first key frame and
    cannot be decoded. `notes` say what was changed to make sense of the file.
    """

    times: FrameTimes
    stamps: NDArray[np.int64]
    key_frame_stamps: NDArray[np.int64]
    key_frame_headers: tuple[bytes, ...]
    uses_dts: bool
    num_leading_packets: int
    stream_index: int
    sound_lead_seconds: float = 0.0  # how much earlier than the first picture the sound begins
    notes: tuple[str, ...] = ()

    @property
    def uses_counting(self) -> bool:
        """Whether frames must be found by counting instead of by their stamps."""
        return len(self.key_frame_stamps) == 0

    def find_key_frame(self, stamp: int) -> int:
        """The index in `key_frame_stamps` of the last key frame shown at or before `stamp`."""
        return int(np.searchsorted(self.key_frame_stamps[:, 0], stamp, side="right")) - 1


def index_frames(path: str) -> FrameIndex:
    """Index when each frame of the file is shown. Decodes only if the container does not store it.

    Raises VideoError: missing, unreadable, no_video, or truncated if the file has less than its head says.
    """
    try:
        with bounded_memory(VIDEO_BYTES.value):
            return _index_frames(path)
    except (OSError, ArithmeticError, MemoryError, VideoError) as error:  # of one file; it must not end a run
        raise_if_system_is_short(error)
        if is_reader_process() and isinstance(error.__cause__ or error, MemoryError):
            raise VideoError("unreadable", f"indexing the file takes {VIDEO_BYTES.describe_excess()}") from error
        if isinstance(error, VideoError):
            raise
        if isinstance(error, FileNotFoundError):
            raise VideoError("missing", "the file does not exist") from error
        reason = f"the file cannot be indexed ({type(error).__name__}: {error})"
        raise VideoError("unreadable", reason) from error


def parse_vop_types(packet: bytes) -> str:
    """The types (I, P, B, S) of the MPEG-4 pictures in a packet: two bits after each start code (ISO 14496-2, 6.2.5)."""
    vop_types, position = "", packet.find(_VOP_START_CODE)
    while 0 <= position < len(packet) - len(_VOP_START_CODE):
        vop_types += "IPBS"[packet[position + len(_VOP_START_CODE)] >> 6]
        position = packet.find(_VOP_START_CODE, position + 1)
    return vop_types


def demux_indexed_packets(
    container: InputContainer, stream: av.VideoStream, index: FrameIndex, *, from_start: bool
) -> Iterator[av.Packet[av.VideoStream]]:
    """Packets with the stamps that `index` uses; `from_start` skips those before the first key frame."""
    packets = demux_packets(container, stream)
    for packet in islice(packets, index.num_leading_packets, None) if from_start else packets:
        if index.uses_dts:
            if stream.codec_context.name == "mpeg4" and _START_CODE not in bytes(packet):
                continue  # the placeholder of a packed stream; without B-frames decoders report it as damage
            packet.pts = packet.dts
        yield packet


def _index_frames(path: str) -> FrameIndex:
    with open_video_stream(path) as (container, stream):
        contents = _read_stream(container, stream, path)
        stream_note = describe_stream_choice(container, path)
    notes = (stream_note,) if stream_note else ()
    num_leading = next((number for number, packet in enumerate(contents.packets) if packet.is_key), 0)
    if num_leading:
        notes = (
            *notes,
            f"{format_count(num_leading, 'packet')} before its first key frame cannot be decoded: left out",
        )
    packets = [packet for packet in contents.packets[num_leading:] if packet.is_picture]
    uses_dts = any(packet.pts is None for packet in packets) and not any(packet.may_reorder for packet in packets)
    stamps = [packet.dts if uses_dts else packet.pts for packet in packets]
    trusted = [stamp for stamp in stamps if stamp is not None and abs(stamp) < _MAX_STAMP]
    shown = [stamp for stamp, packet in zip(stamps, packets, strict=True) if not packet.is_hidden]
    is_trusted = len(trusted) == len(stamps) and len(shown) == len(set(shown)) and not _steps_back(packets, trusted)
    if is_trusted and not contents.has_decoding_stamps_only():
        index = _index_by_stamps(contents, packets, np.array(trusted, np.int64), uses_dts, num_leading)
    else:
        index = _index_by_decoding(path, contents, packets, num_leading)
    return replace(index, notes=(*notes, *index.notes))


def _steps_back(packets: Sequence[_PacketInfo], stamps: Sequence[int]) -> bool:
    decoding_stamps = [packet.dts for packet in packets if packet.dts is not None]
    if len(decoding_stamps) == len(packets):
        return has_step_back(decoding_stamps, are_presentation_stamps=False)
    return has_step_back(stamps, are_presentation_stamps=True)


def _read_stream(container: InputContainer, stream: av.VideoStream, path: str) -> _Stream:
    """The stamps of all packets with data, in file order. Raises VideoError("truncated")."""
    assert stream.time_base is not None
    is_mov = container.format.name.startswith("mov,")
    parser = _PacketParser(stream)
    packets: list[_PacketInfo] = []
    end_ticks: dict[int, int] = {}
    is_cut = False
    sound_starts = [_to_seconds(sound.start_time, sound.time_base) for sound in container.streams.audio if is_mov]
    for packet in demux_streams(container, [stream] if is_mov else container.streams.get()):
        stamp = packet.dts if packet.pts is None else packet.pts
        stream_index = packet.stream_index
        if stamp is not None:
            end_ticks[stream_index] = max(end_ticks.get(stream_index, 0), stamp + (packet.duration or 0))
        if stream_index == stream.index and packet.size:
            is_cut = packet.is_corrupt
            packets.append(parser.parse(packet))
        elif packet.stream.type == "audio" and packet.size and len(sound_starts) < _MAX_SOUND_PACKETS:
            sound_starts.append(_to_seconds(packet.pts, packet.time_base))
    frame_step = _estimate_frame_step(stream)
    if is_mov:
        _check_frame_table(stream, len(packets), is_cut)
    elif is_cut and container.format.name != "mpegts":  # MPEG-TS marks damaged packets in the same way, anywhere
        raise VideoError("truncated", f"the file ends in the middle of frame {len(packets)}")
    ends = [_to_seconds(tick, container.streams[index].time_base) for index, tick in end_ticks.items()]
    end_seconds = max((end for end in ends if end is not None), default=0.0)
    frame_seconds, promised = float(frame_step * stream.time_base), None
    if container.format.name in _HEAD_DURATIONS:
        promised = _to_seconds(stream.duration, stream.time_base)
        end_seconds = max(end_seconds, len(packets) * frame_seconds)  # MXF without its index has no stamps
    _check_head(container.format.name, path, end_seconds, frame_seconds, promised)
    if container.format.name == "avi":
        num_frames = max(
            len(packets), 1 + max((packet.dts or 0 for packet in packets), default=0)
        )  # AVI can skip frames
        if num_frames < stream.frames:
            raise VideoError("truncated", f"the file ends after {num_frames} of {stream.frames} frames")
    known_starts = [start for start in sound_starts if start is not None]
    reorders = stream.codec_context.name in ("h264", "hevc") and stream.codec_context.has_b_frames
    return _Stream(stream.index, packets, stream.time_base, frame_step, min(known_starts, default=None), reorders)


class _PacketParser:
    """What the index needs to know of each packet; packets come in file order."""

    def __init__(self, stream: av.VideoStream) -> None:
        context = stream.codec_context
        self._codec = context.name
        self._bitstream = BitstreamParser(self._codec, context.extradata)
        self._can_reorder = bool(context.codec.reorder)

    def parse(self, packet: av.Packet[Any]) -> _PacketInfo:
        data = bytes(packet)
        vop_types = parse_vop_types(data) if self._codec == "mpeg4" and packet.pts is None else None
        is_placeholder = vop_types == ""  # of a packed stream; marked as key frames too
        picture = self._bitstream.parse(data, is_key=packet.is_keyframe and not is_placeholder)
        # The first byte of a VP8 picture has a flag whether it is shown (RFC 6386, 9.1).
        is_hidden = packet.is_discard or (self._codec == "vp8" and not data[0] & 0x10)
        return _PacketInfo(
            packet.pts,
            packet.dts,
            max(packet.duration or 0, 0),
            is_key=packet.is_keyframe and not is_placeholder,
            is_entry=picture.is_entry,
            is_hidden=is_hidden,
            is_picture=not is_placeholder and not picture.is_second_field,
            may_reorder=self._can_reorder and (vop_types is None or "B" in vop_types),
            header=picture.header,
        )


def _check_frame_table(stream: av.VideoStream, num_packets: int, is_cut: bool) -> None:
    """MP4 lists every frame; other containers list key frames, or none."""
    num_listed = len(stream.index_entries)
    if num_packets < num_listed:
        raise VideoError(
            "truncated", f"the file ends after {num_packets - is_cut} of {format_count(num_listed, 'frame')}"
        )
    if is_cut:
        raise VideoError("truncated", f"the file ends in the middle of frame {num_packets}")


def _check_head(format_name: str, path: str, end_seconds: float, frame_seconds: float, promised: float | None) -> None:
    if missing := find_missing_end(path, format_name):
        raise VideoError("truncated", missing)
    promised = promised or read_promised_seconds(path, format_name)
    end_seconds = max(end_seconds, read_last_seconds(path, format_name))
    if promised is not None and is_too_short(promised, end_seconds, frame_seconds):
        raise VideoError("truncated", f"the file ends at {end_seconds:.2f} s; its head says {promised:.2f} s")


def _index_by_stamps(
    contents: _Stream, packets: list[_PacketInfo], stamps: NDArray[np.int64], uses_dts: bool, num_leading_packets: int
) -> FrameIndex:
    if len(packets) == 0:
        raise VideoError("no_video", "the file's video stream has no frames")
    is_shown = np.array([not packet.is_hidden for packet in packets]) & (stamps >= stamps[0])
    last_duration = packets[int(np.argmax(np.where(is_shown, stamps, np.iinfo(np.int64).min)))].duration
    rows: list[tuple[int, int, bytes]] = []
    for packet, stamp in zip(packets, stamps.tolist(), strict=True):
        if packet.is_entry or not rows:  # decoding starts at the first packet in any case
            rows.append((stamp, stamp if packet.dts is None else packet.dts, packet.header))
    rows.sort()
    return _build_index(
        contents,
        np.sort(stamps[is_shown]),
        last_duration,
        key_frame_stamps=np.array([row[:2] for row in rows], np.int64).reshape(-1, 2),
        key_frame_headers=tuple(row[2] for row in rows),
        uses_dts=uses_dts,
        num_leading_packets=num_leading_packets,
    )


def _index_by_decoding(
    path: str, contents: _Stream, packets: list[_PacketInfo], num_leading_packets: int
) -> FrameIndex:
    with open_video_stream(path, contents.index) as (container, stream):
        frames = decode_frames(islice(demux_packets(container, stream), num_leading_packets, None), stream)
        decoded = [(frame.pts, frame.dts) for frame in frames]
    durations = [packet.duration for packet in packets]
    stamps: list[int | None] = [pts for pts, _ in decoded]
    if all(stamp is None for stamp in stamps):
        stamps = [dts for _, dts in decoded]
    if all(stamp is None for stamp in stamps) and len(durations) == len(decoded) and min(durations, default=0) > 0:
        stamps = [0, *accumulate(durations[:-1])]  # GIF and similar formats store durations only
    known = [None if stamp is None or abs(stamp) > _MAX_STAMP else stamp for stamp in stamps]
    filled = np.array(known, np.int64) if None not in known else interpolate_stamps(known, contents.frame_step)
    last_duration = durations[-1] if len(durations) == len(decoded) and durations else 0
    return _build_index(contents, filled, last_duration, num_leading_packets=num_leading_packets)


def _build_index(
    contents: _Stream,
    stamps: NDArray[np.int64],
    last_duration: int,
    *,
    key_frame_stamps: NDArray[np.int64] | None = None,
    key_frame_headers: tuple[bytes, ...] = (),
    uses_dts: bool = False,
    num_leading_packets: int,
) -> FrameIndex:
    """`last_duration` 0 is unknown: the last frame then has the median duration of the others."""
    if len(stamps) == 0:
        raise VideoError("no_video", "the file's video stream has no frames")
    joined = join_stamps(stamps, contents.tick_seconds, contents.frame_step)
    typical = max(1, int(np.median(np.diff(joined.ticks))) if len(stamps) > 1 else contents.frame_step)
    is_sound = 0 < last_duration * contents.tick_seconds <= MAX_FRAME_SECONDS
    times = FrameTimes(
        joined.ticks, contents.tick_seconds, int(joined.ticks[-1]) + (last_duration if is_sound else typical)
    )
    start = contents.sound_start_seconds
    lead = 0.0 if start is None else float(int(stamps[0]) * contents.tick_seconds) - start
    return FrameIndex(
        times,
        stamps,
        np.empty((0, 2), np.int64) if key_frame_stamps is None else key_frame_stamps,
        key_frame_headers,
        uses_dts,
        num_leading_packets,
        contents.index,
        lead if lead > _MIN_LEAD_SECONDS else 0.0,
        joined.notes,
    )


def _to_seconds(stamp: int | None, tick_seconds: Fraction | None) -> float | None:
    return None if stamp is None or tick_seconds is None else float(stamp * tick_seconds)


def _estimate_frame_step(stream: av.VideoStream) -> int:
    """Ticks per frame from the frame rate of the codec, which is stored, or of the container, which FFmpeg guesses."""
    rate = stream.codec_context.framerate or stream.average_rate or stream.guessed_rate or Fraction(25)
    assert stream.time_base is not None
    return max(1, round(1 / (rate * stream.time_base)))
