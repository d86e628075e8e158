"""Decoding benchmark: random clips a processor second on one thread, by this package and by other libraries.

Input: video files. Output: for each case (library and material) the median rate over several rounds. All cases alternate and
read the same 16-frame clips. "decode alone" is the upper bound: the H.264 decoder on the prepared packets in memory, frames
discarded.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch

from muybridge.datasets.manifest import ShardMember
from muybridge.prepared.mp4 import parse_header, parse_header_length
from muybridge.prepared.shards import ShardFrameSource, format_shard_path
from muybridge.prepared.transcode import TranscodeJob, transcode
from muybridge.records import ClipTimes, Preprocessing, VideoError, YuvClip
from muybridge.video.decode import VideoFiles
from muybridge.video.sampling import sample_random_clip
from muybridge.video.views import collate_views, make_evaluation_view, prepare_network_input

_NUM_COPIES = 8  # of each video in the shard, so that successive reads are rarely of the same bytes
_NUM_FRAMES = 16
_CPU = torch.device("cpu")


class ClipDraw(NamedTuple):
    """A clip to read: the index of its shard member, its time stamps, and the index of its first frame."""

    member_index: int
    clip: ClipTimes
    first_frame: int


ReadClip = Callable[[ClipDraw], Any]


@dataclass(frozen=True)
class BenchmarkCase:
    """A way of reading clips. `reaches` is what it returns: yuv, rgb, or crop (network input)."""

    name: str
    material: str
    reaches: str
    read: ReadClip


@dataclass(frozen=True)
class BenchmarkVideos:
    """The prepared videos: as members of a shard, as single files `0.mp4`, ... in `folder`, and their contents."""

    folder: Path
    members: tuple[str, ...]
    contents: tuple[bytes, ...]
    seconds_per_video: float
    """Processor seconds of transcoding one video."""


def make_benchmark_videos(videos: Sequence[Path], folder: Path) -> BenchmarkVideos:
    """Transcode videos into `folder`, each several times into one shard and once as a file."""
    start = time.process_time()
    stored_videos = [transcode(TranscodeJob(str(path.absolute()), None, None, None, 128, 171)) for path in videos]
    encoded_videos = [(video.content, video.sha256) for video in stored_videos if video.content and video.sha256]
    seconds = (time.process_time() - start) / len(videos)
    shard = folder / format_shard_path(0)
    shard.parent.mkdir(parents=True)
    members = []
    with shard.open("wb") as file:
        for content, sha256 in encoded_videos * _NUM_COPIES:
            members.append(str(ShardMember(0, file.tell(), len(content), sha256)))
            file.write(content)
    for index, (content, _) in enumerate(encoded_videos):
        (folder / f"{index}.mp4").write_bytes(content)
    return BenchmarkVideos(folder, tuple(members), tuple(content for content, _ in encoded_videos), seconds)


def _build_cases(videos: Sequence[Path], prepared: BenchmarkVideos) -> tuple[list[BenchmarkCase], list[str]]:
    """Build all cases whose libraries are installed, and a line about each library that is not."""
    raw_files = [str(path) for path in videos]
    prepared_files = [str(prepared.folder / f"{index}.mp4") for index in range(len(videos))]
    settings = Preprocessing()
    read_shard, read_raw = _make_shard_reader(prepared), _make_raw_reader(raw_files)

    def read_crop(draw: ClipDraw) -> Any:
        view = make_evaluation_view(read_shard(draw), 112)
        return prepare_network_input(collate_views([view]), settings, _CPU)

    cases = [
        BenchmarkCase("decode alone", "packets in memory", "yuv", _make_decode_only_reader(prepared)),
        BenchmarkCase("muybridge", "shards", "yuv", read_shard),
        BenchmarkCase("muybridge", "shards", "crop", read_crop),
        BenchmarkCase("muybridge", "raw", "yuv", read_raw),
    ]
    absent = []
    materials = {"raw": raw_files, "prepared file": prepared_files}
    for name, make_reader in (("torchcodec", _make_torchcodec_reader), ("decord", _make_decord_reader)):
        try:
            cases += [BenchmarkCase(name, material, "rgb", make_reader(files)) for material, files in materials.items()]
            if name == "torchcodec":
                read_crop_of_bytes = _make_torchcodec_crop_reader(prepared.contents, settings)
                cases.append(BenchmarkCase(name, "prepared bytes", "rgb", _make_torchcodec_reader(prepared.contents)))
                cases.append(BenchmarkCase(name, "prepared bytes", "crop", read_crop_of_bytes))
        except (ImportError, OSError, RuntimeError) as error:
            absent.append(f"{name} is absent: {str(error).splitlines()[0]}")
    cases += [BenchmarkCase("PyAV", material, "rgb", _make_pyav_reader(files)) for material, files in materials.items()]
    return cases, absent


def measure_decoding(
    videos: Sequence[Path], prepared: BenchmarkVideos, *, num_clips: int, num_rounds: int
) -> dict[str, Any]:
    """Measure all cases; rates in clips a processor second as JSON values, with ratios and missing libraries."""
    torch.set_num_threads(1)
    cases, absent = _build_cases(videos, prepared)
    draws = _sample_draws(videos, len(prepared.members), num_clips)
    for case in cases:
        case.read(draws[0])  # opens files, imports and builds converters
    rates: list[list[float]] = [[] for _ in cases]
    for _ in range(num_rounds):
        for case, case_rates in zip(cases, rates, strict=True):
            case_draws = draws if case.material != "raw" else draws[: max(4, num_clips // 10)]  # raw files are slow
            start = time.process_time()
            for draw in case_draws:
                case.read(draw)
            case_rates.append(len(case_draws) / (time.process_time() - start))
    rows = [
        {
            "name": case.name,
            "material": case.material,
            "reaches": case.reaches,
            "clips_per_second": statistics.median(case_rates),
        }
        for case, case_rates in zip(cases, rates, strict=True)
    ]
    return {
        "clips_per_processor_second": rows,
        "ratios": _compute_ratios(rows),
        "absent": absent,
        "bytes_a_video": statistics.mean(map(len, prepared.contents)),
        "transcoding_seconds_a_video": prepared.seconds_per_video,
    }


def _compute_ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Rates of this package divided by those of others; a ratio to an absent library is omitted."""

    def find_best_rate(*reaches: str, **values: str) -> float | None:
        rates = [
            row["clips_per_second"]
            for row in rows
            if row["reaches"] in reaches and all(row[key] == value for key, value in values.items())
        ]
        return max(rates, default=None)

    to_yuv = find_best_rate("yuv", name="muybridge", material="shards")
    to_crop = find_best_rate("crop", name="muybridge")
    best_raw = find_best_rate("yuv", "rgb", material="raw")
    torchcodec_rgb = find_best_rate("rgb", name="torchcodec", material="prepared bytes")
    pairs = {
        "shards to yuv / best raw": (to_yuv, best_raw),
        "shards to crop / best raw": (to_crop, best_raw),
        "shards to yuv / decode alone": (to_yuv, find_best_rate("yuv", name="decode alone")),
        "shards to yuv / torchcodec on the same bytes": (to_yuv, torchcodec_rgb),
        "shards to crop / torchcodec to crop": (to_crop, find_best_rate("crop", name="torchcodec")),
    }
    return {name: rate / other_rate for name, (rate, other_rate) in pairs.items() if rate and other_rate}


