"""Random clips a processor second, one thread: raw files and prepared data, by this package and by other libraries.

Enter: video files. Leave: for each contender the median rate of several rounds, all contenders in turn on the same draws of
16 frames. "decode alone" is the limit: the H.264 decoder given the prepared packets in memory, frames thrown away.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from muybridge.datasets.manifest import ShardMember
from muybridge.prepared.mp4 import parse_header, parse_header_length
from muybridge.prepared.shards import ShardFrameSource, format_shard_path
from muybridge.prepared.transcode import TranscodeJob, transcode
from muybridge.records import ClipTimes, Preprocessing, VideoError
from muybridge.video.decode import VideoFiles
from muybridge.video.sampling import sample_random_clip
from muybridge.video.views import collate_views, make_evaluation_view, prepare_network_input

_NUM_COPIES = 8  # of each video in the shard, so that reading one is rarely reading it again
_CPU = torch.device("cpu")

ReadClip = Callable[[int, ClipTimes, int], Any]  # which video, its clip by time stamps, the number of its first frame


@dataclass(frozen=True)
class BenchmarkCase:
    """Something that reads clips. `reaches` is how far it goes: yuv, rgb or crop (the network's input)."""

    name: str
    material: str
    reaches: str
    read: ReadClip


@dataclass(frozen=True)
class BenchmarkVideos:
    """The videos as a shard and as single files in `folder`, and how long making them took."""

    folder: Path
    members: tuple[str, ...]
    contents: tuple[bytes, ...]
    seconds_per_video: float


def make_benchmark_videos(videos: Sequence[Path], folder: Path) -> BenchmarkVideos:
    """Transcodes the videos into one shard in which each stands several times."""
    began = time.process_time()
    encoded_videos = [transcode(TranscodeJob(str(path.absolute()), None, None, None, 128, 171)) for path in videos]
    seconds = (time.process_time() - began) / len(videos)
    shard = folder / format_shard_path(0)
    shard.parent.mkdir(parents=True)
    members = []
    with shard.open("wb") as file:
        for video in encoded_videos * _NUM_COPIES:
            members.append(str(ShardMember(0, file.tell(), len(video.content), video.sha256)))
            file.write(video.content)
    for number, video in enumerate(encoded_videos):
        (folder / f"{number}.mp4").write_bytes(video.content)
    return BenchmarkVideos(folder, tuple(members), tuple(video.content for video in encoded_videos), seconds)


def build_cases(videos: Sequence[Path], prepared: BenchmarkVideos) -> tuple[list[BenchmarkCase], list[str]]:
    """Everything that can run here, and a line about each library that cannot."""
    raw = VideoFiles("", scale_height=128, scale_width=171)
    shards = ShardFrameSource(str(prepared.folder), scale_height=128, scale_width=171)
    paths = {"raw": [str(path) for path in videos]}
    paths["prepared file"] = [str(prepared.folder / f"{number}.mp4") for number in range(len(videos))]
    settings = Preprocessing()

    def read_crop(number: int, clip: ClipTimes, first: int) -> Any:
        view = make_evaluation_view(
            shards.read(prepared.members[number], _get_clip_ticks(shards, prepared.members[number], first)), 112
        )
        return prepare_network_input(collate_views([view]), settings, _CPU)

    cases = [
        BenchmarkCase("decode alone", "packets in memory", "yuv", _make_decode_only_reader(prepared)),
        BenchmarkCase(
            "muybridge",
            "shards",
            "yuv",
            lambda number, clip, first: shards.read(
                prepared.members[number], _get_clip_ticks(shards, prepared.members[number], first)
            ),
        ),
        BenchmarkCase("muybridge", "shards", "crop", read_crop),
        BenchmarkCase(
            "muybridge",
            "raw",
            "yuv",
            lambda number, clip, first: raw.read(paths["raw"][number % len(videos)], clip.ticks),
        ),
    ]
    absent = []
    for name, make in (("torchcodec", _make_torchcodec_reader), ("decord", _make_decord_reader)):
        try:
            for material, files in paths.items():
                cases.append(BenchmarkCase(name, material, "rgb", make(files)))
            if name == "torchcodec":
                cases.append(BenchmarkCase(name, "prepared bytes", "rgb", _make_torchcodec_reader(prepared.contents)))
                cases.append(
                    BenchmarkCase(
                        name, "prepared bytes", "crop", _make_torchcodec_crop_reader(prepared.contents, settings)
                    )
                )
        except (ImportError, OSError, RuntimeError) as error:
            absent.append(f"{name} is absent: {str(error).splitlines()[0]}")
    for material, files in paths.items():
        cases.append(BenchmarkCase("PyAV", material, "rgb", _make_pyav_reader(files)))
    return cases, absent


def measure_decoding(
    videos: Sequence[Path], prepared: BenchmarkVideos, *, num_clips: int, num_rounds: int
) -> dict[str, Any]:
    """Rates in clips a processor second, medians over the rounds, with the ratios the project answers for."""
    torch.set_num_threads(1)
    cases, absent = build_cases(videos, prepared)
    source = VideoFiles("", scale_height=128, scale_width=171)
    draws = _sample_clips([source.read_frame_times(str(path)) for path in videos], len(prepared.members), num_clips)
    for contender in cases:
        contender.read(*draws[0])
    rates: dict[int, list[float]] = {case_index: [] for case_index in range(len(cases))}
    for _ in range(num_rounds):
        for place, contender in enumerate(cases):
            case_draws = draws if contender.material != "raw" else draws[: max(4, num_clips // 10)]
            began = time.process_time()
            for draw in case_draws:
                contender.read(*draw)
            rates[place].append(len(case_draws) / (time.process_time() - began))
    rows = [
        {
            "name": c.name,
            "material": c.material,
            "reaches": c.reaches,
            "clips_per_second": statistics.median(rates[place]),
        }
        for place, c in enumerate(cases)
    ]
    sizes = [len(content) for content in prepared.contents]
    return {
        "clips_per_processor_second": rows,
        "ratios": compute_ratios(rows),
        "absent": absent,
        "bytes_a_video": statistics.mean(sizes),
        "transcoding_seconds_a_video": prepared.seconds_per_video,
    }


def compute_ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What the project answers for; a ratio whose other side is absent is left out."""

    def rate(reaches: str, **wanted: str) -> float | None:
        fits = [
            row["clips_per_second"]
            for row in rows
            if row["reaches"] in reaches and all(row[key] == value for key, value in wanted.items())
        ]
        return max(fits, default=None)

    shards_to_yuv, shards_to_crop = rate("yuv", name="muybridge", material="shards"), rate("crop", name="muybridge")
    pairs = {
        "shards to yuv / best raw": (shards_to_yuv, rate("yuv rgb", material="raw")),
        "shards to crop / best raw": (shards_to_crop, rate("yuv rgb", material="raw")),
        "shards to yuv / decode alone": (shards_to_yuv, rate("yuv", name="decode alone")),
        "shards to yuv / torchcodec on the same bytes": (
            shards_to_yuv,
            rate("rgb", name="torchcodec", material="prepared bytes"),
        ),
        "shards to crop / torchcodec to crop": (shards_to_crop, rate("crop", name="torchcodec")),
    }
    return {name: mine / other for name, (mine, other) in pairs.items() if mine and other}


def _sample_clips(frame_times: Sequence[Any], num_members: int, num_clips: int) -> list[tuple[int, ClipTimes, int]]:
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(num_clips):
        member_index = int(rng.integers(num_members))
        video_times = frame_times[member_index % len(frame_times)]
        clip = sample_random_clip(video_times, Preprocessing(), rng)
        draws.append((member_index, clip, int(np.searchsorted(video_times.ticks, clip.ticks[0]))))
    return draws


def _get_clip_ticks(shards: ShardFrameSource, member: str, first_frame: int) -> Any:
    return shards.read_frame_times(member).ticks[first_frame : first_frame + 16]


def _make_decode_only_reader(prepared: BenchmarkVideos) -> ReadClip:
    indexes = [parse_header(content[: parse_header_length(content)]) for content in prepared.contents]
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.extradata, decoder.thread_count = indexes[0].extradata, 1
    packets = [
        [content[start:stop] for start, stop in pairwise(index.byte_offsets)]
        for index, content in zip(indexes, prepared.contents, strict=True)
    ]

    def read(number: int, clip: ClipTimes, first: int) -> None:
        decoder.flush_buffers()
        video_index = number % len(packets)
        start = max(key for key in indexes[video_index].keyframe_indices if key <= first)
        for packet in packets[video_index][start : first + 16]:
            decoder.decode(av.Packet(packet))

    return read


def _make_torchcodec_reader(sources: Sequence[str | bytes]) -> ReadClip:
    from torchcodec.decoders import VideoDecoder  # noqa: PLC0415 - a peer, not a dependency

    def read(number: int, clip: ClipTimes, first: int) -> Any:
        decoder = VideoDecoder(sources[number % len(sources)], num_ffmpeg_threads=1, seek_mode="approximate")
        return decoder.get_frames_in_range(first, first + 16).data

    return read


def _make_torchcodec_crop_reader(sources: Sequence[bytes], settings: Preprocessing) -> ReadClip:
    read_frames = _make_torchcodec_reader(sources)
    mean, std = (torch.tensor(values)[:, None, None, None] for values in (settings.mean, settings.std))

    def read(number: int, clip: ClipTimes, first: int) -> Any:
        frames = read_frames(number, clip, first)[..., 8:120, 29:141]
        return frames.permute(1, 0, 2, 3).float().sub_(mean).div_(std)

    return read


def _make_decord_reader(sources: Sequence[str]) -> ReadClip:
    import decord  # type: ignore[import-not-found]  # noqa: PLC0415 - a peer, not a dependency

    def read(number: int, clip: ClipTimes, first: int) -> Any:
        return decord.VideoReader(sources[number % len(sources)], num_threads=1).get_batch(range(first, first + 16))

    return read


def _make_pyav_reader(sources: Sequence[str]) -> ReadClip:
    """As it is commonly done: open, seek, decode, convert each frame."""

    def read(number: int, clip: ClipTimes, first: int) -> Any:
        with av.open(sources[number % len(sources)]) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            assert stream.time_base is not None
            assert stream.average_rate is not None
            target = round(first / (stream.average_rate * stream.time_base))
            container.seek(target, stream=stream)
            frames: list[Any] = []
            for frame in container.decode(stream):
                if frame.pts is not None and frame.pts >= target:
                    frames.append(frame.to_ndarray(format="rgb24"))
                    if len(frames) == 16:
                        return np.stack(frames)
        raise VideoError("truncated", f"{len(frames)} of 16 frames")

    return read
