"""`muybridge demo`: rendering, training, scoring, prediction and report on a generated data set."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muybridge.bounds import Epochs
from muybridge.cli.output import print_json
from muybridge.distributed.rank import current_rank
from muybridge.terminal import print_line, print_lines
from muybridge.text import format_percent

if TYPE_CHECKING:
    from muybridge.studies.demo import NetworkResult


def demo(*, output: str = "demo", epochs: Epochs = 6.0, json: bool = False) -> int:
    """Trains and tests two small networks on generated videos in which only motion tells the classes apart.

    The demo renders the videos, trains and scores both networks, scores a timeline and writes a report.
    It takes a few minutes; the same command resumes it.

    Args:
        output: The folder for data and runs.
        epochs: Length of each training; 6 take minutes.
        json: Print the results as JSON.

    Examples:
        muybridge demo
        muybridge demo -o /tmp/demo --epochs 3
    """
    if current_rank().world_size > 1:
        raise ValueError("the demo runs in one process; leave torchrun out")

    from muybridge.models.family import format_paper_name
    from muybridge.studies import demo as demo_study

    folder, start = Path(output), time.monotonic()
    data = _render(folder / "data")
    results = {}
    for number, model in enumerate(demo_study.MODELS, start=2):
        _report_progress(f"\n{number}. training a small {format_paper_name(model)}")
        results[model] = demo_study.train_and_test(model, data, folder / model, epochs)
    untrimmed = demo_study.score_untrimmed(folder / demo_study.MODELS[-1], folder / "untrimmed")
    reports = demo_study.write_reports(folder)
    if json:
        networks = {model: result._asdict() for model, result in results.items()}
        print_json({"networks": networks, "ceiling": demo_study.CEILING, "untrimmed": untrimmed, "reports": reports})
    else:
        _print_results({format_paper_name(model): result for model, result in results.items()}, demo_study.CEILING)
        _print_segments(untrimmed)
    _report_progress(f"\n6. the reports: {' and '.join(reports)}")
    _report_progress(f"\nfinished in {(time.monotonic() - start) / 60:.1f} minutes; all files are in {folder}/")
    # As it was called: after `make demo` the shell does not find `muybridge`.
    command = sys.argv[0] if Path(sys.argv[0]).name == "muybridge" else "muybridge"
    _report_progress(f"look at it: {command} studio {folder / 'untrimmed'} --allow {folder}")
    _report_progress(
        "      (in the browser, with muybridge[studio] installed; Run along this video, under Network, draws the timeline of "
        f"{demo_study.MODELS[-1]} below the true one)"
    )
    _report_progress(
        f"next: {command} train --data YOUR_VIDEOS --init r2plus1d_18-kinetics400-torchvision -o runs/first"
    )
    _report_progress(f"      (a folder of videos for every class, as in {data})")
    return 0


def _render(folder: Path) -> Path:
    from muybridge.console import create_progress
    from muybridge.studies.demo import render_dataset

    if (folder / "test").exists():
        _report_progress(f"1. the generated videos are in {folder}")
        return folder
    _report_progress(f"1. rendering videos in which only motion tells the classes apart, into {folder}")
    with create_progress() as bar:
        task = bar.add_task("rendering")
        render_dataset(folder, lambda done, total: bar.update(task, completed=done, total=total))
    return folder


def _print_results(results: Mapping[str, NetworkResult], ceiling: float) -> None:
    print_line()
    print_line("4. test videos, 10 clips each; a video and its reversal are of different classes")
    print_line()
    print_line(f"{'network':<14}{'clip@1':>8}{'video@1':>9}   95 % interval")
    for name, result in results.items():
        interval = f"{result.low:.1f} to {result.high:.1f}"
        print_line(f"{name:<14}{result.clip_top1:>8.1f}{result.video_top1:>9.1f}   {interval}")
    print_line(f"{'ceiling':<14}{'':>8}{ceiling:>9.1f}   of every network that averages over frames, as f-R2D does")


def _print_segments(untrimmed: Mapping[str, Any]) -> None:
    scores = untrimmed["scores"]
    print_line()
    print_line(f"5. along an untrimmed video, {untrimmed['video']}: a scene a second, and a cut between two")
    print_line()
    print_line(f"{'seconds':<14}true motion")
    for segment in untrimmed["truth"]:
        print_line(f"{_format_span(segment):<14}{segment['label']}")
    print_line()
    print_line(f"{'seconds':<14}{'predicted':<20}{'probability':>11}")
    for segment in untrimmed["predicted"]:
        print_line(f"{_format_span(segment):<14}{segment['label']:<20}{segment['mean_probability']:>11.2f}")
    print_line()
    accuracy, f1 = format_percent(scores["frame_accuracy"]), format_percent(scores["f1"]["0.50"])
    print_line(f"frame accuracy {accuracy}, segments right (F1@50) {f1}; smoothing was chosen on another video")


def _format_span(segment: Mapping[str, Any]) -> str:
    return f"{segment['start_seconds']:.1f} - {segment['end_seconds']:.1f}"


def _report_progress(line: str) -> None:
    """Print a line, after an empty one where it begins with a line break; other line breaks are of a name."""
    print_lines(["", line[1:]] if line.startswith("\n") else [line], error=True)
