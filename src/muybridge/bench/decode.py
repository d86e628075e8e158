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

from muybridge.datasets.manifest import Member
from muybridge.prepared.mp4 import head_length, read_head
from muybridge.prepared.shards import ShardFrames, shard_name
from muybridge.prepared.transcode import Transcoding, transcode
from muybridge.records import ClipTimes, Preprocessing, VideoError
from muybridge.video.decode import VideoFiles
from muybridge.video.sampling import random_clip
from muybridge.video.views import batched, evaluation_view, network_input

_COPIES = 8  # of each video in the shard, so that reading one is rarely reading it again
_CPU = torch.device("cpu")

Read = Callable[[int, ClipTimes, int], Any]  # which video, its clip by time stamps, the number of its first frame


@dataclass(frozen=True)
class Contender:
    """Something that reads clips. `reaches` is how far it goes: yuv, rgb or crop (the network's input)."""

    name: str
    material: str
    reaches: str
    read: Read


@dataclass(frozen=True)
class Prepared:
    """The videos as a shard and as single files in `folder`, and how long making them took."""

    folder: Path
    members: tuple[str, ...]
    contents: tuple[bytes, ...]
    seconds_a_video: float


def make_prepared(videos: Sequence[Path], folder: Path) -> Prepared:
    """Transcodes the videos into one shard in which each stands several times."""
    began = time.process_time()
    stored = [transcode(Transcoding(str(path.absolute()), None, None, None, 128, 171)) for path in videos]
    seconds = (time.process_time() - began) / len(videos)
    shard = folder / shard_name(0)
    shard.parent.mkdir(parents=True)
    members = []
    with shard.open("wb") as file:
        for video in stored * _COPIES:
            members.append(str(Member(0, file.tell(), len(video.content), video.sha256)))
            file.write(video.content)
    for number, video in enumerate(stored):
        (folder / f"{number}.mp4").write_bytes(video.content)
    return Prepared(folder, tuple(members), tuple(video.content for video in stored), seconds)


def contenders(videos: Sequence[Path], prepared: Prepared) -> tuple[list[Contender], list[str]]:
    """Everything that can run here, and a line about each library that cannot."""
    raw = VideoFiles("", scale_height=128, scale_width=171)
    shards = ShardFrames(str(prepared.folder), scale_height=128, scale_width=171)
    paths = {"raw": [str(path) for path in videos]}
    paths["prepared file"] = [str(prepared.folder / f"{number}.mp4") for number in range(len(videos))]
    settings = Preprocessing()

    def crop(number: int, clip: ClipTimes, first: int) -> Any:
        view = evaluation_view(
            shards.read(prepared.members[number], _stored(shards, prepared.members[number], first)), 112
        )
        return network_input(batched([view]), settings, _CPU)

    found = [
        Contender("decode alone", "packets in memory", "yuv", _decode_alone(prepared)),
        Contender(
            "muybridge",
            "shards",
            "yuv",
            lambda number, clip, first: shards.read(
                prepared.members[number], _stored(shards, prepared.members[number], first)
            ),
        ),
        Contender("muybridge", "shards", "crop", crop),
        Contender(
            "muybridge",
            "raw",
            "yuv",
            lambda number, clip, first: raw.read(paths["raw"][number % len(videos)], clip.ticks),
        ),
    ]
    absent = []
    for name, make in (("torchcodec", _torchcodec), ("decord", _decord)):
        try:
            for material, files in paths.items():
                found.append(Contender(name, material, "rgb", make(files)))
            if name == "torchcodec":
                found.append(Contender(name, "prepared bytes", "rgb", _torchcodec(prepared.contents)))
                found.append(Contender(name, "prepared bytes", "crop", _torchcodec_crop(prepared.contents, settings)))
        except (ImportError, OSError, RuntimeError) as error:
            absent.append(f"{name} is absent: {str(error).splitlines()[0]}")
    for material, files in paths.items():
        found.append(Contender("PyAV", material, "rgb", _pyav(files)))
    return found, absent


