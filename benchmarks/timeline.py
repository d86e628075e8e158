"""Timeline benchmark: windows along a long video a processor second, and peak memory, of three methods.

    python benchmarks/timeline.py -o RESULTS.json [--minutes 10] [--step 4] [--repeats 3] [--model NAME --width W]

naive: each window is read, converted and scored separately. windows: the default and exact; windows share frames and the layers
that see single frames. convolutional: one pass along the video. All run the optimized network with random weights on a
generated video of 340x256 pixels, H.264 with a key frame every 250 frames, like Kinetics. On the long video, naive scores 100
evenly spaced windows and the others all. Each long run is a new process, to measure its peak memory. Freed memory is kept, as
in `muybridge predict`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from harness import report_results
from muybridge.bench.measure import measure_peak_bytes, measure_seconds, run_in_fresh_process, time_interleaved
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
METHODS = ("naive", "windows", "convolutional")
NUM_SAMPLED_WINDOWS = 100  # of the naive method on the long video


def write_video(path: Path, seconds: float) -> Path:
    """Write a video of a blurred random picture that drifts and flickers."""
    generator = np.random.default_rng(0)
    picture = np.kron(generator.integers(0, 256, (32, 43, 3)), np.ones((8, 8, 1)))[:256, :340].astype(np.uint8)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=FRAMES_PER_SECOND, options={"preset": "veryfast", "crf": "28"})
        stream.width, stream.height, stream.pix_fmt = 340, 256, "yuv420p"
        stream.codec_context.gop_size = 250
        for frame_index in range(round(seconds * FRAMES_PER_SECOND)):
            shown = np.roll(picture, (frame_index, 2 * frame_index), (0, 1)) // 2
            shown = shown + np.uint8(40 * (1 + np.sin(frame_index / 9)))
            output.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        output.mux(stream.encode(None))
    return path


def make_scorer(name: str, width: int) -> NetworkScorer:
    torch.manual_seed(0)
    return NetworkScorer(optimize(create_model(name, width=width).eval()), CPU)


def score_windows(method: str, video: str, scorer: NetworkScorer, step: int, num_sampled: int | None = None) -> int:
    """Score the windows of a video; returns their number."""
    source = VideoFiles("", scale_height=PREPROCESSING.scale_height, scale_width=PREPROCESSING.scale_width)
    times = source.read_frame_times(video)
    if method != "naive":
        starts = compute_dense_starts(times, PREPROCESSING, step)
        reader = WindowScorer(source, video, PREPROCESSING, CPU)
        return sum(len(indices) for indices, _ in reader.score_windows(scorer, starts, method))  # type: ignore[arg-type]
    clips = sample_dense_clips(times, PREPROCESSING, step)
    if num_sampled is not None:
        clips = clips[:: max(1, len(clips) // num_sampled)]
    for clip in clips:
        view = make_evaluation_view(source.read(video, clip.ticks), PREPROCESSING.crop)
        scorer(prepare_network_input(collate_views([view]), PREPROCESSING, CPU))
    return len(clips)


def measure_long_video(method: str, video: str, name: str, width: int, step: int) -> dict[str, float]:
    """Windows a processor second, and peak memory beyond the network's, measured in this process."""
    keep_freed_memory(1 << 30)
    torch.set_num_threads(1)
    scorer = make_scorer(name, width)
    # The first call allocates the converted weights.
    scorer(torch.zeros(1, 3, PREPROCESSING.clip_length, PREPROCESSING.crop, PREPROCESSING.crop))
    result: dict[str, float] = {}

    def measure() -> None:
        counts: list[int] = []
        seconds = measure_seconds(
            lambda: counts.append(score_windows(method, video, scorer, step, NUM_SAMPLED_WINDOWS)), CPU
        )
        result.update(windows=counts[0], windows_a_second=counts[0] / seconds, seconds=seconds)

    peak = measure_peak_bytes(measure, CPU)
    return {**result, "peak_MiB": round(peak / 2**20)}


def measure_short_video(video: str, name: str, width: int, *, step: int, repeats: int) -> dict[str, Any]:
    """Measure all methods alternately on one short video."""
    scorer = make_scorer(name, width)
    runs: dict[str, Callable[[], object]] = {
        method: partial(score_windows, method, video, scorer, step) for method in METHODS
    }
    num_windows = score_windows("windows", video, scorer, step)
    seconds = {method: statistics.median(times) for method, times in time_interleaved(runs, repeats, CPU).items()}
    return {
        "windows": num_windows,
        "windows_a_second": {method: num_windows / spent for method, spent in seconds.items()},
        "times_naive": {method: seconds["naive"] / spent for method, spent in seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--step", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="r2plus1d_18")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--full_seconds", type=float, default=10, help="of video for R(2+1)D-18 at full width; 0: none")
    args = parser.parse_args()
    keep_freed_memory(1 << 30)
    torch.set_num_threads(1)
    results: dict[str, Any] = {"step": args.step, "minutes": args.minutes}
    with tempfile.TemporaryDirectory() as folder:
        short = str(write_video(Path(folder, "short.mp4"), 6 * args.minutes))
        long = str(write_video(Path(folder, "long.mp4"), 60 * args.minutes))
        small = (args.model, args.width)
        results[f"a tenth of the video, {args.model} at width {args.width}"] = measure_short_video(
            short, *small, step=args.step, repeats=args.repeats
        )
        report_results(results, args.output)
        for length, video in (("a tenth", short), ("all of the video", long)):
            measured = {
                method: run_in_fresh_process(measure_long_video, method, video, *small, args.step) for method in METHODS
            }
            results[f"{length}, each in a process of its own"] = measured
            report_results(results, args.output)
        if args.full_seconds:
            stretch = str(write_video(Path(folder, "stretch.mp4"), args.full_seconds))
            key = f"{args.full_seconds:g} s, r2plus1d_18 at width 64"
            results[key] = {
                method: run_in_fresh_process(measure_long_video, method, stretch, "r2plus1d_18", 64, args.step)
                for method in METHODS
            }
            report_results(results, args.output)


if __name__ == "__main__":
    main()
