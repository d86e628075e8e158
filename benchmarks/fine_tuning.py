"""Fine-tuning against training from scratch on real video: pre-training on generated motions, then UT-Interaction.

Input: a folder of real video with `ut_interaction/manifest.csv` (environment variable MUYBRIDGE_REAL_VIDEO). Output: a JSON
file with the test accuracy of both initializations for every seed. Network, recipe, seed and data are the same. The recipe was
fixed before the first scored run, no setting was chosen on the test split, and the last weights are scored.

    MUYBRIDGE_REAL_VIDEO=... python benchmarks/fine_tuning.py -o benchmarks/results/NAME.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from harness import describe_environment
from muybridge.evaluation.evaluate import evaluate_split
from muybridge.files.atomic import write_json
from muybridge.settings import ClipSettings, EvaluateSettings, LoadingSettings, NetworkSettings, TrainSettings
from muybridge.studies.laptop import motion_run
from muybridge.synthetic.dataset import write_motion_dataset
from muybridge.synthetic.motions import MotionSettings
from muybridge.training.train import train

MODEL = "r2plus1d_10"
WIDTH = 8
PRETRAIN_EPOCHS, EPOCHS, CLIPS_PER_EPOCH = (
    6.0,
    12.0,
    83,
)  # pre-training: 800 clips an epoch; then one clip a training video
BATCH, RATE = 8, 4e-3  # the rate for 32 clips, so 1e-3 for 8


def make_settings(data: Path, output: Path, *, seed: int, init: Path | None) -> TrainSettings:
    """Settings of both initializations: those of pre-training, but 8 frames at 15 a second, mirrored, no validation."""
    motion = motion_run(MODEL, str(data), str(output), epochs=EPOCHS, seed=seed)
    training = replace(
        motion.training,
        batch_size=BATCH,
        learning_rate=RATE,
        clips_per_epoch=CLIPS_PER_EPOCH,
        validate_every_epochs=EPOCHS,
    )
    clips = ClipSettings(length=8, stride=2, frames_per_second=15.0, scale=(64, 64), crop=56)
    return replace(
        motion,
        init=None if init is None else str(init),
        network=NetworkSettings(width=WIDTH),
        clips=clips,
        training=training,
        loading=LoadingSettings(workers=1),
    )


def measure_test_accuracy(run: Path, data: Path) -> float:
    """video@1 on the test split in percent."""
    settings = EvaluateSettings(data=str(data), loading=LoadingSettings(workers=1))
    measured = evaluate_split(str(run / "last.safetensors"), settings, run / "scores" / "test.parquet").accuracy
    return 100 * measured.video_top1.of_all.share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    data = Path(os.environ["MUYBRIDGE_REAL_VIDEO"]) / "ut_interaction" / "manifest.csv"
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_motion_dataset(folder / "motions", MotionSettings())
        pretrained_run = folder / "pretrained"
        motions = motion_run(MODEL, str(folder / "motions"), str(pretrained_run), epochs=PRETRAIN_EPOCHS)
        narrow = NetworkSettings(width=WIDTH)
        train(replace(motions, network=narrow, loading=LoadingSettings(workers=1)), resume=True)
        pretrained = measure_test_accuracy(pretrained_run, folder / "motions")
        for seed in range(args.seeds):
            start_seconds = time.process_time()
            row: dict[str, float] = {"seed": seed}
            for start, init in (("scratch", None), ("fine_tuned", pretrained_run)):
                output = folder / f"{start}-{seed}"
                train(make_settings(data, output, seed=seed, init=init), resume=True)
                row[start] = measure_test_accuracy(output, data)
            rows.append(row)
            print(json.dumps(row), round(time.process_time() - start_seconds), flush=True)
    summary = {
        start: {
            "mean": statistics.mean(row[start] for row in rows),
            "deviation": statistics.stdev(row[start] for row in rows) if len(rows) > 1 else 0.0,
        }
        for start in ("scratch", "fine_tuned")
    }
    differences = [row["fine_tuned"] - row["scratch"] for row in rows]
    write_json(
        Path(args.output),
        {
            "what": "video@1 in percent on the 37 test videos of UT-Interaction, last weights, 10 clips a video",
            "model": f"{MODEL} at width {WIDTH}, 8 frames of 15 a second at stride 2, 56x56",
            "start": "one pre-training on generated motions; seeds are those of the fine-tuning",
            "pretraining_video_top1": pretrained,
            "rows": rows,
            **summary,
            "differences": differences,
            "environment": describe_environment(),
        },
    )
    print(json.dumps({**summary, "differences": differences}, indent=2))


if __name__ == "__main__":
    main()
