"""The demo's work: generated videos in which only motion tells the classes apart, two small networks, a timeline, reports.

A video and its reversal are of different classes and hold the same frames, so no network that averages over frames can get
more than half of them right (`CEILING`; tests/journey proves it).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from muybridge.evaluation.evaluate import evaluate_split
from muybridge.files.atomic import write_text
from muybridge.prediction.timeline_evaluation import evaluate_timelines, read_segments
from muybridge.report.build import build_page
from muybridge.report.page import write_page
from muybridge.settings import EvaluateSettings
from muybridge.studies.laptop import motion_run
from muybridge.synthetic.dataset import write_motion_dataset, write_untrimmed_video
from muybridge.synthetic.motions import MotionSettings, check_symmetric_clips
from muybridge.training.train import train

MODELS = ("f_r2d_10", "r2plus1d_10")
# What the untrimmed videos show, a second each.
UNTRIMMED = {
    "validation": (
        "down",
        "recede",
        "right",
        "clockwise",
        "up",
        "left",
        "approach",
        "counter_clockwise",
        "down",
        "right",
    ),
    "test": (
        "left",
        "clockwise",
        "approach",
        "down",
        "right",
        "recede",
        "up",
        "counter_clockwise",
        "clockwise",
        "left",
    ),
}
UNTRIMMED_STEP_FRAMES = 2
CEILING = 50.0  # percent
MOTIONS = MotionSettings()


class NetworkResult(NamedTuple):
    """Accuracies on the test videos in percent; `low` and `high` bound the 95 % interval of `video_top1`."""

    clip_top1: float
    video_top1: float
    low: float
    high: float


def render_dataset(folder: Path, on_progress: Callable[[int, int], None]) -> None:
    """Render the training, validation and test videos into `folder`."""
    run = motion_run(MODELS[0], str(folder), str(folder))
    check_symmetric_clips(MOTIONS.num_frames, clip_span=run.preprocessing.clip_span, num_clips=run.evaluation.clips)
    write_motion_dataset(folder, MOTIONS, progress=on_progress)


def train_and_test(model: str, data: Path, output: Path, epochs: float) -> NetworkResult:
    """Train a small network, or resume its run in `output`, and score the test videos."""
    settings = motion_run(model, str(data), str(output), epochs=epochs)
    train(replace(settings, device="auto"), resume=True)
    accuracy = evaluate_split(
        str(output), EvaluateSettings(data=str(data)), output / "scores" / "test.parquet"
    ).accuracy
    video_top1 = accuracy.video_top1.of_all
    return NetworkResult(
        100 * accuracy.clip_top1.of_all.share, 100 * video_top1.share, 100 * video_top1.low, 100 * video_top1.high
    )


def score_untrimmed(run: Path, folder: Path) -> dict[str, Any]:
    """Render two untrimmed videos, choose the smoothing of the timeline on one, and score the other.

    Returns the path of the scored video, its true and predicted segments, and the scores.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, truth = ["path,label,split,start_seconds,end_seconds"], []
    for number, (split, labels) in enumerate(UNTRIMMED.items()):
        truth = write_untrimmed_video(folder / f"{split}.mp4", MOTIONS, labels=labels, number=number)
        rows += [f"{split}.mp4,{each.label},{split},{each.start_seconds},{each.end_seconds}" for each in truth]
    data = folder / "annotations.csv"  # so that the studio shows them as marks
    write_text(data, "\n".join(rows) + "\n")
    result = evaluate_timelines(run, EvaluateSettings(data=str(data)), step_frames=UNTRIMMED_STEP_FRAMES)
    return {
        "video": str(folder / "test.mp4"),
        "data": str(data),
        "truth": [segment._asdict() for segment in truth],
        "predicted": [asdict(segment) for segment in read_segments(result.files.segments)],
        "scores": result.scores.to_json(),
    }


def write_reports(folder: Path) -> list[str]:
    """Write a page about the last network and one that compares both; returns their paths."""
    runs = [str(folder / model) for model in MODELS]
    pages = {folder / "report.html": runs[-1:], folder / "comparison.html": runs}
    for path, addresses in pages.items():
        write_page(build_page(addresses), path)
    return [str(path) for path in pages]