def measure(videos: Sequence[Path], prepared: Prepared, *, clips: int, rounds: int) -> dict[str, Any]:
    """Rates in clips a processor second, medians over the rounds, with the ratios the project answers for."""
    torch.set_num_threads(1)
    running, absent = contenders(videos, prepared)
    source = VideoFiles("", scale_height=128, scale_width=171)
    draws = _draws([source.frame_times(str(path)) for path in videos], len(prepared.members), clips)
    for contender in running:
        contender.read(*draws[0])
    rates: dict[int, list[float]] = {place: [] for place in range(len(running))}
    for _ in range(rounds):
        for place, contender in enumerate(running):
            some = draws if contender.material != "raw" else draws[: max(4, clips // 10)]
            began = time.process_time()
            for draw in some:
                contender.read(*draw)
            rates[place].append(len(some) / (time.process_time() - began))
    rows = [
        {
            "name": c.name,
            "material": c.material,
            "reaches": c.reaches,
            "clips_per_second": statistics.median(rates[place]),
        }
        for place, c in enumerate(running)
    ]
    sizes = [len(content) for content in prepared.contents]
    return {
        "clips_per_processor_second": rows,
        "ratios": ratios(rows),
        "absent": absent,
        "bytes_a_video": statistics.mean(sizes),
        "transcoding_seconds_a_video": prepared.seconds_a_video,
    }


def ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What the project answers for; a ratio whose other side is absent is left out."""

    def rate(reaches: str, **wanted: str) -> float | None:
        fits = [
            row["clips_per_second"]
            for row in rows
            if row["reaches"] in reaches and all(row[key] == value for key, value in wanted.items())
        ]
        return max(fits, default=None)

    ours, whole = rate("yuv", name="muybridge", material="shards"), rate("crop", name="muybridge")
    pairs = {
        "shards to yuv / best raw": (ours, rate("yuv rgb", material="raw")),
        "shards to crop / best raw": (whole, rate("yuv rgb", material="raw")),
        "shards to yuv / decode alone": (ours, rate("yuv", name="decode alone")),
        "shards to yuv / torchcodec on the same bytes": (
            ours,
            rate("rgb", name="torchcodec", material="prepared bytes"),
        ),
        "shards to crop / torchcodec to crop": (whole, rate("crop", name="torchcodec")),
    }
    return {name: mine / other for name, (mine, other) in pairs.items() if mine and other}


def _draws(times: Sequence[Any], num_members: int, clips: int) -> list[tuple[int, ClipTimes, int]]:
    chance = np.random.default_rng(0)
    draws = []
    for _ in range(clips):
        number = int(chance.integers(num_members))
        own = times[number % len(times)]
        clip = random_clip(own, Preprocessing(), chance)
        draws.append((number, clip, int(np.searchsorted(own.ticks, clip.ticks[0]))))
    return draws


def _stored(shards: ShardFrames, member: str, first: int) -> Any:
    return shards.frame_times(member).ticks[first : first + 16]


def _decode_alone(prepared: Prepared) -> Read:
    indexes = [read_head(content[: head_length(content)]) for content in prepared.contents]
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.extradata, decoder.thread_count = indexes[0].settings, 1
    packets = [
        [content[start:stop] for start, stop in pairwise(index.places)]
        for index, content in zip(indexes, prepared.contents, strict=True)
    ]

    def read(number: int, clip: ClipTimes, first: int) -> None:
        decoder.flush_buffers()
        place = number % len(packets)
        start = max(key for key in indexes[place].keys if key <= first)
        for packet in packets[place][start : first + 16]:
            decoder.decode(av.Packet(packet))

    return read


def _torchcodec(sources: Sequence[str | bytes]) -> Read:
    from torchcodec.decoders import VideoDecoder  # noqa: PLC0415 - a peer, not a dependency

    def read(number: int, clip: ClipTimes, first: int) -> Any:
        decoder = VideoDecoder(sources[number % len(sources)], num_ffmpeg_threads=1, seek_mode="approximate")
        return decoder.get_frames_in_range(first, first + 16).data

    return read


def _torchcodec_crop(sources: Sequence[bytes], settings: Preprocessing) -> Read:
    whole = _torchcodec(sources)
    mean, std = (torch.tensor(values)[:, None, None, None] for values in (settings.mean, settings.std))

    def read(number: int, clip: ClipTimes, first: int) -> Any:
        frames = whole(number, clip, first)[..., 8:120, 29:141]
        return frames.permute(1, 0, 2, 3).float().sub_(mean).div_(std)

    return read


def _decord(sources: Sequence[str]) -> Read:
    import decord  # type: ignore[import-not-found]  # noqa: PLC0415 - a peer, not a dependency

    def read(number: int, clip: ClipTimes, first: int) -> Any:
        return decord.VideoReader(sources[number % len(sources)], num_threads=1).get_batch(range(first, first + 16))

    return read


def _pyav(sources: Sequence[str]) -> Read:
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
