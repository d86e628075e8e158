"""Windows along a long video a processor second, three ways, and the memory they take.

    python benchmarks/timeline.py -o RESULTS.json [--minutes 10] [--step 4] [--repeats 3] [--model NAME --width W]

naive: each window read, converted and run by itself. windows: the default, exact, of which windows share frames and the layers
that see single frames. convolutional: one pass along the video. All run the optimized network with random weights on a
generated video of 340x256 pixels, H.264 with a key frame in 250, as Kinetics has it. Of the long video the naive way takes 100
windows spread over it; the others take all. Each long run is a process of its own, which tells its peak memory. Freed memory is
kept, as `muybridge predict` has it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from muybridge.bench.measure import measure_peak_bytes, measure_seconds, run_in_fresh_process, time_interleaved
from muybridge.files.run_folder import collect_environment
from muybridge.inference.folded import optimize
from muybridge.inference.scorer import NetworkScorer
from muybridge.memory import keep_freed_memory
from muybridge.models.network import create_model
from muybridge.prediction.sliding_window import WindowScorer
from muybridge.records import Preprocessing
from muybridge.video.decode import VideoFiles
from muybridge.video.sampling import compute_dense_starts, sample_dense_clips
from muybridge.video.views import collate_views, make_evaluation_view, prepare_network_input

CPU = torch.device("cpu")
PREPROCESSING = Preprocessing()
FRAMES_PER_SECOND = 25
WAYS = ("naive", "windows", "convolutional")
SAMPLED_WINDOWS = 100  # of the naive way along the long video


def write_video(path: Path, seconds: float) -> Path:
    """A blurred random picture that drifts and flickers."""
    generator = np.random.default_rng(0)
    picture = np.kron(generator.integers(0, 256, (32, 43, 3)), np.ones((8, 8, 1)))[:256, :340].astype(np.uint8)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=FRAMES_PER_SECOND, options={"preset": "veryfast", "crf": "28"})
        stream.width, stream.height, stream.pix_fmt = 340, 256, "yuv420p"
        stream.codec_context.gop_size = 250
        for number in range(round(seconds * FRAMES_PER_SECOND)):
            shown = np.roll(picture, (number, 2 * number), (0, 1)) // 2 + np.uint8(40 * (1 + np.sin(number / 9)))
            output.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        output.mux(stream.encode(None))
    return path


def scorer_of(name: str, width: int) -> NetworkScorer:
    torch.manual_seed(0)
    return NetworkScorer(optimize(create_model(name, width=width).eval()), CPU)


def run(way: str, video: str, scorer: NetworkScorer, step: int, sampled: int | None = None) -> int:
    """Scores the windows of a video; how many there were."""
    source = VideoFiles("", scale_height=PREPROCESSING.scale_height, scale_width=PREPROCESSING.scale_width)
    times = source.read_frame_times(video)
    if way != "naive":
        starts = compute_dense_starts(times, PREPROCESSING, step)
        reader = WindowScorer(source, video, PREPROCESSING, CPU)
        return sum(len(numbers) for numbers, _ in reader.score_windows(scorer, starts, way))  # type: ignore[arg-type]
    places = sample_dense_clips(times, PREPROCESSING, step)
    chosen = places if sampled is None else places[:: max(1, len(places) // sampled)]
    for place in chosen:
        view = make_evaluation_view(source.read(video, place.ticks), PREPROCESSING.crop)
        scorer(prepare_network_input(collate_views([view]), PREPROCESSING, CPU))
    return len(chosen)


def long_run(way: str, video: str, name: str, width: int, step: int) -> dict[str, float]:
    """Windows a processor second, and peak memory beyond the network's, in this process."""
    keep_freed_memory(1 << 30)
    torch.set_num_threads(1)
    scorer = scorer_of(name, width)
    scorer(torch.zeros(1, 3, PREPROCESSING.clip_length, PREPROCESSING.crop, PREPROCESSING.crop))  # lays out the weights
    told: dict[str, float] = {}

    def measured() -> None:
        counted: list[int] = []
        seconds = measure_seconds(lambda: counted.append(run(way, video, scorer, step, SAMPLED_WINDOWS)), CPU)
        told.update(windows=counted[0], windows_a_second=counted[0] / seconds, seconds=seconds)

    peak = measure_peak_bytes(measured, CPU)
    return {**told, "peak_MiB": round(peak / 2**20)}


def short_runs(video: str, name: str, width: int, *, step: int, repeats: int) -> dict[str, Any]:
    """All ways in turn over one short video."""
    scorer = scorer_of(name, width)
    runs: dict[str, Callable[[], object]] = {way: partial(run, way, video, scorer, step) for way in WAYS}
    num_windows = run("windows", video, scorer, step)
    seconds = {way: statistics.median(found) for way, found in time_interleaved(runs, repeats, CPU).items()}
    return {
        "windows": num_windows,
        "windows_a_second": {way: num_windows / spent for way, spent in seconds.items()},
        "times_naive": {way: seconds["naive"] / spent for way, spent in seconds.items()},
    }


def tell(results: dict[str, Any], output: str | None) -> None:
    """Prints, and writes what there is so far."""
    print(json.dumps(results, indent=2), flush=True)
    if output:
        told = {"environment": {k: v for k, v in collect_environment().items() if k != "command"}, "results": results}
        Path(output).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--step", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="r2plus1d_18")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--full_seconds", type=float, default=10, help="of video for R(2+1)D-18 at full width; 0: none")
    options = parser.parse_args()
    keep_freed_memory(1 << 30)
    torch.set_num_threads(1)
    results: dict[str, Any] = {"step": options.step, "minutes": options.minutes}
    with tempfile.TemporaryDirectory() as folder:
        short = str(write_video(Path(folder, "short.mp4"), 6 * options.minutes))
        long = str(write_video(Path(folder, "long.mp4"), 60 * options.minutes))
        small = (options.model, options.width)
        results[f"a tenth of the video, {options.model} at width {options.width}"] = short_runs(
            short, *small, step=options.step, repeats=options.repeats
        )
        tell(results, options.output)
        for length, video in (("a tenth", short), ("all of the video", long)):
            found = {way: run_in_fresh_process(long_run, way, video, *small, options.step) for way in WAYS}  # type: ignore[arg-type]
            results[f"{length}, each in a process of its own"] = found
            tell(results, options.output)
        if options.full_seconds:
            stretch = str(write_video(Path(folder, "stretch.mp4"), options.full_seconds))
            key = f"{options.full_seconds:g} s, r2plus1d_18 at width 64"
            results[key] = {
                way: run_in_fresh_process(long_run, way, stretch, "r2plus1d_18", 64, options.step) for way in WAYS
            }  # type: ignore[arg-type]
            tell(results, options.output)


if __name__ == "__main__":
    main()
