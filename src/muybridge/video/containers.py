"""Video containers: open files safely, choose the video stream, and iterate over its packets and frames.

Input: a path. Output: an open file with the stream that is meant, its packets as stored, its frames in presentation order.
Files are read with FFmpeg's guesses switched off (`nofillin`), so a time stamp is either stored in the container or absent.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

import av
from av.container import InputContainer
from av.stream import Disposition

from muybridge.files.limited_child import check_in_child
from muybridge.limits import PICTURE_PIXELS, VIDEO_BYTES, VIDEO_FRAMES, raise_if_system_is_short
from muybridge.memory import is_reader_process
from muybridge.records import VideoError
from muybridge.text import format_count
from muybridge.video.index_claims import MP4_STARTS, may_list_more_than_it_has
from muybridge.video.truncation import find_missing_end

# Demuxers of formats that refer to other files or addresses, which a data set must not make us open.
_REFERENCING_DEMUXERS = frozenset(
    ("concat", "dash", "hls", "image2", "imf", "rtp", "rtsp", "sap", "sdp", "tty", "vapoursynth", "webm_dash_manifest")
)
_COVERS = Disposition.attached_pic | Disposition.timed_thumbnails
_MAX_THUMBNAIL_RATIO = 10  # a stream with a tenth of the frames of another is no video beside it
_PICTURE_BRANDS = frozenset(("avif", "heic", "heix", "mif1"))
_WEBP_ANIMATION = 2  # a flag in the header of an extended WebP file


@dataclass(frozen=True)
class _Candidate:
    """A video stream among several."""

    index: int
    description: str
    num_packets: int
    is_default: bool
    num_pixels: int


@contextmanager
def open_video_stream(path: str, stream_index: int | None = None) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """The open file and one of its video streams, decoded by one thread.

    Without `stream_index` it is the one that is meant (`_choose_video_stream`). Raises VideoError: missing, unreadable or
    no_video. Errors of FFmpeg inside the `with` block become unreadable.
    """
    with _open_container(path) as container:
        candidates = _find_video_streams(container, path)
        if stream_index is None:
            stream_index = _choose_video_stream(path, candidates)[0] if len(candidates) > 1 else candidates[0].index
        stream = next((stream for stream in candidates if stream.index == stream_index), None)
        if stream is None:
            raise VideoError("unreadable", "the file has other streams than before: it changed while it was in use")
        _check_claims(stream)
        # FFmpeg applies this limit to every frame, whatever size a frame claims later.
        stream.codec_context.options = {"max_pixels": str(PICTURE_PIXELS.value)}
        stream.codec_context.thread_count = 1  # many workers decode side by side
        yield container, stream


def _choose_video_stream(path: str, streams: Sequence[av.VideoStream]) -> tuple[int, str]:
    """The index of the video among several video streams, and a sentence that names them.

    A thumbnail has few frames; of the others the default stream is meant, then the one with the most frames, then the
    largest. Reads the whole file, since most containers do not store how many frames a stream has.
    """
    num_packets = _count_packets(path)
    candidates = [
        _Candidate(
            stream.index,
            f"{stream.index} ({stream.codec_context.name}, {stream.width}x{stream.height}, "
            f"{num_packets[stream.index]} frames)",
            num_packets[stream.index],
            bool(stream.disposition & Disposition.default),
            stream.width * stream.height,
        )
        for stream in streams
    ]
    most = max(candidate.num_packets for candidate in candidates)
    chosen = max(
        candidates,
        key=lambda candidate: (
            candidate.num_packets * _MAX_THUMBNAIL_RATIO > most,
            candidate.is_default,
            candidate.num_packets,
            candidate.num_pixels,
        ),
    )
    others = ", ".join(candidate.description for candidate in candidates if candidate is not chosen)
    return chosen.index, f"of its video streams, {chosen.description} is read, not {others}"


def describe_stream_choice(container: InputContainer, path: str) -> str | None:
    """A sentence about the stream that is read, if the file has several."""
    streams = _find_video_streams(container, path)
    return _choose_video_stream(path, streams)[1] if len(streams) > 1 else None


def demux_streams(container: InputContainer, streams: Sequence[av.stream.Stream]) -> Iterator[av.Packet[Any]]:
    """Packets of streams known at opening, from the container's current position; the last ones may be empty.

    Streams of FLV, MPEG-PS and MPEG-TS may begin later. PyAV gives no packets of those, and may raise IndexError for them
    after the last packet, by chance: it looks for their choice beyond its list of choices.
    """
    packets = container.demux(list(streams))
    while True:
        try:
            packet = next(packets)
        except (StopIteration, IndexError):
            return
        yield packet


def demux_packets(container: InputContainer, stream: av.VideoStream) -> Iterator[av.Packet[av.VideoStream]]:
    """Packets from the container's current position, as stored."""
    for packet in demux_streams(container, [stream]):
        if packet.size:  # AVI repeats a frame by an empty packet, which would end the decoder's stream
            yield packet


