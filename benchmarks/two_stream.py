"""RGB, optical flow and their mean on small data: generated motions under strong appearance noise, and real video.

    python benchmarks/two_stream.py -o FOLDER [--seeds 3] [--clips 3000] [--result RESULT.json]

Trains one small R(2+1)D per data set, modality and seed, scores the test videos, and fuses the score files. Runs that are
complete are not repeated. UT-Interaction is read from the folder named by MUYBRIDGE_REAL_VIDEO, and left out without it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import get_args

from rich.console import Console

from muybridge.cli.evaluate import score_split
from muybridge.data.motion import MotionSettings
from muybridge.data.motion_files import write_motion_dataset
from muybridge.evaluation.fuse import fuse
from muybridge.evaluation.score import read_scores
from muybridge.journal import environment, write_json
from muybridge.records import Modality
from muybridge.settings import (
    ClipSettings,
    EvaluateSettings,
    LoadingSettings,
    NetworkSettings,
    TrainingSettings,
    TrainSettings,
)
from muybridge.training.fit import fit
from muybridge.training.start import start

MOTIONS = {
    "motions": MotionSettings(
        train_videos_per_class=40, validation_videos_per_class=2, contrast=0.3, noise=24.0, distractors=1, spread=1.0
    ),
    "motions_milder": MotionSettings(
        train_videos_per_class=40, validation_videos_per_class=2, contrast=0.5, noise=16.0, distractors=1, spread=1.0
    ),
}
MODALITIES: tuple[Modality, ...] = get_args(Modality)
IN_THIS_PROCESS = LoadingSettings(workers=0)


def settings(name: str, data: Path, folder: Path, modality: Modality, seed: int, num_clips: int) -> TrainSettings:
    """One small run; the data sets differ in how clips are cut alone."""
    if name in MOTIONS:
        clips = ClipSettings(length=8, stride=2, scale=(64, 64), crop=56, mirror=False)
    else:
        clips = ClipSettings(length=8, stride=2, frames_per_second=15, scale=(64, 85), crop=56)
    return TrainSettings(
        data=str(data),
        model="r2plus1d_10",
        output=str(folder / f"{name}-{modality}-{seed}"),
        modality=modality,
        device="cpu",
        seed=seed,
        network=NetworkSettings(width=8),
        clips=clips,
        training=TrainingSettings(
            optimizer="adamw",
            learning_rate=6e-3,
            batch_size=12,
            epochs=1,
            clips_per_epoch=num_clips,
            validate_every_epochs=0,
        ),
        loading=IN_THIS_PROCESS,
    )


def scored(run: TrainSettings) -> Path:
    """The test scores of a run, trained where they are not there yet. The last weights are used, whatever validation says."""
    scores = Path(run.output) / "scores" / "test.parquet"
    if not scores.exists():
        began = time.process_time()
        fit(start(run, resume=True), Console(file=sys.stderr))
        asked = EvaluateSettings(data=run.data, device="cpu", seed=run.seed, loading=IN_THIS_PROCESS)
        score_split(str(Path(run.output) / "last.safetensors"), asked, scores)
        print(f"{run.output}: {time.process_time() - began:.0f} processor seconds", file=sys.stderr)
    return scores


def compared(name: str, data: Path, folder: Path, *, seeds: int, num_clips: int) -> dict[str, object]:
    """Video and clip accuracy of each stream and of their mean, seed by seed."""
    rows = []
    for seed in range(seeds):
        scores = [
            read_scores(scored(settings(name, data, folder, modality, seed, num_clips))) for modality in MODALITIES
        ]
        fused = fuse(scores, [1.0, 1.0])
        measured = dict(zip((*MODALITIES, "fused"), (*fused.members, fused.accuracy), strict=True))
        rows.append(
            {
                stream: {
                    "clip_top1": accuracy.clip_top1.of_all.to_json(),
                    "video_top1": accuracy.video_top1.of_all.to_json(),
                }
                for stream, accuracy in measured.items()
            }
        )
    means = {
        stream: statistics.mean(row[stream]["video_top1"]["share"] for row in rows) for stream in (*MODALITIES, "fused")
    }
    return {"seeds": rows, "mean_video_top1": means, "training_clips": num_clips}


def main() -> None:
    """Writes the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=3000, help="training clips a run")
    parser.add_argument("--result", type=Path, help="the JSON file to write")
    found = parser.parse_args()
    addresses = {name: found.output / name for name in MOTIONS}
    for name, folder in addresses.items():
        if not folder.exists():
            write_motion_dataset(folder, MOTIONS[name])
    if real := os.environ.get("MUYBRIDGE_REAL_VIDEO"):
        addresses["ut_interaction"] = Path(real) / "ut_interaction" / "manifest.csv"
    else:
        print("UT-Interaction is left out: MUYBRIDGE_REAL_VIDEO is not set", file=sys.stderr)
    result = {
        name: compared(name, data, found.output, seeds=found.seeds, num_clips=found.clips)
        for name, data in addresses.items()
    }
    facts = {key: value for key, value in environment().items() if key != "command"}
    text = {"environment": facts, **result}
    if found.result:
        write_json(found.result, text)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
