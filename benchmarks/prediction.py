"""Prediction over a folder of many small videos: `python benchmarks/prediction.py [--videos 2000] [-o RESULTS.json]`.

The videos are links to generated ones of 170x128 pixels and 60 frames; the network is narrow and sees 32x32 pixels, so that it
is faster than the decoder, as networks are on a GPU. Candidates alternate in every round; medians over the rounds:

    table           `muybridge predict RUN FOLDER -o t.parquet`: batches across videos
    limit           the same clips decoded, without a network and without a table
    one by one      `recognizer.predict(path)` in a loop
    plain script    PyAV decodes every frame to RGB, torch scales and runs the network as it was trained, a video at a time

in processor seconds a video of one process, which other work on the machine does not change, and table and limit also with
worker processes, in videos a second of wall time. `--listing N` measures what precedes the first video for a folder of N files.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import torch
from torch.nn import functional

import muybridge
from harness import report_results
from muybridge.cli.main import main as run_command
from muybridge.distributed.rank import resolve_num_workers
from muybridge.loading.workers import load_batches
from muybridge.prediction.clip_outputs import ClipPlan, InputDataset, WholeVideos, collate_videos
from muybridge.prediction.inputs import list_videos
from muybridge.prediction.recognizer import Recognizer
from muybridge.prediction.video_inputs import resolve_input
from muybridge.records import Preprocessing
from muybridge.settings import LoadingSettings
from muybridge.synthetic.dataset import write_motion_dataset
from muybridge.synthetic.motions import MotionSettings

CLASSES = ("left", "right", "up", "down")


def make_videos(folder: Path, count: int) -> Path:
    """`count` links to a few videos, a hundred in a folder."""
    motions = MotionSettings(classes=CLASSES, train_videos_per_class=5, num_frames=60, height=128, width=170)
    write_motion_dataset(folder / "motions", motions)
    sources = sorted((folder / "motions").rglob("*.mp4"))
    for index in range(count):
        path = folder / "videos" / f"{index // 100:05d}" / f"{index:07d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(sources[index % len(sources)])
    return folder / "videos"


def link_few(videos: Path, folder: Path, count: int) -> Path:
    """The first `count` of the videos, in a folder of their own."""
    folder.mkdir(parents=True)
    for path in sorted(videos.rglob("*.mp4"))[:count]:
        (folder / path.name).symlink_to(path.resolve())
    return folder


def make_network(path: Path, width: int) -> Path:
    network = muybridge.create_model("r2plus1d_10", num_classes=len(CLASSES), width=width)
    muybridge.save(network, path, classes=CLASSES, preprocessing=Preprocessing(crop=32))
    return path


def predict_table(network: Path, videos: Path, clips: int, workers: int) -> None:
    output = videos.parent / "t.parquet"
    output.unlink(missing_ok=True)
    words = ["predict", str(network), str(videos), "--clips", str(clips), "--workers", str(workers), "--device", "cpu"]
    assert run_command([*words, "-o", str(output)]) == 0


def decode_alone(recognizer: Recognizer, names: Sequence[str], clips: int, workers: int) -> None:
    preprocessing = recognizer.card.preprocessing
    inputs = [resolve_input(name, preprocessing, recognizer.source) for name in names]
    dataset = InputDataset(inputs, preprocessing, ClipPlan(clips))
    loading = LoadingSettings(workers=workers, prefetch=2)
    for _ in load_batches(dataset, WholeVideos(len(inputs), clips, 0), collate_videos, loading, pin_memory=False):
        pass


def predict_one_by_one(recognizer: Recognizer, names: Sequence[str], clips: int) -> None:
    for name in names:
        recognizer.predict(name, clips=clips)


@torch.inference_mode()
def run_plain_script(recognizer: Recognizer, names: Sequence[str], clips: int) -> None:
    preprocessing, network = recognizer.card.preprocessing, recognizer.model.eval()
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    size = (preprocessing.scale_height, preprocessing.scale_width)
    top, left = ((side - preprocessing.crop) // 2 for side in size)
    for name in names:
        with av.open(name) as container:
            frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        starts = np.linspace(0, len(frames) - preprocessing.clip_length, clips).astype(int)
        for start in starts:
            clip = torch.from_numpy(frames[start : start + preprocessing.clip_length]).permute(0, 3, 1, 2).float()
            clip = functional.interpolate(clip, size, mode="bilinear").transpose(0, 1)
            clip = (clip[..., top : top + preprocessing.crop, left : left + preprocessing.crop] - mean) / std
            torch.softmax(network(clip[None]), 1).argmax()


def measure_seconds(function: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    function()
    return clock() - start


def measure_listing(network: Path, folder: Path, count: int) -> dict[str, float]:
    """Processor seconds before the first of `count` files is opened, also as a multiple of a plain walk."""
    videos = make_videos(folder / "listing", count)
    recognizer = muybridge.load(network, "cpu")
    walk = measure_seconds(lambda: list(videos.rglob("*")), time.process_time)
    names: list[str] = []
    listing = measure_seconds(lambda: names.extend(list_videos([videos]).videos), time.process_time)
    preprocessing = recognizer.card.preprocessing
    resolving = measure_seconds(
        lambda: [resolve_input(name, preprocessing, recognizer.source) for name in names], time.process_time
    )
    assert len(names) == count
    return {"files": count, "processor_seconds": listing + resolving, "ratio to rglob": (listing + resolving) / walk}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--sample", type=int, default=200, help="videos of the candidates without workers")
    parser.add_argument("--clips", type=int, default=1)
    parser.add_argument("--width", type=int, default=4)
    parser.add_argument("--workers", type=int, default=resolve_num_workers(None))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--listing", type=int, default=100_000)
    parser.add_argument("-o", "--output")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = make_videos(folder, args.videos)
        network = make_network(folder / "network.safetensors", args.width)
        recognizer = muybridge.load(network, "cpu")
        names = list_videos([videos]).videos
        listing = measure_listing(network, folder, args.listing)
        few = link_few(videos, folder / "few" / "videos", args.sample)
        some = list_videos([few]).videos
        in_one_process: dict[str, Callable[[], None]] = {
            "table": lambda: predict_table(network, few, args.clips, 0),
            "limit": lambda: decode_alone(recognizer, some, args.clips, 0),
            "one by one": lambda: predict_one_by_one(recognizer, some, args.clips),
            "plain script": lambda: run_plain_script(recognizer, some, args.clips),
        }
        in_workers: dict[str, Callable[[], None]] = {
            "table": lambda: predict_table(network, videos, args.clips, args.workers),
            "limit": lambda: decode_alone(recognizer, names, args.clips, args.workers),
        }
        rounds = [
            (
                {name: measure_seconds(call, time.process_time) / len(some) for name, call in in_one_process.items()},
                {name: len(names) / measure_seconds(call, time.perf_counter) for name, call in in_workers.items()},
            )
            for _ in range(args.rounds)
        ]
    seconds = {name: statistics.median(times[name] for times, _ in rounds) for name in in_one_process}
    rates = {name: statistics.median(rates[name] for _, rates in rounds) for name in in_workers}
    results = {
        "settings": {name: getattr(args, name) for name in ("videos", "sample", "clips", "width", "workers")},
        "milliseconds_per_video": {name: 1000 * value for name, value in seconds.items()},
        "ratios": {f"{name} / table": value / seconds["table"] for name, value in seconds.items() if name != "table"},
        "with workers": {"videos_per_second": rates, "table / limit": rates["table"] / rates["limit"]},
        "listing": listing,
    }
    report_results(results, args.output)


if __name__ == "__main__":
    main()