def _sample_draws(videos: Sequence[Path], num_members: int, num_clips: int) -> list[ClipDraw]:
    source = VideoFiles("", scale_height=128, scale_width=171)
    frame_times = [source.read_frame_times(str(path)) for path in videos]
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(num_clips):
        member_index = int(rng.integers(num_members))
        video_times = frame_times[member_index % len(videos)]
        clip = sample_random_clip(video_times, Preprocessing(), rng)
        draws.append(ClipDraw(member_index, clip, int(np.searchsorted(video_times.ticks, clip.ticks[0]))))
    return draws


def _make_shard_reader(prepared: BenchmarkVideos) -> Callable[[ClipDraw], YuvClip]:
    shards = ShardFrameSource(str(prepared.folder), scale_height=128, scale_width=171)

    def read(draw: ClipDraw) -> YuvClip:
        member = prepared.members[draw.member_index]
        ticks = shards.read_frame_times(member).ticks[draw.first_frame : draw.first_frame + _NUM_FRAMES]
        return shards.read(member, ticks)

    return read


def _make_raw_reader(files: Sequence[str]) -> Callable[[ClipDraw], YuvClip]:
    source = VideoFiles("", scale_height=128, scale_width=171)
    return lambda draw: source.read(files[draw.member_index % len(files)], draw.clip.ticks)