def decode_frames(packets: Iterable[av.Packet[av.VideoStream]], stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Frames in presentation order. Raises VideoError("unreadable") with the time at which decoding fails."""
    num_decoded = 0
    for packet in packets:
        try:
            frames = stream.decode(packet)
        except av.error.FFmpegError as error:
            stamp, tick_seconds = packet.pts, packet.time_base
            where = (
                f"after {format_count(num_decoded, 'frame')}"
                if stamp is None
                else f"at {float(stamp * tick_seconds):.2f} s"
            )
            raise VideoError(
                "unreadable", f"the file is damaged: decoding fails {where} ({_format_error(error)})"
            ) from error
        num_decoded += len(frames)
        yield from frames
    yield from stream.decode(None)


def _check_claims(stream: av.VideoStream) -> None:
    """Raise VideoError where a file claims frames so large or so many that no honest file has them."""
    context = stream.codec_context
    for problem, what in (
        (PICTURE_PIXELS.exceed(context.width * context.height), f"frames of {context.width}x{context.height}"),
        (VIDEO_FRAMES.exceed(stream.frames), "a video"),
    ):
        if problem:
            raise VideoError("unreadable", f"the file claims {what} with {problem}")


def _check_file(path: str) -> None:
    try:
        file_stat = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise VideoError("missing", "the file does not exist") from error
    except OSError as error:
        raise_if_system_is_short(error)
        raise VideoError("unreadable", f"the file cannot be opened ({_format_error(error)})") from error
    if not S_ISREG(file_stat.st_mode):  # reading a pipe or device could block forever
        raise VideoError(
            "unreadable", "the path is a folder" if S_ISDIR(file_stat.st_mode) else "the path is not a file"
        )
    if file_stat.st_size == 0:
        raise VideoError("unreadable", "the file is empty")
    if not is_reader_process() and (problem := _find_memory_problem(path, file_stat.st_size, file_stat.st_mtime_ns)):
        raise VideoError("unreadable", problem)


@lru_cache(maxsize=4096)
def _find_memory_problem(path: str, num_bytes: int, changed_ns: int) -> str | None:
    """Why this process must not open a file, after a child process of limited memory has tried to, if it looks suspicious."""
    try:
        if may_list_more_than_it_has(path):
            check_in_child(_demux_file, path, VIDEO_BYTES)
    except ValueError as error:
        return f"the file lists far more frames than it holds: {error}"
    except OSError as error:
        raise_if_system_is_short(error)
        return f"the file cannot be read ({_format_error(error)})"
    return None


def _demux_file(path: str) -> None:
    """Open a file and read all packets of its video streams. Raises MemoryError, also where FFmpeg reports it.

    Damage is left to the caller, who meets it when it reads the file itself.
    """
    try:
        _count_packets(path)
    except VideoError as error:
        if isinstance(error.__cause__, MemoryError):
            raise MemoryError from error


@contextmanager
def _open_container(path: str) -> Iterator[InputContainer]:
    _check_file(path)
    try:
        container = av.open(path, container_options=_build_open_options(), metadata_errors="replace")
    except av.error.ArgumentError as error:
        if _is_jpeg(path):  # its name makes FFmpeg choose the demuxer of numbered pictures, which is refused
            raise VideoError("no_video", "the file is a picture (jpeg), not a video") from error
        raise VideoError(
            "unreadable", "the file is no video (playlists that point to other files are refused)"
        ) from error
    except (av.error.FFmpegError, OSError) as error:
        raise_if_system_is_short(error)
        if missing := _find_missing_table(path):
            raise VideoError("truncated", missing) from error
        raise VideoError("unreadable", f"the file is damaged or no video ({_format_error(error)})") from error
    with container:
        try:
            yield container
        except av.error.FFmpegError as error:
            raise_if_system_is_short(error)
            raise VideoError("unreadable", f"the file cannot be read ({_format_error(error)})") from error


def _find_missing_table(path: str) -> str | None:
    """Why FFmpeg cannot open an MP4 or QuickTime file that was cut before the table at its end; None for other files."""
    with suppress(OSError), Path(path).open("rb") as file:
        return find_missing_end(path, "mp4") if file.read(8)[4:] in MP4_STARTS else None
    return None


def _is_jpeg(path: str) -> bool:
    with Path(path).open("rb") as file:
        return file.read(3) == b"\xff\xd8\xff"


def _count_packets(path: str) -> Counter[int]:
    with _open_container(path) as container:
        packets = demux_streams(container, container.streams.video)
        return Counter(packet.stream_index for packet in packets if packet.size)


@cache
def _build_open_options() -> dict[str, str]:
    formats = sorted(av.formats_available - _REFERENCING_DEMUXERS)
    return {"fflags": "+nofillin-genpts", "protocol_whitelist": "file", "format_whitelist": ",".join(formats)}


def _find_video_streams(container: InputContainer, path: str) -> list[av.VideoStream]:
    """The streams that could be the video: no covers, no thumbnails. Raises VideoError if there is none."""
    _refuse_pictures(container, path)
    streams = [stream for stream in container.streams.video if not stream.disposition & _COVERS]
    known = [stream for stream in streams if stream.codec_context is not None]
    if known:
        return known
    if streams:
        raise VideoError("unreadable", "the file's video codec is unknown to this FFmpeg")
    if container.streams.audio:
        raise VideoError("no_video", "the file holds sound and no video")
    raise VideoError("no_video", "the file holds no video stream")


def _refuse_pictures(container: InputContainer, path: str) -> None:
    name = container.format.name
    if name == "webp_pipe":
        with Path(path).open("rb") as file:
            head = file.read(21)
        if head[12:16] == b"VP8X" and head[20:] and head[20] & _WEBP_ANIMATION:
            raise VideoError(
                "unreadable", "the file is an animated WebP, which FFmpeg cannot decode; convert it to MP4 or APNG"
            )
    if name.endswith("_pipe"):  # FFmpeg's demuxers of single pictures: png_pipe, jpeg_pipe, ...
        raise VideoError("no_video", f"the file is a picture ({name[:-5]}), not a video")
    brand = container.metadata.get("major_brand", "")
    if brand in _PICTURE_BRANDS and all(stream.frames <= 1 for stream in container.streams.video):
        raise VideoError("no_video", f"the file is a picture ({brand}), not a video")


def _format_error(error: OSError | av.error.FFmpegError) -> str:
    if error.errno == errno.EAGAIN:  # a demuxer has given up looking for the next packet
        return "a long part of it is not data of its format"
    return str(error.strerror or error)
