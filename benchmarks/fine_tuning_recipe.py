"""Learning rate and factor of the classifier for fine-tuning: a grid on UT-Interaction, after generated motions.

Input: weights of a small network trained on generated motions (`muybridge demo` leaves a run), and the folder of real video in
MUYBRIDGE_REAL_VIDEO. Output: a JSON file with video@1 on the test split for every rate, factor and seed. All else is `--recipe
own_videos`, but for smaller batches and an eighth of the clips. Every training video is trained on, and the last weights are
scored, so nothing is chosen by test videos.

    MUYBRIDGE_REAL_VIDEO=... python benchmarks/fine_tuning_recipe.py --init demo/r2plus1d_10 -o benchmarks/results/NAME.json
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import muybridge
from harness import describe_environment
from muybridge.cli.main import main as run_command
from muybridge.evaluation.evaluate import evaluate_split
from muybridge.files.atomic import write_json
from muybridge.settings import EvaluateSettings, EvaluationSettings, LoadingSettings

RATES, FACTORS = (0.001, 0.003, 0.01), (1, 10)
# A clip a video in batches of 8, and half the epochs: half as many steps as the recipe takes, in an eighth of the time.
BATCH, CLIPS_PER_EPOCH, EPOCHS = 8, 83, 6.0
NUM_TEST_CLIPS = 5
READER = LoadingSettings(workers=0)


def prepare_videos(folder: Path, scale: tuple[int, int]) -> Path:
    """UT-Interaction at 15 frames a second, scaled for the network."""
    source = Path(os.environ["MUYBRIDGE_REAL_VIDEO"]) / "ut_interaction" / "manifest.csv"
    options = ["--fps", "15", "--scale", str(scale[0]), str(scale[1]), "--workers", "1"]
    code = run_command(["prepare", str(source), "-o", str(folder), *options])
    if code:
        raise RuntimeError(f"prepare ended with exit code {code}")
    return folder


def measure(data: Path, output: Path, init: str, *, rate: float, factor: float, seed: int) -> dict[str, Any]:
    """Fine-tune, then score the test videos with the last weights."""
    start_seconds = time.process_time()
    muybridge.train(
        data,
        output=output,
        init=init,
        recipe="own_videos",
        validation="none",
        seed=seed,
        training={
            "learning_rate": rate,
            "rate_factors": (1.0, 1.0, 1.0, 1.0, 1.0, factor),
            "batch_size": BATCH,
            "clips_per_epoch": CLIPS_PER_EPOCH,
            "epochs": EPOCHS,
        },
        loading=READER,
    )
    settings = EvaluateSettings(data=str(data), loading=READER, evaluation=EvaluationSettings(clips=NUM_TEST_CLIPS))
    accuracy = evaluate_split(str(output / "last.safetensors"), settings, output / "scores" / "test.parquet").accuracy
    return {
        "rate": rate,
        "factor": factor,
        "seed": seed,
        "video_top1": round(100 * accuracy.video_top1.of_all.share, 2),
        "processor_seconds": round(time.process_time() - start_seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--init", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    preprocessing = muybridge.load(args.init).card.preprocessing
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        data = prepare_videos(Path(name, "data"), (preprocessing.scale_height, preprocessing.scale_width))
        for seed, rate, factor in itertools.product(range(args.seeds), RATES, FACTORS):
            output = Path(name, f"{rate}-{factor}-{seed}")
            rows.append(measure(data, output, args.init, rate=rate, factor=factor, seed=seed))
            print(rows[-1], flush=True)
            write_results(args.output, rows)


def write_results(output: Path, rows: list[dict[str, Any]]) -> None:
    """Write what is measured so far."""
    cells = []
    for rate, factor in itertools.product(RATES, FACTORS):
        values = [row["video_top1"] for row in rows if (row["rate"], row["factor"]) == (rate, factor)]
        if values:
            cells.append({"rate": rate, "factor": factor, "mean": round(statistics.mean(values), 1), "seeds": values})
    write_json(
        output,
        {
            "what": "video@1 in percent on the 37 test videos of UT-Interaction, last weights, 5 clips a video",
            "recipe": "own_videos, but 6 epochs of 83 clips in batches of 8; 83 training videos, no validation",
            "cells": cells,
            "rows": rows,
            "environment": describe_environment(),
        },
    )


if __name__ == "__main__":
    main()