def _make_decode_only_reader(prepared: BenchmarkVideos) -> ReadClip:
    indexes = [parse_header(content[: parse_header_length(content)]) for content in prepared.contents]
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.extradata, decoder.thread_count = indexes[0].extradata, 1
    packets = [
        [content[start:stop] for start, stop in pairwise(index.byte_offsets)]
        for index, content in zip(indexes, prepared.contents, strict=True)
    ]

    def read(draw: ClipDraw) -> None:
        decoder.flush_buffers()
        video_index, first = draw.member_index % len(packets), draw.first_frame
        start = max(key for key in indexes[video_index].keyframe_indices if key <= first)
        for packet in packets[video_index][start : first + _NUM_FRAMES]:
            decoder.decode(av.Packet(packet))

    return read


def _make_torchcodec_reader(sources: Sequence[str | bytes]) -> ReadClip:
    from torchcodec.decoders import VideoDecoder  # noqa: PLC0415 - a peer, not a dependency

    def read(draw: ClipDraw) -> Any:
        source = sources[draw.member_index % len(sources)]
        decoder = VideoDecoder(source, num_ffmpeg_threads=1, seek_mode="approximate")
        return decoder.get_frames_in_range(draw.first_frame, draw.first_frame + _NUM_FRAMES).data

    return read


def _make_torchcodec_crop_reader(sources: Sequence[bytes], settings: Preprocessing) -> ReadClip:
    read_frames = _make_torchcodec_reader(sources)
    mean, std = (torch.tensor(values)[:, None, None, None] for values in (settings.mean, settings.std))

    def read(draw: ClipDraw) -> Any:
        frames = read_frames(draw)[..., 8:120, 29:141]
        return frames.permute(1, 0, 2, 3).float().sub_(mean).div_(std)

    return read


def _make_decord_reader(sources: Sequence[str]) -> ReadClip:
    import decord  # type: ignore[import-not-found]  # noqa: PLC0415 - a peer, not a dependency

    def read(draw: ClipDraw) -> Any:
        reader = decord.VideoReader(sources[draw.member_index % len(sources)], num_threads=1)
        return reader.get_batch(range(draw.first_frame, draw.first_frame + _NUM_FRAMES))

    return read


def _make_pyav_reader(sources: Sequence[str]) -> ReadClip:
    """Read as commonly done: open, seek, decode, and convert each frame."""

    def read(draw: ClipDraw) -> Any:
        with av.open(sources[draw.member_index % len(sources)]) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            assert stream.time_base is not None
            assert stream.average_rate is not None
            target = round(draw.first_frame / (stream.average_rate * stream.time_base))
            container.seek(target, stream=stream)
            frames: list[Any] = []
            for frame in container.decode(stream):
                if frame.pts is not None and frame.pts >= target:
                    frames.append(frame.to_ndarray(format="rgb24"))
                    if len(frames) == _NUM_FRAMES:
                        return np.stack(frames)
        raise VideoError("truncated", f"{len(frames)} of {_NUM_FRAMES} frames")

    return read
