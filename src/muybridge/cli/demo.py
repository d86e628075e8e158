"""`muybridge demo`: the whole road on a generated data set in which only motion tells the classes apart."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from muybridge.cli.options import verb_parser
from muybridge.distributed.rank import current_rank
from muybridge.settings import EvaluateSettings

EXAMPLES = ("muybridge demo", "muybridge demo -o /tmp/demo --epochs 3")
MODELS = ("f_r2d_10", "r2plus1d_10")
UNTRIMMED = ("left", "clockwise", "approach", "down", "right")
CEILING = 50.0  # percent, of any network that averages over frames; tests/journey proves it


def run(words: Sequence[str]) -> int:
    """Renders the data, trains two small networks, scores both, predicts along an untrimmed video, and reports."""
    parser = verb_parser("demo", "[-o FOLDER] [--epochs N] [--json]", "The whole road in a few minutes.", EXAMPLES)
    parser.add_argument("-o", "--output", default="demo", help="folder for data and runs")
    parser.add_argument("--epochs", type=float, default=6.0, help="length of each training; 6 take minutes")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    found = parser.parse_args(list(words))
    if current_rank().world_size > 1:
        raise ValueError("the demo runs in one process; leave torchrun out")
    folder = Path(found.output)
    began = time.monotonic()
    data = _data(folder / "data")
    results = {model: _train_and_test(model, data, folder / model, found.epochs) for model in MODELS}
    untrimmed = _predict_along(folder / MODELS[-1], folder / "untrimmed.mp4")
    reports = _report(folder)
    if found.json:
        told = {"networks": results, "ceiling": CEILING, "untrimmed": untrimmed, "reports": reports}
        print(json.dumps(told, indent=2))
    else:
        _print_results(results)
        _print_segments(untrimmed)
    _say(f"\n5. to look at: {' and '.join(reports)}")
    _say(f"\nall of it took {(time.monotonic() - began) / 60:.1f} minutes and lies in {folder}/")
    _say(f"next: muybridge train --data YOUR_VIDEOS -o runs/first   (a folder of videos for every class, as in {data})")
    return 0


def _data(folder: Path) -> Path:
    from rich.console import Console
    from rich.progress import Progress

    from muybridge.studies.laptop import motion_run
    from muybridge.synthetic.dataset import write_motion_dataset
    from muybridge.synthetic.motions import MotionSettings, check_symmetric_clips

    settings = MotionSettings()
    run_settings = motion_run(MODELS[0], str(folder), str(folder))
    check_symmetric_clips(
        settings.num_frames,
        clip_span=run_settings.preprocessing.clip_span,
        num_clips=run_settings.evaluation.clips,
    )
    if (folder / "test").exists():
        _say(f"1. the generated videos are in {folder}")
        return folder
    _say(f"1. rendering videos in which only motion tells the classes apart, into {folder}")
    console = Console(file=sys.stderr)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("rendering")
        write_motion_dataset(
            folder, settings, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    return folder


def _train_and_test(model: str, data: Path, output: Path, epochs: float) -> dict[str, float]:
    from muybridge.cli.evaluate import score_split
    from muybridge.models.family import format_paper_name
    from muybridge.studies.laptop import motion_run
    from muybridge.training.train import train

    _say(f"\n2. training a small {format_paper_name(model)}")
    train(motion_run(model, str(data), str(output), epochs=epochs), resume=True)
    measured = score_split(str(output), EvaluateSettings(data=str(data)), output / "scores" / "test.parquet").accuracy
    return {
        "clip_top1": 100 * measured.clip_top1.of_all.share,
        "video_top1": 100 * measured.video_top1.of_all.share,
        "low": 100 * measured.video_top1.of_all.low,
        "high": 100 * measured.video_top1.of_all.high,
    }


def _print_results(results: dict[str, dict[str, float]]) -> None:
    from muybridge.models.family import format_paper_name

    print("\n3. test videos, 10 clips each; a video and its reversal are of different classes\n")
    print(f"{'network':<14}{'clip@1':>8}{'video@1':>9}   95 % interval")
    for model, row in results.items():
        interval = f"{row['low']:.1f} to {row['high']:.1f}"
        print(f"{format_paper_name(model):<14}{row['clip_top1']:>8.1f}{row['video_top1']:>9.1f}   {interval}")
    print(f"{'ceiling':<14}{'':>8}{CEILING:>9.1f}   of every network that averages over frames, as f-R2D does")


def _predict_along(run_folder: Path, video: Path) -> dict[str, Any]:
    """An untrimmed video of several motions: its path, what it shows when, and what the network says."""
    from muybridge.prediction.recognizer import load
    from muybridge.prediction.timeline import TimelineOptions
    from muybridge.synthetic.dataset import write_untrimmed_video
    from muybridge.synthetic.motions import MotionSettings

    truth = write_untrimmed_video(video, MotionSettings(), labels=UNTRIMMED)
    segments = load(run_folder).predict(video, timeline=TimelineOptions()).segments
    return {
        "video": str(video),
        "truth": [segment._asdict() for segment in truth],
        "predicted": [asdict(segment) for segment in segments],
    }


def _report(folder: Path) -> list[str]:
    """A page about the last network, with its mistakes as moving pictures, and one that compares the networks."""
    from muybridge.cli.report import build
    from muybridge.report.page import write_page

    runs = [str(folder / model) for model in MODELS]
    pages = {folder / "report.html": runs[-1:], folder / "comparison.html": runs}
    for path, addresses in pages.items():
        write_page(build(addresses, None), path)
    return [str(path) for path in pages]


def _print_segments(untrimmed: dict[str, Any]) -> None:
    print(f"\n4. along an untrimmed video of several motions, {untrimmed['video']}\n")
    print(f"{'seconds':<14}{'true motion':<20}")
    for segment in untrimmed["truth"]:
        print(f"{_span(segment):<14}{segment['label']:<20}")
    print(f"\n{'seconds':<14}{'predicted':<20}{'probability':>11}")
    for segment in untrimmed["predicted"]:
        print(f"{_span(segment):<14}{segment['label']:<20}{segment['mean_probability']:>11.2f}")


def _span(segment: dict[str, Any]) -> str:
    return f"{segment['start_seconds']:.1f} - {segment['end_seconds']:.1f}"


def _say(line: str) -> None:
    print(line, file=sys.stderr)
